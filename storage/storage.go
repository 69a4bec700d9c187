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

// Errors that callers branch on. Backends wrap them with detail; test with errors.Is.
var (
	// ErrNotFound: the repository, record, blob or key does not exist.
	ErrNotFound = errors.New("storage: not found")
	// ErrExists: a repository is created that already exists.
	ErrExists = errors.New("storage: already exists")
	// ErrConflict: the stored head, or a checked value, differs from what the caller expected.
	// Nothing was written. The caller may read again and retry.
	ErrConflict = errors.New("storage: conflict")
	// ErrCorrupt: stored data contradicts itself. It is never returned for a missing item.
	ErrCorrupt = errors.New("storage: corrupt")
	// ErrTooLarge: a blob is longer than the caller allowed.
	ErrTooLarge = errors.New("storage: too large")
	// ErrQuota: the blobs of the account would exceed the limit that the caller gave.
	ErrQuota = errors.New("storage: quota exceeded")
	// ErrBusy: the call has waited too long for a connection or another limited resource. Nothing
	// was done. Retry later.
	ErrBusy error = temporaryError("storage: busy")
	// ErrFull: the disk, or the part of it that the process may use, is full. Stored data can still
	// be read. Writes succeed again once there is room. Repos.Apply says what is known about the
	// write that failed.
	ErrFull error = temporaryError("storage: the disk is full")
)

// temporaryError is an error whose method Unavailable tells package xrpc that the failure is of
// this moment.
type temporaryError string

func (e temporaryError) Error() string   { return string(e) }
func (temporaryError) Unavailable() bool { return true }

// Store combines the four interfaces that a host needs. They may come from one backend or from
// several (blobs on disk, everything else in a database).
type Store struct {
	Repos  Repos
	Events Events
	Blobs  Blobs
	KV     KV
}

// Head identifies one state of a repository. Heads are comparable with ==. The zero Head means that
// there is no repository, or that the account has no head yet: see Change.
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

// RecordChange is the net effect of a change on one path.
type RecordChange struct {
	Path  string
	CID   cid.Cid   // undefined: the record is deleted
	Data  []byte    // DAG-CBOR of the new record
	Blobs []cid.Cid // the blobs that the new record refers to; replaces those of the old one
}

// Cost estimates how many bytes a backend writes for the new record: its data, and its path and a
// CID in each of these: the record, the index by CID, and each reference to a blob with the index
// of references.
func (c *RecordChange) Cost() int64 {
	const cid = 36
	return int64(len(c.Data)) + 2*int64(len(c.Path)+cid)*int64(1+len(c.Blobs))
}

// KVWrite sets a key in an account's namespace or, with a nil Value, deletes it.
type KVWrite struct {
	Key     string
	Value   []byte
	Expires time.Time // zero: never
}

// KVCheck is a precondition on a key in an account's namespace: its value must be Value, or the key
// must be absent if Value is nil.
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
	// Weight is how many consecutive sequence numbers the event takes; Seq is the last of them. So
	// a view that shows the operations of a commit singly has a number for each. A reader that has
	// seen some of them, and continues after the last of those, gets the whole event again. 0 means
	// 1; the maximum is MaxWeight. Events that are read have at least 1.
	Weight int
}

// Change is one atomic change of one repository: everything in it takes effect, or nothing does.
//
// # Accounts without a head
//
// A change with neither Prev nor Head is about an account that has no repository. A relay needs
// such accounts, because it hears of an account before its first commit. The change has key-value
// writes or events, and may have checks. It creates the account if there is none. The account
// exists until Repos.Delete:
//
//   - Repos.List yields it, with the zero Head.
//   - Repos.View shows its keys, the zero Head, no records, and ErrNotFound for the commit.
//   - Repos.Head returns ErrNotFound.
//
// A change with a zero Prev and a Head gives the account a repository, and keeps its keys. A PDS
// makes no such changes, and has no such accounts.
type Change struct {
	// Prev must equal the stored head; otherwise the error is ErrConflict. A zero Prev with a Head
	// creates the repository; if there is one already, the error is ErrExists. If Prev is not zero
	// and there is no repository, the error is ErrNotFound, or ErrConflict for an account without a
	// head.
	Prev Head
	// Head is the new head. If it equals Prev, the change has no records, only key-value writes and
	// events. A head cannot become zero, except by Repos.Delete (ErrInvalid).
	Head Head
	// Commit is the signed commit block of Head. It is required if Head differs from Prev.
	Commit []byte
	// Records are the net changes, in strictly increasing path order.
	Records []RecordChange
	// Events are appended to the log in this order.
	Events []Event
	// Checks are compared before anything is written. If one fails, the error is ErrConflict.
	Checks []KVCheck
	// KV are writes in the account's own namespace, in order.
	KV []KVWrite
}

