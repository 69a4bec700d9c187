package car_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/tempfile/temptest"
)

func TestIndex(t *testing.T) {
	for name, memory := range map[string]int64{"in memory": 0, "in a file": 1, "in both": 20_000} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			x := car.NewIndex(car.TempDir(dir), memory)
			blocks := append(someBlocks(200, 400, 7), block(dag.CBOR, ""), block(dag.Raw, ""), block(dag.Raw, "same bytes"), block(dag.CBOR, "same bytes"))
			for i, b := range blocks {
				if _, err := x.Block(b.CID); err == nil {
					continue // two empty blocks
				} else if !errors.Is(err, car.ErrNotFound) {
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
			for _, b := range blocks {
				if err := x.Add(b); err != nil {
					t.Fatal(err)
				}
				got, err := x.Block(b.CID)
				if err != nil || !bytes.Equal(got, b.Data) {
					t.Fatal(err)
				}
				clear(got) // the bytes are the caller's
			}
			for _, b := range blocks {
				if got, err := x.Block(b.CID); err != nil || !bytes.Equal(got, b.Data) {
					t.Fatal("a change of what was returned reached the index", err)
				}
			}
			v0 := cid.NewCidV0(blocks[0].CID.Hash())
			if err := x.Add(car.Block{CID: v0}); !errors.Is(err, car.ErrCID) {
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

// What fits into the memory of an index opens no file: as many bytes as were given, or 16 MiB.
func TestIndexFillsItsMemoryFirst(t *testing.T) {
	const size = 1 << 20
	data := make([]byte, size)
	for memory, fits := range map[int64]int{0: 16, size - 1: 0, size: 1, 2*size - 1: 1} {
		temps := new(temptest.Temps)
		x := car.NewIndex(temp(temps), memory)
		for i := range fits + 1 {
			data[0] = byte(i)
			if err := x.Add(car.Block{CID: dag.Sum(dag.Raw, data), Data: data}); err != nil {
				t.Fatal(err)
			}
			if got, want := temps.Opened(), i/max(fits, 1); fits > 0 && got != want {
				t.Errorf("%d bytes of memory: %d files for %d blocks of 1 MiB", memory, got, i+1)
			}
		}
		if temps.Opened() != 1 {
			t.Errorf("%d bytes of memory: %d files in the end", memory, temps.Opened())
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
		temps.Check(t)
	}
}

func TestIndexWithoutRoom(t *testing.T) {
	x := car.NewIndex(car.TempDir(filepath.Join(t.TempDir(), "no such folder")), 10)
	defer x.Close()
	if err := x.Add(block(dag.CBOR, "more than ten bytes")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestFileIndex: blocks are found in a file that does not begin where it is read from; one that is
// damaged is told and left out.
func TestFileIndex(t *testing.T) {
	blocks := someBlocks(300, 400, 7)
	file := car.Append([]byte("ahead"), []cid.Cid{blocks[0].CID}, blocks...)
	bad := bytes.Clone(file)
	bad[bytes.Index(bad, blocks[100].Data)]++
	for name, content := range map[string][]byte{"sound": file, "damaged": bad} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := bytes.NewReader(content)
			open := func(fault func(error) bool) (*car.FileIndex, error) {
				if _, err := r.Seek(5, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				return car.IndexFile(r, car.IndexOptions{Temp: car.TempDir(dir), Fault: fault})
			}
			faults := 0
			x, err := open(func(err error) bool {
				var e *car.Error
				if !errors.As(err, &e) || e.Err != car.ErrHash || e.CID != blocks[100].CID {
					t.Errorf("fault %v", err)
				}
				faults++
				return true
			})
			if err != nil || len(x.Roots()) != 1 {
				t.Fatal(err)
			}
			for i := range blocks {
				b := blocks[len(blocks)-1-i]
				got, err := x.Block(b.CID)
				if name == "damaged" && b.CID == blocks[100].CID {
					if !errors.Is(err, car.ErrNotFound) {
						t.Errorf("damaged block: %v", err)
					}
				} else if err != nil || !bytes.Equal(got, b.Data) {
					t.Errorf("block %d: %v", i, err)
				}
			}
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			if name == "sound" {
				if faults != 0 {
					t.Errorf("%d faults", faults)
				}
				return
			}
			if _, err := open(nil); !errors.Is(err, car.ErrHash) || faults != 1 {
				t.Errorf("%d faults, %v", faults, err)
			}
			if _, err := open(func(error) bool { return false }); !errors.Is(err, car.ErrHash) {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("files left behind: %v", left)
			}
		})
	}
}
