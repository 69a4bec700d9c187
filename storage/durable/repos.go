package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type repos struct{ *DB }

var _ storage.Repos = repos{}

func (db repos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = db.use(ctx, did, false, func(a *account) error {
		head, err = a.head()
		return err
	})
	return head, err
}

func (db repos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	o, err := db.acquire(ctx, did, false)
	if err != nil {
		return err
	}
	defer db.release(o)
	var v *snapshot
	err = db.use(ctx, did, false, func(a *account) error {
		if err := a.exists(); err != nil {
			return err
		}
		v = a.begin()
		return nil
	})
	if err != nil {
		return err
	}
	defer v.end()
	return fn(reader{v, db.cfg.Now()})
}

func (db repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	if db.cfg.Shared.Repos == nil {
		return func(yield func(storage.RepoInfo, error) bool) {
			yield(storage.RepoInfo{}, errors.New("durable: Config.Shared has no Repos that lists the accounts"))
		}
	}
	return db.cfg.Shared.Repos.List(ctx, after)
}

func (db repos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (seq int64, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	return db.step(ctx, did, c.Prev == (storage.Head{}), false, func(a *account) (*storage.Change, error) {
		return c, a.check(c, db.cfg.Now())
	}, func(a *account) error { return a.writeRecords(c) })
}

func (db repos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (seq int64, err error) {
	o, err := db.acquire(ctx, did, true) // so that it stays open
	if err != nil {
		return 0, err
	}
	defer db.release(o)
	// What earlier calls have left goes first: else it would grow with every call that fails for
	// want of room.
	if err := sweep(ctx, db, did); err != nil {
		return 0, err
	}
	s := staged{host: db, did: did}
	// Whatever comes of it, what is loose then is deleted: the old records or the new ones. What
	// cannot be deleted now is deleted by later changes.
	defer func() {
		o.turn <- struct{}{}
		delete(o.staging, s.set)
		o.unlock()
		_ = sweep(ctx, db, did)
	}()
	if err := s.stage(ctx, records); err != nil {
		return 0, err
	}
	c, err := final()
	if err == nil {
		err = c.ValidateReplacement()
	}
	if err != nil {
		return 0, err
	}
	return db.step(ctx, did, true, false, func(a *account) (*storage.Change, error) {
		return c, a.check(c, db.cfg.Now())
	}, func(a *account) error { return s.exchange(a, c.Head.Rev) })
}

func (db repos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if err := storage.ValidateEvents(events); err != nil {
		return 0, err
	}
	return db.step(ctx, did, false, true, func(a *account) (*storage.Change, error) {
		return &storage.Change{Prev: a.state.head, Events: events}, a.exists()
	}, (*account).clear)
}

// step carries out a change, which may make the account, or after which it is gone. check says what
// it is, or that it cannot be made; write writes the records.
func (db *DB) step(ctx context.Context, did syntax.DID, create, gone bool, check func(*account) (*storage.Change, error), write func(*account) error) (seq int64, err error) {
	err = db.with(ctx, did, create, func(o *object) error {
		c, err := check(&o.account)
		if err != nil {
			return err
		}
		copies := db.copies(c)
		told := gone || len(copies) > 0 || o.isNews(c) // whether the directory is told of it
		if err := db.announce(ctx, did, c, told); err != nil {
			return err
		}
		now := db.cfg.Now()
		err = o.transact(&o.account, func() error {
			if err := write(&o.account); err != nil {
				return err
			}
			if err := o.writeKeys(c.KV, now); err != nil {
				return err
			}
			if told {
				if err := o.writeOutbox(c, gone, copies); err != nil {
					return err
				}
			}
			_, err := o.sweepSome()
			return err
		})
		if err == nil && alarms(c.KV) {
			db.alarms.poke()
		}
		if err != nil || !told {
			return err
		}
		o.to(owing)
		seq, err = db.deliver(ctx, o, outbox{c.Events, copies})
		return err
	})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// announce does what comes before a change: the directory gets to know of its alarm, and the
// account is marked. After that the change waits for nothing but its own object.
func (db *DB) announce(ctx context.Context, did syntax.DID, c *storage.Change, told bool) error {
	at, err := alarmOf(c.KV)
	if err != nil {
		return err
	}
	if !at.IsZero() {
		if err := db.directory.Announce(ctx, did, at); err != nil {
			return fmt.Errorf("durable: announce the alarm of %s: %w", did, err)
		}
	}
	if told {
		if err := db.mark(did); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// writeOutbox writes the head, and what the directory has to be told.
func (o *object) writeOutbox(c *storage.Change, gone bool, copies []storage.KVWrite) error {
	o.state.outbox++
	write := func() error { return o.writeHead(c) }
	if gone {
		write = o.writeState
	}
	if err := write(); err != nil {
		return err
	}
	return o.setHidden(keyOutbox, outbox{c.Events, copies}.encode())
}

// copies are the writes of a change to keys of which the directory has a copy.
func (db *DB) copies(c *storage.Change) (list []storage.KVWrite) {
	if db.cfg.Mirror == nil {
		return nil
	}
	for _, w := range c.KV {
		if db.cfg.Mirror(w.Key) {
			list = append(list, storage.KVWrite{Key: w.Key, Value: w.Value})
		}
	}
	return list
}
