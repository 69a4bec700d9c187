package msttest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
)

// ErrFault is the error of a Faulty source.
var ErrFault = errors.New("msttest: injected fault")

// ErrReads is the error of a Bounded source.
var ErrReads = errors.New("msttest: more reads than the tree has any need for")

// Faulty is a Source that fails at one read, or at all reads. It is safe for concurrent use.
type Faulty struct {
	Source mst.Source
	At     int64 // the read that fails, counted from 1; 0: none, -1: all
	reads  atomic.Int64
}

// Block implements mst.Source.
func (f *Faulty) Block(c cid.Cid) ([]byte, error) {
	if n := f.reads.Add(1); n == f.At || f.At < 0 {
		return nil, fmt.Errorf("%w at read %d", ErrFault, n)
	}
	return f.Source.Block(c)
}

// Reads returns how many reads there were.
func (f *Faulty) Reads() int64 { return f.reads.Load() }

// Bounded is a Source that ends an endless walk: it fails after Most reads.
type Bounded struct {
	Source mst.Source
	Most   int64
	reads  atomic.Int64
}

// Block implements mst.Source.
func (b *Bounded) Block(c cid.Cid) ([]byte, error) {
	if b.reads.Add(1) > b.Most {
		return nil, ErrReads
	}
	return b.Source.Block(c)
}

// Exceeded reports whether there were more than Most reads.
func (b *Bounded) Exceeded() bool { return b.reads.Load() > b.Most }

// Liar is a Source that answers every request with the same block.
type Liar []byte

// Block implements mst.Source.
func (l Liar) Block(cid.Cid) ([]byte, error) { return l, nil }
