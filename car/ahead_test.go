package car

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// isEven is a check that some blocks do not pass.
func isEven(b []byte) bool { return len(b)%2 == 0 }

// slow gives a few bytes at a time, and an error instead of the end.
type slow struct {
	rest []byte
	step int
	err  error
}

func (s *slow) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, s.err
	}
	n := copy(b, s.rest[:min(s.step, len(s.rest))])
	s.rest = s.rest[n:]
	return n, nil
}

// trace reads a file to its end and writes down all that a reader says.
func trace(t testing.TB, file []byte, lim Limits, workers, step int, failure error) string {
	c, err := NewReader(&slow{file, step, failure}, lim)
	if err != nil {
		return err.Error()
	}
	defer c.ReadAhead(workers, isEven)()
	var out bytes.Buffer
	for range 2 { // the error sticks
		for err = nil; err == nil; {
			var b Block
			if b, err = c.NextShared(); err == nil {
				fmt.Fprintf(&out, "%v %x up to %d\n", b.CID, b.Data, c.Offset())
				if c.Sound() && !isEven(b.Data) {
					t.Errorf("a block of %d bytes is sound", len(b.Data))
				}
			}
		}
		fmt.Fprintln(&out, err)
	}
	return out.String()
}

// FuzzReadAhead compares readers that read ahead with one that does not.
func FuzzReadAhead(f *testing.F) {
	var blocks []Block
	for i := range 20 {
		data := bytes.Repeat([]byte{byte(i)}, i*3)
		blocks = append(blocks, Block{CID: dag.Sum(dag.CBOR, data), Data: data})
	}
	file := Append(nil, []cid.Cid{blocks[0].CID}, blocks...)
	for _, cut := range []int{0, 1, 30, 60, 100, 500} {
		f.Add(file[:len(file)-cut], byte(cut))
		damaged := bytes.Clone(file)
		damaged[len(file)-cut-1] ^= 1
		f.Add(damaged, byte(cut))
	}
	f.Fuzz(func(t *testing.T, file []byte, step byte) {
		lim, failure := Limits{Blocks: 15, BlockBytes: 50}, io.EOF
		if step%2 == 0 {
			lim = Limits{}
		}
		if step%3 == 0 {
			failure = errors.New("out of order")
		}
		want := trace(t, file, lim, 0, int(step)+1, failure)
		for workers := range 3 {
			if got := trace(t, file, lim, workers+1, int(step)+1, failure); got != want {
				t.Fatalf("%d workers, %d bytes at a time:\n%s\nwant:\n%s", workers+1, step, got, want)
			}
		}
	})
}

// sameBlocks is a file of n times the same block.
func sameBlocks(n, size int) []byte {
	data := bytes.Repeat([]byte("x"), size)
	b := Block{CID: dag.Sum(dag.Raw, data), Data: data}
	return Append(nil, []cid.Cid{b.CID}, slices.Repeat([]Block{b}, n)...)
}

