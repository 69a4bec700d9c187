package car

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

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

// failSeek is a file that can no longer be read from a place when it says so.
type failSeek struct {
	*bytes.Reader
	fail bool
}

func (r *failSeek) Seek(off int64, whence int) (int64, error) {
	if r.fail {
		return 0, errFull
	}
	return r.Reader.Seek(off, whence)
}

// A file that is none has no index, and one that has changed since gives no block.
func TestFileThatChanges(t *testing.T) {
	if x, err := IndexFile(bytes.NewReader([]byte("garbage")), IndexOptions{}); x != nil || !errors.Is(err, ErrHeader) && !errors.Is(err, ErrTruncated) {
		t.Errorf("garbage: %v, %v", x, err)
	}
	data := []byte("a block")
	b := Block{CID: dag.Sum(dag.Raw, data), Data: data}
	file := Append(nil, []cid.Cid{b.CID}, b)
	r := &failSeek{Reader: bytes.NewReader(file)}
	x, err := IndexFile(r, IndexOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if got, err := x.Block(b.CID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("as it was: %q, %v", got, err)
	}
	r.fail = true
	if got, err := x.Block(b.CID); !errors.Is(err, errFull) || got != nil {
		t.Errorf("without a way back: %q, %v", got, err)
	}
	r.fail = false
	r.Reader = bytes.NewReader(file[:len(file)-1])
	if got, err := x.Block(b.CID); !errors.Is(err, ErrTruncated) || got != nil {
		t.Errorf("cut short: %q, %v", got, err)
	}
	changed := bytes.Clone(file)
	changed[len(changed)-1]++
	r.Reader = bytes.NewReader(changed)
	if got, err := x.Block(b.CID); !errors.Is(err, errChanged) || got != nil {
		t.Errorf("changed: %q, %v", got, err)
	}
}

// An empty block needs no room, in memory or in a file.
func TestIndexOfAnEmptyBlock(t *testing.T) {
	x := NewIndex(TempDir(t.TempDir()), 1)
	empty := Block{CID: dag.Sum(dag.CBOR, nil)}
	if err := x.Add(empty); err != nil {
		t.Fatal(err)
	}
	if got, err := x.Block(empty.CID); err != nil || got == nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if err := x.Add(empty); err == nil {
		t.Error("an index that is closed takes a block")
	}
}

// The limits that hold where none are given are those of the documentation.
func TestDefaultLimits(t *testing.T) {
	if got, want := (Limits{}).withDefaults(), (Limits{HeaderBytes: 32_768, BlockBytes: 2_097_152, Blocks: 67_108_864, TotalBytes: 17_179_869_184}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	own := Limits{1, 2, 3, 4}
	if got := own.withDefaults(); got != own {
		t.Errorf("%+v became %+v", own, got)
	}
}

// stutter gives a byte after each 99 reads that give nothing.
type stutter struct {
	rest  []byte
	empty int
}

func (s *stutter) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, nil
	}
	if s.empty++; s.empty%100 != 0 {
		return 0, nil
	}
	b[0] = s.rest[0]
	s.rest = s.rest[1:]
	return 1, nil
}

// wild says that it has read a number of bytes that cannot be.
type wild int

func (w wild) Read(b []byte) (int, error) { return int(w) * (len(b) + 1), nil }

// Readers that break the rules of io.Reader end with an error, and those that keep them just so are read.
func TestReadersThatBreakTheRules(t *testing.T) {
	data := []byte("x")
	b := Block{CID: dag.Sum(dag.Raw, data), Data: data}
	file := Append(nil, []cid.Cid{b.CID}, b)
	c, err := NewReader(&stutter{rest: file}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Next(); err != nil || got.CID != b.CID {
		t.Errorf("slowly: %v, %v", got, err)
	}
	if _, err := c.Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	for _, w := range []wild{-1, 1} {
		if _, err := NewReader(w, Limits{}); !errors.Is(err, errCount) {
			t.Errorf("%d: %v", w, err)
		}
	}
	// What ends unexpectedly is truncated, wherever it ends.
	for n := range len(file) {
		c, err := NewReader(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)), Limits{})
		for err == nil {
			_, err = c.Next()
		}
		if !errors.Is(err, ErrTruncated) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

// Blocks gives every block, and an error once, also to a loop that does not stop there.
func TestBlocksGivesAnErrorOnce(t *testing.T) {
	var blocks []Block
	for i := range 3 {
		data := []byte{byte(i)}
		blocks = append(blocks, Block{CID: dag.Sum(dag.Raw, data), Data: data})
	}
	for _, cut := range []int{0, 1} {
		file := Append(nil, nil, blocks...)
		c, err := NewReader(bytes.NewReader(file[:len(file)-cut]), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		good, bad := 0, 0
		for _, err := range c.Blocks() {
			if err == nil {
				good++
			} else if bad++; bad > 1 {
				break
			}
		}
		if good != 3-cut || bad != cut {
			t.Errorf("cut by %d: %d blocks, %d errors", cut, good, bad)
		}
	}
}
