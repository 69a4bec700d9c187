package durable

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// AlarmKey is the key, in an account's namespace, of its alarm. Its value is made by
// SetAlarm; a step that deletes it takes the alarm back.
const AlarmKey = "durable/alarm"

// SetAlarm returns the write that sets an account's alarm, in place of one that
// was set before. It takes effect with the step that carries it. The zero time
// deletes the alarm.
func SetAlarm(t time.Time) storage.KVWrite {
	w := storage.KVWrite{Key: AlarmKey}
	if !t.IsZero() {
		w.Value = strconv.AppendInt(nil, t.UnixMicro(), 10)
	}
	return w
}

// Alarm returns an account's alarm, as a view shows it, or the zero time.
func Alarm(ctx context.Context, r storage.Reader) (time.Time, error) {
	b, err := r.Get(ctx, AlarmKey)
	if errors.Is(err, storage.ErrNotFound) {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, err
	}
	return parseAlarm(b)
}

func parseAlarm(b []byte) (time.Time, error) {
	us, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return time.Time{}, corrupt("alarm", err)
	}
	return time.UnixMicro(us).UTC(), nil
}

// The shared store has an index of alarms by time: "durable/alarms/TIME/DID". An entry
// is made before the step that sets the alarm, and deleted after the alarm was called or
// found to be gone; so there is one for every alarm, and a few without one.
const (
	alarmIndex    = "durable/alarms/"
	alarmIndexEnd = "durable/alarms0"
)

func alarmEntry(t time.Time, did syntax.DID) string {
	return fmt.Sprintf("%s%020d/%s", alarmIndex, max(0, t.UnixMicro()), did)
}

func parseEntry(key string) (t time.Time, did syntax.DID, err error) {
	at, id, _ := strings.Cut(strings.TrimPrefix(key, alarmIndex), "/")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return t, "", corrupt("index of alarms", err)
	}
	return time.UnixMicro(us).UTC(), syntax.DID(id), nil
}

// alarms is what a store knows of alarms besides what is stored.
type alarms struct {
	wake chan struct{} // has room for one: full if an alarm was set

	mu      sync.Mutex
	retries map[string]retry // by entry
}

// retry says when an alarm that failed is called again.
type retry struct {
	at    time.Time
	delay time.Duration
}

func (a *alarms) init() {
	a.wake, a.retries = make(chan struct{}, 1), make(map[string]retry)
}

// The delay before an alarm that failed is called again doubles up to a maximum.
const (
	firstRetry = 2 * time.Second
	maxRetry   = 5 * time.Minute
)

// announceAlarm makes an entry of an alarm that a step is about to set.
func (db *DB) announceAlarm(ctx context.Context, did syntax.DID, writes []storage.KVWrite) error {
	for _, w := range writes {
		if w.Key != AlarmKey || w.Value == nil {
			continue
		}
		t, err := parseAlarm(w.Value)
		if err != nil {
			return err
		}
		if err := db.writeShared(ctx, func(tx storage.KVTx) error {
			return tx.Set(ctx, alarmEntry(t, did), []byte{}, time.Time{})
		}); err != nil {
			return err
		}
		select {
		case db.alarms.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (db *DB) writeShared(ctx context.Context, fn func(storage.KVTx) error) error {
	if err := db.cfg.Shared.KV.Write(ctx, fn); err != nil {
		return fmt.Errorf("durable: index of alarms: %w", err)
	}
	return nil
}

// Run calls alarms when they are due, until the context ends, whose error it
// returns, or the shared store fails.
func (db *DB) Run(ctx context.Context) error {
	for {
		next, err := db.FireAlarms(ctx)
		if err != nil {
			return err
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = min(wait, max(0, next.Sub(db.cfg.Now())))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-db.alarms.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// FireAlarms calls all alarms that are due, one after the other, and returns when
// the next one is (the zero time: none is set). It is for hosts that have a
// clock of their own; others use Run.
func (db *DB) FireAlarms(ctx context.Context) (next time.Time, err error) {
	now := db.cfg.Now()
	var due []string
	err = db.cfg.Shared.KV.Read(ctx, func(r storage.KVReader) error {
		for p, err := range r.Keys(ctx, storage.Range{From: alarmIndex, To: alarmIndexEnd, KeysOnly: true}) {
			if err != nil {
				return err
			}
			t, _, err := parseEntry(p.Key)
			if err != nil {
				return err
			}
			if retry, ok := db.retryOf(p.Key); ok && !now.Before(retry.at.Add(-retry.delay)) {
				t = retry.at // unless the clock has gone back since: then it is due by its own time
			}
			if !t.After(now) {
				due = append(due, p.Key)
				continue
			}
			if next.IsZero() || t.Before(next) {
				next = t
			}
			// Entries are in the order of their times; what is tried again later comes first.
			if _, ok := db.retryOf(p.Key); !ok {
				break
			}
		}
		return nil
	})
	if err != nil {
		return next, fmt.Errorf("durable: index of alarms: %w", err)
	}
	for _, entry := range due {
		again, err := db.fire(ctx, entry)
		if err != nil {
			return next, err
		}
		if !again.IsZero() && (next.IsZero() || again.Before(next)) {
			next = again
		}
	}
	return next, nil
}

func (db *DB) retryOf(entry string) (retry, bool) {
	db.alarms.mu.Lock()
	defer db.alarms.mu.Unlock()
	r, ok := db.alarms.retries[entry]
	return r, ok
}

// fire calls one alarm and returns when to try again, if it failed.
func (db *DB) fire(ctx context.Context, entry string) (again time.Time, err error) {
	at, did, err := parseEntry(entry)
	if err != nil {
		return again, err
	}
	failed := db.call(ctx, at, did)
	if err := ctx.Err(); err != nil {
		return again, err
	}
	db.alarms.mu.Lock()
	if failed != nil {
		r := db.alarms.retries[entry]
		r.delay = min(max(2*r.delay, firstRetry), maxRetry)
		r.at = db.cfg.Now().Add(r.delay)
		db.alarms.retries[entry] = r
		again = r.at
	} else {
		delete(db.alarms.retries, entry)
	}
	db.alarms.mu.Unlock()
	if failed != nil {
		return again, nil
	}
	return again, db.writeShared(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, entry) })
}

// call calls the alarm of an account, if it is still set to that time, and deletes it.
func (db *DB) call(ctx context.Context, at time.Time, did syntax.DID) error {
	is := SetAlarm(at).Value
	err := repos{db}.View(ctx, did, func(r storage.Reader) error {
		switch b, err := r.Get(ctx, AlarmKey); {
		case err != nil:
			return err
		case string(b) != string(is):
			return storage.ErrNotFound
		}
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil // it was set anew or taken back
	} else if err != nil {
		return err
	}
	if db.cfg.Alarm != nil {
		if err := db.cfg.Alarm(ctx, did); err != nil {
			return err
		}
	}
	// Delete it, unless it was set again to the same time: that is the same alarm.
	for {
		head, err := repos{db}.Head(ctx, did)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		c := storage.Change{Prev: head, Head: head, Checks: []storage.KVCheck{{Key: AlarmKey, Value: is}}, KV: []storage.KVWrite{{Key: AlarmKey}}}
		_, err = repos{db}.Apply(ctx, did, &c)
		if !errors.Is(err, storage.ErrConflict) {
			return err
		}
		if now, err := (repos{db}).Head(ctx, did); err == nil && now == head {
			return nil // it is the alarm that changed
		}
	}
}
