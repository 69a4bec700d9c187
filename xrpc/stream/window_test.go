package stream

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func itemOf(seq int64, size int) *item {
	return &item{seq: seq, messages: []message{{bytes: make([]byte, size)}}}
}

// A window against a plain list, through random additions and reads.
func TestWindow(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		limit := 1000 + rng.IntN(5000)
		start := rng.Int64N(100)
		w := newWindow(start)
		var all []*item
		seq := start
		for range 200 {
			var batch []*item
			for range rng.IntN(20) {
				seq += 1 + rng.Int64N(3)
				batch = append(batch, itemOf(seq, rng.IntN(500)))
			}
			w.add(batch, limit)
			all = append(all, batch...)

			at := start + rng.Int64N(seq-start+5)
			v, err := w.viewAfter(at)
			if err != nil {
				t.Fatal(err)
			}
			items, err := w.after(at, 1+rng.IntN(10), 1+rng.IntN(2000))
			if err != nil {
				t.Fatal(err)
			}
			// What is kept is a suffix within the limit (or one item), and it is as long as it can
			// be.
			size, from := 0, len(all)
			for from > 0 && (size+all[from-1].size() <= limit || from == len(all)) {
				from--
				size += all[from].size()
			}
			wantStart := start
			if from > 0 {
				wantStart = all[from-1].seq
			}
			if v.start > wantStart || w.size > limit && w.n > 1 {
				t.Fatalf("seed %d: the window starts at %d, should at %d (%d bytes of %d)", seed, v.start, wantStart, w.size, limit)
			}
			if v.covered != (at >= v.start) {
				t.Fatalf("seed %d: position %d covered: %v, start %d", seed, at, v.covered, v.start)
			}
			if !v.covered {
				if len(items) > 0 {
					t.Fatalf("seed %d: items after %d, start %d", seed, at, v.start)
				}
				continue
			}
			if v.more != (len(items) > 0) {
				t.Fatalf("seed %d: after %d: %d items, more: %v", seed, at, len(items), v.more)
			}
			want := []int64{}
			for _, it := range all {
				if it.seq > at && len(want) < len(items) {
					want = append(want, it.seq)
				}
			}
			got := []int64{}
			for _, it := range items {
				got = append(got, it.seq)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d: after %d:\n%s", seed, at, diff)
			}
			if len(items) == 0 && seq > at {
				t.Fatalf("seed %d: nothing after %d, though %d is there", seed, at, seq)
			}
		}
	}
}

func TestWindowBatches(t *testing.T) {
	w := newWindow(0)
	for seq := range int64(10) {
		w.add([]*item{itemOf(seq+1, 1000)}, 1<<20)
	}
	for _, tc := range []struct{ at, room, bytes, want int64 }{
		{0, 100, 1 << 20, 10},
		{0, 3, 1 << 20, 3},
		{0, 100, 3000, 2},
		{0, 100, 1, 1}, // one, however large
		{7, 100, 1 << 20, 3},
		{10, 100, 1 << 20, 0},
		{99, 100, 1 << 20, 0},
	} {
		items, err := w.after(tc.at, int(tc.room), int(tc.bytes))
		if err != nil || int64(len(items)) != tc.want {
			t.Errorf("%+v: %d items (%v)", tc, len(items), err)
		}
	}
}

func TestWindowWakes(t *testing.T) {
	w := newWindow(5)
	v, _ := w.viewAfter(5)
	select {
	case <-v.changed:
		t.Error("changed, says an empty window")
	default:
	}
	w.add([]*item{itemOf(6, 1)}, 1000)
	<-v.changed
	v, _ = w.viewAfter(6)
	first, second := errors.New("first"), errors.New("second")
	w.fail(first)
	w.fail(second)
	<-v.changed
	if _, err := w.viewAfter(5); err != first {
		t.Error(err)
	}
	if _, err := w.after(5, 1, 1); err != first {
		t.Error(err)
	}
	if !w.failed() {
		t.Error("not failed")
	}
}

// A window lets go of what it drops.
func TestWindowLetsGo(t *testing.T) {
	w := newWindow(0)
	for seq := range int64(1000) {
		w.add([]*item{itemOf(seq+1, 900)}, 10_000)
	}
	kept := 0
	for _, it := range w.ring {
		if it != nil {
			kept++
		}
	}
	if kept != w.n || w.n > 10 || len(w.ring) != 64 {
		t.Errorf("%d items, %d kept in a ring of %d", w.n, kept, len(w.ring))
	}
}
