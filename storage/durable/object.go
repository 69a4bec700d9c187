package durable

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// object is an account's object while it is open.
type object struct {
	did syntax.DID

	// Guarded by DB.mu.
	users      int
	closing    bool
	prev, next *object       // in the list of idle objects
	gone       chan struct{} // closed when the object is closed
	openErr    error         // set before ready is closed
	ready      chan struct{} // closed when store is there, or is not to be

	// turn has room for one: full while somebody steps, or begins a view.
	turn chan struct{}
	// What follows belongs to who has the turn.
	known   bool            // whether the rest is what is stored
	doubt   bool            // a commit has failed: only opening the store anew tells what is stored
	state   state           // as in the object
	pending bool            // the outbox has not been delivered
	listed  storage.Head    // the head in the directory
	mark    uint64          // number of the last outbox that was delivered; 0: none
	staging map[uint64]bool // sets that a Replace of this process is filling

	// mu lets calls of the store take turns: reads of views come between the calls of a step.
	mu    sync.Mutex
	store values
	views map[*snapshot]struct{}
}

func newObject(did syntax.DID) *object {
	return &object{did: did, gone: make(chan struct{}), ready: make(chan struct{}), turn: make(chan struct{}, 1), views: make(map[*snapshot]struct{})}
}

// isEmpty reports whether the object is known to have no account, and nothing
// to deliver.
func (o *object) isEmpty() bool {
	return o.known && !o.pending && !o.there()
}

// there reports whether there is an account, with a head or without.
func (o *object) there() bool { return o.state.head != storage.Head{} || o.state.alone }

// get reads a value as it is now.
func (o *object) get(key string) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store.get(key)
}

// set writes a value. For the sake of views it reads the old one first, if there are any.
func (o *object) set(key string, value []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.views) > 0 {
		old, err := o.store.get(key)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		o.keep(key, old, err == nil)
	}
	return o.store.set(key, value)
}

// setHidden is set for a key that no view can read.
func (o *object) setHidden(key string, value []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store.set(key, value)
}

// deleteHidden is delete for keys that no view can read.
func (o *object) deleteHidden(from, to string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store.delete(from, to)
}

// delete removes a range of keys.
func (o *object) delete(from, to string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.views) > 0 {
		list, _, err := o.store.pairs(Scan{From: from, To: to}, 0, nil)
		if err != nil {
			return err
		}
		for _, p := range list {
			o.keep(p.key, p.value, true)
		}
	}
	return o.store.delete(from, to)
}

// deleteKey removes one key.
func (o *object) deleteKey(key string) error { return o.delete(key, key+"\x00") }

// keep notes for all views what a key had before.
func (o *object) keep(key string, old []byte, there bool) {
	for v := range o.views {
		if _, ok := v.old.Get(key); !ok {
			v.old = v.old.Set(key, oldValue{old, there})
		}
	}
}

// transact runs fn in a transaction of the object.
func (o *object) transact(fn func() error) (err error) {
	before := o.state
	var failed error
	done := false
	defer func() {
		if done && err == nil {
			return
		}
		o.state = before
		// If it was not fn that failed, it may have been committed all the same, also if it
		// does not show: as when all was written, but not flushed.
		o.known = done && failed != nil
		o.doubt = o.doubt || !o.known
	}()
	err = o.store.Transact(func() error {
		failed = fn()
		return failed
	})
	done = true
	return err
}

// reopen opens an object's store anew. The caller has the turn.
func (db *DB) reopen(ctx context.Context, o *object) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.store.Close() // the next to open it says whether it can be used
	o.store = values{Object: closedObject{}}
	store, err := db.cfg.Objects.Open(ctx, o.did, false)
	if err != nil {
		return fmt.Errorf("durable: open the object of %s again: %w", o.did, err)
	}
	o.store, o.doubt = values{Object: store}, false
	return nil
}

var errNotReopened = errors.New("durable: object could not be opened again")

// closedObject is in the place of a store that could not be opened anew.
type closedObject struct{}

func (closedObject) Get(string) ([]byte, error) { return nil, errNotReopened }
func (closedObject) Scan(Scan, func(string, []byte) bool) error {
	return errNotReopened
}
func (closedObject) Set(string, []byte) error    { return errNotReopened }
func (closedObject) Delete(string, string) error { return errNotReopened }
func (closedObject) Transact(func() error) error { return errNotReopened }
func (closedObject) Close() error                { return nil }

