package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/platform"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a Host. Store and Signer are required.
type Config struct {
	// Store holds all data. Its Repos and Blobs are required.
	Store storage.Store
	// Signer returns the signing key of an account. It is called for every commit, so it should
	// usually answer from memory. A host that only reads may return an error. If the key is a
	// [StoredSigner], each commit has as a precondition that the store still has it.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// Stale, if not nil, is called when something that was read for a commit, such as a
	// StoredSigner, may differ from what is stored, since another process may have changed it.
	Stale func(did syntax.DID)
	// CacheBytes bounds the memory of cached trees: about 110 bytes a record, and 4 to 12 KB an
	// account. 0 means 128 MiB, or 8 MiB on WebAssembly. A tree larger than the whole bound is
	// cached too, but only the last such tree, until it was unused for a minute.
	CacheBytes int64
	// TempDir is the folder for spool files of imports and of exports to slow readers. Use it for
	// nothing else: spool files that a killed process left are removed. Empty means the system's
	// default. On WebAssembly, where there may be no files, empty means that exports wait for their
	// readers and imports are kept in memory.
	TempDir string
	// Temp, if not nil, replaces TempDir on platforms that have no files but some other storage:
	// see [car.TempFile]. A file that cannot be made or written counts as a lack of room.
	Temp car.Temp
	// WaitForReaders makes exports wait for slow readers instead of spooling. The snapshot stays
	// open meanwhile, as long as the reader takes at least half a MiB in half a minute. It suits
	// stores whose open snapshots cost little and block nobody, such as storage/durable. Without
	// files (see TempDir), exports always work like this.
	WaitForReaders bool
	// SpoolBytes bounds the total size of all spool files, including the block indexes of imports.
	// One file may use half of it. An export without room continues at the pace of its reader for
	// half a minute and then fails with [ErrBusy]. An import without room fails at once. 0 means 2
	// GiB, or 32 MiB if the files are in memory. Negative means no bound.
	SpoolBytes int64
	// Hold, if not nil, is called before n more bytes of an export are spooled, and with a negative
	// n when they are removed. An error means that there is no room. Use it for quotas by client:
	// see limit.Hold.
	Hold func(ctx context.Context, n int64) error
	// BlobQuota, if not nil, returns the limit on the total bytes of an account's blobs, used and
	// unused; 0 means no limit. UploadBlob fails with [storage.ErrQuota] if a new blob would exceed
	// it.
	BlobQuota func(ctx context.Context, did syntax.DID) (int64, error)
	// UnusedBlobs, if not nil, returns the limit on the number of an account's blobs that no record
	// refers to; 0 means no limit. UploadBlob fails with [ErrUnusedBlobs] if a new blob would exceed
	// it. It needs a blob store that is a [storage.StagedBlobs].
	UnusedBlobs func(ctx context.Context, did syntax.DID) (int, error)
	// Imports bounds how many imports are processed at once. Imports that are still uploading do
	// not count. 0 means 2.
	Imports int
	// ImportWait bounds how long an import waits for another import of the same account and for a
	// place among Imports. 0 means one minute.
	ImportWait time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Indexes are kept for every account. NewHost panics if one is not valid: see [Index].
	Indexes []Index
	// CheckClock, if not nil, is called before each signature and returns an error if Now cannot be
	// trusted. The write then fails with that error, wrapped in [ErrClock]. If the clock were
	// ahead, revisions would lie in the future, and the network would ignore the account's writes
	// until that time comes: see package timecheck.
	CheckClock func(ctx context.Context) error
}

// Validate returns an error that names what is missing.
func (c Config) Validate() error {
	switch {
	case c.Store.Repos == nil:
		return errors.New("repo: Config.Store.Repos is missing")
	case c.Store.Blobs == nil:
		return errors.New("repo: Config.Store.Blobs is missing")
	case c.Signer == nil:
		return errors.New("repo: Config.Signer is missing")
	}
	return nil
}

// A Host reads and writes repositories. It is safe for concurrent use.
type Host struct {
	store      storage.Store
	signer     func(context.Context, syntax.DID) (crypto.Signer, error)
	stale      func(syntax.DID) // nil: nobody is told
	now        func() time.Time
	checkClock func(context.Context) error
	spool      *spool.Dir
	wait       bool // exports wait for readers
	hold       func(context.Context, int64) error
	quota      func(context.Context, syntax.DID) (int64, error)
	unused     func(context.Context, syntax.DID) (int, error)
	locks      keyedLocks // of writers
	turns      keyedLocks // see Turn
	builds     builds
	scans      chan struct{} // has room for maxScans: see export
	cache      treeCache
	clock      uint            // identifier in revisions
	keys       syntax.TIDClock // of record keys

	indexes indexSet
	imports importQueue
}

// keyLead is how far record keys may run ahead of the clock. Many keys made at once get there, or a
// clock that has gone back a little; after a larger step back, keys follow the clock again.
const keyLead = time.Minute

