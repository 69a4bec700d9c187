package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a Host. Store and Signer are required.
type Config struct {
	// Store holds everything.
	Store storage.Store
	// Signer returns the signing key of an account. It is called for every
	// commit, so it should answer from memory most of the time.
	Signer func(ctx context.Context, did syntax.DID) (crypto.Signer, error)
	// CacheBytes bounds the memory of cached trees, about 110 bytes a record.
	// 0 means 128 MiB. Of the trees that are larger than the whole bound, the
	// last one is kept while it is used, and for a minute after that.
	CacheBytes int64
	// TempDir is the folder where exports to slow readers and imports are spooled.
	// It should not be used for anything else: spool files of a process that was killed are removed.
	// Empty means the system's default.
	TempDir string
	// SpoolBytes bounds the bytes of all spool files together. An export for which there is no room
	// goes on at the pace of its reader, for half a minute, and then fails with ErrBusy, as an import does at
	// once. 0 means 2 GiB; negative: no bound.
	SpoolBytes int64
	// Hold, if not nil, is asked before n more bytes of an export are spooled, and told with a
	// negative number when they are gone. An error means that there is no room. It is a place for a quota by
	// client; see limit.Hold.
	Hold func(ctx context.Context, n int64) error
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Indexes are kept for every account. NewHost panics if one is not valid: see Index.
	Indexes []Index
}

// A Host reads and writes repositories. It is safe for concurrent use.
type Host struct {
	store  storage.Store
	signer func(context.Context, syntax.DID) (crypto.Signer, error)
	now    func() time.Time
	temp   string
	spool  *spool.Dir
	hold   func(context.Context, int64) error
	locks  keyedLocks // of writers
	builds builds
	scans  chan struct{} // has room for maxScans: see export
	cache  treeCache
	clock  syntax.TIDClock

	indexes indexSet
}

// NewHost returns a host over a store.
func NewHost(cfg Config) *Host {
	h := &Host{store: cfg.Store, signer: cfg.Signer, now: cfg.Now, temp: cfg.TempDir, hold: cfg.Hold, indexes: newIndexSet(cfg.Indexes)}
	h.spool = &spool.Dir{Path: cfg.TempDir, Limit: max(cfg.SpoolBytes, 0)}
	if cfg.SpoolBytes == 0 {
		h.spool.Limit = 2 << 30
	}
	_ = h.spool.Clean() // what stays costs only its room
	h.builds.init()
	h.scans = make(chan struct{}, maxScans())
	if h.now == nil {
		h.now = time.Now
	}
	h.cache.limit = cfg.CacheBytes
	if h.cache.limit == 0 {
		h.cache.limit = 128 << 20
	}
	return h
}

// Store returns the store that the host was made with.
func (h *Host) Store() storage.Store { return h.store }

// NextRecordKey returns a new record key of type "tid".
func (h *Host) NextRecordKey() syntax.RecordKey {
	return syntax.RecordKey(h.clock.Next())
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

// Signer returns the signing key of an account.
func (h *Host) Signer(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
	return h.signer(ctx, did)
}

// sign makes the next commit over a tree.
func (h *Host) sign(ctx context.Context, did syntax.DID, prev syntax.TID, tree *mst.Tree) (commit.Commit, storage.Head, []byte, error) {
	signer, err := h.signer(ctx, did)
	if err != nil {
		return commit.Commit{}, storage.Head{}, nil, fmt.Errorf("repo: signing key of %s: %w", did, err)
	}
	c, block, err := commit.Sign(ctx, did, h.clock.NextAfter(prev), tree.Root(), signer)
	if err != nil {
		return commit.Commit{}, storage.Head{}, nil, fmt.Errorf("repo: sign a commit of %s: %w", did, err)
	}
	return c, storage.Head{Commit: block.CID, Data: c.Data, Rev: c.Rev}, block.Data, nil
}

// notFound turns storage.ErrNotFound into a more telling error.
func notFound(err, as error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return as
	}
	return err
}
