package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// The conditions that callers branch on. Backends wrap them with detail; test
// with errors.Is.
var (
	// ErrNotFound: the repository, record, blob or key does not exist.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists: a repository is created that already exists.
	ErrExists = errors.New("storage: already exists")
	// ErrConflict: the stored head, or a checked value, is not what the caller
	// expected. Nothing was written. The caller may re-read and try again.
	ErrConflict = errors.New("storage: conflict")
	// ErrCorrupt: stored data contradicts itself. Never returned for a missing item.
	ErrCorrupt = errors.New("storage: corrupt")
	// ErrTooLarge: a blob is longer than the caller allowed.
	ErrTooLarge = errors.New("storage: too large")
	// ErrQuota: with a blob, the blobs of its account would be longer together than the caller
	// allowed.
	ErrQuota = errors.New("storage: quota exceeded")
	// ErrBusy: the store has waited too long for a connection or another scarce thing. Nothing was
	// done. The caller may try again later.
	ErrBusy error = passing("storage: busy")
	// ErrFull: the disk, or the share of it that the process may use, is full. What is stored can
	// still be read, and writes succeed once there is room again. For what became of the write that
	// failed, see Repos.Apply.
	ErrFull error = passing("storage: the disk is full")
)

// passing is an error whose method Unavailable tells package xrpc that the failure is of this
// moment.
type passing string

func (e passing) Error() string   { return string(e) }
func (passing) Unavailable() bool { return true }

// Store is the set of the four stores that a host needs. They may come from one
// backend or from several (blobs on disk, all else in a database).
type Store struct {
	Repos  Repos
	Events Events
	Blobs  Blobs
	KV     KV
}

// Head identifies one state of a repository. Heads are comparable with ==; the
// zero Head means "no repository", or an account that has none yet: see Change.
type Head struct {
	Commit cid.Cid    // CID of the signed commit block
	Data   cid.Cid    // root of the tree
	Rev    syntax.TID // revision of the commit
}

// Record is one record of a repository.
type Record struct {
	Path string     // collection "/" record key
	CID  cid.Cid    // of Data
	Data []byte     // DAG-CBOR; nil where only keys were asked for
	Rev  syntax.TID // of the commit that last wrote the record
}

// RecordChange is the net effect of a step on one path.
type RecordChange struct {
	Path  string
	CID   cid.Cid   // undefined: the record is deleted
	Data  []byte    // DAG-CBOR of the new record
	Blobs []cid.Cid // the blobs that the new record refers to; replaces those of the old one
}

// Cost estimates how many bytes a backend writes for the new record: its data, and its path with a
// CID for the record, for the index by CID, and for each reference to a blob and the index of that.
func (c *RecordChange) Cost() int64 {
	const cid = 36
	return int64(len(c.Data)) + 2*int64(len(c.Path)+cid)*int64(1+len(c.Blobs))
}

// KVWrite sets (or, with a nil Value, deletes) a key in an account's namespace.
type KVWrite struct {
	Key     string
	Value   []byte
	Expires time.Time // zero: never
}

// KVCheck is a precondition on a key in an account's namespace: it must hold
// exactly Value, or be absent where Value is nil.
type KVCheck struct {
	Key   string
	Value []byte
}

// Event is an entry of the event log that all repositories of a store share.
type Event struct {
	Seq     int64 // assigned by the store; 0 before
	DID     syntax.DID
	Kind    string    // frame type: "#commit", "#sync", "#identity", "#account"
	Time    time.Time // when the host made the event (millisecond precision is kept)
	Payload []byte    // DAG-CBOR map of the message, without "seq"
	// Weight is how many consecutive sequence numbers the event takes, of which Seq is the last: so
	// a view that shows each operation of a commit by itself has a number for each, and a reader
	// who has seen only some of them, and goes on after that number, gets the whole event again.
	// 0 means 1; the greatest is MaxWeight. Events that are read have at least 1.
	Weight int
}

