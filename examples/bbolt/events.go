package main

import (
	"context"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	bolt "go.etcd.io/bbolt"
)

// events implements storage.Events and storage.AccountEvents.
type events struct{ *DB }

var _ storage.AccountEvents = events{}

// Keys of logBucket.
var newestKey, trimmedKey = []byte("newest"), []byte("trimmed")

// newest returns the greatest number ever assigned.
func newest(tx *bolt.Tx) int64 { return int64(parseNumber(tx.Bucket(logBucket).Get(newestKey))) }

// appendEvents adds events to the log and returns the number of the last. Numbers are assigned in
// the transaction, and transactions follow one another: so no smaller number appears later.
func (s *DB) appendEvents(tx *bolt.Tx, list []storage.Event) (int64, error) {
	if len(list) == 0 {
		return 0, nil
	}
	seq := newest(tx)
	for _, ev := range list {
		seq = storage.NextSeq(seq, s.now()) + ev.Numbers() - 1
		key := number(uint64(seq))
		at := number(uint64(ev.Time.UnixMilli()))
		if err := tx.Bucket(eventsBucket).Put(key, pack(at, []byte(ev.DID), []byte(ev.Kind), ev.Payload, number(uint64(ev.Numbers())))); err != nil {
			return 0, err
		}
		if err := tx.Bucket(byDIDBucket).Put(ofAccount(ev.DID, key), nil); err != nil {
			return 0, err
		}
	}
	return seq, tx.Bucket(logBucket).Put(newestKey, number(uint64(seq)))
}

// ofAccount is a key of byDIDBucket.
func ofAccount(did syntax.DID, key []byte) []byte { return append([]byte(string(did)+"\x00"), key...) }

func parseEvent(key, value []byte) (storage.Event, error) {
	var at, did, kind, payload, weight []byte
	err := unpack(value, &at, &did, &kind, &payload, &weight)
	return storage.Event{
		Seq: int64(parseNumber(key)), DID: syntax.DID(did), Kind: string(kind),
		Time: time.UnixMilli(int64(parseNumber(at))).UTC(), Payload: payload,
		Weight: int(parseNumber(weight)),
	}, err
}

// after is the range of the events after a number, up to another one.
func after(seq, last int64) storage.Range {
	return storage.Range{From: string(number(uint64(max(seq, 0)))) + "\x00", To: string(number(uint64(last))) + "\x00"}
}

func (s events) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		_, last, err := s.Bounds(ctx) // what is added while the loop runs is not in it
		if err != nil {
			yield(storage.Event{}, err)
			return
		}
		for x, err := range rows(ctx, s.snapshots(ctx, eventsBucket), after(seq, last)) {
			var ev storage.Event
			if err == nil {
				ev, err = parseEvent(x.key, x.value)
			}
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

func (s events) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		r := storage.Prefix(string(did) + "\x00")
		r.Reverse = true
		for x, err := range rows(ctx, s.snapshots(ctx, byDIDBucket), r) {
			var ev storage.Event
			there := true
			if err == nil {
				err = s.read(ctx, func(tx *bolt.Tx) error {
					key := x.key[len(x.key)-8:]
					value := tx.Bucket(eventsBucket).Get(key)
					if there = value != nil; !there {
						return nil // trimmed meanwhile
					}
					ev, err = parseEvent(key, append([]byte{}, value...))
					return err
				})
			}
			if there && !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

func (s events) Bounds(ctx context.Context) (oldest, last int64, err error) {
	err = s.read(ctx, func(tx *bolt.Tx) error {
		oldest, last = int64(parseNumber(tx.Bucket(logBucket).Get(trimmedKey)))+1, newest(tx)
		return nil
	})
	return oldest, last, err
}

func (s events) Wait(ctx context.Context, seq int64) error {
	for {
		s.mu.Lock()
		changed := s.changed // taken before the look, so that no change is missed
		s.mu.Unlock()
		found := false
		err := s.read(ctx, func(tx *bolt.Tx) error {
			for range scan(tx.Bucket(eventsBucket), storage.Range{From: after(seq, 0).From}) {
				found = true
				break
			}
			return nil
		})
		if err != nil || found {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Trim also sweeps, since hosts call it from time to time: sets of records that nothing refers to,
// and keys that have expired.
func (s events) Trim(ctx context.Context, t time.Time) error {
	for from := ""; ; {
		var next string
		err := s.write(ctx, func(tx *bolt.Tx) error {
			next = ""
			trimmed := int64(parseNumber(tx.Bucket(logBucket).Get(trimmedKey)))
			var old []storage.Event
			n := 0
			for key, value := range scan(tx.Bucket(eventsBucket), storage.Range{From: from}) {
				ev, err := parseEvent(key, value)
				if err != nil {
					return err
				}
				if ev.Time.Before(t) {
					old = append(old, ev)
				}
				if n++; n == sweepRows {
					next = string(key) + "\x00"
					break
				}
			}
			for _, ev := range old {
				key := number(uint64(ev.Seq))
				if err := tx.Bucket(byDIDBucket).Delete(ofAccount(ev.DID, key)); err != nil {
					return err
				}
				if err := tx.Bucket(eventsBucket).Delete(key); err != nil {
					return err
				}
				trimmed = max(trimmed, ev.Seq)
			}
			if len(old) == 0 {
				return nil
			}
			return tx.Bucket(logBucket).Put(trimmedKey, number(uint64(trimmed)))
		})
		if err != nil {
			return err
		}
		if from = next; from == "" {
			break
		}
	}
	if err := s.sweepKeys(ctx); err != nil {
		return err
	}
	return s.sweep(ctx)
}
