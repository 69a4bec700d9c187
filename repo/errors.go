package repo

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/diskfull"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Errors that callers branch on with errors.Is, besides those of package storage.
var (
	// ErrRepoNotFound: the host has no repository for the DID.
	ErrRepoNotFound = errors.New("repo: repository not found")
	// ErrRepoExists: Create found a repository.
	ErrRepoExists = errors.New("repo: repository already exists")
	// ErrRecordNotFound: there is no record at the path.
	ErrRecordNotFound = errors.New("repo: record not found")
	// ErrRecordExists: Create found a record at the path.
	ErrRecordExists = errors.New("repo: record already exists")
	// ErrBlobNotFound: a record refers to a blob that was not uploaded, or the requested blob has
	// no record that refers to it.
	ErrBlobNotFound = errors.New("repo: blob not found")
	// ErrUnusedBlobs: the account has as many blobs that no record refers to as it may have
	// (Config.UnusedBlobs). It is a storage.ErrQuota.
	ErrUnusedBlobs = fmt.Errorf("%w: too many blobs that no record refers to", storage.ErrQuota)
	// ErrInvalidSwap: the repository or the record is not in the state that the
	// caller named. The error is a *SwapError.
	ErrInvalidSwap = errors.New("repo: invalid swap")
	// ErrInvalidWrite: a Write has no Action of this package. The error says which
	// and where.
	ErrInvalidWrite = errors.New("repo: invalid write")
	// ErrInvalidBatch: an event has an unknown kind, belongs to no account, or has a message that
	// subscribers could not read; or a key-value pair has an empty or reserved key. Nothing was
	// written.
	ErrInvalidBatch = errors.New("repo: invalid batch")
	// ErrInvalidRecord: a record is not canonical DAG-CBOR, is too large, has a $type other than
	// its collection (*TypeError), or has an invalid path. The error names the record and the
	// reason.
	ErrInvalidRecord = errors.New("repo: invalid record")
	// ErrInvalidBlob: a record's reference gives another size or MIME type than the blob has. The
	// error is a *BlobError.
	ErrInvalidBlob = errors.New("repo: invalid blob reference")
	// ErrTooManyWrites: a batch exceeds the protocol's limits for one commit.
	ErrTooManyWrites = errors.New("repo: too many writes for one commit")
	// ErrClock: Config.CheckClock does not trust the clock, so nothing was signed or written. Retry
	// when the clock is right.
	ErrClock = errors.New("repo: the clock cannot be trusted")
	// ErrBusy: there is no room for temporary files (Config.SpoolBytes, or a full disk) or for
	// another import (Config.Imports). Nothing was done. Retry later.
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

// Errors of wrong use: a fault of the program.
var (
	errNoReader = errors.New("repo: there is no reader")
	errNoWriter = errors.New("repo: there is no writer")
)

// SwapError is a failed compare-and-swap, with what was found. It matches [ErrInvalidSwap].
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

// TypeError says that the $type of a record differs from its collection. Readers would take it for
// a record of another kind. It matches [ErrInvalidRecord].
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