// Change is one atomic step of one repository: everything in it takes effect, or
// nothing does.
//
// # Accounts without a head
//
// With neither Prev nor Head, a change is about an account that has no repository: a relay hears of
// accounts before their first commit. It has key-value writes, events, or both, and may have
// checks. The account is there from then on, until Repos.Delete: Repos.List yields it, with the
// zero Head; Repos.View shows its keys, with the zero Head, no records, and ErrNotFound for the
// commit; Repos.Head gives ErrNotFound, as it has none. A change with a zero Prev and a Head gives
// it a repository, and leaves its keys as they are. A host of repositories makes no such changes,
// and has no such accounts.
type Change struct {
	// Prev must equal the stored head, else ErrConflict. Zero, with a Head, creates the
	// repository (ErrExists if there is one). If there is no repository and Prev is
	// not zero, the error is ErrNotFound, or ErrConflict if there is an account without a head.
	Prev Head
	// Head is the new head. Equal to Prev, the step changes no record: it carries only key-value
	// writes and events. A head cannot be taken away but by Repos.Delete (ErrInvalid).
	Head Head
	// Commit is the signed commit block of Head, needed where Head differs from Prev.
	Commit []byte
	// Records are the net changes, in strictly increasing path order.
	Records []RecordChange
	// Events are appended to the log in this order.
	Events []Event
	// Checks are verified before anything is written, else ErrConflict.
	Checks []KVCheck
	// KV are writes in the account's own namespace, in order.
	KV []KVWrite
}

// Repos holds the repositories. See the package comment for the laws that all
// methods keep. All methods but those that create a repository return ErrNotFound if there is none.
// For accounts without a head see Change.
type Repos interface {
	// Head returns the head of a repository, or ErrNotFound.
	Head(ctx context.Context, did syntax.DID) (Head, error)

	// Apply carries out one step and returns the sequence number of its last event (0 if it has
	// none). A change that contradicts itself gives ErrInvalid. When it returns nil, the step is
	// durable and visible; when it returns an error, nothing of it is, save where the error is the
	// context's or an I/O error at the moment of commit: then the caller must re-read the head to
	// know (and again if the process ends before another step has succeeded, when what could not be
	// flushed may be on disk all the same).
	Apply(ctx context.Context, did syntax.DID, c *Change) (seq int64, err error)

	// Replace is Apply for a whole new set of records, given as a stream in strictly increasing
	// path order: what is not in the stream is removed. When the stream has ended, final is called
	// once for the rest of the step; its Change must have a Head and no Records (else ErrInvalid).
	// The bytes of a record are read before the next one is asked for.
	//
	// Nobody sees any of the new records before the step, and all of them after it. Until then a
	// backend may stage them, in transactions of a bounded size, so that other calls wait for no
	// more than one of those, however long the stream is. It keeps a few megabytes of the records
	// in memory at most (a store in memory keeps them all). What a call that failed, or a process
	// that died, has staged is never seen. It is deleted later, by calls that a host makes anyway:
	// further steps of the account, or Trim.
	//
	// The Prev and the Checks of the Change are compared when final has returned. So a step that
	// others carried out on the repository while the records came is a conflict (ErrConflict;
	// ErrExists or ErrNotFound if they made or deleted it), and is not lost.
	//
	// Replace holds nothing while it waits for a record or for final: both may call any method.
	Replace(ctx context.Context, did syntax.DID, records iter.Seq2[RecordChange, error], final func() (*Change, error)) (seq int64, err error)

	// View calls fn with a consistent snapshot of one repository. The Reader is
	// valid until fn returns, for one goroutine. View returns fn's error.
	//
	// fn may call any method of the store, those that write and View too. Such a call sees and
	// changes the present state, not the snapshot. A backend with a bounded number of readers
	// fails with ErrBusy rather than let nested calls wait for each other for good.
	View(ctx context.Context, did syntax.DID, fn func(Reader) error) error

	// Delete removes a repository, or an account without a head, with its records, blob references
	// and key-value namespace, makes its earlier events unreadable, and appends events, all in one
	// step. Blobs' bytes are deleted separately.
	Delete(ctx context.Context, did syntax.DID, events []Event) (seq int64, err error)

	// List yields all repositories with a DID greater than after, in DID order, and among
	// them accounts without a head. It need not be one snapshot.
	List(ctx context.Context, after syntax.DID) iter.Seq2[RepoInfo, error]
}

