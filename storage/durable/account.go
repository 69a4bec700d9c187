package durable

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// account is the rows of one account in an object. It belongs to who has the turn.
type account struct {
	*core
	*sets
	did   syntax.DID
	place places
	state state
}

// places says where in an object the rows of an account are.
type places struct {
	prefix string // of the rows of its sets
	state  string // key of its state
	loose  string // prefix of the notes of its loose sets
	alarms bool   // there is an index of alarms in the object
}

// ownObject says where the rows are of an account that has the object for itself.
var ownObject = places{state: keyState, loose: keyLoose}

// in is a prefix of the account's rows in a set.
func (a *account) in(set uint64, prefix string) string { return a.place.prefix + in(set, prefix) }

// exists returns storage.ErrNotFound if there is no account.
func (a *account) exists() error {
	if !a.state.exists() {
		return notThere(a.did)
	}
	return nil
}

// head returns the head, or storage.ErrNotFound.
func (a *account) head() (storage.Head, error) {
	if a.state.head == (storage.Head{}) {
		return storage.Head{}, notThere(a.did)
	}
	return a.state.head, nil
}

func notThere(did syntax.DID) error {
	return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did)
}

// check holds a change against what is stored.
func (a *account) check(c *storage.Change, now time.Time) error {
	switch none := (storage.Head{}); {
	case a.state.head != none && c.Prev == none:
		return fmt.Errorf("%w: repository %s", storage.ErrExists, a.did)
	case !a.state.exists() && c.Prev != none:
		return notThere(a.did)
	case a.state.head != c.Prev:
		return fmt.Errorf("%w: head is %s", storage.ErrConflict, a.state.head.Rev)
	}
	for _, check := range c.Checks {
		value, there, err := a.value(check.Key, now)
		if err != nil {
			return err
		}
		if there != (check.Value != nil) || there && !bytes.Equal(value, check.Value) {
			return fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	return nil
}

// value reads a key of the account as it is now.
func (a *account) value(key string, now time.Time) (value []byte, there bool, err error) {
	b, err := a.get(a.in(a.state.keys, prefixKV) + key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	value, expires, err := decodePair(b)
	return value, err == nil && !expired(expires, now), err
}

// writeRecords writes the records of a change.
func (a *account) writeRecords(c *storage.Change) error {
	for i := range c.Records {
		if err := a.change(&c.Records[i], c.Head.Rev); err != nil {
			return err
		}
	}
	return nil
}

// isNews reports whether a change is to be seen from outside: by events, by a new head, or because
// there is an account, or none any more.
func (a *account) isNews(c *storage.Change) bool {
	return len(c.Events) > 0 || c.Head != c.Prev || !a.state.exists()
}

// writeHead writes the state with the head of a change.
func (a *account) writeHead(c *storage.Change) error {
	if c.Head != c.Prev {
		a.state.head, a.state.block = c.Head, bytes.Clone(c.Commit)
	}
	a.state.headless = a.state.head == storage.Head{}
	return a.writeState()
}

func (a *account) writeState() error {
	a.state.did = a.did
	return a.setHidden(a.place.state, a.state.encode()) // views have a copy
}

// change writes one record of the repository, or deletes it.
func (a *account) change(c *storage.RecordChange, rev syntax.TID) error {
	set := a.state.set
	record := a.in(set, prefixRecord) + c.Path
	switch b, err := a.get(record); {
	case err == nil:
		old, err := decodeRow(b, false)
		if err != nil {
			return err
		}
		if old.cid != c.CID {
			if err := a.deleteKey(a.in(set, prefixCID) + old.cid.KeyString() + c.Path); err != nil {
				return err
			}
		}
		for _, blob := range old.blobs {
			if err := a.deleteKey(a.in(set, prefixBlob) + blob.KeyString() + c.Path); err != nil {
				return err
			}
		}
		if !c.CID.Defined() {
			return a.deleteKey(record)
		}
	case !errors.Is(err, storage.ErrNotFound):
		return err
	case !c.CID.Defined():
		return nil
	}
	return a.add(set, c, rev, a.set)
}

// add writes a record of a set, whose path is free, by a function that sets keys.
func (a *account) add(number uint64, c *storage.RecordChange, rev syntax.TID, set func(key string, value []byte) error) error {
	for _, x := range append([]cid.Cid{c.CID}, c.Blobs...) {
		if _, _, ok := dag.Split(x); !ok {
			return fmt.Errorf("durable: record %q: %s is not a CID of the data model", c.Path, x)
		}
	}
	r := row{cid: c.CID, rev: rev, blobs: c.Blobs, data: c.Data}
	if err := set(a.in(number, prefixRecord)+c.Path, r.encode()); err != nil {
		return err
	}
	if err := set(a.in(number, prefixCID)+c.CID.KeyString()+c.Path, nil); err != nil {
		return err
	}
	for _, blob := range c.Blobs {
		if err := set(a.in(number, prefixBlob)+blob.KeyString()+c.Path, []byte(rev)); err != nil {
			return err
		}
	}
	return nil
}

// sweepKeys is how many expired keys a change that writes keys deletes.
const sweepKeys = 16

// writeKeys writes keys of the account, and deletes some that have expired. It is part of a
// transaction.
func (a *account) writeKeys(list []storage.KVWrite, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	if err := a.sweepExpired(now); err != nil {
		return err
	}
	for _, w := range list {
		if w.Key == "" {
			return errors.New("durable: empty key")
		}
		if err := a.deleteKV(w.Key); err != nil {
			return err
		}
		if w.Value == nil {
			continue
		}
		if err := a.set(a.in(a.state.keys, prefixKV)+w.Key, encodePair(w.Value, w.Expires)); err != nil {
			return err
		}
		if !w.Expires.IsZero() {
			if err := a.setHidden(a.expiryKey(w.Key, w.Expires), nil); err != nil {
				return err
			}
		}
		if w.Key == AlarmKey && a.place.alarms {
			t, err := parseAlarm(w.Value)
			if err != nil {
				return err
			}
			if err := a.setHidden(alarm{t.UnixMicro(), a.did}.key(), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepExpired deletes some keys that have expired. It looks at the whole range, so that an object that
// remembers what it has read has nothing to do while none has.
func (a *account) sweepExpired(now time.Time) error {
	prefix := a.in(a.state.keys, prefixExpiry)
	last := a.expiryKey("", now)
	var due []string
	a.mu.Lock()
	err := a.store.Scan(Scan{From: prefix, To: end(prefix), Rows: sweepKeys, MaxValue: KeysOnly}, func(key string, _ []byte) bool {
		if key >= last {
			return false
		}
		due = append(due, key)
		return true
	})
	a.mu.Unlock()
	if err != nil {
		return err
	}
	for _, key := range due {
		if len(key) < len(prefix)+8 {
			return corrupt("expiry", errRow)
		}
		if err := a.deleteKV(key[len(prefix)+8:]); err != nil {
			return err
		}
	}
	return nil
}

func (a *account) expiryKey(key string, expires time.Time) string {
	return a.in(a.state.keys, prefixExpiry) + expiryKey(key, expires)
}

// deleteKV deletes a key of the account.
func (a *account) deleteKV(key string) error {
	b, err := a.get(a.in(a.state.keys, prefixKV) + key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	value, expires, err := decodePair(b)
	if err != nil {
		return err
	}
	if !expires.IsZero() {
		at := a.expiryKey(key, expires)
		if err := a.deleteHidden(at, at+"\x00"); err != nil {
			return err
		}
	}
	if key == AlarmKey && a.place.alarms {
		if err := a.forgetAlarm(value); err != nil {
			return err
		}
	}
	return a.deleteKey(a.in(a.state.keys, prefixKV) + key)
}

// forgetAlarm deletes the entry of an alarm in the object's index.
func (a *account) forgetAlarm(value []byte) error {
	t, err := parseAlarm(value)
	if err != nil {
		return err
	}
	key := alarm{t.UnixMicro(), a.did}.key()
	return a.deleteHidden(key, key+"\x00")
}

// clear takes all that the account has away: its sets become loose. The caller writes the state, or
// deletes it.
func (a *account) clear() error {
	if a.place.alarms {
		b, err := a.get(a.in(a.state.keys, prefixKV) + AlarmKey)
		if err == nil {
			var value []byte
			if value, _, err = decodePair(b); err == nil {
				err = a.forgetAlarm(value)
			}
		}
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	next := a.nextSet()
	if err := a.exchange(next, ""); err != nil {
		return err
	}
	if !a.isLoose(a.state.keys) {
		if err := a.loosen(a.state.keys); err != nil {
			return err
		}
	}
	a.state.keys = next
	a.state.head, a.state.block, a.state.headless = storage.Head{}, nil, false
	return nil
}
