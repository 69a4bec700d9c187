package carv2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/ipfs/go-cid"
	gocar "github.com/ipld/go-car/v2"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/varint"
)

// File gives random access to the blocks of a CAR file of version 1 or 2. It keeps some 70 bytes
// for every block in memory. It is safe for concurrent use if the underlying io.ReaderAt is, as
// files are.
type File struct {
	version int
	roots   []cid.Cid
	data    *io.SectionReader // the payload
	lim     car.Limits
	at      map[key]int64 // where the sections of blocks begin
	close   func() error
}

type key struct {
	digest dag.Digest
	codec  dag.Codec
}

// Open opens a file by its name, and reads it once.
func Open(name string, lim car.Limits) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var x *File
		if x, err = New(f, info.Size(), lim); err == nil {
			x.close = f.Close
			return x, nil
		}
	}
	return nil, errors.Join(err, f.Close())
}

// New is [Open] for a reader of a given size, which the caller keeps open.
func New(r io.ReaderAt, size int64, lim car.Limits) (*File, error) {
	f := &File{version: 1, data: io.NewSectionReader(r, 0, size), lim: lim, at: make(map[key]int64), close: func() error { return nil }}
	if f.lim.BlockBytes == 0 {
		f.lim.BlockBytes = 2 << 20 // as in package car
	}
	var start [gocar.PragmaSize]byte
	if n, err := r.ReadAt(start[:], 0); err != nil && err != io.EOF {
		return nil, err
	} else if n == len(start) && bytes.Equal(start[:], gocar.Pragma) {
		h, err := readHeader(io.NewSectionReader(r, gocar.PragmaSize, size-gocar.PragmaSize))
		if err != nil {
			return nil, err
		}
		if h.DataOffset > uint64(size) || h.DataSize > uint64(size)-h.DataOffset {
			return nil, headerError(car.ErrTruncated)
		}
		f.version, f.data = 2, io.NewSectionReader(r, int64(h.DataOffset), int64(h.DataSize))
	}
	cr, err := f.Reader()
	if err != nil {
		return nil, err
	}
	f.roots = cr.Roots()
	for {
		start := cr.Offset()
		b, err := cr.NextShared()
		if err == io.EOF {
			return f, nil
		} else if err != nil {
			return nil, err
		}
		codec, digest, _ := dag.Split(b.CID) // the reader accepts no other
		if _, ok := f.at[key{digest, codec}]; !ok {
			f.at[key{digest, codec}] = start
		}
	}
}

// Version returns 1 or 2.
func (f *File) Version() int { return f.version }

// Roots returns the roots in the payload's header.
func (f *File) Roots() []cid.Cid { return f.roots }

// Reader reads the payload from its start. Each Reader is independent.
func (f *File) Reader() (*car.Reader, error) {
	return car.NewReader(io.NewSectionReader(f.data, 0, f.data.Size()), f.lim)
}

// Blocks yields all blocks in the order of the file.
func (f *File) Blocks() iter.Seq2[car.Block, error] {
	return func(yield func(car.Block, error) bool) {
		r, err := f.Reader()
		if err != nil {
			yield(car.Block{}, err)
			return
		}
		r.Blocks()(yield)
	}
}

// Block returns the bytes of a block, after checking that they match the CID. For a
// block that is not there the error wraps car.ErrNotFound.
func (f *File) Block(c cid.Cid) ([]byte, error) {
	codec, digest, ok := dag.Split(c)
	if !ok {
		return nil, &car.Error{CID: c, Err: car.ErrCID}
	}
	at, ok := f.at[key{digest, codec}]
	if !ok {
		return nil, fmt.Errorf("%w: %s", car.ErrNotFound, c)
	}
	return f.section(c, at)
}

// section reads the block whose section begins at an offset of the payload.
func (f *File) section(c cid.Cid, at int64) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, &car.Error{Offset: at, CID: c, Err: err} }
	r := io.NewSectionReader(f.data, at, f.data.Size()-at)
	var head [varint.MaxLen + dag.CIDLen]byte
	n, err := r.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return fail(err)
	}
	length, start, err := varint.Decode(head[:n])
	switch {
	case err != nil:
		return fail(car.ErrLength)
	case length < dag.CIDLen || n-start < dag.CIDLen:
		return fail(car.ErrCID)
	case length-dag.CIDLen > uint64(f.lim.BlockBytes):
		return fail(car.ErrTooLarge)
	}
	if string(head[start:start+dag.CIDLen]) != c.KeyString() {
		return fail(car.ErrCID)
	}
	if int64(length) > r.Size()-int64(start) {
		return fail(car.ErrTruncated)
	}
	data := make([]byte, length-dag.CIDLen)
	if _, err := r.ReadAt(data, int64(start+dag.CIDLen)); err != nil && err != io.EOF {
		return fail(err)
	}
	if !dag.Matches(c, data) {
		return fail(car.ErrHash)
	}
	return data, nil
}

// Close closes a file that Open opened.
func (f *File) Close() error { return f.close() }
