package repo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// A Step is one attempt to change an account without a new commit: a snapshot to read, and the
// changes to make. See [Host.Step].
type Step struct {
	// Reader is the snapshot that the attempt is made on. It ends with the attempt.
	storage.Reader
	// Checks are preconditions in the account's key-value namespace. Add what the change relies on.
	// If one does not hold, there is another attempt.
	Checks []storage.KVCheck
	// KV are writes in that namespace. Keys that begin with "index/" or "sweep/" are reserved for
	// the host.
	KV []storage.KVWrite
	// Events are appended to the log in this order.
	Events []storage.Event
	// Sync adds a #sync event of the snapshot's head, after Events.
	Sync bool
}

// Expect adds a check: the key must have the value, or be absent if the value is nil.
func (s *Step) Expect(key string, value []byte) {
	s.Checks = append(s.Checks, storage.KVCheck{Key: key, Value: value})
}

// Set adds the write of a value, which must not be nil. A zero expires keeps it for good.
func (s *Step) Set(key string, value []byte, expires time.Time) {
	s.KV = append(s.KV, storage.KVWrite{Key: key, Value: value, Expires: expires})
}

// Remove adds the deletion of a key. A missing key is not an error.
func (s *Step) Remove(key string) {
	s.KV = append(s.KV, storage.KVWrite{Key: key})
}

// maxStepRetries bounds how often a step that lost a race is tried again. The accounts' state is
// small and written often, so that steps lose races more often than commits do.
const maxStepRetries = 20

// Step changes an account's keys and appends events, without a new commit. It is the only way for
// such changes, as [Host.Apply] is for records. Both are transactions of the repository under the
// account's lock.
//
// fn reads the snapshot and fills in the step. Its error ends Step, and nothing is changed. fn must
// add to the checks whatever it relies on, so that it still holds in the transaction. If the
// repository or a checked key has changed in the meantime, for example by another process, fn is
// called again with a new Step. After 20 such calls the error is [storage.ErrConflict]. fn runs
// under the account's lock, so it must not write to the account. If the step has no writes, no
// events and no Sync, nothing is done, and the checks are not compared.
//
// Step returns the sequence number of its last event, or 0. Errors are those of fn,
// [ErrRepoNotFound] and [ErrInvalidBatch].
func (h *Host) Step(ctx context.Context, did syntax.DID, fn func(*Step) error) (seq int64, err error) {
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for try := 0; ; try++ {
		change, err := h.step(ctx, did, fn)
		if err != nil || len(change.KV)+len(change.Events) == 0 {
			return 0, err
		}
		seq, err := h.store.Repos.Apply(ctx, did, change)
		if err == nil {
			return seq, nil
		}
		if !errors.Is(err, storage.ErrConflict) || try == maxStepRetries {
			return 0, notFound(err, ErrRepoNotFound)
		}
	}
}

// step runs fn over the present state.
func (h *Host) step(ctx context.Context, did syntax.DID, fn func(*Step) error) (*storage.Change, error) {
	change := &storage.Change{}
	err := h.View(ctx, did, func(r storage.Reader) error {
		s := &Step{Reader: r}
		if err := fn(s); err != nil {
			return err
		}
		if err := checkAside(s.Events, s.KV); err != nil {
			return err
		}
		head := r.Head()
		*change = storage.Change{Prev: head, Head: head, Checks: s.Checks, KV: s.KV, Events: s.Events}
		if s.Sync {
			block, err := r.Commit(ctx)
			if err != nil {
				return err
			}
			change.Events = append(slices.Clip(s.Events), h.syncEvent(did, head, block))
		}
		return nil
	})
	return change, err
}

