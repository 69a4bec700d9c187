package account

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const takedownPrefix = "takedown/"

// Takedown is whether something is taken down, and the moderator's reference.
type Takedown struct {
	Applied bool   `json:"applied"`
	Ref     string `json:"ref,omitempty"`
}

// Subjects of takedowns within an account.
func recordSubject(path string) string { return takedownPrefix + "record/" + path }
func blobSubject(blob cid.Cid) string  { return takedownPrefix + "blob/" + blob.String() }

// TakeDown takes an account down, which ends its sessions, or back up. events makes those of
// the step from the account as it is then.
func (s *Store) TakeDown(ctx context.Context, did syntax.DID, t Takedown, events func(Account) []storage.Event) error {
	return s.change(ctx, Trusted(did), func(a *Account, r storage.Reader, c *storage.Change) error {
		was := a.TakedownRef != ""
		a.TakedownRef = ""
		if t.Applied {
			a.TakedownRef = t.Ref
		}
		if t.Applied && !was {
			if err := s.raise(ctx, a, r, c, "", true); err != nil {
				return err
			}
			a.TakedownCredentials = a.Credentials
		}
		c.Events = append(c.Events, events(*a)...)
		return nil
	})
}

// Tell adds events about an account to the log, made from the account as it is then.
func (s *Store) Tell(ctx context.Context, who Caller, events func(Account) []storage.Event) error {
	return s.change(ctx, who, func(a *Account, _ storage.Reader, c *storage.Change) error {
		c.Events = append(c.Events, events(*a)...)
		return nil
	})
}

// SetRecordTakedown takes a record down, or back up.
func (s *Store) SetRecordTakedown(ctx context.Context, did syntax.DID, path string, t Takedown) error {
	return s.setTakedown(ctx, did, recordSubject(path), t)
}

// SetBlobTakedown takes a blob down, or back up.
func (s *Store) SetBlobTakedown(ctx context.Context, did syntax.DID, blob cid.Cid, t Takedown) error {
	return s.setTakedown(ctx, did, blobSubject(blob), t)
}

func (s *Store) setTakedown(ctx context.Context, did syntax.DID, key string, t Takedown) error {
	_, err := s.Update(ctx, Trusted(did), func(a *Account, c *storage.Change) error {
		if !t.Applied {
			c.KV = append(c.KV, storage.KVWrite{Key: key})
			return nil
		}
		a.Moderated = true
		c.KV = append(c.KV, storage.KVWrite{Key: key, Value: []byte(t.Ref)})
		return nil
	})
	return err
}

// RecordTakedown returns the state of a record.
func (s *Store) RecordTakedown(ctx context.Context, did syntax.DID, path string) (Takedown, error) {
	return s.takedown(ctx, did, recordSubject(path))
}

// BlobTakedown returns the state of a blob.
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
	if errors.Is(err, storage.ErrNotFound) {
		err = ErrNotFound
	}
	return t, err
}

// HiddenRecords returns which of the paths are those of records that are taken down.
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
	return hidden, err
}

// HiddenBlob reports whether a blob is taken down.
func (s *Store) HiddenBlob(ctx context.Context, did syntax.DID, blob cid.Cid) (bool, error) {
	t, err := s.BlobTakedown(ctx, did, blob)
	return t.Applied, err
}
