package commit

import (
	"fmt"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// DefaultDrift is how far a revision may lie in the future, if nothing else is
// said: a few minutes, as the Sync specification has it.
const DefaultDrift = 5 * time.Minute

// Clock makes revisions, which never go back. The zero value is ready to use; it is safe
// for concurrent use.
type Clock struct {
	// Drift is how far a revision may lie in the future. 0: DefaultDrift.
	Drift time.Duration
	// Now is the time that revisions are compared with. Nil: time.Now.
	Now func() time.Time

	tids syntax.TIDClock
}

// Next returns a revision that is greater than all that the clock has returned, and
// than last, the repository's present one, which may be empty. If that lies too far in
// the future, so that nobody would accept a greater one yet, the error wraps ErrFuture.
func (c *Clock) Next(last syntax.TID) (syntax.TID, error) {
	if last != "" {
		if err := c.Check(last); err != nil {
			return "", err
		}
	}
	return c.tids.NextAfter(last), nil
}

// Check returns an error that wraps ErrFuture if a revision lies too far in the
// future.
func (c *Clock) Check(rev syntax.TID) error {
	if inFuture(rev, c.Now, c.Drift) {
		return fmt.Errorf("commit: %w: %s is %s", ErrFuture, rev, rev.Time().UTC().Format(time.RFC3339))
	}
	return nil
}

func inFuture(rev syntax.TID, now func() time.Time, drift time.Duration) bool {
	if now == nil {
		now = time.Now
	}
	if drift == 0 {
		drift = DefaultDrift
	}
	return rev.Time().After(now().Add(drift))
}
