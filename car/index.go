package car

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// ErrNotFound is what an Index returns for a block that it does not have.
var ErrNotFound = errors.New("car: block not found")

// Index finds blocks by CID, whatever order they came in. Up to a bound it holds
// their bytes in memory, beyond that in a temporary file; of each it then holds some
// 70 bytes. It is for one goroutine.
type Index struct {
	dir   string
	limit int64

	at     map[key]place
	memory []byte
	file   *os.File
	w      *bufio.Writer
	size   int64 // of the file
	dirty  bool  // the writer holds bytes that the file does not have
}

type key struct {
	digest dag.Digest
	codec  dag.Codec
}

// place is where a block's bytes are: in memory, or behind it in the file.
type place struct {
	off int64
	n   int32
}

// NewIndex returns an index that holds up to memory bytes of blocks (0: 16 MiB)
// and puts more into a temporary file in dir (empty: the system's). The caller
// closes it.
func NewIndex(dir string, memory int64) *Index {
	if memory == 0 {
		memory = 16 << 20
	}
	return &Index{dir: dir, limit: memory, at: make(map[key]place)}
}

// Add adds a block. A CID that is there already changes nothing.
func (x *Index) Add(b Block) error {
	codec, digest, ok := dag.Split(b.CID)
	if !ok {
		return &Error{CID: b.CID, Err: ErrCID}
	}
	k := key{digest, codec}
	if _, ok := x.at[k]; ok {
		return nil
	}
	if x.file == nil && int64(len(x.memory)+len(b.Data)) <= x.limit {
		x.at[k] = place{int64(len(x.memory)), int32(len(b.Data))}
		x.memory = append(x.memory, b.Data...)
		return nil
	}
	if x.file == nil {
		f, err := os.CreateTemp(x.dir, "pdskit-car-*")
		if err != nil {
			return fmt.Errorf("car: index: %w", err)
		}
		_ = os.Remove(f.Name()) // at once where the system allows it, else in Close
		x.file, x.w = f, bufio.NewWriterSize(f, 256<<10)
	}
	if _, err := x.w.Write(b.Data); err != nil {
		return fmt.Errorf("car: index: %w", err)
	}
	x.at[k] = place{int64(len(x.memory)) + x.size, int32(len(b.Data))}
	x.size += int64(len(b.Data))
	x.dirty = true
	return nil
}

// Len returns how many blocks there are.
func (x *Index) Len() int { return len(x.at) }

// Has reports whether there is a block.
func (x *Index) Has(c cid.Cid) bool {
	codec, digest, ok := dag.Split(c)
	_, have := x.at[key{digest, codec}]
	return ok && have
}

// Block returns the bytes of a block, which are the caller's, or ErrNotFound.
func (x *Index) Block(c cid.Cid) ([]byte, error) {
	codec, digest, ok := dag.Split(c)
	if !ok {
		return nil, &Error{CID: c, Err: ErrCID}
	}
	p, ok := x.at[key{digest, codec}]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, c)
	}
	b := make([]byte, p.n)
	if p.n == 0 {
		return b, nil
	}
	if p.off < int64(len(x.memory)) {
		copy(b, x.memory[p.off:])
		return b, nil
	}
	if x.dirty {
		if err := x.w.Flush(); err != nil {
			return nil, fmt.Errorf("car: index: %w", err)
		}
		x.dirty = false
	}
	if n, err := x.file.ReadAt(b, p.off-int64(len(x.memory))); n < len(b) {
		return nil, fmt.Errorf("car: index: %w", err)
	}
	return b, nil
}

// Close removes the temporary file.
func (x *Index) Close() error {
	x.at, x.memory = nil, nil
	if x.file == nil {
		return nil
	}
	name := x.file.Name()
	err := x.file.Close()
	_ = os.Remove(name)
	x.file = nil
	return err
}
