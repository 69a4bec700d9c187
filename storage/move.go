package storage

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ErrMoved: the store is being replaced by another one, or has been replaced. It can be read, but
// refuses all writes. See [Movable].
var ErrMoved error = moved{}

type moved struct{}

func (moved) Error() string {
	return "storage: the store has been moved, or is being moved, and takes no writes"
}
func (moved) Unavailable() bool { return true }

// Public returns the text that users may see.
func (moved) Public() string {
	return "This server is being moved to other storage. Nothing is lost; try again in a minute"
}

// Movable is an optional interface of [Repos]. The whole store to which the Repos belongs, with its
// log and its keys, can be copied to another store while it is in use, and then be replaced by it.
// Package storage/transfer does that. Test for Movable by type assertion.
//
//	          Watch              Shut
//	in use ─────────▶ watched ─────────▶ shut      all of them durable, and for
//	   ▲                 │  ▲              │       every process that has the store open
//	   │                 │  └─── Watch ────┤
//	   └─────────────────┴─── Unwatch ─────┘
//
// These methods and writes are serialized. When Watch returns, each write has either ended or will
// be noted. When Shut returns, each write has either ended or will fail with ErrMoved.
type Movable interface {
	// Watch begins to note which accounts and keys change. It stores the text note with that state.
	// If the store is already watched, only the text changes. If the store is shut, it accepts
	// writes again. Existing notes of changes stay.
	Watch(ctx context.Context, note string) error
	// Shut makes the store refuse writes with ErrMoved, except those of this interface and of
	// Moving. The store must be watched. If it is already shut, only the text changes.
	Shut(ctx context.Context, note string) error
	// Unwatch returns the store to normal use, and deletes the notes. It is not an error if the
	// store is in normal use.
	Unwatch(ctx context.Context) error
	// Watched returns the present state, with its text.
	Watched(ctx context.Context) (Watch, error)
	// Changed yields the notes that were not settled, ordered by kind and name. It need not be one
	// snapshot. There is one note for each kind and name, however often it changed.
	Changed(ctx context.Context) iter.Seq2[Changed, error]
	// Settle removes notes that are still as Changed yielded them. Newer notes stay.
	Settle(ctx context.Context, list []Changed) error
	// Touch notes a change of an account that these stores do not see, such as a change of its
	// blobs. It fails with ErrMoved if the store is shut. If the store is not watched, Touch does
	// nothing and is cheap. The account need not exist.
	Touch(ctx context.Context, did syntax.DID) error
	// Moving returns the host's keys for the program that moves the store. They can be written even
	// while the store is shut; writes are noted.
	Moving() KV
}

// WatchState is the state of a Movable store.
type WatchState uint8

const (
	Unwatched WatchState = iota
	Watching
	Shut
)

// Watch is the result of Movable.Watched.
type Watch struct {
	State WatchState
	Note  string
}

// ChangedKind says what a note is about.
type ChangedKind uint8

const (
	ChangedAccount ChangedKind = 1 + iota // its head, its keys, or that it was made or deleted
	ChangedEvents                         // earlier events of an account have become unreadable
	ChangedKey                            // one of the host's keys
)

// Changed is a note that an account or a key may have changed.
type Changed struct {
	Kind  ChangedKind
	Name  string // a DID, or a key
	Stamp int64  // tells this note from earlier and later ones of the same kind and name
}

// Loader is an optional interface of [Repos]. It writes data exactly as another store has it:
// records with their revisions, and events with their numbers. Nobody else may use the store
// meanwhile, because repositories are visible while they are only partly written.
//
// All methods are idempotent, and durable when they return. They keep their arguments in memory, so
// pass at most a few megabytes.
type Loader interface {
	// Load writes parts of a repository, and creates it if there is none. Before its head is
	// written, it is an account without a head: see Change.
	Load(ctx context.Context, did syntax.DID, l *Load) error
	// Unload removes a repository with its records, references and keys. Its events stay. A missing
	// repository is not an error.
	Unload(ctx context.Context, did syntax.DID) error
	// LoadEvents writes a part of the log.
	LoadEvents(ctx context.Context, l *LoadEvents) error
}

// Load is a part of a repository, for a Loader.
type Load struct {
	// Records are written with their own revisions, in increasing path order. A record whose CID is
	// undefined is removed. References to blobs are not changed.
	Records []Record
	// NoRefs are removed, and then Refs are added.
	Refs, NoRefs []BlobRef
	// KV are writes in the account's namespace, in order.
	KV []KVWrite
	// Head and Commit are written if Head is not zero.
	Head   Head
	Commit []byte
}

// LoadEvents is a part of the log, for a Loader.
type LoadEvents struct {
	// Events are written with their numbers, in increasing order. They replace events with the same
	// numbers. The newest number of Bounds becomes at least as great.
	Events []Event
	// Drop are the numbers of events to remove before Events are written.
	Drop []int64
	// Oldest and Newest raise what Bounds returns to at least these values. 0 leaves it as it is.
	Oldest, Newest int64
}
