package memory

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type events struct{ *db }

var _ storage.AccountEvents = events{}

// seqKey sorts like the number.
func seqKey(seq int64) string { return fmt.Sprintf("%020d", max(seq, 0)) }

// ofAccount is the range of an account's keys in state.byDID.
func ofAccount(did syntax.DID) (from, to string) { return string(did) + "\x00", string(did) + "\x01" }

// append adds events to the log and returns the number of the last.
func (s *state) append(clock func() time.Time, list []storage.Event) int64 {
	for _, e := range list {
		s.newest = storage.NextSeq(s.newest, clock()) + e.Numbers() - 1
		e.Seq = s.newest
		s.put(e)
	}
	if len(list) == 0 {
		return 0
	}
	return s.newest
}

// put puts an event that has its number into the log.
func (s *state) put(e storage.Event) {
	e.Time = e.Time.Truncate(time.Millisecond).UTC()
	e.Payload, e.Weight = bytes.Clone(e.Payload), int(e.Numbers())
	from, _ := ofAccount(e.DID)
	s.log, s.byDID = s.log.Set(seqKey(e.Seq), e), s.byDID.Set(from+seqKey(e.Seq), e)
}

func (d events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return until(ctx, func(yield func(storage.Event) bool) {
		now, _ := d.read()
		for _, e := range now.log.Range(from(seqKey(seq)), "", false) {
			e.Payload = bytes.Clone(e.Payload)
			if !yield(e) {
				return
			}
		}
	})
}

// OfAccount implements storage.AccountEvents.
func (d events) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return until(ctx, func(yield func(storage.Event) bool) {
		d.mu.RLock()
		log := d.byDID
		d.mu.RUnlock()
		from, to := ofAccount(did)
		for _, e := range log.Range(from, to, true) {
			if !yield(e) {
				return
			}
		}
	})
}

func (d events) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	now, _ := d.read()
	return now.trimmed + 1, now.newest, nil
}

func (d events) Wait(ctx context.Context, seq int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		now, changed := d.read()
		for range now.log.Range(from(seqKey(seq)), "", false) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d events) Trim(ctx context.Context, t time.Time) error {
	return d.write(ctx, func(s *state) error {
		log := s.log
		for key, e := range log.Range("", "", false) {
			if e.Time.Before(t) {
				from, _ := ofAccount(e.DID)
				s.log, s.byDID = s.log.Delete(key), s.byDID.Delete(from+key)
				s.trimmed = max(s.trimmed, e.Seq)
			}
		}
		return nil
	})
}
