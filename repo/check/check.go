package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Checker says what to check. Parts of the Store that are nil are skipped, and so are checks whose
// functions are nil. The method Checker of a host's account.Store makes one.
type Checker struct {
	Store storage.Store
	// Key returns the signing key of an account, or nil to skip its signatures. An error is a
	// problem of the account.
	Key func(ctx context.Context, did syntax.DID) (*crypto.PublicKey, error)
	// Incomplete reports whether an account may lack blobs that its records refer to. An account
	// that is being moved here gets its records before its blobs.
	Incomplete func(ctx context.Context, did syntax.DID) (bool, error)
	// Others checks a host's data other than repositories. It calls wrong for each problem, with
	// the account if there is one. It runs only if all accounts are checked.
	Others func(ctx context.Context, wrong func(did syntax.DID, what string)) error
	// Database checks the structure below the store, in addition to a storage.Checker. An error
	// that matches storage.ErrCorrupt is a problem. It runs only if all accounts are checked.
	Database func(ctx context.Context) error
	// Now is the clock for judging revisions. Nil: time.Now.
	Now func() time.Time
}

// BlobLevel says how thoroughly blobs are checked.
type BlobLevel int

// Levels: read and hash, check for existence only, or skip.
const (
	ReadBlobs BlobLevel = iota
	FindBlobs
	NoBlobs
)

// Options says what to check. The zero value checks everything.
type Options struct {
	// Accounts, if not nil, limits the check to the repositories of these accounts.
	Accounts []syntax.DID
	// Blobs says how thoroughly blobs are checked.
	Blobs BlobLevel
	// AcceptMissing records missing blobs as lost permanently: they are no longer problems. The
	// records are in the host's namespace, under "lost-blob/".
	AcceptMissing bool
	// From, if not nil, returns copies of blobs, from which missing or damaged blobs are restored.
	// An error that matches storage.ErrNotFound or storage.ErrCorrupt means that it has no copy.
	From func(ctx context.Context, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error)
	// Strict also checks rules that may be broken legitimately: events are signed with the
	// account's present key; each commit in the log follows the one before it, and the last one
	// leads to the head; there is no commit of a missing repository; every promoted blob has a
	// record that refers to it. It suits a store without concurrent writes, imports and changed
	// keys. It needs some hundred bytes of memory for each account.
	Strict bool
	// Silent, with Strict, allows commits without an event.
	Silent bool
	// Progress, if not nil, is called with the number of repositories checked.
	Progress func(repositories int)
}

// Kind is the kind of a problem.
type Kind string

// The kinds of problems.
const (
	BadDatabase  Kind = "database"    // the structure below the store
	BadList      Kind = "list"        // the list of repositories
	BadRepo      Kind = "repository"  // it cannot be read
	BadKey       Kind = "key"         // there is no signing key, or it cannot be read
	BadCommit    Kind = "commit"      // the commit block, its signature, or the head
	BadTree      Kind = "tree"        // the records are not those that are signed
	BadRecord    Kind = "record"      // one record
	BadReference Kind = "reference"   // the index of blobs
	BadBlob      Kind = "blob"        // a blob's bytes
	LostBlob     Kind = "lostBlob"    // a blob that should be there is not
	NoBlobsThere Kind = "noBlobs"     // none of the blobs is there: see ErrNoBlobs
	UnusedBlob   Kind = "unusedBlob"  // no record refers to a permanent blob
	BadLog       Kind = "log"         // order and bounds of the log of events
	BadEvent     Kind = "event"       // one event
	BadAccount   Kind = "account"     // what Checker.Others finds
	FromOutside  Kind = "application" // what a host adds to a report: see Report.Add
)

// Problem is a fault.
type Problem struct {
	Kind Kind       `json:"kind"`
	DID  syntax.DID `json:"did,omitempty"` // of the account that it is about
	What string     `json:"what"`
}

func (p Problem) String() string {
	if p.DID == "" {
		return p.What
	}
	return string(p.DID) + ": " + p.What
}

// Report is the result of a check. Its lists have at most a thousand entries.
type Report struct {
	Accounts int   `json:"accounts"`
	Records  int   `json:"records"`
	Bytes    int64 `json:"recordBytes"`
	Blobs    int   `json:"blobs"`             // that are there and referred to
	PutBack  int   `json:"putBack,omitempty"` // of them, by Options.From
	Events   int   `json:"events"`
	// MissingBlobs counts blobs that are referred to and missing. Each is a problem, unless it is
	// excused: see [Checker.Excused].
	MissingBlobs int       `json:"missingBlobs"`
	LostBlobs    int       `json:"lostBlobs"` // of them, those that are a problem
	Missing      []Blob    `json:"missing,omitempty"`
	Problems     []Problem `json:"problems"` // empty: all is well
	Found        int       `json:"found"`    // problems in all
	// Ahead counts accounts with a revision from the future. The network ignores their writes,
	// although the data is sound.
	Ahead         int     `json:"ahead"`
	AheadAccounts []Ahead `json:"aheadAccounts,omitempty"`
}

// Ahead is an account whose revision is in the future.
type Ahead struct {
	DID syntax.DID `json:"did"`
	Rev syntax.TID `json:"rev"`
	// Until is when the network begins to accept later revisions.
	Until time.Time `json:"until"`
}

// Blob is a blob of an account.
type Blob struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
}

// maxListed bounds the lists of a report.
const maxListed = 1000

// Add adds a problem of an account, or of the whole store if did is empty.
func (r *Report) Add(kind Kind, did syntax.DID, format string, args ...any) {
	if r.Found++; len(r.Problems) < maxListed {
		r.Problems = append(r.Problems, Problem{kind, did, fmt.Sprintf(format, args...)})
	}
}

