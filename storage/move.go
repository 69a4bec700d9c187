package storage

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ErrMoved: another store is about to take the place of this one, or has taken it. It can be read,
// and refuses all writes. See [Movable].
var ErrMoved error = moved{}

type moved struct{}

func (moved) Error() string {
	return "storage: the store has been moved, or is being moved, and takes no writes"
}
func (moved) Unavailable() bool { return true }

// Public is what users may be told.
func (moved) Public() string {
	return "This server is being moved to other storage. Nothing is lost; try again in a minute"
}

// Movable is an ability of Repos. The whole store of which they are a part, with its log and its
// keys, can be copied to another one while it is in use, and given up for it. Package
// storage/transfer does that. Test for it by type assertion.
//
//	          Watch              Shut
//	in use ─────────▶ watched ─────────▶ shut      all of them durable, and for
//	   ▲                 │  ▲              │       every process that has the store open
//	   │                 │  └─── Watch ────┤
//	   └─────────────────┴─── Unwatch ─────┘
//
// Changes take turns with these methods as with each other: a write is either noted, or its
// transaction has ended when Watch returns; it fails with ErrMoved, or has ended when Shut returns.
type Movable interface {
	// Watch begins to note which accounts and keys change. The text is kept with that. If the store
	// is watched, only the text changes; if it is shut, it takes writes again. What was noted
	// stays.
	Watch(ctx context.Context, note string) error
	// Shut makes the store refuse writes with ErrMoved, those of this interface and of Moving
	// excepted. It must be watched. If it is shut, only the text changes.
	Shut(ctx context.Context, note string) error
	// Unwatch puts the store back to use, and forgets what was noted. It is no error if there is
	// nothing to do.
	Unwatch(ctx context.Context) error
	// Watched returns which of these is so.
	Watched(ctx context.Context) (Watch, error)
	// Changed yields what was noted and not settled, ordered by kind and name. It need not be one
	// snapshot. There is one note for each kind and name, however often it changes.
	Changed(ctx context.Context) iter.Seq2[Changed, error]
	// Settle removes notes that are still as Changed has yielded them; those that are newer stay.
	Settle(ctx context.Context, list []Changed) error
	// Touch notes a change of an account that these stores do not see, such as of its blobs. It
	// fails with ErrMoved if the store is shut. If it is not watched, it does nothing, and is
	// cheap. The account need not be there.
	Touch(ctx context.Context, did syntax.DID) error
	// Moving returns the host's keys for who moves the store: they can be written, and that is
	// noted, also while it is shut.
	Moving() KV
}

// WatchState is where a Movable store stands.
type WatchState uint8

const (
	Unwatched WatchState = iota
	Watching
	Shut
)

// Watch is what Movable.Watched returns.
type Watch struct {
	State WatchState
	Note  string
}

// ChangedKind is what a note is about.
type ChangedKind uint8

const (
	ChangedAccount ChangedKind = 1 + iota // its head, its keys, or that it was made or deleted
	ChangedEvents                         // earlier events of an account have become unreadable
	ChangedKey                            // one of the host's keys
)

// Changed is a note that something may have changed.
type Changed struct {
	Kind  ChangedKind
	Name  string // a DID, or a key
	Stamp int64  // tells this note from earlier and later ones of the same kind and name
}

// Loader is an ability of Repos: it writes what another store has as it is there, records with
// their revisions and events with their numbers. The store must be one that nobody else uses: a
// repository may be seen that is written in part.
//
// All methods may be called again to the same effect, and are durable when they return. They keep
// what they write in memory; keep that to a few megabytes.
type Loader interface {
	// Load writes parts of a repository, and makes it if there is none. Until its head is written
	// it is an account without a head: see Change.
	Load(ctx context.Context, did syntax.DID, l *Load) error
	// Unload removes a repository with its records, references and keys, and leaves its events. It
	// is no error if there is none.
	Unload(ctx context.Context, did syntax.DID) error
	// LoadEvents writes a part of the log.
	LoadEvents(ctx context.Context, l *LoadEvents) error
}

// Load is parts of a repository, for a Loader.
type Load struct {
	// Records are written with their own revisions, in increasing order of their paths. One
	// whose CID is undefined is removed. References to blobs are left as they are.
	Records []Record
	// Refs are added, and what is in NoRefs is removed before.
	Refs, NoRefs []BlobRef
	// KV are writes in the account's namespace, in order.
	KV []KVWrite
	// Head and Commit are written if Head is not zero.
	Head   Head
	Commit []byte
}

// LoadEvents is a part of the log, for a Loader.
type LoadEvents struct {
	// Events are written under the numbers that they have, in increasing order. They take the place
	// of others with these numbers, and Bounds' newest becomes as great as they are.
	Events []Event
	// Drop are the numbers of events that are removed, before others are written.
	Drop []int64
	// Oldest and Newest are what Bounds returns from now on, at least. 0: as it is.
	Oldest, Newest int64
}
