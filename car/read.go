package car

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/varint"
)

// What may be wrong with a CAR file. An *Error wraps one of these, or an error of
// the underlying reader.
var (
	ErrHeader    = errors.New("malformed header")
	ErrVersion   = errors.New("version other than 1")
	ErrCID       = errors.New("malformed CID, or of a kind that is not allowed")
	ErrHash      = errors.New("block does not match its CID")
	ErrTruncated = errors.New("file ends early")
	ErrLength    = errors.New("malformed length")
	ErrTooLarge  = errors.New("limit exceeded")
)

// Error says what is wrong with a CAR file and where.
type Error struct {
	Offset int64   // of the header or block
	CID    cid.Cid // of the block, if known
	Err    error
}

func (e *Error) Error() string {
	if e.CID.Defined() {
		return fmt.Sprintf("car: block %s at byte %d: %v", e.CID, e.Offset, e.Err)
	}
	return fmt.Sprintf("car: byte %d: %v", e.Offset, e.Err)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Limits bounds what a Reader accepts. Zero fields mean the defaults.
type Limits struct {
	HeaderBytes int64 // default 32 KiB
	BlockBytes  int64 // of one block; default 2 MiB
	Blocks      int64 // default 64 Mi
	TotalBytes  int64 // of the whole file; default 16 GiB
}

func (l Limits) withDefaults() Limits {
	set := func(n *int64, def int64) {
		if *n == 0 {
			*n = def
		}
	}
	set(&l.HeaderBytes, 32<<10)
	set(&l.BlockBytes, 2<<20)
	set(&l.Blocks, 64<<20)
	set(&l.TotalBytes, 16<<30)
	return l
}

// Reader reads a CAR file. It is for one goroutine; after an error it is done.
type Reader struct {
	r      *bufio.Reader // nil: the file is in memory
	memory []byte        // what is left of it
	lim    Limits
	roots  []cid.Cid
	off    int64
	blocks int64
	buf    []byte // for what does not fit into r's buffer
	spent  int    // bytes of r's buffer that were handed out by the last read
	err    error
}

// NewReader reads the header.
func NewReader(r io.Reader, lim Limits) (*Reader, error) {
	if r == nil {
		return nil, errors.New("car: there is no reader")
	}
	c := &Reader{lim: lim.withDefaults()}
	if b, ok := r.(*bufio.Reader); ok {
		c.r = b
	} else {
		c.r = bufio.NewReaderSize(r, 64<<10)
	}
	if err := c.header(); err != nil {
		return nil, err
	}
	return c, nil
}

// newMemoryReader is NewReader for a file in memory. What it hands out is part of it.
func newMemoryReader(b []byte, lim Limits) (*Reader, error) {
	c := &Reader{memory: b, lim: lim.withDefaults()}
	if err := c.header(); err != nil {
		return nil, err
	}
	return c, nil
}

// Roots returns the roots in the header.
func (c *Reader) Roots() []cid.Cid { return c.roots }

// Offset returns how many bytes were read.
func (c *Reader) Offset() int64 { return c.off }

// peek returns the next bytes, up to n of them, without going past them. Fewer
// come with an error.
func (c *Reader) peek(n int) ([]byte, error) {
	if c.r == nil {
		if len(c.memory) < n {
			return c.memory, io.EOF
		}
		return c.memory[:n], nil
	}
	if c.spent > 0 {
		_, _ = c.r.Discard(c.spent) // they are buffered
		c.spent = 0
	}
	return c.r.Peek(n)
}

// pass goes past bytes that peek has returned. They are good until the next peek.
func (c *Reader) pass(n int) {
	c.off += int64(n)
	if c.r == nil {
		c.memory = c.memory[n:]
	} else {
		c.spent = n
	}
}

// length reads the length of the header or of a block.
func (c *Reader) length() (int64, error) {
	b, readErr := c.peek(varint.MaxLen)
	n, size, err := varint.Decode(b)
	switch {
	case (err == io.EOF || err == io.ErrUnexpectedEOF) && readErr != io.EOF:
		if readErr == io.ErrUnexpectedEOF {
			readErr = ErrTruncated
		}
		return 0, readErr
	case err == io.ErrUnexpectedEOF:
		return 0, ErrTruncated
	case err == varint.ErrNonMinimal, err == varint.ErrOverflow:
		return 0, ErrLength
	case err != nil:
		return 0, err
	}
	c.pass(size)
	if int64(n) > c.lim.TotalBytes-c.off {
		return 0, ErrTooLarge
	}
	return int64(n), nil
}

// read returns the next n bytes, which are good until the next call. Memory is
// claimed as the bytes come, not as they are announced.
func (c *Reader) read(n int64) ([]byte, error) {
	if c.r == nil && n > int64(len(c.memory)) {
		return nil, ErrTruncated
	}
	if c.r == nil || n <= int64(c.r.Size()) {
		b, err := c.peek(int(n))
		if int64(len(b)) < n {
			return nil, truncated(err)
		}
		c.pass(len(b))
		return b, nil
	}
	const step = 256 << 10
	_, _ = c.peek(0)
	c.buf = c.buf[:0]
	for int64(len(c.buf)) < n {
		have := len(c.buf)
		more := int(min(n-int64(have), step))
		c.buf = slices.Grow(c.buf, more)[:have+more]
		m, err := io.ReadFull(c.r, c.buf[have:])
		c.off += int64(m)
		if err != nil {
			return nil, truncated(err)
		}
	}
	return c.buf, nil
}

// truncated makes the end of the input an error of the file.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrTruncated
	}
	return err
}

