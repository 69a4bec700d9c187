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
