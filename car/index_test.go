package car_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
)

func TestIndex(t *testing.T) {
	for name, memory := range map[string]int64{"in memory": 0, "in a file": 1, "in both": 20_000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := car.NewIndex(dir, memory)
			blocks := append(someBlocks(200, 400, 7), block(dag.CBOR, ""), block(dag.Raw, ""), block(dag.Raw, "same bytes"), block(dag.CBOR, "same bytes"))
			for i, b := range blocks {
				if x.Has(b.CID) {
					continue // two empty blocks
				}
				if _, err := x.Block(b.CID); !errors.Is(err, car.ErrNotFound) {
					t.Fatal(err)
				}
				data := bytes.Clone(b.Data)
				if err := x.Add(car.Block{CID: b.CID, Data: data}); err != nil {
					t.Fatal(err)
				}
				clear(data) // the index has a copy
				// Read while writing, so that the file is read before it is whole.
				if got, err := x.Block(blocks[i/2].CID); err != nil || !bytes.Equal(got, blocks[i/2].Data) {
					t.Fatalf("block %d: %v", i/2, err)
				}
			}
			n := x.Len()
			for _, b := range blocks {
				if err := x.Add(b); err != nil || !x.Has(b.CID) {
					t.Fatal(err)
				}
				got, err := x.Block(b.CID)
				if err != nil || !bytes.Equal(got, b.Data) {
					t.Fatal(err)
				}
				clear(got) // the bytes are the caller's
			}
			if x.Len() != n {
				t.Errorf("%d blocks, after repetitions %d", n, x.Len())
			}
			for _, b := range blocks {
				if got, err := x.Block(b.CID); err != nil || !bytes.Equal(got, b.Data) {
					t.Fatal("a change of what was returned reached the index", err)
				}
			}
			v0 := cid.NewCidV0(blocks[0].CID.Hash())
			if err := x.Add(car.Block{CID: v0}); !errors.Is(err, car.ErrCID) || x.Has(v0) {
				t.Error(err)
			}
			if _, err := x.Block(v0); !errors.Is(err, car.ErrCID) {
				t.Error(err)
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			if err := x.Close(); err != nil {
				t.Error("the second Close:", err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("files left behind: %v", left)
			}
		})
	}
}

func TestIndexWithoutRoom(t *testing.T) {
	x := car.NewIndex(filepath.Join(t.TempDir(), "no such folder"), 10)
	defer x.Close()
	if err := x.Add(block(dag.CBOR, "more than ten bytes")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
