package msttest_test

import (
	"iter"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// The code of the README, for package mst.

var library = msttest.PackageMST(true) // put yours here

func TestTree(t *testing.T) { msttest.Run(t, library, msttest.Options{Histories: 10}) }

func BenchmarkTree(b *testing.B) { msttest.Benchmark(b, library) }

type Tree interface {
	Root() (cid.Cid, error)
	Get(key string) (cid.Cid, error)
	Entries() iter.Seq2[mst.Entry, error]
	Nodes() iter.Seq2[car.Block, error]
	Apply(ops []mst.Op) (msttest.Tree, error)
}

var (
	_ Tree         = msttest.Tree(nil)
	_ msttest.Tree = Tree(nil)
)
