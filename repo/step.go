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

// A Step is one attempt to change an account without a new commit: a snapshot to look at, and
// what is to be changed. See [Host.Step].
type Step struct {
	// Reader is the snapshot that the attempt is made on. It ends with the attempt.
	storage.Reader
	// Checks are preconditions in the account's key-value namespace: what must still be as the
	// snapshot has it. A check that does not hold makes another attempt.
	Checks []storage.KVCheck
	// KV are writes in that namespace. Keys that begin with "index/" or "sweep/" are the host's.
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

// Remove adds the deletion of a key. One that is not there is no error.
func (s *Step) Remove(key string) {
	s.KV = append(s.KV, storage.KVWrite{Key: key})
}

// maxStepRetries bounds how often a step that lost a race is tried again. The accounts' state is
// small and written often, so that steps lose races more often than commits do.
const maxStepRetries = 20

// Step changes an account's own state: keys in its namespace, and events, without a new commit.
// It is the one way for such changes, as [Host.Apply] is for records: both are transactions of the
// repository under the account's lock.
//
// fn looks at the snapshot and fills in the step, or returns an error, which ends Step with that
// error and changes nothing. What fn relies on it must add to the checks: then it still holds in
// the transaction. If the repository or a checked key has changed meanwhile, as by another process,
// fn is called again with a new step; after 20 such calls the error is storage.ErrConflict. fn runs
// under the account's lock, so it must not write to the account. A step without writes, events
// and Sync is none: the checks are not looked at.
//
// Step returns the sequence number of its last event, or 0. It returns ErrRepoNotFound if there is
// no repository, and ErrInvalidBatch for events or keys that may not be written.
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

// Resign is what goes along with a new signature of a repository. The zero value is valid.
type Resign struct {
	// Signer makes the signature. Nil means the account's present key, as Config.Signer has it. Set
	// it if the same step replaces the account's key, by KV: the new key must sign.
	Signer crypto.Signer
	// Events are appended to the log before the #sync event: the #identity event that tells of a
	// new key.
	Events []storage.Event
	// Silent leaves out the #sync event. For accounts that are not active.
	Silent bool
	// Checks, KV and Guard are as in a Batch.
	Checks []storage.KVCheck
	KV     []storage.KVWrite
	Guard  Guard
}

// Resign makes a new commit over the same tree, with a later revision and a new signature. It is
// for an account whose signing key has changed: relays verify the head with the key that the DID
// document names, and a repository that nobody writes to would keep its old signature. A #sync
// event announces the head (Sync 1.1); there is no #commit event, since no record changes.
//
// The tree is compared with the head before anything is signed. Records keep the revisions that
// they were written in. So Resign is not the repair of a repository that was restored from a
// backup, or whose revision lies in the future: see [Host.Import].
//
// Errors are those of [Host.Apply].
func (h *Host) Resign(ctx context.Context, did syntax.DID, in Resign) (Result, error) {
	return h.Apply(ctx, did, Batch{
		Events: in.Events, Checks: in.Checks, KV: in.KV, Guard: in.Guard,
		Silent: true, Sync: !in.Silent, resign: true, Signer: in.Signer,
	})
}

// Turn waits until no other operation of the account that takes turns is under way in this process,
// or for the context to end. The caller must call done. It is for what takes longer than a step,
// such as a change that others have to be told of first. Records are written meanwhile, and so are
// steps: what such an operation relies on it checks in its steps, as for other processes.
func (h *Host) Turn(ctx context.Context, did syntax.DID) (done func(), err error) {
	return h.turns.lock(ctx, did)
}

// Delete removes a repository with everything that belongs to it, including its
// blobs and its earlier events, and appends events (the #account event that says
// so) in the same step.
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

// DeleteStep is [Host.Delete], except that fn may refuse it. fn reads a snapshot under the
// account's lock and fills in the events. It writes no key-value pairs, since the account's
// namespace is deleted too. No other change of the account by this process comes between the
// snapshot and the deletion. A change by another process may, since storage.Repos.Delete compares
// nothing; the deletion removes it too.
//
// If there is no repository, the error is ErrRepoNotFound, and fn is not called. Blobs that an
// interrupted deletion has left are deleted then.
func (h *Host) DeleteStep(ctx context.Context, did syntax.DID, fn func(*Step) error) error {
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return err
	}
	defer unlock()
	change, err := h.step(ctx, did, fn)
	if errors.Is(err, ErrRepoNotFound) {
		if err := h.store.Blobs.DeleteAll(ctx, did); err != nil {
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
	if blobErr := h.store.Blobs.DeleteAll(ctx, did); blobErr != nil {
		return blobErr
	}
	return notFound(err, ErrRepoNotFound)
}
