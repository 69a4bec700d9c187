package car

import (
	"bufio"
	"errors"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/varint"
)

// Writer writes a CAR file. It buffers: call Flush at the end. It is for one
// goroutine.
type Writer struct {
	w   *bufio.Writer
	buf []byte
}

// NewWriter returns a Writer, after writing the header.
func NewWriter(w io.Writer, roots ...cid.Cid) (*Writer, error) {
	if w == nil {
		return nil, errors.New("car: there is no writer")
	}
	for _, root := range roots {
		if !root.Defined() {
			return nil, &Error{Err: ErrCID}
		}
	}
	c := &Writer{w: bufio.NewWriterSize(w, 32<<10)}
	header := appendHeader(nil, roots)
	c.buf = varint.Append(c.buf[:0], uint64(len(header)))
	_, err := c.w.Write(append(c.buf, header...))
	return c, err
}

func appendHeader(b []byte, roots []cid.Cid) []byte {
	b = cbor.AppendText(cbor.AppendMap(b, 2), "roots")
	b = cbor.AppendArray(b, len(roots))
	for _, r := range roots {
		b = cbor.AppendLink(b, r.KeyString())
	}
	return cbor.AppendUint(cbor.AppendText(b, "version"), 1)
}

// Write appends a block. It does not check that the CID matches the data.
func (c *Writer) Write(b Block) error {
	if c.w == nil {
		return errors.New("car: a Writer is made by NewWriter")
	}
	if !b.CID.Defined() {
		return &Error{Err: ErrCID}
	}
	key := b.CID.KeyString()
	c.buf = varint.Append(c.buf[:0], uint64(len(key)+len(b.Data)))
	c.buf = append(c.buf, key...)
	_, _ = c.w.Write(c.buf) // an error comes again with the next call
	_, err := c.w.Write(b.Data)
	return err
}

// Flush writes what is buffered.
func (c *Writer) Flush() error { return c.w.Flush() }

// Append appends a whole CAR file with a few blocks to b.
func Append(b []byte, roots []cid.Cid, blocks ...Block) []byte {
	header := appendHeader(nil, roots)
	b = append(varint.Append(b, uint64(len(header))), header...)
	return AppendBlocks(b, blocks...)
}

// AppendBlocks appends blocks to a CAR file in memory.
func AppendBlocks(b []byte, blocks ...Block) []byte {
	for _, blk := range blocks {
		key := blk.CID.KeyString()
		b = varint.Append(b, uint64(len(key)+len(blk.Data)))
		b = append(append(b, key...), blk.Data...)
	}
	return b
}

// ReadAll reads a CAR file with a few blocks from memory. The blocks' bytes are parts of b.
func ReadAll(b []byte, lim Limits) (roots []cid.Cid, blocks []Block, err error) {
	r, err := newMemoryReader(b, lim)
	if err != nil {
		return nil, nil, err
	}
	blocks = make([]Block, 0, 1+min(len(b)/256, 64))
	for {
		blk, err := r.NextShared()
		if err == io.EOF {
			return r.roots, blocks, nil
		} else if err != nil {
			return nil, nil, err
		}
		blocks = append(blocks, blk)
	}
}
