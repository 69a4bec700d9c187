package durable

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// object is an account's object while it is open.
type object struct {
	account

	// Guarded by DB.mu.
	users      int
	empty      bool          // it was empty when it was taken out of use
	prev, next *object       // in the list of idle objects
	closed     chan struct{} // closed when the object is closed
	openErr    error         // set before ready is closed
	ready      chan struct{} // closed when store is there, or is not to be

	// Only the holder of the turn uses these fields. Like account.state, they are valid while the
	// object is settled or owing.
	listed storage.Head // the head in the directory
	mark   uint64       // number of the last outbox that was delivered; 0: none
}

func newObject(did syntax.DID) *object {
	return &object{
		account: account{core: newCore(), sets: new(sets), did: did, place: ownObject},
		closed:  make(chan struct{}), ready: make(chan struct{}),
	}
}

// isEmpty reports whether the object is known to have no account, and nothing
// to deliver.
func (o *object) isEmpty() bool {
	return o.is(settled) && !o.state.exists()
}

// settle brings what is known of an object up to date and delivers its outbox.
// The caller has the turn.
func (db *DB) settle(ctx context.Context, o *object) error {
	if o.is(settled) {
		return nil
	}
	if o.is(doubtful) {
		if err := o.reopen(func() (Object, error) { return db.cfg.Objects.Open(ctx, o.did, false) }); err != nil {
			return fmt.Errorf("durable: open the object of %s again: %w", o.did, err)
		}
	}
	if o.is(unknown) {
		if err := db.load(ctx, o); err != nil {
			return err
		}
	}
	if o.is(settled) {
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
	if err := o.looseSets(); err != nil {
		return fmt.Errorf("durable: object of %s: %w", o.did, err)
	}
	head, mark, err := db.directory.Entry(ctx, o.did)
	missing := errors.Is(err, storage.ErrNotFound)
	if err != nil && !missing {
		return fmt.Errorf("durable: directory entry of %s: %w", o.did, err)
	}
	o.listed, o.mark = head, mark
	if o.mark > o.state.outbox {
		return fmt.Errorf("%w: step %d of %s is in the log, but its object is at %d", storage.ErrCorrupt, o.mark, o.did, o.state.outbox)
	}
	if undelivered := o.state.outbox > o.mark; undelivered && !(missing && !o.state.exists()) {
		o.to(owing)
	} else {
		o.to(settled) // also if it was deleted here and there
	}
	return nil
}

// deliver carries out the second half of a step: it moves the outbox to the shared log.
// It runs to its end even if the context is canceled.
func (db *DB) deliver(ctx context.Context, o *object, box outbox) (seq int64, err error) {
	ctx = context.WithoutCancel(ctx)
	deleted := !o.state.exists()
	if deleted {
		seq, err = db.directory.Remove(ctx, o.did, box.events)
	} else {
		c := storage.Change{
			Prev: o.listed, Head: o.state.head, Commit: o.state.block, Events: box.events,
			Checks: []storage.KVCheck{{Key: markKey, Value: encodeMark(o.mark)}},
			KV:     append([]storage.KVWrite{{Key: markKey, Value: encodeMark(o.state.outbox)}}, box.copies...),
		}
		seq, err = db.directory.Deliver(ctx, o.did, &c)
	}
	if errors.Is(err, storage.ErrNotFound) && deleted {
		err = nil // it was made and deleted before anybody was told
	}
	if err != nil {
		o.to(unknown) // it may have been carried out all the same
		return 0, fmt.Errorf("durable: deliver the events of %s: %w", o.did, err)
	}
	o.to(settled)
	o.listed, o.mark = o.state.head, o.state.outbox
	if deleted {
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
