package car

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/blockhash"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/varint"
)

// Faults of a CAR file. An *Error wraps one of these, or an error of the underlying reader.
var (
	ErrHeader    = errors.New("malformed header")
	ErrVersion   = errors.New("version other than 1")
	ErrCID       = errors.New("malformed CID, or of a kind that is not allowed")
	ErrHash      = errors.New("block does not match its CID")
	ErrTruncated = errors.New("file ends early")
	ErrLength    = errors.New("malformed length")
	ErrTooLarge  = errors.New("limit exceeded")
)

// Error describes a fault of a CAR file and its offset.
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

// Reader reads a CAR file. It is for one goroutine. After an error it cannot be used any more.
type Reader struct {
	r      io.Reader // nil: all of the file is in buf
	end    error     // of r
	buf    []byte
	at, to int // what was read and not passed yet is buf[at:to]
	lim    Limits
	roots  []cid.Cid
	off    int64
	blocks int64
	ahead  *ahead // nil: blocks are checked when they are asked for
	err    error
}

// bufferBytes is how many bytes are read at a time.
const bufferBytes = 64 << 10

// NewReader returns a Reader, after reading the header.
func NewReader(r io.Reader, lim Limits) (*Reader, error) {
	if r == nil {
		return nil, errors.New("car: there is no reader")
	}
	c := &Reader{r: r, lim: lim.withDefaults(), buf: make([]byte, bufferBytes)}
	if err := c.header(); err != nil {
		return nil, err
	}
	return c, nil
}

// newMemoryReader is NewReader for a file in memory. What it hands out is part of it.
func newMemoryReader(b []byte, lim Limits) (*Reader, error) {
	c := &Reader{buf: b, to: len(b), end: io.EOF, lim: lim.withDefaults()}
	if err := c.header(); err != nil {
		return nil, err
	}
	return c, nil
}

// Roots returns the roots in the header.
func (c *Reader) Roots() []cid.Cid { return c.roots }

// Offset returns the offset of the end of the last returned block, or of the header.
func (c *Reader) Offset() int64 {
	if c.ahead != nil {
		return c.ahead.off
	}
	return c.off
}

// peek returns the next bytes, up to n of them, without going past them. Fewer
// come with an error.
func (c *Reader) peek(n int) ([]byte, error) {
	if c.to-c.at >= n {
		return c.buf[c.at : c.at+n], nil
	}
	return c.more(n)
}

// more is peek where bytes have to be read. Memory is claimed as the bytes come, not as they are
// announced.
func (c *Reader) more(n int) ([]byte, error) {
	const step = 256 << 10
	if c.end == nil && c.at > 0 {
		c.at, c.to = 0, copy(c.buf, c.buf[c.at:c.to])
	}
	for idle := 0; c.to-c.at < n; {
		switch {
		case c.end != nil:
			return c.buf[c.at:c.to], c.end
		case idle == 100:
			c.end = io.ErrNoProgress
			continue
		case c.to == len(c.buf):
			c.buf = append(c.buf, make([]byte, min(n-c.to, step))...)
		}
		var m int
		m, c.end = c.r.Read(c.buf[c.to:])
		if m < 0 || m > len(c.buf)-c.to {
			return nil, errCount
		}
		if c.to += m; m > 0 {
			idle = 0
		} else {
			idle++
		}
	}
	return c.buf[c.at : c.at+n], nil
}

// errCount: a reader says that it has read a number of bytes that cannot be.
var errCount = errors.New("reader returned an impossible count")

// pass goes past bytes that peek has returned. They are good until the next peek.
func (c *Reader) pass(n int) {
	c.off += int64(n)
	c.at += n
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

// read returns the next n bytes, which are good until the next call.
func (c *Reader) read(n int64) ([]byte, error) {
	if n > math.MaxInt {
		return nil, ErrTooLarge
	}
	b, err := c.peek(int(n))
	c.pass(len(b))
	if int64(len(b)) < n {
		return nil, truncated(err)
	}
	return b, nil
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
	r := cbor.NewReader(b) // its first error sticks
	fields, _ := r.Map()
	r.Key("roots")
	n, _ := r.Array()
	for range n {
		link, err := r.Link()
		if err != nil {
			return nil, ErrHeader
		}
		codec, digest, ok := dag.SplitBytes(link)
		if !ok {
			return nil, ErrCID
		}
		roots = append(roots, dag.CID(codec, &digest))
	}
	r.Key("version")
	switch v, err := r.Uint(); {
	case err != nil || fields != 2:
		return nil, ErrHeader
	case v != 1:
		return nil, ErrVersion
	case r.Done() != nil:
		return nil, ErrHeader
	}
	return roots, nil
}

// Next returns the next block, or io.EOF. Its bytes belong to the caller.
func (c *Reader) Next() (Block, error) {
	b, err := c.NextShared()
	b.Data = append(make([]byte, 0, len(b.Data)), b.Data...)
	return b, err
}

// NextShared is Next without a copy: the bytes are valid until the next call.
func (c *Reader) NextShared() (Block, error) { return c.NextWanted(cid.Undef) }

// NextWanted is NextShared for callers that know which block should come next. If it is that block,
// no new CID needs to be made.
func (c *Reader) NextWanted(want cid.Cid) (Block, error) {
	start := c.Offset()
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
	if c.ahead != nil {
		return c.ahead.next(c)
	}
	if id, data, err = c.frame(); err != nil {
		return nil, nil, err
	}
	if err = checkHash(id, data); err != nil {
		return id, nil, err
	}
	return id, data, nil
}

// frame reads a block without a look at its hash.
func (c *Reader) frame() (id, data []byte, err error) {
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
	return b[:dag.CIDLen], b[dag.CIDLen:], nil
}

// checkHash checks the bytes of a block against its binary CID.
func checkHash(id, data []byte) error {
	_, digest, ok := dag.SplitBytes(id)
	switch {
	case !ok:
		return ErrCID
	case blockhash.Sum(data) != digest:
		return ErrHash
	}
	return nil
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