// RepoInfo is an entry of Repos.List.
type RepoInfo struct {
	DID  syntax.DID
	Head Head // zero: an account without a head
}

// Range selects records (or keys) by path.
type Range struct {
	From     string // inclusive; empty: from the start
	To       string // exclusive; empty: to the end
	Reverse  bool   // from the end towards the start
	KeysOnly bool   // leave Data nil
}

// Reader reads one snapshot of one repository.
type Reader interface {
	// Head returns the head of the snapshot, zero for an account without one.
	Head() Head
	// Commit returns the signed commit block of the head, or ErrNotFound if there is none.
	Commit(ctx context.Context) ([]byte, error)
	// Record returns the record at path, or ErrNotFound.
	Record(ctx context.Context, path string) (Record, error)
	// RecordByCID returns a record whose block has the CID, or ErrNotFound.
	RecordByCID(ctx context.Context, c cid.Cid) (Record, error)
	// Records yields the records of a range in path order.
	Records(ctx context.Context, r Range) iter.Seq2[Record, error]
	// RecordsSince yields the records last written in a revision greater than
	// rev, in no particular order.
	RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[Record, error]
	// BlobRefs yields references to blobs in the order of (Blob's binary CID,
	// path), from after (exclusive; undefined: from the start), of records
	// last written in a revision greater than since (empty: all).
	BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[BlobRef, error]
	// HasBlobRef reports whether any record refers to the blob.
	HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error)
	// Get returns a value of the account's namespace, or ErrNotFound. Expired
	// keys are not found.
	Get(ctx context.Context, key string) ([]byte, error)
	// Keys yields key-value pairs of the account's namespace in key order.
	Keys(ctx context.Context, r Range) iter.Seq2[KVPair, error]
}

// BlobRef is one record's reference to one blob.
type BlobRef struct {
	Blob cid.Cid
	Path string
	Rev  syntax.TID // of the record
}

// Events reads the log that Repos writes.
type Events interface {
	// Since yields the events with a sequence number greater than seq, in
	// ascending order, up to the newest one that was visible at the call. A
	// reader that has seen n never sees a number ≤ n appear later.
	Since(ctx context.Context, seq int64) iter.Seq2[Event, error]
	// Bounds returns what the log spans: oldest is the number after the last one of the
	// newest event that Trim deleted (1 if it deleted none), so that a reader who
	// has seen oldest-1 misses nothing; newest is the greatest number ever assigned
	// (0 if none was).
	Bounds(ctx context.Context) (oldest, newest int64, err error)
	// Wait returns nil as soon as an event newer than seq is visible, or the
	// context's error.
	Wait(ctx context.Context, seq int64) error
	// Trim deletes the events made before t. It changes oldest in Bounds, never
	// newest.
	Trim(ctx context.Context, t time.Time) error
}

// BlobInfo describes a stored blob.
type BlobInfo struct {
	CID     cid.Cid // raw codec, SHA-256
	Size    int64
	MIME    string
	Created time.Time
}

// BlobLimits bounds what Blobs.Stage keeps. The zero value has no limits.
type BlobLimits struct {
	// Size is how many bytes the blob may have. 0: no limit.
	Size int64
	// Quota is how many bytes all blobs of the account may have together, staged and promoted, with
	// this one. 0: no limit.
	Quota int64
}