// Repos holds the repositories. The package comment has the laws for all methods. All methods
// except those that create a repository return ErrNotFound if there is none. For accounts without a
// head see Change.
type Repos interface {
	// Head returns the head of a repository, or ErrNotFound.
	Head(ctx context.Context, did syntax.DID) (Head, error)

	// Apply carries out one change, and returns the sequence number of its last event, or 0 if it
	// has none. If it returns nil, the change is durable and visible. If it returns an error,
	// nothing was changed, with one exception: after an error of the context, or an I/O error at
	// the moment of the commit, the outcome is unknown. Then read the head again. If the process
	// ends before another change of the store has succeeded, read it once more after the restart,
	// because data that could not be flushed may have reached the disk nevertheless. A change that
	// contradicts itself gives ErrInvalid.
	Apply(ctx context.Context, did syntax.DID, c *Change) (seq int64, err error)

	// Replace is Apply for a complete new set of records, given as a stream in strictly increasing
	// path order. Records that are not in the stream are removed. After the end of the stream,
	// final is called once, and returns the rest of the change; it must have a Head and no Records
	// (otherwise ErrInvalid). The bytes of a record are read before the next record is requested.
	//
	// Readers see either none of the new records or all of them. Until the change takes effect, a
	// backend may stage records in transactions of bounded size, so other calls wait for at most
	// one of those. It keeps at most a few megabytes of records in memory (a store in memory keeps
	// them all). Records staged by a call that failed, or by a process that died, are never
	// visible. Later changes of the account, or Trim, delete them.
	//
	// Prev and Checks of the Change are compared after final has returned. So if others have
	// changed the repository during the stream, the error is ErrConflict (ErrExists or ErrNotFound
	// if they created or deleted it), and their change is not lost.
	//
	// Replace holds no lock while it waits for a record or for final. Both may call any method.
	Replace(ctx context.Context, did syntax.DID, records iter.Seq2[RecordChange, error], final func() (*Change, error)) (seq int64, err error)

	// View calls fn with a consistent snapshot of one repository, and returns fn's error. The
	// Reader is valid until fn returns, and is for one goroutine.
	//
	// fn may call any method of the store, including those that write and View itself. Such a call
	// reads and changes the present state, not the snapshot. If a backend has a bounded number of
	// readers, nested calls fail with ErrBusy after some time, rather than wait for each other
	// forever.
	View(ctx context.Context, did syntax.DID, fn func(Reader) error) error

	// Delete removes a repository, or an account without a head, with its records, blob references
	// and key-value namespace. It makes the account's earlier events unreadable and appends events,
	// all in one atomic change. The bytes of blobs are deleted separately.
	Delete(ctx context.Context, did syntax.DID, events []Event) (seq int64, err error)

	// List yields all repositories, and accounts without a head, whose DID is greater than after,
	// in DID order. It need not be one snapshot.
	List(ctx context.Context, after syntax.DID) iter.Seq2[RepoInfo, error]
}

// RepoInfo is an entry of Repos.List.
type RepoInfo struct {
	DID  syntax.DID
	Head Head // zero: an account without a head
}

// Range selects records by path, or keys.
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
	// RecordsSince yields the records that were last written in a revision greater than rev, in any
	// order.
	RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[Record, error]
	// BlobRefs yields references to blobs in the order of the blob's binary CID and then the path.
	// It yields only CIDs greater than after (undefined: all), of records that were last written in
	// a revision greater than since (empty: all).
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
	// Since yields the events with a sequence number greater than seq, in ascending order, up to
	// the newest one that was visible at the call. A reader that has seen n never sees a number ≤ n
	// appear later.
	Since(ctx context.Context, seq int64) iter.Seq2[Event, error]
	// Bounds returns the span of the log. oldest is one more than the last number of the newest
	// event that Trim deleted, or 1 if it deleted none: a reader that has seen oldest-1 misses
	// nothing. newest is the greatest number ever assigned, or 0.
	Bounds(ctx context.Context) (oldest, newest int64, err error)
	// Wait returns nil as soon as an event with a number greater than seq is visible, or else the
	// context's error.
	Wait(ctx context.Context, seq int64) error
	// Trim deletes the events that were made before t. It raises oldest of Bounds, and never
	// changes newest.
	Trim(ctx context.Context, t time.Time) error
}

