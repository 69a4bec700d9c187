package durable

import (
	"context"
	"errors"
	"sync"

	"github.com/pdskit/pdskit/storage"
)

// core is an open Object, with what lets writers take turns, and views read beside them.
type core struct {
	// turn has room for one: full while somebody writes, or begins a view.
	turn chan struct{}
	phases

	// mu lets calls of the store take turns: reads of views come between the calls of a
	// transaction. It is held for single calls, and never while a function of the caller runs.
	mu    sync.Mutex
	store values
	views map[*snapshot]struct{}
}

func newCore() *core {
	return &core{turn: make(chan struct{}, 1), views: make(map[*snapshot]struct{})}
}

// lock waits for the turn. The caller calls unlock.
func (c *core) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unlock ends a turn.
func (c *core) unlock() { <-c.turn }

// get reads a value as it is now.
func (c *core) get(key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.get(key)
}

// set writes a value. For the sake of views it reads the old one first, if there are any.
func (c *core) set(key string, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.viewed(key) {
		old, err := c.store.get(key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		c.keep(key, old, err == nil)
	}
	return c.store.set(key, value)
}

// setHidden is set for a key that no view can read.
func (c *core) setHidden(key string, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.set(key, value)
}

// deleteHidden is delete for keys that no view can read.
func (c *core) deleteHidden(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.delete(from, to)
}

// deleteKey removes one key.
func (c *core) deleteKey(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.viewed(key) {
		switch old, err := c.store.get(key); {
		case err == nil:
			c.keep(key, old, true)
		case !errors.Is(err, storage.ErrNotFound):
			return err
		}
	}
	return c.store.delete(key, key+"\x00")
}

// viewed reports whether a view may read a key.
func (c *core) viewed(key string) bool {
	for v := range c.views {
		if v.reads(key) {
			return true
		}
	}
	return false
}

// keep notes for all views what a key had before.
func (c *core) keep(key string, old []byte, there bool) {
	for v := range c.views {
		if _, ok := v.old.Get(key); !ok && v.reads(key) {
			v.old = v.old.Set(key, oldValue{old, there})
		}
	}
}

// pairs reads pairs of a range as they are now: see values.pairs.
func (c *core) pairs(s Scan, enough int) (list []pair, more string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.pairs(s, enough, nil)
}

// transact runs fn in a transaction. If that fails, the account is as it was. fn waits for nothing
// but the object. The caller has the turn, and the object is settled.
func (c *core) transact(a *account, fn func() error) (err error) {
	state, loose := a.state, a.loose
	var failed error
	done := false
	defer func() {
		if done && err == nil {
			return
		}
		a.state, a.loose = state, loose
		// If it was not fn that failed, it may have been committed all the same, also if it
		// does not show: as when all was written, but not flushed.
		if !done || failed == nil {
			c.to(doubtful)
		}
	}()
	err = c.store.Transact(func() error {
		failed = fn()
		return failed
	})
	done = true
	return err
}

// reopen puts the store that open opens in the place of one that is in doubt. The caller has the
// turn.
func (c *core) reopen(open func() (Object, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.store.Close() // the next to open it says whether it can be used
	c.store = values{Object: closedObject{}}
	store, err := open()
	if err != nil {
		return err
	}
	c.store = values{Object: store}
	c.to(unknown)
	return nil
}

var errNotReopened = errors.New("durable: object could not be opened again")

// closedObject is in the place of a store that could not be opened anew.
type closedObject struct{}

func (closedObject) Get(string) ([]byte, error)                 { return nil, errNotReopened }
func (closedObject) Scan(Scan, func(string, []byte) bool) error { return errNotReopened }
func (closedObject) Set(string, []byte) error                   { return errNotReopened }
func (closedObject) Delete(string, string) error                { return errNotReopened }
func (closedObject) Transact(func() error) error                { return errNotReopened }
func (closedObject) Close() error                               { return nil }
