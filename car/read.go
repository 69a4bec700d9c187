package car

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

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
	r      *bufio.Reader
	lim    Limits
	roots  []cid.Cid
	off    int64
	blocks int64
	buf    []byte
	err    error
}

// NewReader reads the header.
func NewReader(r io.Reader, lim Limits) (*Reader, error) {
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

// Roots returns the roots in the header.
func (c *Reader) Roots() []cid.Cid { return c.roots }

// Offset returns how many bytes were read.
func (c *Reader) Offset() int64 { return c.off }

// length reads the length of the header or of a block.
func (c *Reader) length() (int64, error) {
	n, err := varint.Read(countReader{c})
	switch {
	case err == io.ErrUnexpectedEOF:
		return 0, ErrTruncated
	case errors.Is(err, varint.ErrNonMinimal), errors.Is(err, varint.ErrOverflow):
		return 0, ErrLength
	case err != nil:
		return 0, err
	}
	if int64(n) > c.lim.TotalBytes-c.off {
		return 0, ErrTooLarge
	}
	return int64(n), nil
}

type countReader struct{ c *Reader }

func (r countReader) ReadByte() (byte, error) {
	b, err := r.c.r.ReadByte()
	if err == nil {
		r.c.off++
	}
	return b, err
}

// read reads the next n bytes into the buffer. Memory is claimed as the bytes
// come, not as they are announced.
func (c *Reader) read(n int64) ([]byte, error) {
	const step = 256 << 10
	c.buf = c.buf[:0]
	for int64(len(c.buf)) < n {
		have := len(c.buf)
		more := int(min(n-int64(have), step))
		if cap(c.buf)-have < more {
			grown := make([]byte, have, max(have+more, min(int(n), 2*cap(c.buf))))
			copy(grown, c.buf)
			c.buf = grown
		}
		c.buf = c.buf[:have+more]
		m, err := io.ReadFull(c.r, c.buf[have:])
		c.off += int64(m)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil, ErrTruncated
		} else if err != nil {
			return nil, err
		}
	}
	return c.buf, nil
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
	digest, codec, data, err := c.next()
	if err != nil {
		return Block{}, err
	}
	return Block{CID: dag.CID(codec, &digest), Data: append(make([]byte, 0, len(data)), data...)}, nil
}

// NextShared is Next without a copy: the bytes are good until the next call.
func (c *Reader) NextShared() (Block, error) {
	digest, codec, data, err := c.next()
	if err != nil {
		return Block{}, err
	}
	return Block{CID: dag.CID(codec, &digest), Data: data}, nil
}

func (c *Reader) next() (digest dag.Digest, codec dag.Codec, data []byte, err error) {
	if c.err != nil {
		return digest, 0, nil, c.err
	}
	start := c.off
	fail := func(err error) (dag.Digest, dag.Codec, []byte, error) {
		if err == io.EOF {
			c.err = io.EOF
		} else {
			c.err = &Error{Offset: start, Err: err}
		}
		return dag.Digest{}, 0, nil, c.err
	}
	n, err := c.length()
	switch {
	case err != nil:
		return fail(err)
	case n < dag.CIDLen:
		return fail(ErrCID)
	case n-dag.CIDLen > c.lim.BlockBytes:
		return fail(ErrTooLarge)
	}
	if c.blocks++; c.blocks > c.lim.Blocks {
		return fail(ErrTooLarge)
	}
	b, err := c.read(n)
	if err != nil {
		return fail(err)
	}
	codec, digest, ok := dag.SplitBytes(b[:dag.CIDLen])
	if !ok {
		return fail(ErrCID)
	}
	data = b[dag.CIDLen:]
	if sha256.Sum256(data) != digest {
		c.err = &Error{Offset: start, CID: dag.CID(codec, &digest), Err: ErrHash}
		return digest, 0, nil, c.err
	}
	return digest, codec, data, nil
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
