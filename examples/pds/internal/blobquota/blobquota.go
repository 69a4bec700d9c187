// Package blobquota bounds how many bytes of blobs an account may have.
//
// The store of blobs knows sizes, but no sums. A Blobs in front of it counts: what an
// account's records refer to, found by a look through the store when the account
// first uploads something, and what it has uploaded besides since the process started. What was
// uploaded before that and is not referred to is not counted; it is deleted within a day.
package blobquota

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Blobs is a store of blobs whose uploads are counted. It is safe for concurrent use.
type Blobs struct {
	storage.Blobs
	limit  int64
	exceed error

	mu       sync.Mutex
	accounts map[syntax.DID]*account
}

// account is what is known of an account's blobs.
type account struct {
	mu       sync.Mutex // held while the store is looked through
	counted  bool       // promoted is right
	promoted int64
	pending  int64 // of uploads under way that have been allowed
	staged   map[cid.Cid]staged
}

type staged struct {
	size int64
	at   time.Time
}

// maxAccounts bounds how many accounts are known at a time.
const maxAccounts = 10_000

// New returns a Blobs that keeps accounts below limit bytes. An upload that goes beyond fails
// with the error exceed. Give its method Allow to the store, and then the store to Over.
func New(limit int64, exceed error) *Blobs {
	return &Blobs{limit: limit, exceed: exceed, accounts: make(map[syntax.DID]*account)}
}

// Over sets the store.
func (b *Blobs) Over(store storage.Blobs) *Blobs {
	b.Blobs = store
	return b
}

func (b *Blobs) account(did syntax.DID) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.accounts[did]
	if a == nil {
		if len(b.accounts) >= maxAccounts {
			clear(b.accounts)
		}
		a = &account{staged: make(map[cid.Cid]staged)}
		b.accounts[did] = a
	}
	return a
}

// known is the account if something is known of it.
func (b *Blobs) known(did syntax.DID) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accounts[did]
}

// allowance is what Allow tells Stage of an upload.
type allowance struct {
	of   *account
	size int64
}

type allowanceKey struct{}

// Allow is a blobfs.Config.Quota: it is asked before a blob is kept that the account does not have.
func (b *Blobs) Allow(ctx context.Context, did syntax.DID, size int64) error {
	a := b.account(did)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.counted {
		a.promoted = 0
		for info, err := range b.Blobs.List(ctx, did, cid.Undef) {
			if err != nil {
				return err
			}
			a.promoted += info.Size
		}
		a.counted = true
	}
	used := a.promoted + a.pending
	for _, s := range a.staged {
		used += s.size
	}
	if size > b.limit-used {
		return b.exceed
	}
	if given, ok := ctx.Value(allowanceKey{}).(*allowance); ok {
		given.of, given.size = a, size
		a.pending += size
	}
	return nil
}

// Stage implements storage.Blobs.
func (b *Blobs) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, max int64) (storage.BlobInfo, error) {
	var given allowance
	info, err := b.Blobs.Stage(context.WithValue(ctx, allowanceKey{}, &given), did, mime, r, max)
	if a := given.of; a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pending -= given.size
		if err == nil {
			a.staged[info.CID] = staged{info.Size, info.Created}
		}
	}
	return info, err
}

// Promote implements storage.Blobs.
func (b *Blobs) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	err := b.Blobs.Promote(ctx, did, c)
	if a := b.known(did); a != nil && err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if s, ok := a.staged[c]; ok {
			delete(a.staged, c)
			a.promoted += s.size
		} else {
			a.counted = false // it may have been promoted before, or not
		}
	}
	return err
}

// Delete implements storage.Blobs.
func (b *Blobs) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	err := b.Blobs.Delete(ctx, did, c)
	if a := b.known(did); a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.staged, c)
		a.counted = false
	}
	return err
}

// DeleteAll implements storage.Blobs.
func (b *Blobs) DeleteAll(ctx context.Context, did syntax.DID) error {
	err := b.Blobs.DeleteAll(ctx, did)
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.accounts, did)
	return err
}

// Collect implements storage.Blobs.
func (b *Blobs) Collect(ctx context.Context, t time.Time) (int, error) {
	n, err := b.Blobs.Collect(ctx, t)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.accounts {
		a.mu.Lock()
		for c, s := range a.staged {
			if s.at.Before(t) && err == nil {
				delete(a.staged, c)
			}
		}
		a.mu.Unlock()
	}
	return n, err
}