func (c *Reader) header() error {
	n, err := c.length()
	if err == io.EOF {
		err = ErrTruncated
	}
	if err == nil && n > c.lim.HeaderBytes {
		err = ErrTooLarge
	}
	if err != nil {
		return &Error{Offset: 0, Err: err}
	}
	b, err := c.read(n)
	if err == nil {
		c.roots, err = parseHeader(b)
	}
	if err != nil {
		return &Error{Offset: 0, Err: err}
	}
	return nil
}

// parseHeader reads {"roots": [link, …], "version": 1}.
func parseHeader(b []byte) (roots []cid.Cid, err error) {
	r := cbor.NewReader(b)
	if n, err := r.Map(); err != nil || n != 2 {
		return nil, ErrHeader
	}
	if r.Key("roots") != nil {
		return nil, ErrHeader
	}
	n, err := r.Array()
	if err != nil {
		return nil, ErrHeader
	}
	for range n {
		link, err := r.Link()
		if err != nil {
			return nil, ErrHeader
		}
		if _, _, ok := dag.SplitBytes(link); !ok {
			return nil, ErrCID
		}
		c, err := cid.Cast(link)
		if err != nil {
			return nil, ErrCID
		}
		roots = append(roots, c)
	}
	if r.Key("version") != nil {
		return nil, ErrHeader
	}
	if v, err := r.Uint(); err != nil {
		return nil, ErrHeader
	} else if v != 1 {
		return nil, ErrVersion
	}
	if r.Done() != nil {
		return nil, ErrHeader
	}
	return roots, nil
}

// Next returns the next block, whose bytes are the caller's, or io.EOF.
func (c *Reader) Next() (Block, error) {
	b, err := c.NextShared()
	b.Data = append(make([]byte, 0, len(b.Data)), b.Data...)
	return b, err
}

// NextShared is Next without a copy: the bytes are good until the next call.
func (c *Reader) NextShared() (Block, error) { return c.NextWanted(cid.Undef) }

// NextWanted is NextShared for somebody who knows which block should come next. If
// it is that one, its CID need not be made.
func (c *Reader) NextWanted(want cid.Cid) (Block, error) {
	start := c.off
	id, data, err := c.next()
	if err != nil {
		if c.err == nil {
			if c.err = err; err != io.EOF {
				e := &Error{Offset: start, Err: err}
				if err == ErrHash {
					e.CID = dag.Wrap(string(id))
				}
				c.err = e
			}
		}
		return Block{}, c.err
	}
	if string(id) != want.KeyString() {
		want = dag.Wrap(string(id))
	}
	return Block{CID: want, Data: data}, nil
}

// next reads a block and checks it. The binary CID and the bytes are good until the
// next call.
func (c *Reader) next() (id, data []byte, err error) {
	if c.err != nil {
		return nil, nil, c.err
	}
	n, err := c.length()
	switch {
	case err != nil:
		return nil, nil, err
	case n < dag.CIDLen:
		return nil, nil, ErrCID
	case n-dag.CIDLen > c.lim.BlockBytes:
		return nil, nil, ErrTooLarge
	}
	if c.blocks++; c.blocks > c.lim.Blocks {
		return nil, nil, ErrTooLarge
	}
	b, err := c.read(n)
	if err != nil {
		return nil, nil, err
	}
	id, data = b[:dag.CIDLen], b[dag.CIDLen:]
	_, digest, ok := dag.SplitBytes(id)
	if !ok {
		return nil, nil, ErrCID
	}
	if sha256.Sum256(data) != digest {
		return id, nil, ErrHash
	}
	return id, data, nil
}

// Blocks yields the blocks to the end of the file.
func (c *Reader) Blocks() iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for {
			b, err := c.Next()
			if err == io.EOF || !yield(b, err) || err != nil {
				return
			}
		}
	}
}
