package indexer

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// ErrConflict says that an account is not what the change expects: another process has changed it.
var ErrConflict = errors.New("indexer: the account was changed by somebody else")

// Sink is where records go: a database with the application's rows and the indexer's own. The
// package sqlindex has one for SQL. A sink must be safe for concurrent use, and belongs to one
// running Indexer.
type Sink interface {
	// Apply carries out a transaction: all of it, durably, or nothing. For each change, in order,
	// it checks the version of the account, carries out the operations, stores the CIDs of their
	// records and the account. If an account has another version than Change.Before, nothing is
	// done and the error wraps ErrConflict.
	//
	// If a transaction of several changes fails, each is tried by itself. If one fails by itself,
	// its account is marked as failed and read again later; the others go on.
	Apply(ctx context.Context, t *Transaction) error
	// Account returns an account. One that is not known has the version 0.
	Account(ctx context.Context, did syntax.DID) (Account, error)
	// Accounts returns up to limit accounts with a DID greater than after, in the order of DIDs.
	Accounts(ctx context.Context, after syntax.DID, limit int) ([]Account, error)
	// Due returns up to limit accounts whose Due is set and not after now, at most perHost of each
	// host whose name is known, the earliest of it first, and none of some hosts. It must be fast
	// also if a great many accounts of one host are due. No host may be left out for good.
	Due(ctx context.Context, now time.Time, without []string, perHost, limit int) ([]Account, error)
	// Records returns up to limit records of an account with a path greater than after, in the
	// order of the bytes of paths.
	Records(ctx context.Context, did syntax.DID, after string, limit int) ([]mst.Entry, error)
	// Position returns a position that was stored; "" if none was.
	Position(ctx context.Context, name string) (string, error)
}

// Transaction is what a Sink carries out at once.
type Transaction struct {
	Changes []*Change
	// Positions are texts to be stored by their names. They are stored as they are told, also if
	// one is earlier than the stored one.
	Positions map[string]string
}

// Change is a change of one account.
type Change struct {
	// Before is the version that the account must have in the sink; 0: it must not be there.
	Before int64
	// Account is to be stored, with its new Version. If its State is Removed, it is to be deleted
	// instead, with all CIDs of its records; operations that delete the records have come before.
	Account Account
	// Ops are the operations, in order. An account may have several of one path.
	Ops []Op
	// AccountChanged says that the account's Active, Status, Handle or Host changed, or that it is
	// new or removed. Applications usually want to know. Other changes of Account, such as Rev and
	// Due, are the indexer's own.
	AccountChanged bool
}

// Op is an operation on a record.
type Op struct {
	DID        syntax.DID
	Rev        syntax.TID // of the commit, or of the repository that was read
	Action     commit.Action
	Collection syntax.NSID
	RKey       syntax.RecordKey
	CID        cid.Cid // of the record; undefined for a delete
	Prev       cid.Cid // of the record before; undefined for a create
	Record     []byte  // DAG-CBOR, good until Apply returns; nil for a delete
	// Live says that the operation comes from an event. Otherwise it comes from a repository that
	// was read as a whole.
	Live bool
}

// Path returns the collection, a slash and the record key.
func (o *Op) Path() string { return string(o.Collection) + "/" + string(o.RKey) }

// URI returns the AT URI of the record.
func (o *Op) URI() string { return "at://" + string(o.DID) + "/" + o.Path() }

// Decode decodes the record into a struct or a map: see [data.Unmarshal]. The record is a map in
// canonical DAG-CBOR, but may have any content: who wants a schema kept validates it.
func (o *Op) Decode(v any) error { return data.Unmarshal(o.Record, v) }

// State says whether the sink has the records of an account.
type State string

// The states.
const (
	// Pending: the repository has not been read yet.
	Pending State = "pending"
	// Desynchronized: what the sink has does not follow the account's commits any more. The
	// repository is to be read again.
	Desynchronized State = "desynchronized"
	// Synchronized: the sink has the records of the revision, and follows.
	Synchronized State = "synchronized"
	// Removed: the account was removed from the scope.
	Removed State = "removed"
)

// Account is what is known of an account. Sinks store it.
type Account struct {
	DID     syntax.DID
	Version int64 // grows with each change; 0: the account is not known

	// Active and Status are what the account's host says, as in #account events.
	Active bool
	Status string
	// Host is the URL of the account's PDS; empty: not known yet.
	Host string
	// Handle is verified; syntax.InvalidHandle if there is none that is. It is empty if
	// Indexer.Handles is not set.
	Handle syntax.Handle

	State State
	// Rev and Data are those of the commit whose records the sink has.
	Rev  syntax.TID
	Data cid.Cid
	// Filter names the collections whose records the sink has: see Scope.Collections.
	Filter string

	// Tracked says that the account was named to Indexer.Track, and Signaled that it was seen to
	// have a record of Scope.Signal.
	Tracked, Signaled bool

	// Due is when the repository is to be read; zero: there is no reason to.
	Due time.Time
	// Read is when it was read last with success.
	Read time.Time
	// Tries counts the failures since, and Error says what the last one was. It may also say why
	// an event was not believed.
	Tries int
	Error string
}