// readAhead begins to read a file ahead, up to its first block.
func readAhead(t *testing.T, file []byte, workers int, sound func([]byte) bool) (c *Reader, end func()) {
	t.Helper()
	c, err := NewReader(bytes.NewReader(file), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	end = c.ReadAhead(workers, sound)
	if _, err := c.NextShared(); err != nil {
		t.Fatal(err)
	}
	return c, end
}

// What workers have checked the reader does not check, and what it has taken they do not.
func TestReadAheadShares(t *testing.T) {
	c, end := readAhead(t, sameBlocks(2000, 1000), 1, isEven)
	defer end()
	c.ahead.running.Wait()
	own := len(c.ahead.front.blocks)
	if !c.ahead.front.done.Load() {
		t.Error("a worker has the first batch")
	}
	for i := 1; i < own; i++ {
		if _, err := c.NextShared(); err != nil || c.Sound() {
			t.Fatalf("block %d of the first batch: %v", i, err)
		}
		if taken, want := int(c.ahead.front.taken.Load()), (i/share+1)*share; taken != want {
			t.Fatalf("block %d of the first batch: %d are the reader's, want %d", i, taken, want)
		}
	}
	second := c.ahead.queue[0]
	for i := range second.blocks {
		if _, err := c.NextShared(); err != nil || !c.Sound() || c.ahead.front != second {
			t.Fatalf("block %d of the second batch: %v", i, err)
		}
	}
	if _, err := c.NextShared(); err != nil {
		t.Fatal(err)
	}
	b := c.ahead.queue[len(c.ahead.queue)-1]
	c.ahead.running.Wait()
	b.reset()
	if b.done.Load() || b.taken.Load() != 0 || len(b.blocks) != 0 || b.err != nil {
		t.Error("a batch that is reset is not as a new one")
	}
	b.blocks = second.blocks[:20]
	b.taken.Store(5)
	b.check(nil)
	for i := range b.blocks {
		if known := b.known[i].Load(); (known == isHashed) != (i >= 5) || known == 0 != (i < 5) {
			t.Errorf("block %d: %d", i, known)
		}
	}
}

// A worker that meets a fault leaves it, and what follows, to the reader.
func TestReadAheadMeetsAFault(t *testing.T) {
	file := sameBlocks(2000, 1000)
	at := int64(len(file) / 10) // in one of the batches of the queue
	file[at] ^= 1
	c, end := readAhead(t, file, 1, nil)
	defer end()
	c.ahead.running.Wait()
	var err error
	for err == nil {
		_, err = c.NextShared()
	}
	if before := at - c.Offset(); !errors.Is(err, ErrHash) || before < 0 || before > 1040 {
		t.Errorf("%v; the reader is %d bytes before the fault", err, before)
	}
}

// A reader that is left in the middle of a file leaves no goroutine behind, and has not read far.
func TestReadAheadIsLeft(t *testing.T) {
	var busy atomic.Int32
	for _, size := range []int{10, 1000, 500_000} {
		file := sameBlocks(max(20, 2_000_000/size), size)
		c, end := readAhead(t, file, 2, func([]byte) bool {
			busy.Add(1)
			defer busy.Add(-1)
			return true
		})
		left := append(c.ahead.queue, c.ahead.front)
		end()
		for i, b := range left {
			if b.taken.Load() != math.MaxInt32 {
				t.Errorf("batch %d is still the workers'", i)
			}
		}
		if n := busy.Load(); n != 0 {
			t.Errorf("%d goroutines are still at work", n)
		}
	}
	r := bytes.NewReader(sameBlocks(100, 500_000))
	c, err := NewReader(r, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.ReadAhead(2, nil)()
	if _, err := c.Next(); err != nil {
		t.Fatal(err)
	}
	if n := r.Size() - int64(r.Len()); n > aheadBytes+2*500_000 {
		t.Errorf("%d bytes are read ahead", n)
	}
	if n := len(c.ahead.queue); n > 4 {
		t.Errorf("%d batches are read ahead", n)
	}
}

// A batch is used again when no worker has it, and if its buffer is not a large one.
func TestBatchesThatAreUsedAgain(t *testing.T) {
	for _, x := range []struct {
		done bool
		size int
		want bool
	}{{true, keptBytes, true}, {true, keptBytes + 1, false}, {false, keptBytes, false}} {
		old, next := &batch{buf: make([]byte, x.size)}, &batch{buf: make([]byte, 7)}
		old.done.Store(x.done)
		a := &ahead{front: old, queue: []*batch{next}, queued: 7, all: true, at: 3}
		a.advance(nil)
		if a.front != next || a.at != 0 || len(a.queue) != 0 || a.queued != 0 || (a.free == old) != x.want {
			t.Errorf("%+v: %+v", x, a)
		}
	}
}

// A large block leaves a large buffer, which may hold the beginnings of many small ones. None is lost
// when the buffer passes to a batch.
func TestReadAheadOfLargeAndSmallBlocks(t *testing.T) {
	var blocks []Block
	for range 6 {
		blocks = append(blocks, Block{Data: bytes.Repeat([]byte("x"), 3*bufferBytes)})
		for i := range 5 * batchBlocks {
			blocks = append(blocks, Block{Data: []byte{byte(i), byte(i >> 8)}})
		}
	}
	for i := range blocks {
		blocks[i].CID = dag.Sum(dag.Raw, blocks[i].Data)
	}
	file := Append(nil, nil, blocks...)
	c, err := NewReader(bytes.NewReader(file), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.ReadAhead(1, nil)()
	for i, want := range blocks {
		if got, err := c.NextShared(); err != nil || got.CID != want.CID || !bytes.Equal(got.Data, want.Data) {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	if _, err := c.NextShared(); err != io.EOF || c.Offset() != int64(len(file)) || c.ahead.queued != 0 || len(c.ahead.queue) != 0 {
		t.Errorf("at the end: %v at %d; %d bytes in %d batches", err, c.Offset(), c.ahead.queued, len(c.ahead.queue))
	}
	// What is left of a buffer may be longer than the next one.
	small := blocks[1 : 5*batchBlocks]
	if c, err = newMemoryReader(Append(nil, nil, small...), Limits{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for a := new(ahead); !a.all; {
		b := a.fill(c)
		for i := range b.blocks {
			if id, data := b.block(i); string(id) != small[n].CID.KeyString() || !bytes.Equal(data, small[n].Data) {
				t.Fatalf("block %d", n)
			}
			n++
		}
	}
	if n != len(small) {
		t.Errorf("%d of %d blocks", n, len(small))
	}
}

// Without workers, and a second time, ReadAhead does nothing.
func TestReadAheadOfNobody(t *testing.T) {
	c, err := NewReader(bytes.NewReader(sameBlocks(3, 10)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c.ReadAhead(0, isEven)()
	if c.ahead != nil || c.Sound() {
		t.Error("a reader without workers reads ahead")
	}
	end := c.ReadAhead(1, nil)
	first := c.ahead
	c.ReadAhead(2, isEven)()
	if c.ahead != first {
		t.Error("a second call has an effect")
	}
	end()
}
