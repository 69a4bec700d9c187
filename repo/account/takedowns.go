package account

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

const takedownPrefix = "takedown/"

// Takedown is a takedown with the moderator's reference, or its absence.
type Takedown struct {
	Applied bool   `json:"applied"`
	Ref     string `json:"ref,omitempty"`
}

// Subjects of takedowns within an account.
func recordSubject(path string) string { return takedownPrefix + "record/" + path }
func blobSubject(blob cid.Cid) string  { return takedownPrefix + "blob/" + blob.String() }

// TakeDown takes an account down or restores it, and announces the status to the network. A
// takedown needs a reference. It ends all sessions. App passwords are kept, but cannot be used
// until the account is restored.
func (s *Store) TakeDown(ctx context.Context, did syntax.DID, t Takedown) error {
	if t.Applied && t.Ref == "" {
		return errNoRef
	}
	var was bool
	return s.reindex(ctx, Trusted(did), indexChange{
		before: func(a *Account, _ *repo.Step) error {
			was = a.TakedownRef != ""
			return nil
		},
		next: func(a *Account) {
			a.TakedownRef = ""
			if t.Applied {
				a.TakedownRef = t.Ref
			}
		},
		after: func(a *Account, step *repo.Step) error {
			if t.Applied && !was {
				if err := s.Raise(ctx, a, step, Kept{AppPasswords: true, Traces: true}); err != nil {
					return err
				}
				a.TakedownCredentials = a.Credentials
			}
			step.Events = append(step.Events, s.statusEvent(*a))
			return nil
		},
	})
}

var errNoRef = errors.New("account: a takedown needs a reference, such as its time")

// AnnounceStatus announces the hosting status of an account to the network again.
func (s *Store) AnnounceStatus(ctx context.Context, who Caller) error {
	_, err := s.Update(ctx, who, func(a *Account, step *repo.Step) error {
		step.Events = append(step.Events, s.statusEvent(*a))
		return nil
	})
	return err
}

// AnnounceIdentity announces to the network that an account's DID document or handle may have
// changed.
func (s *Store) AnnounceIdentity(ctx context.Context, who Caller) error {
	_, err := s.Update(ctx, who, func(a *Account, step *repo.Step) error {
		step.Events = append(step.Events, s.host.IdentityEvent(a.DID, a.Handle))
		return nil
	})
	return err
}

// SetRecordTakedown takes a record down or restores it.
func (s *Store) SetRecordTakedown(ctx context.Context, did syntax.DID, path string, t Takedown) error {
	return s.setTakedown(ctx, did, recordSubject(path), t)
}

// SetBlobTakedown takes a blob down or restores it.
func (s *Store) SetBlobTakedown(ctx context.Context, did syntax.DID, blob cid.Cid, t Takedown) error {
	return s.setTakedown(ctx, did, blobSubject(blob), t)
}

func (s *Store) setTakedown(ctx context.Context, did syntax.DID, key string, t Takedown) error {
	return s.reindex(ctx, Trusted(did), indexChange{
		next: func(a *Account) { a.Moderated = a.Moderated || t.Applied },
		after: func(_ *Account, step *repo.Step) error {
			if t.Applied {
				step.Set(key, []byte(t.Ref), time.Time{})
			} else {
				step.Remove(key)
			}
			return nil
		},
	})
}

// RecordTakedown returns the takedown of a record.
func (s *Store) RecordTakedown(ctx context.Context, did syntax.DID, path string) (Takedown, error) {
	return s.takedown(ctx, did, recordSubject(path))
}

// BlobTakedown returns the takedown of a blob.
func (s *Store) BlobTakedown(ctx context.Context, did syntax.DID, blob cid.Cid) (Takedown, error) {
	return s.takedown(ctx, did, blobSubject(blob))
}

func (s *Store) takedown(ctx context.Context, did syntax.DID, key string) (t Takedown, err error) {
	err = s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		ref, err := r.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		t = Takedown{Applied: err == nil, Ref: string(ref)}
		return err
	})
	return t, notFound(err)
}

// HiddenRecords returns the set of those paths whose records are taken down.
func (s *Store) HiddenRecords(ctx context.Context, did syntax.DID, paths []string) (map[string]bool, error) {
	hidden := make(map[string]bool)
	err := s.store.Repos.View(ctx, did, func(r storage.Reader) error {
		for _, path := range paths {
			switch _, err := r.Get(ctx, recordSubject(path)); {
			case err == nil:
				hidden[path] = true
			case !errors.Is(err, storage.ErrNotFound):
				return err
			}
		}
		return nil
	})
	return hidden, notFound(err)
}

// HiddenBlob reports whether a blob is taken down.
func (s *Store) HiddenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (bool, error) {
	t, err := s.BlobTakedown(ctx, did, blob)
	return t.Applied, err
}
