package car

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

var errFull = errors.New("no room")

// roomFor is a Hold that gives room for so many files.
func roomFor(files int) func(int64) error {
	return func(n int64) error {
		if n < 0 {
			return nil
		}
		if files--; files < 0 {
			return errFull
		}
		return nil
	}
}

// A table says at once that it cannot make a run, or one of several.
func TestTableSaysThatThereIsNoRoom(t *testing.T) {
	const most = 10
	for _, room := range []int{0, 1, fanIn - 1, fanIn} {
		tb := newTable(TempDir(t.TempDir()), roomFor(room))
		tb.most = most
		n := 0
		var err error
		for ; err == nil && n < 100*most; n++ {
			var k key
			binary.BigEndian.PutUint64(k.digest[:], uint64(n))
			err = tb.add(k, place{int64(n), 1})
		}
		// Runs are made of ten entries each. The ninth file is that of eight runs.
		if want := most * min(room+1, fanIn); !errors.Is(err, errFull) || n != want {
			t.Errorf("room for %d files: %v after %d entries, want %d", room, err, n, want)
		}
		if room > 1 {
			if err := tb.settle(); !errors.Is(err, errFull) {
				t.Errorf("room for %d files: settle: %v", room, err)
			}
		}
		if err := tb.close(); err != nil {
			t.Error(err)
		}
	}
}

// IndexFile fails if the runs of its table cannot be made one, and leaves the caller nothing to close.
func TestIndexFileWithoutRoomAtTheEnd(t *testing.T) {
	blocks := make([]Block, 2*tableEntries)
	for i := range blocks {
		data := binary.BigEndian.AppendUint32(nil, uint32(i))
		blocks[i] = Block{CID: dag.Sum(dag.Raw, data), Data: data}
	}
	file := bytes.NewReader(Append(nil, []cid.Cid{blocks[0].CID}, blocks...))
	for room, want := range map[int]error{2: errFull, 3: nil} {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		x, err := IndexFile(file, IndexOptions{Temp: TempDir(t.TempDir()), Hold: roomFor(room)})
		if !errors.Is(err, want) || (x == nil) != (err != nil) {
			t.Errorf("room for %d files: %v, %v", room, x, err)
		}
		if x != nil {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// noSeek is a reader that says it can seek, and cannot.
type noSeek struct{ *bytes.Reader }

func (noSeek) Seek(int64, int) (int64, error) { return 0, errFull }

func TestIndexFileThatCannotSeek(t *testing.T) {
	b := Block{CID: dag.Sum(dag.Raw, nil)}
	if _, err := IndexFile(noSeek{bytes.NewReader(Append(nil, []cid.Cid{b.CID}, b))}, IndexOptions{}); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// A block that comes again takes no room.
func TestIndexKeepsABlockOnce(t *testing.T) {
	data := []byte("a block")
	b := Block{CID: dag.Sum(dag.Raw, data), Data: data}
	other := Block{CID: dag.Sum(dag.CBOR, data), Data: data}
	for _, memory := range []int64{1, 100} {
		x := NewIndex(TempDir(t.TempDir()), memory)
		for _, b := range []Block{b, b, other, b, other} {
			if err := x.Add(b); err != nil {
				t.Fatal(err)
			}
		}
		if n := int64(len(x.memory)) + x.size; n != 2*int64(len(data)) {
			t.Errorf("%d bytes of memory: %d bytes are kept", memory, n)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}
