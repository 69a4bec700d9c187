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

// ErrConflict: an account is not in the state that the change expects, because another process has
// changed it.
var ErrConflict = errors.New("indexer: the account was changed by somebody else")

// Sink stores records: a database with the application's rows and the indexer's own. Package
// sqlindex has one for SQL. A sink must be safe for concurrent use. Only one running Indexer may
// use it.
type Sink interface {
	// Apply carries out a transaction completely and durably, or not at all. For each change, in
	// order, it checks the version of the account, carries out the operations, and stores the CIDs
	// of their records and the account. If an account has another version than Change.Before,
	// nothing is done, and the error wraps ErrConflict.
	//
	// If a transaction of several changes fails, each change is tried alone. If one fails alone,
	// its account is marked as failed and read again later; the other changes continue.
	Apply(ctx context.Context, t *Transaction) error
	// Account returns an account. An unknown account has the version 0.
	Account(ctx context.Context, did syntax.DID) (Account, error)
	// Accounts returns up to limit accounts with a DID greater than after, in DID order.
	Accounts(ctx context.Context, after syntax.DID, limit int) ([]Account, error)
	// Due returns up to limit accounts whose Due is set and not after now. It returns none of the
	// hosts in without, and at most perHost accounts of each host whose name is known, the earliest
	// first. It must be fast even if very many accounts of one host are due. Repeated calls must
	// not leave out a host forever.
	Due(ctx context.Context, now time.Time, without []string, perHost, limit int) ([]Account, error)
	// Records returns up to limit records of an account with a path greater than after, in byte
	// order of paths.
	Records(ctx context.Context, did syntax.DID, after string, limit int) ([]mst.Entry, error)
	// Position returns a stored position, or "" if there is none.
	Position(ctx context.Context, name string) (string, error)
}

// Transaction is what a Sink carries out in one transaction.
type Transaction struct {
	Changes []*Change
	// Positions are texts to store under their names, even if one is earlier than the stored one.
	Positions map[string]string
}

// Change is a change of one account.
type Change struct {
	// Before is the version that the account must have in the sink; 0: the account must not exist.
	Before int64
	// Account is the account to store, with its new Version. If its State is Removed, delete the
	// account and the CIDs of its records instead. Earlier operations have already deleted the
	// records.
	Account Account
	// Ops are the operations, in order. Several may be about the same path.
	Ops []Op
	// AccountChanged is set if the account's Active, Status, Handle or Host has changed, or if it
	// is new or removed: changes that matter to applications. Other fields of Account, such as Rev
	// and Due, are the indexer's own.
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
	// Live is set if the operation comes from an event. Otherwise it comes from a repository that
	// was read as a whole.
	Live bool
}

// Path returns the collection, a slash and the record key.
func (o *Op) Path() string { return string(o.Collection) + "/" + string(o.RKey) }

// URI returns the AT URI of the record.
func (o *Op) URI() string { return "at://" + string(o.DID) + "/" + o.Path() }

// Decode decodes the record into a struct or a map: see [data.Unmarshal]. The record is a map in
// canonical DAG-CBOR, but may have any content. Validate it if you need a schema.
func (o *Op) Decode(v any) error { return data.Unmarshal(o.Record, v) }

// State says whether the sink has the records of an account.
type State string

// The states.
const (
	// Pending: the repository was not read yet.
	Pending State = "pending"
	// Desynchronized: the sink's records no longer follow the account's commits. The repository
	// will be read again.
	Desynchronized State = "desynchronized"
	// Synchronized: the sink has the records of the revision, and applies new commits.
	Synchronized State = "synchronized"
	// Removed: the account was removed from the scope.
	Removed State = "removed"
)

// Account is the indexer's state of an account. Sinks store it.
type Account struct {
	DID     syntax.DID
	Version int64 // grows with each change; 0: the account is not known

	// Active and Status are what the account's host says, as in #account events.
	Active bool
	Status string
	// Host is the URL of the account's PDS; empty: not known yet.
	Host string
	// Handle is the verified handle, or syntax.InvalidHandle. It is empty if Indexer.Handles is not
	// set.
	Handle syntax.Handle

	State State
	// Rev and Data are those of the commit whose records are in the sink.
	Rev  syntax.TID
	Data cid.Cid
	// Filter names the collections whose records are in the sink: see Scope.Collections.
	Filter string

	// Tracked is set by Indexer.Track. Signaled is set if the account was seen to have a record of
	// Scope.Signal.
	Tracked, Signaled bool

	// Due is when the repository will be read; zero: there is no reason to.
	Due time.Time
	// Read is when it was last read successfully.
	Read time.Time
	// Tries counts the failures since then, and Error describes the last one. Error may also say
	// why an event was rejected.
	Tries int
	Error string
}