// BlobInfo describes a stored blob.
type BlobInfo struct {
	CID     cid.Cid // raw codec, SHA-256
	Size    int64
	MIME    string
	Created time.Time
}

// BlobLimits are limits for Blobs.Stage. The zero value has no limits.
type BlobLimits struct {
	// Size is the maximum size of the blob in bytes. 0: no limit.
	Size int64
	// Quota is the maximum size in bytes of all blobs of the account together, staged and promoted,
	// including this one. 0: no limit.
	Quota int64
}

// Blobs holds the bytes of blobs, for each account. A blob is first staged, and promoted before the
// record that refers to it is applied. Both operations are idempotent.
type Blobs interface {
	// Stage reads r to its end, hashes and writes it, and keeps the blob as staged. If the blob is
	// already there, staged or promoted, it stays so, and its age begins anew. A blob longer than
	// limits.Size gives ErrTooLarge. A new blob that would bring the account above limits.Quota
	// gives ErrQuota, whatever is staged concurrently. A call that fails leaves nothing, and uses
	// no quota.
	Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits BlobLimits) (BlobInfo, error)
	// Usage returns the total bytes of the account's blobs, staged and promoted. The first call may
	// cost as much as listing them. A store then remembers the result, so that Stage with a quota
	// stays cheap.
	Usage(ctx context.Context, did syntax.DID) (int64, error)
	// Stat returns a blob, staged or promoted, or ErrNotFound.
	Stat(ctx context.Context, did syntax.DID, c cid.Cid) (info BlobInfo, promoted bool, err error)
	// SetMIME changes the media type of a blob, staged or promoted, or returns ErrNotFound. The
	// caller must ensure that no record refers to the blob meanwhile.
	SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error
	// Promote makes a blob permanent: Collect no longer deletes it.
	Promote(ctx context.Context, did syntax.DID, c cid.Cid) error
	// Open opens a blob for reading. The caller closes it.
	Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, BlobInfo, error)
	// Delete removes a blob. A missing one is not an error.
	Delete(ctx context.Context, did syntax.DID, c cid.Cid) error
	// DeleteAll removes all blobs of an account.
	DeleteAll(ctx context.Context, did syntax.DID) error
	// List yields an account's promoted blobs in the order of binary CIDs, from the first CID
	// greater than after.
	List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[BlobInfo, error]
	// Collect deletes the blobs that were last staged before t and were never promoted.
	Collect(ctx context.Context, t time.Time) (deleted int, err error)
}

// StagedBlobs is an optional interface of [Blobs]: it lists blobs that are not promoted. Test for
// it by type assertion.
type StagedBlobs interface {
	// Staged yields an account's staged blobs in any order. Blobs that are added or removed
	// meanwhile may or may not be listed.
	Staged(ctx context.Context, did syntax.DID) iter.Seq2[BlobInfo, error]
}

// KV is an ordered key-value store for everything that does not belong to a single repository:
// reserved names, invite codes, indexes of sessions. Keys are non-empty strings in byte order; by
// convention "namespace/…".
type KV interface {
	// Read calls fn with a consistent snapshot. fn may call what the function of Repos.View may
	// call.
	Read(ctx context.Context, fn func(KVReader) error) error
	// Write calls fn in a serializable transaction, which commits if fn returns nil. It is durable
	// when Write returns. fn may be called more than once.
	//
	// fn must call no methods of the store but those of its KVTx. If fn calls another method that
	// writes, that method waits for the transaction of fn itself. It waits until its context ends,
	// and returns the context's error; then the transaction can continue.
	Write(ctx context.Context, fn func(KVTx) error) error
}

// KVReader reads a snapshot. It is valid until the function it was passed to returns.
type KVReader interface {
	// Get returns the value of a key, or ErrNotFound. Expired keys are not found.
	Get(ctx context.Context, key string) ([]byte, error)
	// Keys yields pairs in key order.
	Keys(ctx context.Context, r Range) iter.Seq2[KVPair, error]
}

// KVTx is a transaction. It reads its own writes.
type KVTx interface {
	KVReader
	// Set stores a value. A zero expires means that it does not expire.
	Set(ctx context.Context, key string, value []byte, expires time.Time) error
	// Delete removes a key. A missing one is not an error.
	Delete(ctx context.Context, key string) error
}

// KVPair is one key with its value.
type KVPair struct {
	Key     string
	Value   []byte
	Expires time.Time
}
