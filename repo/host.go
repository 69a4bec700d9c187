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
	// Store holds everything. A Host uses its Repos and Blobs; both are required.
	Store storage.Store
	// Signer returns the signing key of an account. It is called for every
	// commit, so it should answer from memory most of the time. A host that only
	// reads may return an error.
	// One that is a [StoredSigner] is held against the store in the transaction of each commit.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// Stale, if not nil, is told when a StoredSigner, or something else that was read for a commit,
	// may no longer be what is stored: another process may have changed it.
	Stale func(did syntax.DID)
	// CacheBytes bounds the memory of cached trees, about 110 bytes a record and 4 to 12 KB an
	// account. 0 means 128 MiB, on WebAssembly 8 MiB. Of the trees that are larger than the whole
	// bound, the last one is kept while it is used, and for a minute after that.
	CacheBytes int64
	// TempDir is the folder where exports to slow readers and imports are spooled. It should not be
	// used for anything else: spool files of a process that was killed are removed. Empty means the
	// system's default; on WebAssembly, where there may be no files, that exports wait for their
	// readers, and imports are in memory.
	TempDir string
	// Temp, if not nil, takes the place of TempDir, where there are no files but other room: see
	// [car.TempFile], which says what it must do, and about files of a process that was killed. A
	// file that cannot be made or written is treated as if there were no room.
	Temp car.Temp
	// WaitForReaders makes exports wait for readers that are slow, where they would be spooled.
	// They hold their snapshots for as long as the reader takes half a MiB in half a minute. It
	// suits a store whose snapshots hold up nobody and cost little, such as storage/durable.
	// Without files (see TempDir) it is so in any case.
	WaitForReaders bool
	// SpoolBytes bounds the bytes of all spool files together, with the files that an import needs
	// to find the blocks of its file; one file can have half of them. An export for which there is
	// no room goes on at the pace of its reader, for half a minute, and then fails with ErrBusy, as
	// an import does at once. 0 means 2 GiB, or 32 MiB where files are in memory; negative: no
	// bound.
	SpoolBytes int64
	// Hold, if not nil, is asked before n more bytes of an export are spooled, and told with a
	// negative number when they are gone. An error means that there is no room. It is a place for a
	// quota by client; see limit.Hold.
	Hold func(ctx context.Context, n int64) error
	// BlobQuota, if not nil, returns how many bytes all blobs of an account may have together, used
	// and not used yet; 0: no limit. UploadBlob fails with storage.ErrQuota where a new blob would
	// bring the account above.
	BlobQuota func(ctx context.Context, did syntax.DID) (int64, error)
	// Imports bounds how many imports are worked on at once, those that still upload apart. 0 means
	// 2.
	Imports int
	// ImportWait bounds how long an import waits for others: those of the same account, and those
	// that Imports counts. 0 means one minute.
	ImportWait time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Indexes are kept for every account. NewHost panics if one is not valid: see Index.
	Indexes []Index
	// CheckClock, if not nil, is asked before each signature whether Now can be trusted. Its error
	// stops the write, wrapped in ErrClock. Revisions come from the clock, and the network ignores
	// those that lie in the future. So if the clock is ahead, an account's writes stay invisible
	// until that time: see package timecheck.
	CheckClock func(ctx context.Context) error
}

// Validate returns an error that says what is missing.
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

// NewHost returns a host over a store. It panics if the configuration is not valid: see
// [Config.Validate].
func NewHost(cfg Config) *Host {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	h := &Host{
		store: cfg.Store, signer: cfg.Signer, stale: cfg.Stale, now: cfg.Now, checkClock: cfg.CheckClock, hold: cfg.Hold, quota: cfg.BlobQuota,
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

// NextRecordKey returns a new record key of type "tid", which no other call returns. Keys of all
// accounts come from one sequence, since only the host's clock moves it: no account's revisions and
// no keys that clients choose do. Keys ascend, unless the clock goes back by more than a minute:
// then they follow it, so that a clock that was wrong once leaves no mark on the keys made later.
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

// StoredSigner is a key that lies in the account's namespace, and is kept in memory besides. So a
// process that has not heard that another one has changed the key signs nothing with the old one.
type StoredSigner interface {
	crypto.Signer
	// Stored is where the key lies, and as what.
	Stored() storage.KVCheck
}

// Signer returns the signing key of an account. If it is a [StoredSigner], it is the one that is
// stored.
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