// NewHost returns a host over a store. It panics if [Config.Validate] returns an error.
func NewHost(cfg Config) *Host {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	h := &Host{
		store: cfg.Store, signer: cfg.Signer, stale: cfg.Stale, now: cfg.Now, checkClock: cfg.CheckClock, hold: cfg.Hold, quota: cfg.BlobQuota, unused: cfg.UnusedBlobs,
		clock: rand.UintN(1024), indexes: newIndexSet(cfg.Indexes),
	}
	h.spool = spoolOf(&cfg)
	h.wait = cfg.WaitForReaders || h.spool.Memory()
	_ = h.spool.Clean() // what stays costs only its room
	h.builds.init()
	h.scans = make(chan struct{}, maxScans())
	if h.now == nil {
		h.now = time.Now
	}
	h.keys.Now, h.keys.MaxLead = h.now, keyLead
	h.cache.limit = cfg.CacheBytes
	if h.cache.limit == 0 {
		h.cache.limit = platform.Default[int64](128<<20, 8<<20)
	}
	if cfg.Imports <= 0 {
		cfg.Imports = 2
	}
	if cfg.ImportWait <= 0 {
		cfg.ImportWait = time.Minute
	}
	h.imports.slots, h.imports.wait = make(chan struct{}, cfg.Imports), cfg.ImportWait
	return h
}

// Store returns the store that the host was made with.
func (h *Host) Store() storage.Store { return h.store }

// NextRecordKey returns a new record key of type "tid" that no other call returns. The keys of all
// accounts come from one sequence, which only the host's clock moves, not the revisions of accounts
// or the keys that clients choose. Keys ascend, with one exception: if the clock goes back by more
// than a minute, they follow it. So a clock that was once wrong does not affect later keys.
func (h *Host) NextRecordKey() syntax.RecordKey {
	return syntax.RecordKey(h.keys.Next())
}

// Head returns the head of a repository, or ErrRepoNotFound.
func (h *Host) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	head, err := h.store.Repos.Head(ctx, did)
	return head, notFound(err, ErrRepoNotFound)
}

// View gives fn a consistent snapshot of a repository, or returns ErrRepoNotFound.
func (h *Host) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	called := false
	err := h.store.Repos.View(ctx, did, func(r storage.Reader) error {
		called = true
		return fn(r)
	})
	if !called {
		err = notFound(err, ErrRepoNotFound)
	}
	return err
}

// load returns the state of a repository: cached, or rebuilt from its records.
// The caller holds the account's lock.
func (h *Host) load(ctx context.Context, did syntax.DID) (st state, err error) {
	if st, ok := h.cache.get(did); ok {
		return st, nil
	}
	// Writers do not wait for readers' trees.
	select {
	case h.builds.writers <- struct{}{}:
	case <-ctx.Done():
		return state{}, ctx.Err()
	}
	defer func() { <-h.builds.writers }()
	err = h.View(ctx, did, func(r storage.Reader) error {
		st, err = h.rebuild(ctx, did, r)
		return err
	})
	if err == nil {
		h.cache.put(did, st)
	}
	return st, err
}

// StoredSigner is a signing key that is stored in the account's namespace and cached in memory. If
// another process changes the stored key, this process signs nothing with the old one: each commit
// has Stored as a precondition.
type StoredSigner interface {
	crypto.Signer
	// Stored returns the key under which the signer is stored, and its stored value.
	Stored() storage.KVCheck
}

// Signer returns the signing key of an account. A [StoredSigner] is first compared with the store.
func (h *Host) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	for {
		signer, err := h.signer(ctx, did)
		stored, ok := signer.(StoredSigner)
		if err != nil || !ok || h.stale == nil {
			return signer, err
		}
		var same bool
		want := stored.Stored()
		err = h.store.Repos.View(ctx, did, func(r storage.Reader) error {
			v, err := r.Get(ctx, want.Key)
			same = err == nil && bytes.Equal(v, want.Value)
			return err
		})
		if err == nil && same {
			return signer, nil
		}
		h.stale(did)
		if err != nil {
			return nil, notFound(err, ErrRepoNotFound)
		}
	}
}

// keyCheck is what a commit with the host's own key, not with one that was given, rests on.
func keyCheck(signer crypto.Signer) []storage.KVCheck {
	if s, ok := signer.(StoredSigner); ok {
		return []storage.KVCheck{s.Stored()}
	}
	return nil
}

// sign makes the next commit over the tree of a root, with a revision that follows prev. If signer
// is nil, it is that of the host, which the checks hold against the store.
func (h *Host) sign(ctx context.Context, did syntax.DID, signer crypto.Signer, prev syntax.TID, root cid.Cid) (s signed, err error) {
	fail := func(format string, err error) (signed, error) { return signed{}, fmt.Errorf(format, did, err) }
	if h.checkClock != nil {
		if err := h.checkClock(ctx); err != nil {
			return signed{}, fmt.Errorf("%w: %w", ErrClock, err)
		}
	}
	if signer == nil {
		if signer, err = h.signer(ctx, did); err == nil && signer == nil {
			err = errors.New("the host has none")
		}
		s.checks = keyCheck(signer)
	}
	if err != nil {
		return fail("repo: signing key of %s: %w", err)
	}
	rev, err := commit.NextRev(prev, h.now(), h.clock)
	if err != nil {
		return fail("repo: next revision of %s: %w", err)
	}
	c, block, err := commit.Sign(ctx, did, rev, root, signer)
	if err != nil {
		return fail("repo: sign a commit of %s: %w", err)
	}
	s.rev, s.head, s.block = c.Rev, storage.Head{Commit: block.CID, Data: c.Data, Rev: c.Rev}, block.Data
	return s, nil
}

// signed is a new commit.
type signed struct {
	rev    syntax.TID
	head   storage.Head
	block  []byte
	checks []storage.KVCheck
}

// notFound turns storage.ErrNotFound into a more telling error.
func notFound(err, as error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return as
	}
	return err
}