// Resign holds the options of [Host.Resign]. The zero value is valid.
type Resign struct {
	// Signer makes the signature. Nil means Config.Signer. Set it if KV replaces the account's key
	// in the same change: the new key must sign.
	Signer crypto.Signer
	// Events are appended to the log before the #sync event, such as the #identity event that
	// announces a new key.
	Events []storage.Event
	// Silent leaves out the #sync event, for accounts that are not active.
	Silent bool
	// Checks, KV and Guard are as in a Batch.
	Checks []storage.KVCheck
	KV     []storage.KVWrite
	Guard  Guard
}

// Resign makes a new commit over the same tree, with a later revision and a new signature. Call it
// when an account's signing key has changed: relays verify the head with the key of the DID
// document, and a repository without writes would keep its old signature. A #sync event announces
// the head (Sync 1.1). There is no #commit event, since no record changes.
//
// The tree is compared with the head before anything is signed. Records keep the revisions in which
// they were written. So Resign does not repair a repository that was restored from a backup, or
// whose revision lies in the future: see [Host.Import].
//
// Errors are those of [Host.Apply].
func (h *Host) Resign(ctx context.Context, did syntax.DID, in Resign) (Result, error) {
	return h.Apply(ctx, did, Batch{
		Events: in.Events, Checks: in.Checks, KV: in.KV, Guard: in.Guard,
		Silent: true, Sync: !in.Silent, resign: true, Signer: in.Signer,
	})
}

// Turn waits until no other long operation of the account (one that calls Turn) runs in this
// process, or until the context ends. The caller must call done. It is for operations that take
// longer than one step, such as a change that must be announced elsewhere first. Turn does not stop
// writes and steps, nor other processes. So the operation's own steps must check what they rely on.
func (h *Host) Turn(ctx context.Context, did syntax.DID) (done func(), err error) {
	return h.turns.lock(ctx, did)
}

// Delete removes a repository with all its data, including blobs and earlier events. In the same
// atomic change it appends events, such as the #account event that says so.
//
// Blobs are deleted after that change. If another process makes a repository for the account again
// in between, its blobs stay, except those that are uploaded while this one is deleting: it looks
// for a repository once, before it begins. So let an account be made again only when its deletion
// has returned.
func (h *Host) Delete(ctx context.Context, did syntax.DID, events ...storage.Event) error {
	if err := checkAside(events, nil); err != nil {
		return err
	}
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return err
	}
	defer unlock()
	return h.delete(ctx, did, events)
}

// DeleteStep is [Host.Delete], except that fn may refuse the deletion. fn reads a snapshot under
// the account's lock and fills in the events. It cannot write key-value pairs, since the account's
// namespace is deleted too.
//
// No other change by this process happens between the snapshot and the deletion. A change by
// another process may, since [storage.Repos.Delete] has no preconditions; the deletion removes it
// too.
//
// If there is no repository, fn is not called, and the error is [ErrRepoNotFound]. Blobs that an
// interrupted deletion left are deleted nevertheless.
func (h *Host) DeleteStep(ctx context.Context, did syntax.DID, fn func(*Step) error) error {
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return err
	}
	defer unlock()
	change, err := h.step(ctx, did, fn)
	if errors.Is(err, ErrRepoNotFound) {
		if err := h.deleteBlobs(ctx, did); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return h.delete(ctx, did, change.Events)
}

// delete is Delete. The caller holds the account's lock.
func (h *Host) delete(ctx context.Context, did syntax.DID, events []storage.Event) error {
	h.cache.drop(did)
	_, err := h.store.Repos.Delete(ctx, did, events)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if blobErr := h.deleteBlobs(ctx, did); blobErr != nil {
		return blobErr
	}
	return notFound(err, ErrRepoNotFound)
}

// deleteBlobs deletes the blobs of a repository that was deleted. If another process has made one for
// the account again, they stay: sweeps delete what the new one does not refer to.
func (h *Host) deleteBlobs(ctx context.Context, did syntax.DID) error {
	if _, err := h.store.Repos.Head(ctx, did); !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	return h.store.Blobs.DeleteAll(ctx, did)
}
