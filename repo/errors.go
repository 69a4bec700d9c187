package repo

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/diskfull"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The conditions that callers branch on, besides those of package storage.
// Test with errors.Is.
var (
	// ErrRepoNotFound: the host has no repository for the DID.
	ErrRepoNotFound = errors.New("repo: repository not found")
	// ErrRepoExists: Create found a repository.
	ErrRepoExists = errors.New("repo: repository already exists")
	// ErrRecordNotFound: there is no record at the path.
	ErrRecordNotFound = errors.New("repo: record not found")
	// ErrRecordExists: Create found a record at the path.
	ErrRecordExists = errors.New("repo: record already exists")
	// ErrBlobNotFound: a record refers to a blob that was not uploaded, or a
	// blob is asked for that no record refers to.
	ErrBlobNotFound = errors.New("repo: blob not found")
	// ErrInvalidSwap: the repository or the record is not in the state that the
	// caller named. The error is a *SwapError.
	ErrInvalidSwap = errors.New("repo: invalid swap")
	// ErrInvalidWrite: a Write has no Action of this package. The error says which
	// and where.
	ErrInvalidWrite = errors.New("repo: invalid write")
	// ErrInvalidBatch: an event that goes along has no known kind, belongs to no account, or
	// has a message that no subscriber could read; or a key-value pair has no key, or one that
	// is the host's. Nothing was written.
	ErrInvalidBatch = errors.New("repo: invalid batch")
	// ErrInvalidRecord: a record is not canonical DAG-CBOR, is too large, has another
	// $type than its collection (*TypeError), or its path is not valid. The error
	// says which and where.
	ErrInvalidRecord = errors.New("repo: invalid record")
	// ErrInvalidBlob: a record describes a blob other than it was uploaded.
	// The error is a *BlobError.
	ErrInvalidBlob = errors.New("repo: invalid blob reference")
	// ErrTooManyWrites: a batch exceeds the protocol's limits for one commit.
	ErrTooManyWrites = errors.New("repo: too many writes for one commit")
	// ErrClock: the host does not trust its clock (Config.CheckClock), so it signs
	// nothing. Nothing was written. The same call works once the clock is right.
	ErrClock = errors.New("repo: the clock cannot be trusted")
	// ErrBusy: there is no room at the moment, for temporary files (Config.SpoolBytes, or a full
	// disk) or for one more import (Config.Imports). Nothing was done. The caller may try again
	// later.
	ErrBusy error = busy{}
)

// busy is the type of ErrBusy. Its method Unavailable tells package xrpc that the failure is of
// this moment.
type busy struct{}

func (busy) Error() string     { return "repo: busy" }
func (busy) Unavailable() bool { return true }

// roomError gives an error of temporary files the meaning that it has for callers, if there was no
// room.
func roomError(err error) error {
	if errors.Is(err, spool.ErrFull) || diskfull.Is(err) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// Wrong use, which is a fault of the program.
var (
	errNoReader = errors.New("repo: there is no reader")
	errNoWriter = errors.New("repo: there is no writer")
)

// SwapError says what a compare-and-swap found. It matches ErrInvalidSwap.
type SwapError struct {
	Path    string  // of the record; empty: the repository's head commit
	Current cid.Cid // undefined: there is no record
}

func (e *SwapError) Error() string {
	what, now := "Commit", "null"
	if e.Path != "" {
		what = "Record"
	}
	if e.Current.Defined() {
		now = e.Current.String()
	}
	return fmt.Sprintf("%s was at %s", what, now)
}

// Is reports whether target is ErrInvalidSwap.
func (e *SwapError) Is(target error) bool { return target == ErrInvalidSwap }

// BlobError says how a record's description of a blob differs from the blob. It
// matches ErrInvalidBlob.
type BlobError struct {
	Ref        cid.Cid
	Field      string // "mimeType" or "size"
	Got, Have  string // in the record, and of the uploaded blob
	RecordPath string
}

func (e *BlobError) Error() string {
	return fmt.Sprintf("%s: the record gives %s %s for blob %s, which was uploaded with %s", e.RecordPath, e.Field, e.Got, e.Ref, e.Have)
}

// Is reports whether target is ErrInvalidBlob.
func (e *BlobError) Is(target error) bool { return target == ErrInvalidBlob }

// TypeError says that the $type of a record is not the collection it is written to, which would
// make it a record of another kind to every reader. It matches ErrInvalidRecord.
type TypeError struct {
	Path       string
	Collection syntax.NSID
	Type       string // of the record; empty: it has none
}

func (e *TypeError) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("repo: invalid record: %s: the record has no $type, expected %s", e.Path, e.Collection)
	}
	return fmt.Sprintf("repo: invalid record: %s: Invalid $type: expected %s, got %.320q", e.Path, e.Collection, e.Type)
}

// Is reports whether target is ErrInvalidRecord.
func (e *TypeError) Is(target error) bool { return target == ErrInvalidRecord }
