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

// ofAccount is the range of an account's keys in db.byDID.
func ofAccount(did syntax.DID) (from, to string) { return string(did) + "\x00", string(did) + "\x01" }

// append adds events to the log. The caller holds the lock.
func (d *db) append(list []storage.Event) (seq int64) {
	for _, e := range list {
		d.newest = storage.NextSeq(d.newest, d.now())
		e.Seq = d.newest
		e.Time = e.Time.Truncate(time.Millisecond).UTC()
		e.Payload = bytes.Clone(e.Payload)
		from, _ := ofAccount(e.DID)
		d.log, d.byDID = d.log.Set(seqKey(e.Seq), e), d.byDID.Set(from+seqKey(e.Seq), e)
	}
	if len(list) == 0 {
		return 0
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return d.newest
}

func (d events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return until(ctx, func(yield func(storage.Event) bool) {
		d.mu.RLock()
		log := d.log
		d.mu.RUnlock()
		for _, e := range log.Range(from(seqKey(seq)), "", false) {
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
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.trimmed + 1, d.newest, nil
}

func (d events) Wait(ctx context.Context, seq int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.mu.RLock()
		log, changed := d.log, d.changed
		d.mu.RUnlock()
		for range log.Range(from(seqKey(seq)), "", false) {
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
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	log := d.log
	for key, e := range log.Range("", "", false) {
		if e.Time.Before(t) {
			from, _ := ofAccount(e.DID)
			d.log, d.byDID = d.log.Delete(key), d.byDID.Delete(from+key)
			d.trimmed = max(d.trimmed, e.Seq)
		}
	}
	return nil
}