// markKey is the key, in the account's namespace of the shared store, of the number
// of the last outbox that was delivered.
const markKey = "durable/delivered"

// settle brings what is known of an object up to date and delivers its outbox.
// The caller has the turn.
func (db *DB) settle(ctx context.Context, o *object) error {
	if o.known && !o.pending {
		return nil
	}
	if o.doubt {
		if err := db.reopen(ctx, o); err != nil {
			return err
		}
	}
	if !o.known {
		if err := db.load(ctx, o); err != nil {
			return err
		}
	}
	if !o.pending {
		db.unmark(o.did)
		return nil
	}
	b, err := o.get(keyOutbox)
	if err != nil {
		return fmt.Errorf("durable: outbox of %s: %w", o.did, err)
	}
	box, err := decodeOutbox(b)
	if err != nil {
		return fmt.Errorf("durable: outbox of %s: %w", o.did, err)
	}
	if _, err := db.deliver(ctx, o, box); err != nil {
		return err
	}
	db.mu.Lock()
	db.stats.Recovered++
	db.mu.Unlock()
	return nil
}

// load reads an object's state and how much of it the shared store knows.
func (db *DB) load(ctx context.Context, o *object) error {
	b, err := o.get(keyState)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		o.state = state{}
	case err != nil:
		return fmt.Errorf("durable: object of %s: %w", o.did, err)
	default:
		if o.state, err = decodeState(b); err != nil {
			return fmt.Errorf("durable: object of %s: %w", o.did, err)
		}
		if o.state.did != o.did {
			return fmt.Errorf("%w: the object of %s is that of %s", storage.ErrCorrupt, o.did, o.state.did)
		}
	}
	if o.state.loose, err = o.looseSets(); err != nil {
		return fmt.Errorf("durable: object of %s: %w", o.did, err)
	}
	o.listed, o.mark = storage.Head{}, 0
	err = db.cfg.Shared.Repos.View(ctx, o.did, func(r storage.Reader) error {
		o.listed = r.Head()
		b, err := r.Get(ctx, markKey)
		if err == nil {
			o.mark, err = decodeMark(b)
		}
		return err
	})
	missing := errors.Is(err, storage.ErrNotFound)
	if err != nil && !missing {
		return fmt.Errorf("durable: directory entry of %s: %w", o.did, err)
	}
	if o.mark > o.state.outbox {
		return fmt.Errorf("%w: step %d of %s is in the log, but its object is at %d", storage.ErrCorrupt, o.mark, o.did, o.state.outbox)
	}
	o.pending = o.state.outbox > o.mark
	if missing && !o.there() {
		o.pending = false // deleted here and there
	}
	o.known = true
	return nil
}

// deliver carries out the second half of a step: it moves the outbox to the shared log.
// It runs to its end even if the context is canceled.
func (db *DB) deliver(ctx context.Context, o *object, box outbox) (seq int64, err error) {
	ctx = context.WithoutCancel(ctx)
	if !o.there() {
		seq, err = db.cfg.Shared.Repos.Delete(ctx, o.did, box.events)
	} else {
		c := storage.Change{
			Prev: o.listed, Head: o.state.head, Commit: o.state.block, Events: box.events,
			Checks: []storage.KVCheck{{Key: markKey, Value: encodeMark(o.mark)}},
			KV:     []storage.KVWrite{{Key: markKey, Value: encodeMark(o.state.outbox)}},
		}
		seq, err = db.cfg.Shared.Repos.Apply(ctx, o.did, &c)
	}
	if errors.Is(err, storage.ErrNotFound) && !o.there() {
		err = nil // it was made and deleted before anybody was told
	}
	if err != nil {
		o.known = false // it may have been carried out all the same
		return 0, fmt.Errorf("durable: deliver the events of %s: %w", o.did, err)
	}
	o.listed, o.mark, o.pending = o.state.head, o.state.outbox, false
	if !o.there() {
		o.mark = 0
	}
	db.unmark(o.did)
	return seq, nil
}

// unmark notes that an account's last step is complete. A mark that stays does no
// harm.
func (db *DB) unmark(did syntax.DID) {
	if db.marker != nil {
		_ = db.marker.Unmark(did)
	}
}
