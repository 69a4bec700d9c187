package storage

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// AccountEvents is an optional interface of [Events]: it finds the events of one account. Test for
// it by type assertion.
type AccountEvents interface {
	// OfAccount yields the events of an account that are visible at the call, newest first. Its
	// cost depends on the number of events that are taken, not on the length of the log.
	OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[Event, error]
}

// Problem is a fault that a [Checker] found.
type Problem struct {
	DID  syntax.DID // of the account that it is about; empty: of none, or of one that is not known
	What string     // what is wrong, and where
}

func (p Problem) String() string {
	if p.DID == "" {
		return p.What
	}
	return string(p.DID) + ": " + p.What
}

// CheckOptions says what a Checker checks. The zero value checks everything.
type CheckOptions struct {
	// SkipBytes leaves out the hashes of blobs, for which all their bytes must be read.
	SkipBytes bool
}

// Checker is an optional interface of [Repos] and [Blobs]. It finds contradictions inside the
// backend that the other methods cannot show: an index that differs from its rows, rows without an
// owner, blobs without bytes, bytes without a blob. The Checker of Repos also checks the Events and
// the KV of the same backend. Test for it by type assertion, or use [Check].
type Checker interface {
	// Problems yields the faults of a store. It yields nothing for an undamaged store, also while
	// others write, and after a process has died at any moment. It reads everything, changes
	// nothing, and blocks no writer. It yields a bounded number of problems of each kind. An error
	// means that the check itself failed; it ends the iteration. Damage that prevents further
	// reading is a Problem, not an error.
	Problems(ctx context.Context, opt CheckOptions) iter.Seq2[Problem, error]
}

// Check yields what the Checkers of a store's parts find.
func Check(ctx context.Context, s Store, opt CheckOptions) iter.Seq2[Problem, error] {
	return func(yield func(Problem, error) bool) {
		for _, part := range []any{s.Repos, s.Blobs} {
			c, ok := part.(Checker)
			if !ok {
				continue
			}
			for p, err := range c.Problems(ctx, opt) {
				if !yield(p, err) || err != nil {
					return
				}
			}
		}
	}
}

// Errors of snapshots.
var (
	// ErrReadOnly: a writing method was called on the store of a Snapshot.
	ErrReadOnly = errors.New("storage: a snapshot cannot be written to")
	// ErrExpired: a Snapshot has reached its time limit, or was closed.
	ErrExpired = errors.New("storage: the snapshot has ended")
)

// Snapshotter is an optional interface of [Repos]: a consistent view of the whole store (all
// accounts, events and keys) while others write. It is for backups and moves. Test for it by type
// assertion.
type Snapshotter interface {
	// Snapshot returns a view of the present moment: it has everything that was acknowledged before
	// the call. Making it waits for no reader, and for at most one writing transaction. An open
	// snapshot blocks nobody, but the backend must keep what is overwritten and deleted meanwhile.
	// So a snapshot ends by itself after a time that the backend's configuration sets.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot is a store at one moment. Its methods may be called concurrently. The number of
// concurrent reads is bounded; further calls wait.
type Snapshot interface {
	// Store returns the view: its Repos, Events and KV keep the contract of this package, and show
	// nothing later. Methods that write return ErrReadOnly, and so does Wait if there is no newer
	// event. A key that had not expired at the moment of the snapshot does not expire in it. After
	// the end of the snapshot, methods and iterators return ErrExpired.
	//
	// Blobs is nil. Copy blobs after the snapshot was made: then every blob that its records refer
	// to is there, unless it was deleted since.
	Store() Store
	// Until returns when the snapshot ends by itself.
	Until() time.Time
	// Close ends the snapshot. It must be called, and may be called more than once. Running calls
	// may fail with ErrExpired. A function that was passed to View or Read keeps its resources
	// until it returns.
	Close() error
}
