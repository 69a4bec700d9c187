package car

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// ErrNotFound: an index does not have the block.
var ErrNotFound = errors.New("car: block not found")

// errChanged: a file has other bytes than when it was indexed.
var errChanged = errors.New("car: the file has changed")

// Index finds blocks by CID. Blocks may be added in any order. Its memory is bounded, whatever
// their number: the rest is in temporary files. It is for one goroutine.
type Index struct {
	limit int64

	table  table
	memory []byte
	file   TempFile
	w      *bufio.Writer
	size   int64 // of the file
}

// NewIndex returns an index that holds up to memory bytes of blocks (0: 16 MiB), and some 10 MB of
// their positions. It puts more into temporary files (nil: TempDir("")). The caller closes it.
func NewIndex(temp Temp, memory int64) *Index {
	if memory == 0 {
		memory = 16 << 20
	}
	return &Index{limit: memory, table: newTable(temp, nil)}
}

// Add adds a block. A CID may be added more than once; Block then returns any one of its blocks.
func (x *Index) Add(b Block) error {
	if x.table.fresh == nil {
		return errors.New("car: an Index is made by NewIndex")
	}
	k, err := keyOf(b.CID)
	if err != nil {
		return err
	}
	if _, ok := x.table.fresh[k]; ok {
		return nil
	}
	if x.file == nil && int64(len(x.memory)+len(b.Data)) <= x.limit {
		p := place{int64(len(x.memory)), int32(len(b.Data))}
		x.memory = append(x.memory, b.Data...)
		return x.table.add(k, p)
	}
	if x.file == nil {
		f, err := x.table.file(0)
		if err != nil {
			return err
		}
		x.file, x.w = f, sequential(f)
	}
	if _, err := x.w.Write(b.Data); err != nil {
		return fmt.Errorf("car: index: %w", err)
	}
	p := place{int64(len(x.memory)) + x.size, int32(len(b.Data))}
	x.size += int64(len(b.Data))
	return x.table.add(k, p)
}

func keyOf(c cid.Cid) (key, error) {
	codec, digest, ok := dag.Split(c)
	if !ok {
		return key{}, &Error{CID: c, Err: ErrCID}
	}
	return key{digest, codec}, nil
}

// Block returns the bytes of a block, or ErrNotFound. The bytes belong to the caller.
func (x *Index) Block(c cid.Cid) ([]byte, error) {
	p, err := x.table.find(c)
	if err != nil {
		return nil, err
	}
	b := make([]byte, p.n)
	if p.n == 0 {
		return b, nil
	}
	if p.off < int64(len(x.memory)) {
		copy(b, x.memory[p.off:])
		return b, nil
	}
	if err := x.w.Flush(); err != nil {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	if n, err := x.file.ReadAt(b, p.off-int64(len(x.memory))); n < len(b) {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	return b, nil
}

// find returns where a block is, or ErrNotFound.
func (t *table) find(c cid.Cid) (place, error) {
	k, err := keyOf(c)
	if err != nil {
		return place{}, err
	}
	p, ok, err := t.get(k)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s", ErrNotFound, c)
	}
	return p, err
}

// Close removes the temporary files.
func (x *Index) Close() error {
	x.memory = nil
	err := x.table.close()
	if x.file != nil {
		err = errors.Join(err, x.file.Close())
		x.file = nil
	}
	return err
}

// FileIndex finds the blocks of a CAR file that can be read again. It keeps the positions of
// blocks, not their bytes: some 10 MB in memory, and temporary files with 45 bytes for each block.
// It is for one goroutine.
type FileIndex struct {
	r     io.ReadSeeker
	table table
	roots []cid.Cid
}

// IndexOptions are the options of [IndexFile]. The zero value works.
type IndexOptions struct {
	Limits Limits
	// Temp opens temporary files. Nil: TempDir("").
	Temp Temp
	// Hold, if not nil, is called before n more bytes are put into temporary files, and with a
	// negative n when they are removed. Its error ends the call.
	Hold func(n int64) error
	// Fault, if not nil, is called with the fault of a single block, whose bytes do not match its
	// CID. If it returns true, the block is skipped and reading continues.
	Fault func(err error) bool
}

// IndexFile reads a CAR file from the current position of r to its end, and checks every block. The
// caller closes the index, and must not use r before that.
func IndexFile(r io.ReadSeeker, opt IndexOptions) (_ *FileIndex, err error) {
	if r == nil {
		return nil, errors.New("car: there is no reader")
	}
	start, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	cr, err := NewReader(r, opt.Limits)
	if err != nil {
		return nil, err
	}
	x := &FileIndex{r: r, table: newTable(opt.Temp, opt.Hold), roots: cr.Roots()}
	defer func() {
		if err != nil {
			_ = x.Close()
		}
	}()
	for {
		b, err := cr.NextShared()
		switch {
		case err == io.EOF:
			if err := x.table.settle(); err != nil {
				return nil, err
			}
			return x, nil
		case errors.Is(err, ErrHash) && opt.Fault != nil && opt.Fault(err):
			cr.err = nil // the next block is where it should be
			continue
		case err != nil:
			return nil, err
		}
		k, err := keyOf(b.CID)
		if err == nil {
			err = x.table.add(k, place{start + cr.Offset() - int64(len(b.Data)), int32(len(b.Data))})
		}
		if err != nil {
			return nil, err
		}
	}
}

// Roots returns the roots in the file's header.
func (x *FileIndex) Roots() []cid.Cid { return x.roots }

// Block returns the bytes of a block, or ErrNotFound. The bytes belong to the caller.
func (x *FileIndex) Block(c cid.Cid) ([]byte, error) {
	p, err := x.table.find(c)
	if err != nil {
		return nil, err
	}
	if _, err := x.r.Seek(p.off, io.SeekStart); err != nil {
		return nil, err
	}
	b := make([]byte, p.n)
	if _, err := io.ReadFull(x.r, b); err != nil {
		return nil, fmt.Errorf("car: block %s: %w", c, truncated(err))
	}
	if !dag.Matches(c, b) {
		return nil, fmt.Errorf("%w: block %s", errChanged, c)
	}
	return b, nil
}

// Close removes the temporary files. It does not close the file.
func (x *FileIndex) Close() error { return x.table.close() }
