package metrics

import (
	"context"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// EventBounds returns the values of two gauges: the numbers of the oldest and of the newest event
// of a log. A log that does not answer within a time has none.
func EventBounds(log storage.Events, patience time.Duration) (oldest, newest func() (float64, bool)) {
	bounds := func() (int64, int64, error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return log.Bounds(ctx)
	}
	oldest = func() (float64, bool) {
		n, _, err := bounds()
		return float64(n), err == nil
	}
	newest = func() (float64, bool) {
		_, n, err := bounds()
		return float64(n), err == nil
	}
	return oldest, newest
}
