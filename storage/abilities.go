package storage

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// AccountEvents is an ability that Events may have: it finds the events of one account among those
// of all others. Test for it by type assertion.
type AccountEvents interface {
	// OfAccount yields the events of an account that are visible at the call, the newest first. It
	// costs as much as the events that are taken, however long the log is.
	OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[Event, error]
}

// Problem is something that a Checker found.
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

// CheckOptions is how closely a Checker looks. The zero value looks at everything.
type CheckOptions struct {
	// SkipBytes leaves out what reads all bytes of blobs, to compare their hashes.
	SkipBytes bool
}

// Checker is an ability that Repos and Blobs may have: to find what contradicts itself in the
// engine below, which nobody can see through the other methods: indexes that do not agree with
// their rows, rows that nothing leads to, blobs without bytes and bytes without blobs. The Checker
// of Repos also looks at the Events and the KV that are of the same engine. Test for it by type
// assertion, or use [Check].
type Checker interface {
	// Problems yields what is wrong, and nothing for a store that is not damaged, also while others
	// write and a process has died at any moment before. It reads everything, changes nothing, and
	// holds up no writer. It yields a bounded number of problems of each kind. An error is one of
	// the check itself, which ends with it; damage that keeps it from reading on is a Problem.
	Problems(ctx context.Context, opt CheckOptions) iter.Seq2[Problem, error]
}

// Check yields what the Checkers among the parts of a store find.
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

// The conditions of snapshots.
var (
	// ErrReadOnly: a method that writes was called on the store of a Snapshot.
	ErrReadOnly = errors.New("storage: a snapshot cannot be written to")
	// ErrExpired: a Snapshot has reached its limit, or was closed.
	ErrExpired = errors.New("storage: the snapshot has ended")
)

// Snapshotter is an ability that Repos may have: a consistent view of the whole store (all
// accounts, events and keys) while others write. It is for backups and moves. Test for it by type
// assertion.
type Snapshotter interface {
	// Snapshot returns a view of the present moment: it has everything that was acknowledged
	// before the call. To make one waits for no reader and for no more than one transaction of a
	// writer. While it is open nobody waits for it, but it costs what the backend says: it keeps
	// what is overwritten and deleted meanwhile. So it ends by itself at a limit that the backend
	// has, which can be configured.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot is a store at one moment. Its methods may be called concurrently, as those of a store;
// how many calls read at the same time is bounded, and others wait.
type Snapshot interface {
	// Store returns the view: Repos, Events and KV, whose methods keep the same laws, but that they
	// show nothing later. Blobs is nil: blobs are copied after the view was taken, so that what its
	// records refer to and nobody has deleted since is there. Methods that write return
	// ErrReadOnly, and so does Wait where there is no newer event. Expiry is by the time of the
	// snapshot: a key that was there stays. After the end, methods return ErrExpired, and iterators
	// end with it.
	Store() Store
	// Until is when the snapshot ends by itself.
	Until() time.Time
	// Close ends the snapshot. It must be called; more than once does no harm. Calls that run may
	// fail with ErrExpired; a function that was passed to one keeps what it reads from, and so its
	// costs, until it returns.
	Close() error
}
