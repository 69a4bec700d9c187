package durable

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// AlarmKey is the key, in an account's namespace, of its alarm. Its value is made by
// SetAlarm; a change that deletes it takes the alarm back.
const AlarmKey = "durable/alarm"

// SetAlarm returns the write that sets an account's alarm, in place of one that
// was set before. It takes effect with the change that carries it. The zero time
// deletes the alarm.
func SetAlarm(t time.Time) storage.KVWrite {
	w := storage.KVWrite{Key: AlarmKey}
	if !t.IsZero() {
		w.Value = strconv.AppendInt(nil, max(0, t.UnixMicro()), 10)
	}
	return w
}

// Alarm returns the time of an account's alarm in a snapshot, or the zero time if it has none.
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
	if err != nil || us < 0 {
		return time.Time{}, corrupt("alarm", errors.Join(err, errRow))
	}
	return time.UnixMicro(us).UTC(), nil
}

// alarmOf returns the alarm that a change sets, or the zero time.
func alarmOf(writes []storage.KVWrite) (at time.Time, err error) {
	for _, w := range writes {
		if w.Key != AlarmKey {
			continue
		}
		at = time.Time{}
		if w.Value != nil {
			if at, err = parseAlarm(w.Value); err != nil {
				return at, err
			}
		}
	}
	return at, nil
}

// alarms reports whether writes set or delete an alarm.
func alarms(writes []storage.KVWrite) bool {
	return slices.ContainsFunc(writes, func(w storage.KVWrite) bool { return w.Key == AlarmKey })
}

// alarm is when the alarm of an account is due. It is comparable.
type alarm struct {
	us  int64 // Unix time in microseconds
	did syntax.DID
}

func (a alarm) at() time.Time { return time.UnixMicro(a.us).UTC() }

// value is what AlarmKey has while this alarm is set.
func (a alarm) value() []byte { return SetAlarm(a.at()).Value }

// Alarms says how the alarms of accounts are called.
type Alarms struct {
	// Call is called when an account's alarm is due. If it returns nil, the alarm is deleted,
	// unless it was set again meanwhile; if it returns an error or panics, it is called again
	// later, after 2 seconds at first and 5 minutes at last. A crash may repeat a call. Its context
	// ends after Timeout. Nil: alarms do nothing.
	Call func(ctx context.Context, did syntax.DID) error
	// AtOnce is how many calls run at a time, each for another account. 0: 16.
	AtOnce int
	// Timeout is how long a call may take. One that goes on in spite of its context keeps its place
	// among those that run, and the alarm is not called again meanwhile, but nobody waits for it.
	// 0: 1 minute.
	Timeout time.Duration
	// Failed, if not nil, hears of calls that failed.
	Failed func(did syntax.DID, err error)
}

// Run calls alarms when they are due, until the context ends, whose error it
// returns, or the directory fails. It returns when all calls have ended.
func (db *DB) Run(ctx context.Context) error { return db.alarms.serve(ctx) }

// FireAlarms calls all alarms that are due, waits until they have ended, but for none longer than
// Alarms.Timeout, and returns when the next one is (the zero time: none is set). It is for hosts
// that have a clock of their own; others use Run. Both need the index of alarms that is in
// Config.Shared; with a Config.Directory there is FireAlarm.
func (db *DB) FireAlarms(ctx context.Context) (next time.Time, err error) {
	return db.alarms.fire(ctx)
}

// FireAlarm is FireAlarms for the alarm of one account, which the host knows when to ask for, as a
// Durable Object does that is set its own alarm by Directory.Announce. An account that is not there
// has no alarm.
func (db *DB) FireAlarm(ctx context.Context, did syntax.DID) (next time.Time, err error) {
	return db.alarms.fireOne(ctx, did)
}

func noIndex(context.Context) iter.Seq2[alarm, error] {
	return func(yield func(alarm, error) bool) {
		yield(alarm{}, errors.New("Config.Directory has none"))
	}
}

func forgetNothing(context.Context, alarm) error { return nil }
