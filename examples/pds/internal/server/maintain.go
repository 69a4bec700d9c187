package server

import (
	"context"
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
		if err := s.tidy(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("maintenance", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tidy deletes what is too old: events, uploads that nothing refers to, blobs whose
// records are gone.
func (s *Server) tidy(ctx context.Context, now time.Time) error {
	if err := s.store.Events.Trim(ctx, now.Add(-s.cfg.Backfill)); err != nil {
		return err
	}
	if _, err := s.store.Blobs.Collect(ctx, now.Add(-unusedBlobs)); err != nil {
		return err
	}
	for info, err := range s.store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		if _, err := s.host.SweepBlobs(ctx, info.DID, now.Add(-unusedBlobs)); err != nil {
			return err
		}
	}
	return nil
}
