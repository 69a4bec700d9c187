package crawl

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRandomSchedules checks, over random histories of writes, subscribers and failures: requests
// keep their distances, and every event is told of, at the latest when an interval has passed
// without failures.
func TestRandomSchedules(t *testing.T) {
	const interval, soon = 20 * time.Minute, time.Minute
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := schedule{interval: interval, soon: soon, gap: soon}
		now := time.Unix(0, 0)
		last, wrote := time.Time{}, time.Time{}
		watched := rnd.IntN(2) == 0
		failing := 0.0
		s.planRequest(Start, now)
		end := now.Add(12 * time.Hour)
		quiet := end.Add(-2 * time.Hour) // no more events and failures from here
		for ; now.Before(end); now = now.Add(5 * time.Second) {
			if now.Before(quiet) {
				switch rnd.IntN(40) {
				case 0:
					watched = !watched
				case 1, 2:
					wrote = now
					s.written(now, watched)
				case 3:
					s.planRequest(Unwatched, now.Add(30*time.Second))
				case 4:
					s.planRequest(Checked, now)
				case 5:
					failing = float64(rnd.IntN(2)) * rnd.Float64()
				}
			} else {
				failing = 0
			}
			reason, ok := s.take(now, watched)
			if !ok {
				continue
			}
			if reason == Unwatched && watched {
				t.Fatalf("seed %d: urgent although somebody is subscribed", seed)
			}
			if d := now.Sub(last); !last.IsZero() && d < soon {
				t.Fatalf("seed %d: two requests within %v", seed, d)
			}
			var err error
			if rnd.Float64() < failing {
				err = errors.New("failed")
			} else {
				wrote = time.Time{}
			}
			last = now
			if retry := s.done(reason, now, err); err == nil && !retry.IsZero() || !retry.IsZero() && retry.Sub(now) < soon {
				t.Fatalf("seed %d: %v after %v", seed, retry.Sub(now), err)
			}
		}
		// One that was given up is told of with the next event.
		if !wrote.IsZero() && s.reason != "" {
			t.Fatalf("seed %d: an event was not told of, though a request is planned at %v", seed, s.due)
		}
		if !wrote.IsZero() && !s.unreported {
			t.Fatalf("seed %d: an event was forgotten", seed)
		}
	}
}
