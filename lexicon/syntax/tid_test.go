package syntax_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

func TestTIDRoundTrip(t *testing.T) {
	when := time.UnixMicro(1_700_000_000_123_456).UTC()
	tid := syntax.NewTID(when, 777)
	if _, err := syntax.ParseTID(string(tid)); err != nil {
		t.Fatal(err)
	}
	if !tid.Time().Equal(when) || tid.Clock() != 777 {
		t.Fatalf("%s is %v of clock %d", tid, tid.Time(), tid.Clock())
	}
}

func TestClockAscendsAcrossGoroutines(t *testing.T) {
	var clock syntax.TIDClock
	var mu sync.Mutex
	seen := make(map[syntax.TID]bool)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var last syntax.TID
			for range 5000 {
				tid := clock.Next()
				if tid <= last {
					t.Errorf("%s after %s", tid, last)
				}
				last = tid
				mu.Lock()
				if seen[tid] {
					t.Errorf("%s twice", tid)
				}
				seen[tid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNextAfterAClockThatRanAhead(t *testing.T) {
	var clock syntax.TIDClock
	future := syntax.NewTID(time.Now().Add(time.Hour), 1023)
	next := clock.NextAfter(future)
	if next <= future {
		t.Fatalf("%s is not after %s", next, future)
	}
	if after := clock.Next(); after <= next {
		t.Fatalf("%s is not after %s", after, next)
	}
}

// A process that starts again, at once or with its system's clock gone back, continues after the last
// TID that it has stored, even with another clock identifier.
func TestClockAscendsAcrossRestarts(t *testing.T) {
	last := syntax.NewTID(time.Now().Add(time.Minute), 1023)
	seen := map[syntax.TID]bool{last: true}
	for restart := range 100 {
		clock := syntax.NewTIDClock(uint(1023 - restart))
		for range 10 {
			next := clock.NextAfter(last)
			if next <= last || seen[next] {
				t.Fatalf("%s after %s", next, last)
			}
			seen[next], last = true, next
		}
	}
}

// Clocks of processes that know nothing of each other do not collide if their identifiers differ.
func TestClocksOfProcessesSideBySide(t *testing.T) {
	a, b := syntax.NewTIDClock(1), syntax.NewTIDClock(2)
	seen := make(map[syntax.TID]bool)
	for range 1000 {
		for _, tid := range []syntax.TID{a.Next(), b.Next()} {
			if seen[tid] {
				t.Fatalf("%s twice", tid)
			}
			seen[tid] = true
		}
	}
}

// After the last TID of all there is none: a clock must not start again from the first.
func TestTheLastTIDOfAll(t *testing.T) {
	const last = "jzzzzzzzzzzzz"
	if _, err := syntax.ParseTID(last); err != nil {
		t.Fatal(err)
	}
	clock := syntax.NewTIDClock(5)
	if next := clock.NextAfter(last); next < "bzzzzzzzzzz" {
		t.Errorf("%s after %s", next, last)
	}
	if next := clock.Next(); next < "bzzzzzzzzzz" {
		t.Errorf("then %s", next)
	}
}

func ExampleTIDClock() {
	var clock syntax.TIDClock
	a, b := clock.Next(), clock.Next()
	fmt.Println(len(a), a < b)
	// Output: 13 true
}

func ExampleParseHandle() {
	h, err := syntax.ParseHandle("Alice.Example.com")
	fmt.Println(h.Normalize(), err)
	_, err = syntax.ParseHandle("alice@example.com")
	fmt.Println(err)
	// Output:
	// alice.example.com <nil>
	// invalid handle "alice@example.com": illegal character (at byte 5)
}

// The next TID follows the one before it or the time, and nothing else.
func TestNextTID(t *testing.T) {
	now := time.UnixMicro(1_700_000_000_000_000)
	for _, tt := range []struct {
		name string
		prev syntax.TID
		now  time.Time
		want time.Time
	}{
		{"the first", "", now, now},
		{"after an older one", syntax.NewTID(now.Add(-time.Hour), 1023), now, now},
		{"in the same microsecond", syntax.NewTID(now, 1023), now, now.Add(time.Microsecond)},
		{"after one that is ahead", syntax.NewTID(now.Add(time.Hour), 0), now, now.Add(time.Hour + time.Microsecond)},
		{"after what is none", "zzzzzzzzzzzzz", now, now},
		{"a clock before 1970", "", time.Unix(-1, 0), time.Unix(0, 0)},
		{"the zero time", "", time.Time{}, time.Unix(0, 0)},
		{"the zero time, after another", syntax.NewTID(now, 0), time.Time{}, now.Add(time.Microsecond)},
	} {
		next, ok := syntax.NextTID(tt.prev, tt.now, 7)
		if !ok || !next.Time().Equal(tt.want) || next.Clock() != 7 {
			t.Errorf("%s: %s is of %s, want %s", tt.name, next, next.Time(), tt.want)
		}
	}
	for _, last := range []syntax.TID{"bzzzzzzzzzzzz", "bzzzzzzzzzz22", "c222222222222", "jzzzzzzzzzzzz"} {
		if next, ok := syntax.NextTID(last, now, 7); ok {
			t.Errorf("%s follows %s", next, last)
		}
	}
	// Times outside of the range of TIDs count as its ends.
	if got := syntax.NewTID(time.Unix(-1, 0), 0); got != "2222222222222" {
		t.Errorf("before 1970: %s", got)
	}
	if got := syntax.NewTID(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), 1023); got != "bzzzzzzzzzzzz" {
		t.Errorf("after 2255: %s", got)
	}
}

// A clock with a bound comes back to the time, with TIDs that were not there yet; one without stays ahead.
func TestMaxLead(t *testing.T) {
	now := time.UnixMicro(1_700_000_000_000_000)
	at := now
	bounded := syntax.TIDClock{Now: func() time.Time { return at }, MaxLead: time.Minute}
	free := syntax.TIDClock{Now: func() time.Time { return at }}
	seen := make(map[syntax.TID]bool)
	for _, shift := range []time.Duration{0, time.Hour, 0, 30 * time.Second, 0, time.Hour, 0} {
		at = now.Add(shift)
		for range 10 {
			tid := bounded.Next()
			if seen[tid] {
				t.Fatalf("%s twice", tid)
			}
			seen[tid] = true
			if lead := tid.Time().Sub(at); lead < 0 || lead > time.Minute {
				t.Errorf("%s is %s ahead", tid, lead)
			}
			free.Next()
		}
	}
	if lead := free.Next().Time().Sub(at); lead < time.Hour {
		t.Errorf("the clock without a bound went back: %s ahead", lead)
	}
	future := syntax.NewTID(now.Add(time.Hour), 0)
	if next := bounded.NextAfter(future); next <= future {
		t.Errorf("%s after %s", next, future)
	}
	if lead := bounded.Next().Time().Sub(at); lead > time.Minute {
		t.Errorf("%s ahead after a TID of another clock", lead)
	}
}
