package server

import (
	"context"
	"fmt"
	"time"
)

const (
	// maintenance is how often the store is tidied.
	maintenance = time.Hour
	// unusedBlobs is how long an upload may wait for a record, and how long the
	// bytes of a blob outlive its last one.
	unusedBlobs = 24 * time.Hour
)

// maintain tidies the store from time to time until the context ends.
func (s *Server) maintain(ctx context.Context) {
	defer close(s.stopped)
	tick := time.NewTicker(maintenance)
	defer tick.Stop()
	for {
		if err := s.tidy(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Error("maintenance", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tidy deletes what is too old: events, uploads that nothing refers to, blobs whose records are
// gone. It does nothing while the clock is not trusted: by a clock that is ahead, all of it is too
// old.
func (s *Server) tidy(ctx context.Context, now time.Time) error {
	if err := s.checkClock(ctx); err != nil {
		return fmt.Errorf("nothing is deleted: %w", err)
	}
	if err := s.store.Events.Trim(ctx, now.Add(-s.cfg.Backfill)); err != nil {
		return err
	}
	if _, err := s.store.Blobs.Collect(ctx, now.Add(-unusedBlobs)); err != nil {
		return err
	}
	ahead := aheadAccounts{now: now}
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		ahead.look(info)
		if _, err := s.host.SweepBlobs(ctx, info.DID, now.Add(-unusedBlobs)); err != nil {
			return err
		}
	}
	s.foundAhead(ahead)
	return nil
}
