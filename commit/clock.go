package commit

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// DefaultDrift is how far in the future a revision may be by default. The Repository specification
// asks receivers to ignore revisions beyond a few minutes.
const DefaultDrift = 5 * time.Minute

// NextRev returns the revision of an account's next commit: the time now, or a microsecond after
// last if that is later. last is the revision of the account's present commit, or empty before the
// first. So each account has its own clock, independent of the revisions of other accounts.
//
// If last is in the future, the result is too: see [Ahead]. After the last possible revision, in
// the year 2255, the error wraps ErrFuture.
func NextRev(last syntax.TID, now time.Time, clock uint) (syntax.TID, error) {
	next, ok := syntax.NextTID(last, now, clock)
	if !ok {
		return "", fmt.Errorf("commit: %w: no revision follows %s", ErrFuture, last)
	}
	return next, nil
}

// Ahead returns by how much a revision exceeds what receivers accept at a time, or 0. A drift of 0
// means DefaultDrift.
func Ahead(rev syntax.TID, now time.Time, drift time.Duration) time.Duration {
	if drift == 0 {
		drift = DefaultDrift
	}
	return max(0, rev.Time().Sub(now.Add(drift)))
}

// Clock makes the revisions of one account. They always increase. The zero value is ready to use.
// It is safe for concurrent use.
type Clock struct {
	// Drift is how far in the future a revision may be. 0: DefaultDrift.
	Drift time.Duration
	// Now is the time. Nil: time.Now.
	Now func() time.Time

	mu   sync.Mutex
	last syntax.TID
	id   uint // clock identifier + 1; 0: not chosen yet
}

// Next returns a revision that is greater than all that the clock has returned, and greater than
// last, the repository's present revision, which may be empty. If last is too far in the future, so
// that receivers would not accept a greater one yet, the error wraps ErrFuture.
func (c *Clock) Next(last syntax.TID) (syntax.TID, error) {
	if last != "" {
		if err := c.Check(last); err != nil {
			return "", err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == 0 {
		c.id = rand.UintN(1024) + 1
	}
	next, err := NextRev(max(c.last, last), orNow(c.Now)(), c.id-1)
	if err == nil {
		c.last = next
	}
	return next, err
}

// Check returns an error that wraps ErrFuture if a revision is too far in the future.
func (c *Clock) Check(rev syntax.TID) error {
	if inFuture(rev, c.Now, c.Drift) {
		return fmt.Errorf("commit: %w: %s is %s", ErrFuture, rev, rev.Time().UTC().Format(time.RFC3339))
	}
	return nil
}

func inFuture(rev syntax.TID, now func() time.Time, drift time.Duration) bool {
	return Ahead(rev, orNow(now)(), drift) > 0
}

// orNow returns a clock; by default the system's.
func orNow(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
