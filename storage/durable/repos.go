package durable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type repos struct{ *DB }

var _ storage.Repos = repos{}

func (db repos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = db.use(ctx, did, false, func(o *object) error {
		if head = o.state.head; head == (storage.Head{}) {
			return o.missing()
		}
		return nil
	})
	return head, err
}

func (db repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	o, err := db.acquire(ctx, did, false)
	if err != nil {
		return err
	}
	defer db.release(o)
	if err := db.enter(ctx, o); err != nil {
		return err
	}
	if err := o.exists(); err != nil {
		o.leave()
		return err
	}
	v := o.begin()
	o.leave()
	defer v.end()
	return fn(reader{v, db.cfg.Now()})
}

// exists returns storage.ErrNotFound if the object has no account.
func (o *object) exists() error {
	if !o.there() {
		return o.missing()
	}
	return nil
}

func (o *object) missing() error {
	return fmt.Errorf("%w: repository %s", storage.ErrNotFound, o.did)
}

func (db repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return db.cfg.Shared.Repos.List(ctx, after)
}

func (db repos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	return db.step(ctx, did, c.Prev == (storage.Head{}), func(o *object) (*storage.Change, error) {
		if err := db.check(o, c); err != nil {
			return nil, err
		}
		o.state.alone = c.Head == storage.Head{}
		for i := range c.Records {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := o.change(o.state.set, &c.Records[i], c.Head.Rev); err != nil {
				return nil, err
			}
		}
		return c, nil
	})
}

func (db repos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if err := storage.ValidateEvents(events); err != nil {
		return 0, err
	}
	return db.step(ctx, did, false, func(o *object) (*storage.Change, error) {
		if err := o.exists(); err != nil {
			return nil, err
		}
		o.state.alone = false
		for _, prefix := range []string{prefixKV, prefixExpiry} {
			if err := o.delete(prefix, end(prefix)); err != nil {
				return nil, err
			}
		}
		if err := o.exchange(o.nextSet(), ""); err != nil {
			return nil, err
		}
		return &storage.Change{Prev: o.state.head, Events: events}, nil
	})
}

