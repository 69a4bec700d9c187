package durable

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// list is a doubly linked list of objects.
type list struct{ root object }

func (l *list) init() { l.root.next, l.root.prev = &l.root, &l.root }

func (l *list) first() *object {
	if o := l.root.next; o != &l.root {
		return o
	}
	return nil
}

func (l *list) append(o *object) {
	o.prev, o.next = l.root.prev, &l.root
	o.prev.next, o.next.prev = o, o
}

func (l *list) remove(o *object) {
	o.prev.next, o.next.prev = o.next, o.prev
	o.prev, o.next = nil, nil
}

// acquire returns an account's object, open. The caller releases it.
func (db *DB) acquire(ctx context.Context, did syntax.DID, create bool) (*object, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		db.mu.Lock()
		if db.closed {
			db.mu.Unlock()
			return nil, ErrClosed
		}
		o := db.open[did]
		if o == nil {
			o = newObject(did)
			o.users = 1
			db.open[did] = o
			db.users.Add(1)
			toClose := db.surplus()
			db.mu.Unlock()
			db.finishClose(toClose)
			return db.start(ctx, o, create)
		}
		if o.is(closing) {
			gone := o.closed
			db.mu.Unlock()
			select {
			case <-gone:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if o.users == 0 {
			db.idle.remove(o)
		}
		o.users++
		db.users.Add(1)
		db.mu.Unlock()
		select {
		case <-o.ready:
		case <-ctx.Done():
			db.release(o)
			return nil, ctx.Err()
		}
		err := o.openErr
		if err == nil {
			return o, nil
		}
		db.release(o)
		if create && errors.Is(err, storage.ErrNotFound) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			continue // the other caller did not want to create the object, or its context has ended
		}
		return nil, err
	}
}

// start opens the store of an object that was just put into the map.
func (db *DB) start(ctx context.Context, o *object, create bool) (*object, error) {
	store, err := db.cfg.Objects.Open(ctx, o.did, create)
	if errors.Is(err, storage.ErrNotFound) {
		err = fmt.Errorf("%w: repository %s", storage.ErrNotFound, o.did)
	}
	db.mu.Lock()
	if err == nil {
		o.store = values{Object: store}
		o.to(unknown)
		db.stats.Opened++
	} else {
		o.openErr = err
		o.to(gone)
		delete(db.open, o.did)
	}
	close(o.ready)
	db.mu.Unlock()
	if err != nil {
		db.release(o)
		return nil, err
	}
	return o, nil
}

// release gives an object back. One without a repository is closed, and its
// file removed.
func (db *DB) release(o *object) {
	defer db.users.Done()
	db.mu.Lock()
	o.users--
	var toClose []*object
	if o.users == 0 && o.openErr == nil {
		db.idle.append(o)
		if o.isEmpty() {
			toClose = append(toClose, db.beginClose(o))
		}
		toClose = append(toClose, db.surplus()...)
	}
	db.mu.Unlock()
	db.finishClose(toClose)
}

// surplus takes idle objects out of use if too many are open. The caller holds
// db.mu, and then calls finishClose.
func (db *DB) surplus() (toClose []*object) {
	for len(db.open)-db.closing > db.cfg.MaxOpen {
		o := db.idle.first()
		if o == nil {
			break
		}
		toClose = append(toClose, db.beginClose(o))
		db.stats.Hibernated++
	}
	return toClose
}

// beginClose takes an idle object out of use. The caller holds db.mu.
func (db *DB) beginClose(o *object) *object {
	db.idle.remove(o)
	o.empty = o.isEmpty()
	o.to(closing)
	db.closing++
	return o
}

// finishClose closes objects that were taken out of use.
func (db *DB) finishClose(list []*object) {
	for _, o := range list {
		// All of the object is on disk, so an error loses nothing.
		_ = db.closeStore(o)
		db.forget(o)
	}
}

// forget takes an object that was closed from the map.
func (db *DB) forget(o *object) {
	db.mu.Lock()
	defer db.mu.Unlock()
	delete(db.open, o.did)
	db.closing--
	o.to(gone)
	close(o.closed)
}

// closeStore closes the store of an object that nobody uses.
func (db *DB) closeStore(o *object) error {
	err := o.store.Close()
	if err == nil && o.empty {
		err = db.cfg.Objects.Remove(o.did)
	}
	return err
}

// lockSettled waits for an object's turn and completes the object's last change. During a turn
// nobody else writes to the object or begins a view. The caller calls unlock.
func (db *DB) lockSettled(ctx context.Context, o *object) error {
	if err := o.lock(ctx); err != nil {
		return err
	}
	if err := db.settle(ctx, o); err != nil {
		o.unlock()
		return err
	}
	return nil
}

// with calls fn with an account's object, in its turn.
func (db *DB) with(ctx context.Context, did syntax.DID, create bool, fn func(*object) error) error {
	o, err := db.acquire(ctx, did, create)
	if err != nil {
		return err
	}
	defer db.release(o)
	if err := db.lockSettled(ctx, o); err != nil {
		return err
	}
	defer o.unlock()
	return fn(o)
}

// use implements host.
func (db *DB) use(ctx context.Context, did syntax.DID, create bool, fn func(*account) error) error {
	return db.with(ctx, did, create, func(o *object) error { return fn(&o.account) })
}

// mark implements host.
func (db *DB) mark(did syntax.DID) error {
	if db.marker == nil {
		return nil
	}
	return db.marker.Mark(did)
}
