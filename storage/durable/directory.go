package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Directory is what the objects of a DB share: the list of accounts with their heads, and the event
// log. If it is in another process or another Durable Object, each method is one remote call.
//
// Any call may fail after it has taken effect. The DB finds out by Entry before it uses the account
// again. Calls must end in reasonable time, because all users of the account wait for them. The
// context of Deliver and Remove does not end with the caller's.
type Directory interface {
	// Entry returns an account's head in the directory, and the number of its last delivered
	// change. If there is no entry, the error is storage.ErrNotFound.
	Entry(ctx context.Context, did syntax.DID) (head storage.Head, number uint64, err error)
	// Deliver applies a change to an account's entry, as storage.Repos.Apply does. The change has
	// the head and the events; the change's number is in its checks and keys.
	Deliver(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error)
	// Remove deletes an account's entry, as storage.Repos.Delete does.
	Remove(ctx context.Context, did syntax.DID, events []storage.Event) (seq int64, err error)
	// Announce is called before an account makes a change that sets its alarm to a time. An
	// announced alarm that is not set after all, or was cancelled, must do no harm.
	Announce(ctx context.Context, did syntax.DID, at time.Time) error
}

// NewDirectory returns a directory that is kept in a store. Its Repos has heads without records;
// nobody else may write it. Keys of its KV that begin with "durable/" are reserved for the index of
// alarms.
func NewDirectory(s storage.Store) Directory { return directory{s} }

type directory struct{ storage.Store }

// markKey is the key, in the account's namespace of the directory, of the number
// of the last outbox that was delivered.
const markKey = "durable/delivered"

func (d directory) Entry(ctx context.Context, did syntax.DID) (head storage.Head, number uint64, err error) {
	err = d.Repos.View(ctx, did, func(r storage.Reader) error {
		head = r.Head()
		b, err := r.Get(ctx, markKey)
		if err == nil {
			number, err = decodeMark(b)
		}
		return err
	})
	return head, number, err
}

func (d directory) Deliver(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return d.Repos.Apply(ctx, did, c)
}

func (d directory) Remove(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	return d.Repos.Delete(ctx, did, events)
}

// The index of alarms has keys "durable/alarms/TIME/DID". An entry
// is made before the change that sets the alarm, and deleted after the alarm was called or
// found to be gone; so there is one for every alarm, and a few without one.
const alarmIndex = "durable/alarms/"

func (a alarm) entry() string { return fmt.Sprintf("%s%020d/%s", alarmIndex, max(0, a.us), a.did) }

func parseEntry(key string) (a alarm, err error) {
	at, did, _ := strings.Cut(strings.TrimPrefix(key, alarmIndex), "/")
	if a.us, err = strconv.ParseInt(at, 10, 64); err != nil {
		return a, corrupt("index of alarms", err)
	}
	a.did = syntax.DID(did)
	return a, nil
}

func (d directory) Announce(ctx context.Context, did syntax.DID, at time.Time) error {
	return d.KV.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, alarm{at.UnixMicro(), did}.entry(), []byte{}, time.Time{})
	})
}

// alarms yields the index of alarms.
func (d directory) alarms(ctx context.Context) iter.Seq2[alarm, error] {
	return func(yield func(alarm, error) bool) {
		stopped := false
		err := d.KV.Read(ctx, func(r storage.KVReader) error {
			rng := storage.Prefix(alarmIndex)
			rng.KeysOnly = true
			for p, err := range r.Keys(ctx, rng) {
				if err != nil {
					return err
				}
				a, err := parseEntry(p.Key)
				if err != nil {
					return err
				}
				if stopped = !yield(a, nil); stopped {
					break
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(alarm{}, err)
		}
	}
}

// forget deletes an alarm from the index.
func (d directory) forget(ctx context.Context, a alarm) error {
	return d.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, a.entry()) })
}

// forgetAlarm deletes an alarm from the index, unless it is set, perhaps anew to the same time. It
// has the account's turn, as whoever sets an alarm has from the entry to the change.
func (db *DB) forgetAlarm(ctx context.Context, al alarm) error {
	d := directory{db.cfg.Shared}
	err := db.use(ctx, al.did, false, func(a *account) error {
		value, there, err := a.value(AlarmKey, db.cfg.Now())
		if err != nil || there && string(value) == string(al.value()) {
			return err
		}
		return d.forget(ctx, al)
	})
	if errors.Is(err, storage.ErrNotFound) { // there is no such account
		return d.forget(ctx, al)
	}
	return err
}