func (c Checker) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// IsAhead reports whether a revision is so far in the future that the network ignores it.
func (c Checker) IsAhead(rev syntax.TID) bool { return commit.Ahead(rev, c.now(), 0) > 0 }

func aheadAt(did syntax.DID, rev syntax.TID) Ahead {
	return Ahead{did, rev, rev.Time().Add(-commit.DefaultDrift)}
}

// Ahead returns the accounts whose revision is in the future. It examines only dids, or all
// accounts if dids is nil, and checks nothing else.
func (c Checker) Ahead(ctx context.Context, dids []syntax.DID) (list []Ahead, err error) {
	x := &run{Checker: c, opt: Options{Accounts: dids}}
	for info, err := range x.repos(ctx) {
		if err != nil {
			return nil, err
		}
		head, err := c.Store.Repos.Head(ctx, info.DID)
		if errors.Is(err, storage.ErrNotFound) && dids == nil {
			continue // deleted meanwhile
		} else if err != nil {
			return nil, err
		}
		if c.IsAhead(head.Rev) {
			list = append(list, aheadAt(info.DID, head.Rev))
		}
	}
	return list, nil
}

// Run checks a store. An error means that the check itself failed and ended early. What it found is
// in the report.
func (c Checker) Run(ctx context.Context, opt Options) (*Report, error) {
	x := &run{Checker: c, opt: opt, Report: &Report{Problems: []Problem{}}}
	if c.Store.Blobs == nil {
		x.opt.Blobs = NoBlobs
	}
	if opt.Strict {
		x.last = make(map[syntax.DID]commit.State)
	}
	return x.Report, x.run(ctx)
}

// Account checks the repository and the blobs of one account.
func (c Checker) Account(ctx context.Context, did syntax.DID, opt Options) (*Report, error) {
	opt.Accounts = []syntax.DID{did}
	return c.Run(ctx, opt)
}

// run is a check.
type run struct {
	Checker
	opt Options
	*Report
	accepted []string // keys that are not written yet
	// last is what the log says of accounts, with Strict. What is left at the end are the accounts
	// that have no repository.
	last map[syntax.DID]commit.State
}

// corrupt takes an error that says that data is damaged for a problem.
func (x *run) corrupt(err error, kind Kind) error {
	if errors.Is(err, storage.ErrCorrupt) {
		x.Add(kind, "", "%v", err)
		return nil
	}
	return err
}

func (x *run) run(ctx context.Context) error {
	whole := x.opt.Accounts == nil
	if whole && x.opt.Blobs != NoBlobs && !x.opt.AcceptMissing && x.opt.From == nil {
		if err := x.BlobsThere(ctx); errors.Is(err, ErrNoBlobs) {
			x.Add(NoBlobsThere, "", "%v", err)
		} else if err = x.corrupt(err, BadRepo); err != nil {
			return err
		}
	}
	if whole && x.Database != nil {
		if err := x.corrupt(x.Database(ctx), BadDatabase); err != nil {
			return err
		}
	}
	if whole {
		if err := x.engine(ctx, storage.Store{Repos: x.Store.Repos}, BadDatabase); err != nil {
			return err
		}
	}
	if x.opt.AcceptMissing {
		if err := x.forget(ctx); err != nil {
			return err
		}
	}
	// In a strict check, repositories are compared with what the log says.
	if whole && x.Store.Events != nil {
		if err := x.corrupt(x.events(ctx), BadLog); err != nil {
			return err
		}
	}
	if x.Store.Repos == nil {
		return nil
	}
	if err := x.corrupt(x.accounts(ctx), BadList); err != nil {
		return err
	}
	if err := x.accept(ctx); err != nil {
		return err
	}
	if !whole {
		return nil
	}
	if x.opt.Blobs != NoBlobs { // what was damaged may have been put back
		if err := x.engine(ctx, storage.Store{Blobs: x.Store.Blobs}, BadBlob); err != nil {
			return err
		}
	}
	for did := range x.last {
		x.Add(BadLog, did, "there are commits in the log, but no repository")
	}
	if x.Others == nil {
		return nil
	}
	return x.corrupt(x.Others(ctx, func(did syntax.DID, what string) { x.Add(BadAccount, did, "%s", what) }), BadAccount)
}

// engine asks a part of the store to check itself, if it can. The bytes of blobs are read
// elsewhere.
func (x *run) engine(ctx context.Context, s storage.Store, kind Kind) error {
	for p, err := range storage.Check(ctx, s, storage.CheckOptions{SkipBytes: true}) {
		if err != nil {
			return err
		}
		x.Add(kind, p.DID, "%s", p.What)
	}
	return nil
}

// repos are the accounts to check, with their heads where they are listed.
func (x *run) repos(ctx context.Context) iter.Seq2[storage.RepoInfo, error] {
	if x.opt.Accounts == nil {
		return x.Store.Repos.List(ctx, "")
	}
	return func(yield func(storage.RepoInfo, error) bool) {
		for _, did := range x.opt.Accounts {
			if !yield(storage.RepoInfo{DID: did}, nil) {
				return
			}
		}
	}
}

func (x *run) accounts(ctx context.Context) error {
	var last syntax.DID
	for info, err := range x.repos(ctx) {
		if err != nil {
			return err
		}
		if x.opt.Accounts == nil && info.DID <= last {
			x.Add(BadList, info.DID, "List yields it after %s", last)
		}
		last = info.DID
		if err := x.account(ctx, info); err != nil {
			return err
		}
		if x.Accounts++; x.opt.Progress != nil {
			x.opt.Progress(x.Accounts)
		}
	}
	return nil
}
