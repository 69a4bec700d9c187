package commit_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func TestClock(t *testing.T) {
	c := commit.Clock{Drift: time.Minute}
	last, err := c.Next("")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		next, err := c.Next(last)
		if err != nil || next <= last {
			t.Fatalf("%s after %s: %v", next, last, err)
		}
		last = next
	}
	// Another clock ran ahead, but not too far.
	ahead := syntax.NewTID(time.Now().Add(50*time.Second), 1)
	if next, err := c.Next(ahead); err != nil || next <= ahead {
		t.Errorf("%s after %s: %v", next, ahead, err)
	}
	if next, err := c.Next(last); err != nil || next <= ahead {
		t.Errorf("%s: the clock went back: %v", next, err)
	}
	for _, future := range []syntax.TID{syntax.NewTID(time.Now().Add(2*time.Minute), 1), "bzzzzzzzzzzzz"} {
		if next, err := c.Next(future); !errors.Is(err, commit.ErrFuture) {
			t.Errorf("%s after %s: %v", next, future, err)
		}
		if err := c.Check(future); !errors.Is(err, commit.ErrFuture) {
			t.Errorf("%s: %v", future, err)
		}
	}
	if next, err := c.Next(last); err != nil || next >= "b" {
		t.Errorf("the clock followed into the future: %s, %v", next, err)
	}
}
