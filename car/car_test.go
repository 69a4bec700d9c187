package car_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
)

func block(codec dag.Codec, data string) car.Block {
	return car.Block{CID: dag.Sum(codec, []byte(data)), Data: []byte(data)}
}

// someBlocks makes n blocks of up to size bytes.
func someBlocks(n, size int, seed uint64) []car.Block {
	rng := rand.New(rand.NewPCG(seed, 11))
	list := make([]car.Block, n)
	for i := range list {
		data := make([]byte, rng.IntN(size+1))
		for j := range data {
			data[j] = byte(rng.Uint32())
		}
		list[i] = car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}
	}
	return list
}

// readAll reads a file with each of the Reader's methods and checks that they agree.
func readAll(t testing.TB, file []byte, lim car.Limits) (roots []cid.Cid, blocks []car.Block, err error) {
	t.Helper()
	roots, blocks, err = car.ReadAll(file, lim)
	r, err2 := car.NewReader(iotest.OneByteReader(bytes.NewReader(file)), lim)
	var shared []car.Block
	for err2 == nil {
		var b car.Block
		if b, err2 = r.NextShared(); err2 == nil {
			shared = append(shared, car.Block{CID: b.CID, Data: bytes.Clone(b.Data)})
		}
	}
	if err2 == io.EOF {
		err2 = nil
		if r.Offset() != int64(len(file)) {
			t.Errorf("the offset at the end is %d of %d", r.Offset(), len(file))
		}
	}
	if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
		t.Fatalf("in one piece: %v, byte by byte: %v", err, err2)
	}
	if err == nil && len(blocks) > 0 && !cmp.Equal(blocks, shared, cmp.Comparer(cid.Cid.Equals), cmp.Comparer(bytes.Equal)) {
		t.Fatal("Next and NextShared differ")
	}
	return roots, blocks, err
}

func TestRoundTrip(t *testing.T) {
	raw, empty := block(dag.Raw, "a blob"), block(dag.CBOR, "")
	for name, c := range map[string]struct {
		roots  []cid.Cid
		blocks []car.Block
	}{
		"no root, no block":    {nil, nil},
		"one root, no block":   {[]cid.Cid{raw.CID}, nil},
		"two roots":            {[]cid.Cid{raw.CID, empty.CID}, []car.Block{raw, empty}},
		"the same block again": {[]cid.Cid{raw.CID}, []car.Block{raw, raw, empty, raw}},
		"a block without data": {[]cid.Cid{empty.CID}, []car.Block{empty}},
		"many blocks":          {[]cid.Cid{raw.CID}, someBlocks(300, 3000, 1)},
		"large blocks":         {[]cid.Cid{raw.CID}, someBlocks(5, 1<<20, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			w, err := car.NewWriter(&buf, c.roots...)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range c.blocks {
				if err := w.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buf.Bytes(), car.Append(nil, c.roots, c.blocks...)) {
				t.Error("Writer and Append differ")
			}
			roots, blocks, err := readAll(t, buf.Bytes(), car.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			same := slices.EqualFunc(blocks, c.blocks, func(a, b car.Block) bool { return a.CID == b.CID && bytes.Equal(a.Data, b.Data) })
			if !slices.Equal(roots, c.roots) || !same {
				t.Errorf("%d roots and %d blocks came back", len(roots), len(blocks))
			}
			// Cut short anywhere but between blocks, it is truncated.
			whole := make(map[int]bool)
			for i := range len(c.blocks) + 1 {
				whole[len(car.Append(nil, c.roots, c.blocks[:i]...))] = true
			}
			for n := 0; n < buf.Len(); n += 1 + n/500 {
				if _, _, err := car.ReadAll(buf.Bytes()[:n], car.Limits{}); (err == nil) != whole[n] || err != nil && !errors.Is(err, car.ErrTruncated) {
					t.Fatalf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestErrorsStick(t *testing.T) {
	a, b := block(dag.CBOR, "a"), block(dag.CBOR, "b")
	bad := car.Block{CID: a.CID, Data: []byte("not a")}
	r, err := car.NewReader(bytes.NewReader(car.Append(nil, []cid.Cid{a.CID}, a, bad, b)), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Next(); err != nil || got.CID != a.CID {
		t.Fatal(got, err)
	}
	for range 3 {
		if _, err := r.Next(); !errors.Is(err, car.ErrHash) {
			t.Fatal(err)
		}
	}
}

// An error of the underlying reader passes through, and is not taken for the end.
func TestFailingSource(t *testing.T) {
	boom := errors.New("boom")
	file := car.Append(nil, nil, someBlocks(3, 500, 3)...)
	for n := range file {
		src := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(boom))
		r, err := car.NewReader(src, car.Limits{})
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, boom) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

type failingWriter struct{ room int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.room -= len(b); w.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestFailingDestination(t *testing.T) {
	blocks := someBlocks(50, 5000, 4)
	size := len(car.Append(nil, nil, blocks...))
	for room := 0; room < size; room += size / 20 {
		w, err := car.NewWriter(&failingWriter{room})
		for i := 0; i < len(blocks) && err == nil; i++ {
			err = w.Write(blocks[i])
		}
		if err == nil {
			err = w.Flush()
		}
		if err == nil {
			t.Fatalf("room for %d of %d bytes was enough", room, size)
		}
	}
}

func TestBlocksStops(t *testing.T) {
	blocks := someBlocks(5, 50, 5)
	r, err := car.NewReader(bytes.NewReader(car.Append(nil, nil, blocks...)), car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for b, err := range r.Blocks() {
		if err != nil || b.CID != blocks[0].CID {
			t.Fatal(b.CID, err)
		}
		break
	}
	if b, err := r.Next(); err != nil || b.CID != blocks[1].CID {
		t.Fatal("reading does not go on where the loop stopped", err)
	}
}

func ExampleReader() {
	record := []byte("\xa1\x65$typel" + "com.example.")
	b := car.Block{CID: dag.Sum(dag.CBOR, record), Data: record}
	file := car.Append(nil, []cid.Cid{b.CID}, b)

	r, err := car.NewReader(bytes.NewReader(file), car.Limits{TotalBytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	for b, err := range r.Blocks() {
		if err != nil {
			panic(err)
		}
		fmt.Println(b.CID == r.Roots()[0], len(b.Data))
	}
	// Output: true 20
}