// Blobs holds the bytes of blobs, per account. A blob is first staged, and promoted before the
// record that refers to it is applied. Both operations are idempotent: the same bytes may be staged
// again.
type Blobs interface {
	// Stage reads r to its end, hashing while it writes, and keeps the blob as
	// staged (or as it was, if it is there already, with a fresh age). A blob that is longer than
	// limits.Size gives ErrTooLarge. One that is not there yet, and that would bring the account
	// above limits.Quota, gives ErrQuota: whatever else is staged at the same time, the account
	// stays below. A call that fails leaves nothing and takes up no quota.
	Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits BlobLimits) (BlobInfo, error)
	// Usage returns how many bytes the account's blobs have together, staged and promoted. It may
	// cost as much as to list them; a store remembers it, so that Stage with a quota does not each
	// time.
	Usage(ctx context.Context, did syntax.DID) (int64, error)
	// Stat returns a blob, staged or promoted, or ErrNotFound.
	Stat(ctx context.Context, did syntax.DID, c cid.Cid) (info BlobInfo, promoted bool, err error)
	// SetMIME changes the media type of a blob, staged or promoted, and nothing else of it, or
	// returns ErrNotFound. The caller sees to it that no record refers to the blob meanwhile.
	SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error
	// Promote makes a blob permanent: Collect leaves it alone from now on.
	Promote(ctx context.Context, did syntax.DID, c cid.Cid) error
	// Open opens a blob for reading. The caller closes it.
	Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, BlobInfo, error)
	// Delete removes a blob; a missing one is no error.
	Delete(ctx context.Context, did syntax.DID, c cid.Cid) error
	// DeleteAll removes all blobs of an account.
	DeleteAll(ctx context.Context, did syntax.DID) error
	// List yields an account's promoted blobs, ordered by binary CID, after after.
	List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[BlobInfo, error]
	// Collect deletes the blobs that were last staged before t and never promoted.
	Collect(ctx context.Context, t time.Time) (deleted int, err error)
}

// StagedBlobs is an ability that Blobs may have: it lists blobs that are not promoted. Test for it
// by type assertion.
type StagedBlobs interface {
	// Staged yields an account's staged blobs, in no particular order. Blobs that come or go
	// meanwhile may or may not show.
	Staged(ctx context.Context, did syntax.DID) iter.Seq2[BlobInfo, error]
}

// KV is an ordered key-value store for everything that belongs to no single
// repository: reserved names, invites, sessions' indexes. Keys are non-empty
// strings in byte order; by convention "namespace/…".
type KV interface {
	// Read calls fn with a consistent snapshot. What fn may call is as for Repos.View.
	Read(ctx context.Context, fn func(KVReader) error) error
	// Write calls fn in a serialisable transaction, which commits if fn returns
	// nil and is durable when Write does. fn may be called more than once.
	//
	// fn must call no other method of the store than those of its KVTx. One that writes, called
	// in it, waits for fn itself, and so until its context ends: it then returns the context's
	// error, and the transaction can go on.
	Write(ctx context.Context, fn func(KVTx) error) error
}

// KVReader reads a snapshot. It is valid until the function it was passed to returns.
type KVReader interface {
	// Get returns the value of a key, or ErrNotFound. Expired keys are not found.
	Get(ctx context.Context, key string) ([]byte, error)
	// Keys yields pairs in key order.
	Keys(ctx context.Context, r Range) iter.Seq2[KVPair, error]
}

// KVTx reads its own writes.
type KVTx interface {
	KVReader
	// Set stores a value; a zero expires means that it is kept for good.
	Set(ctx context.Context, key string, value []byte, expires time.Time) error
	// Delete removes a key; a missing one is no error.
	Delete(ctx context.Context, key string) error
}

// KVPair is one key with its value.
type KVPair struct {
	Key     string
	Value   []byte
	Expires time.Time
}