// step carries out a step. write writes the records and returns the rest.
func (db *DB) step(ctx context.Context, did syntax.DID, create bool, write func(*object) (*storage.Change, error)) (seq int64, err error) {
	err = db.use(ctx, did, create, func(o *object) error {
		var c *storage.Change
		told := false
		alone := o.state.alone
		err := o.transact(func() (err error) {
			if c, err = write(o); err != nil {
				return err
			}
			if err := o.writeKeys(c.KV, db.cfg.Now()); err != nil {
				return err
			}
			if err := db.announceAlarm(ctx, did, c.KV); err != nil {
				return err
			}
			if told, err = o.finish(c, alone); err != nil {
				return err
			}
			if _, err := o.sweepSome(); err != nil {
				return err
			}
			if told && db.marker != nil {
				if err := db.marker.Mark(did); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
		if err != nil || !told {
			return err
		}
		o.pending = true
		seq, err = db.deliver(ctx, o, outbox{c.Events})
		return err
	})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// check holds a step against the object.
func (db *DB) check(o *object, c *storage.Change) error {
	switch none := (storage.Head{}); {
	case o.state.head != none && c.Prev == none:
		return fmt.Errorf("%w: repository %s", storage.ErrExists, o.did)
	case !o.there() && c.Prev != none:
		return o.missing()
	case o.state.head != c.Prev:
		return fmt.Errorf("%w: head is %s", storage.ErrConflict, o.state.head.Rev)
	}
	now := db.cfg.Now()
	for _, check := range c.Checks {
		b, err := o.get(prefixKV + check.Key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		there := err == nil
		var value []byte
		if there {
			var expires time.Time
			if value, expires, err = decodePair(b); err != nil {
				return err
			}
			there = !expired(expires, now)
		}
		if there != (check.Value != nil) || there && !bytes.Equal(value, check.Value) {
			return fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	return nil
}

// finish writes the state and, if there is something to tell the shared store,
// the outbox. alone is what the state was before the step.
func (o *object) finish(c *storage.Change, alone bool) (told bool, err error) {
	told = len(c.Events) > 0 || c.Head != c.Prev || o.state.alone != alone
	if !told {
		return false, nil
	}
	o.state.did = o.did
	o.state.outbox++
	if c.Head != c.Prev {
		o.state.head, o.state.block = c.Head, bytes.Clone(c.Commit)
	}
	if err := o.set(keyState, o.state.encode()); err != nil {
		return false, err
	}
	return true, o.set(keyOutbox, outbox{c.Events}.encode())
}

// change writes one record of a set, or deletes it.
func (o *object) change(set uint64, c *storage.RecordChange, rev syntax.TID) error {
	record := in(set, prefixRecord) + c.Path
	switch b, err := o.get(record); {
	case err == nil:
		old, err := decodeRow(b, false)
		if err != nil {
			return err
		}
		if old.cid != c.CID {
			if err := o.deleteKey(in(set, prefixCID) + old.cid.KeyString() + c.Path); err != nil {
				return err
			}
		}
		for _, blob := range old.blobs {
			if err := o.deleteKey(in(set, prefixBlob) + blob.KeyString() + c.Path); err != nil {
				return err
			}
		}
		if !c.CID.Defined() {
			return o.deleteKey(record)
		}
	case !errors.Is(err, storage.ErrNotFound):
		return err
	case !c.CID.Defined():
		return nil
	}
	return o.add(set, c, rev, o.set)
}

// add writes a record of a set, whose path is free, by a function that sets keys.
func (o *object) add(number uint64, c *storage.RecordChange, rev syntax.TID, set func(key string, value []byte) error) error {
	for _, x := range append([]cid.Cid{c.CID}, c.Blobs...) {
		if _, _, ok := dag.Split(x); !ok {
			return fmt.Errorf("durable: record %q: %s is not a CID of the data model", c.Path, x)
		}
	}
	r := row{cid: c.CID, rev: rev, blobs: c.Blobs, data: c.Data}
	if err := set(in(number, prefixRecord)+c.Path, r.encode()); err != nil {
		return err
	}
	if err := set(in(number, prefixCID)+c.CID.KeyString()+c.Path, nil); err != nil {
		return err
	}
	for _, blob := range c.Blobs {
		if err := set(in(number, prefixBlob)+blob.KeyString()+c.Path, []byte(rev)); err != nil {
			return err
		}
	}
	return nil
}

// sweepKeys is how many expired keys a step that writes keys deletes.
const sweepKeys = 16

// writeKeys writes keys of the account, and deletes some that have expired.
func (o *object) writeKeys(list []storage.KVWrite, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	var due []string
	o.mu.Lock()
	err := o.store.Scan(Scan{From: prefixExpiry, To: expiryKey("", now), Rows: sweepKeys, MaxValue: KeysOnly}, func(key string, _ []byte) bool {
		due = append(due, key)
		return true
	})
	o.mu.Unlock()
	if err != nil {
		return err
	}
	for _, key := range due {
		if len(key) < len(prefixExpiry)+8 {
			return corrupt("expiry", errRow)
		}
		if err := o.deleteKV(key[len(prefixExpiry)+8:]); err != nil {
			return err
		}
	}
	for _, w := range list {
		if w.Key == "" {
			return errors.New("durable: empty key")
		}
		if err := o.deleteKV(w.Key); err != nil {
			return err
		}
		if w.Value == nil {
			continue
		}
		if err := o.set(prefixKV+w.Key, encodePair(w.Value, w.Expires)); err != nil {
			return err
		}
		if !w.Expires.IsZero() {
			if err := o.set(expiryKey(w.Key, w.Expires), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteKV deletes a key of the account.
func (o *object) deleteKV(key string) error {
	b, err := o.get(prefixKV + key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	_, expires, err := decodePair(b)
	if err != nil {
		return err
	}
	if !expires.IsZero() {
		if err := o.deleteKey(expiryKey(key, expires)); err != nil {
			return err
		}
	}
	return o.deleteKey(prefixKV + key)
}
