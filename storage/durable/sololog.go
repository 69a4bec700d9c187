package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type soloEvents struct{ *Solo }

var (
	_ storage.Events        = soloEvents{}
	_ storage.AccountEvents = soloEvents{}
)

// loadLog reads how far the log goes.
func (s *Solo) loadLog() (log logRow, err error) {
	switch b, err := s.get(keyLog); {
	case errors.Is(err, storage.ErrNotFound):
	case err != nil:
		return log, err
	default:
		if log, err = decodeLog(b); err != nil {
			return log, err
		}
	}
	last, _, err := s.pairs(Scan{From: prefixEvent, To: end(prefixEvent), Reverse: true, Rows: 1, MaxValue: KeysOnly}, 0)
	if err != nil {
		return log, err
	}
	for _, p := range last {
		seq, ok := parseNumber(p.key[len(prefixEvent):])
		if !ok {
			return log, corrupt("event", errRow)
		}
		log.newest = max(log.newest, seq)
	}
	return log, nil
}

// position returns how far the log goes, as it is committed.
func (s *Solo) position() logRow {
	s.pos.Lock()
	defer s.pos.Unlock()
	return s.log
}

func (s *Solo) newest() int64 { return s.position().newest }

// publish says how far the log goes, after a transaction.
func (s *Solo) publish(log logRow) {
	s.pos.Lock()
	defer s.pos.Unlock()
	if log.newest != s.log.newest {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.log = log
}

// append adds events to the log and returns the number of the last. It is part of a transaction.
func (s *Solo) append(log *logRow, list []storage.Event, now time.Time) (seq int64, err error) {
	for i := range list {
		e := &list[i]
		seq = storage.NextSeq(log.newest, now) + e.Numbers() - 1
		if err := s.setHidden(eventKey(seq), encodeEvent(e)); err != nil {
			return 0, err
		}
		if err := s.setHidden(ofKey(e.DID, seq), nil); err != nil {
			return 0, err
		}
		log.newest = seq
	}
	return seq, nil
}

// events reads a page of the log, without those that nobody may read. more is 0 at the end, or else
// the number of the last event that was looked at.
func (s *Solo) events(after, last int64, rows int) (list []storage.Event, more int64, err error) {
	s.logMu.RLock()
	defer s.logMu.RUnlock()
	page, key, err := s.pairs(Scan{From: eventKey(after + 1), To: eventKey(last + 1), Rows: rows}, pageBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("durable: log: %w", err)
	}
	for _, p := range page {
		e, err := s.event(p)
		if err != nil {
			return nil, 0, err
		}
		if e.Seq > s.deleted[e.DID] {
			list = append(list, e)
		}
	}
	if key != "" {
		more, _ = parseNumber(key[len(prefixEvent):])
	}
	return list, more, nil
}

// event decodes an event of the log.
func (s *Solo) event(p pair) (storage.Event, error) {
	seq, ok := parseNumber(p.key[len(prefixEvent):])
	if !ok {
		return storage.Event{}, corrupt("event", errRow)
	}
	return decodeEvent(seq, p.value, false)
}

func (s soloEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		if err := s.acquire(); err != nil {
			yield(storage.Event{}, err)
			return
		}
		defer s.release()
		after, last := max(0, seq), s.newest()
		for size := firstPage; after < last; size = min(2*size, maxPage) {
			if err := ctx.Err(); err != nil {
				yield(storage.Event{}, err)
				return
			}
			page, more, err := s.events(after, last, size)
			if err != nil {
				yield(storage.Event{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
				if err := ctx.Err(); err != nil {
					yield(storage.Event{}, err)
					return
				}
			}
			if more == 0 {
				return
			}
			after = more
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Event{}, err)
		}
	}
}

// OfAccount implements storage.AccountEvents.
func (s soloEvents) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		if err := s.acquire(); err != nil {
			yield(storage.Event{}, err)
			return
		}
		defer s.release()
		for before, size := s.newest()+1, 1; before > 0; size = min(2*size, firstPage) {
			if err := ctx.Err(); err != nil {
				yield(storage.Event{}, err)
				return
			}
			page, more, err := s.eventsOf(did, before, size)
			if err != nil {
				yield(storage.Event{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			before = more
		}
	}
}

// eventsOf reads events of an account, the newest first, from before a number. more is 0 at the
// end, or else the number of the last one.
func (s *Solo) eventsOf(did syntax.DID, before int64, rows int) (list []storage.Event, more int64, err error) {
	s.logMu.RLock()
	defer s.logMu.RUnlock()
	page, key, err := s.pairs(Scan{From: ofKey(did, s.deleted[did]+1), To: ofKey(did, before), Reverse: true, Rows: rows, MaxValue: KeysOnly}, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("durable: log: %w", err)
	}
	for _, p := range page {
		name := p.key[len(ofKey(did, 0))-8:]
		b, err := s.get(prefixEvent + name)
		if err != nil {
			return nil, 0, fmt.Errorf("durable: log: %w", err)
		}
		e, err := s.event(pair{prefixEvent + name, b})
		if err != nil {
			return nil, 0, err
		}
		list = append(list, e)
	}
	if key != "" {
		more, _ = parseNumber(key[len(key)-8:])
	}
	return list, more, nil
}

func (s soloEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	// In the turn, so that a transaction of which it is unknown whether it was committed is known.
	err = s.turnOf(ctx, func() error {
		log := s.position()
		oldest, newest = log.trimmed+1, log.newest
		return nil
	})
	return oldest, newest, err
}

func (s soloEvents) Wait(ctx context.Context, seq int64) error {
	for {
		s.pos.Lock()
		newest, changed := s.log.newest, s.changed
		s.pos.Unlock()
		if newest > seq {
			for _, err := range s.Since(ctx, seq) {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Trim implements storage.Events. Its cost depends on what it deletes, not on the length of the
// log: it stops at the first page of 2,000 events of which none was made before t. An older event
// behind that page, as after the clock was set back, is deleted by a later call.
func (s soloEvents) Trim(ctx context.Context, t time.Time) error {
	if err := s.sweepAll(ctx); err != nil {
		return err
	}
	for after := int64(0); ; {
		more := int64(0)
		if err := s.turnOf(ctx, func() (err error) {
			more, err = s.trim(after, t)
			return err
		}); err != nil {
			return err
		}
		if more == 0 {
			return nil
		}
		after = more
	}
}

// trim deletes, of a page of the log, the events made before t. more is 0 at the end, and if there
// are none, or else the number of the last event that was looked at.
func (s *Solo) trim(after int64, t time.Time) (more int64, err error) {
	log := s.position()
	page, key, err := s.pairs(Scan{From: eventKey(after + 1), To: eventKey(log.newest + 1), Rows: batchRecords, MaxValue: eventHead}, 0)
	if err != nil {
		return 0, err
	}
	var old []storage.Event
	for _, p := range page {
		seq, ok := parseNumber(p.key[len(prefixEvent):])
		if !ok {
			return 0, corrupt("event", errRow)
		}
		e, err := decodeEvent(seq, p.value, true)
		if err != nil { // its DID is long
			b, err := s.get(p.key)
			if err != nil {
				return 0, err
			}
			if e, err = decodeEvent(seq, b, true); err != nil {
				return 0, err
			}
		}
		if e.Time.Before(t) {
			old = append(old, e)
			log.trimmed = max(log.trimmed, seq)
		}
	}
	if key != "" {
		more, _ = parseNumber(key[len(prefixEvent):])
	}
	if len(old) == 0 {
		return 0, nil
	}
	s.logMu.Lock()
	defer s.logMu.Unlock()
	err = s.transact(&account{core: s.core, sets: new(sets)}, func() error {
		for _, e := range old {
			if err := s.deleteEvent(e.DID, e.Seq); err != nil {
				return err
			}
		}
		return s.setHidden(keyLog, log.encode())
	})
	if err == nil {
		s.publish(log)
	}
	return more, err
}

// deleteEvent deletes an event. It is part of a transaction.
func (s *Solo) deleteEvent(did syntax.DID, seq int64) error {
	key, of := eventKey(seq), ofKey(did, seq)
	if err := s.deleteHidden(key, key+"\x00"); err != nil {
		return err
	}
	return s.deleteHidden(of, of+"\x00")
}

// sweepDeletedEvents deletes some events of an account that was deleted, or, when there are none
// left, the note that it was. It reports whether it did.
func (s *Solo) sweepDeletedEvents() (more bool, err error) {
	s.logMu.Lock()
	defer s.logMu.Unlock()
	for did, last := range s.deleted {
		list, _, err := s.pairs(Scan{From: ofKey(did, 0), To: ofKey(did, last+1), Rows: batchRecords, MaxValue: KeysOnly}, 0)
		if err != nil {
			return false, err
		}
		err = s.transact(&account{core: s.core, sets: new(sets)}, func() error {
			if len(list) == 0 {
				key := keyDead + string(did)
				return s.deleteHidden(key, key+"\x00")
			}
			for _, p := range list {
				seq, ok := parseNumber(p.key[len(p.key)-8:])
				if !ok {
					return corrupt("event", errRow)
				}
				if err := s.deleteEvent(did, seq); err != nil {
					return err
				}
			}
			// The last event may be among them, and its number must not be assigned again.
			return s.setHidden(keyLog, s.position().encode())
		})
		if err == nil && len(list) == 0 {
			delete(s.deleted, did)
		}
		return true, err
	}
	return false, nil
}
