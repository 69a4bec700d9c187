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

// AlarmKey is the key of an account's alarm in its namespace. [SetAlarm] makes its value. A change
// that deletes the key cancels the alarm.
const AlarmKey = "durable/alarm"

// SetAlarm returns the write that sets an account's alarm, and replaces an earlier one. The alarm
// is set when the change with this write takes effect. The zero time cancels the alarm.
func SetAlarm(t time.Time) storage.KVWrite {
	w := storage.KVWrite{Key: AlarmKey}
	if !t.IsZero() {
		w.Value = strconv.AppendInt(nil, max(0, t.UnixMicro()), 10)
	}
	return w
}

// Alarm returns the time of an account's alarm in a snapshot, or the zero time if none is set.
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

// Alarms configures the calls of alarms.
type Alarms struct {
	// Call is called when an account's alarm is due. If it returns nil, the alarm is deleted,
	// unless it was set again during the call. If it returns an error or panics, it is called
	// again, first after 2 seconds, at last every 5 minutes. A crash may repeat a call. Its context
	// ends after Timeout. Nil: alarms do nothing.
	Call func(ctx context.Context, did syntax.DID) error
	// AtOnce is the maximum number of concurrent calls, each for another account. 0: 16.
	AtOnce int
	// Timeout bounds the time of a call. A call that continues after its context ended still counts
	// for AtOnce, and the alarm is not called again meanwhile, but nothing waits for it. 0: 1
	// minute.
	Timeout time.Duration
	// Failed, if not nil, is called with the error of each failed call.
	Failed func(did syntax.DID, err error)
}

// Run calls alarms when they are due, until the context ends or the directory fails, and returns
// that error. It returns after all calls have ended.
func (db *DB) Run(ctx context.Context) error { return db.alarms.serve(ctx) }

// FireAlarms calls all alarms that are due, waits for each call up to Alarms.Timeout, and returns
// when the next alarm is due (the zero time if none is set). It is for hosts with their own
// scheduler; others use Run. Both need the index of alarms in Config.Shared. With a
// Config.Directory, use FireAlarm.
func (db *DB) FireAlarms(ctx context.Context) (next time.Time, err error) {
	return db.alarms.fire(ctx)
}

// FireAlarm calls the alarm of one account if it is due, as FireAlarms does. It is for hosts that
// know when to call it, such as a Durable Object whose own alarm Directory.Announce has set. An
// account that does not exist has no alarm.
func (db *DB) FireAlarm(ctx context.Context, did syntax.DID) (next time.Time, err error) {
	return db.alarms.fireOne(ctx, did)
}

func noIndex(context.Context) iter.Seq2[alarm, error] {
	return func(yield func(alarm, error) bool) {
		yield(alarm{}, errors.New("Config.Directory has none"))
	}
}

func forgetNothing(context.Context, alarm) error { return nil }
