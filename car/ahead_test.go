package car

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

var errOdd = errors.New("odd length")

// checkOdd is a check that some blocks do not pass.
func checkOdd(b []byte) error {
	if len(b)%2 == 1 {
		return errOdd
	}
	return nil
}

// trace reads a file to its end and writes down all that a reader says.
func trace(file []byte, lim Limits, workers, batch int) string {
	c, err := NewReader(bytes.NewReader(file), lim)
	if err != nil {
		return err.Error()
	}
	c.ReadAhead(workers, checkOdd)
	if c.ahead != nil {
		c.ahead.bytes = batch
	}
	var out bytes.Buffer
	for range 2 { // the error sticks
		for err = nil; err == nil; {
			var b Block
			if b, err = c.NextShared(); err == nil {
				checked := checkOdd(b.Data)
				if c.ahead != nil {
					checked = c.Checked()
				}
				fmt.Fprintf(&out, "%v %x %v up to %d\n", b.CID, b.Data, checked, c.Offset())
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
	f.Fuzz(func(t *testing.T, file []byte, batch byte) {
		lim := Limits{Blocks: 15, BlockBytes: 50}
		if batch%2 == 0 {
			lim = Limits{}
		}
		want := trace(file, lim, 0, 0)
		for workers := range 3 {
			if got := trace(file, lim, workers+1, int(batch)+1); got != want {
				t.Fatalf("%d workers, batches of %d bytes:\n%s\nwant:\n%s", workers+1, batch, got, want)
			}
		}
	})
}

// A reader that is left in the middle of a file leaves nothing behind that waits.
func TestReadAheadIsLeft(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 1000)
	b := Block{CID: dag.Sum(dag.Raw, data), Data: data}
	list := make([]Block, 2000)
	for i := range list {
		list[i] = b
	}
	c, err := NewReader(bytes.NewReader(Append(nil, []cid.Cid{b.CID}, list...)), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c.ReadAhead(2, nil)
	if _, err := c.Next(); err != nil {
		t.Fatal(err)
	}
	if err := c.Checked(); !errors.Is(err, errUnchecked) {
		t.Error(err)
	}
	for _, b := range c.ahead.queue {
		if b.claimed.Load() {
			<-b.done
		}
	}
	if n := len(c.ahead.queue); n > 2 {
		t.Errorf("%d batches are read ahead", n)
	}
}
