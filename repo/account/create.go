package account

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// A Reservation holds the names of an account that is about to be made. It ends with Create, or
// with Release. One that does neither for ten minutes, since its process has died, holds nothing.
type Reservation struct {
	op *operation
	a  Account
}

// Reserve holds an account's handle and e-mail address for it, and uses its invite code, if it has
// one. The errors are ErrHandleTaken, ErrEmailTaken and ErrInvite. Between Reserve and Create is
// the place to register the account's DID. If no DID has to be registered, [Store.Create] does all
// of it.
func (s *Store) Reserve(ctx context.Context, a Account) (*Reservation, error) {
	if a.Created.IsZero() {
		a.Created = s.present()
	}
	n := note{Keys: a.indexKeys(), Invite: a.Invite, Makes: true}
	var claims []claim
	for _, key := range n.Keys {
		c := claim{key: key, taken: ErrHandleTaken}
		if a.Email != "" && key == emailKey(a.Email) {
			c.taken = ErrEmailTaken
		}
		claims = append(claims, c)
	}
	op, err := s.begin(ctx, a.DID, claims, n, func(tx storage.KVTx) error {
		if a.Invite == "" {
			return nil
		}
		return useInvite(ctx, tx, a.Invite, a.DID, s.now())
	})
	if err != nil {
		return nil, err
	}
	return &Reservation{op, a}, nil
}

// Create makes the account with its repository, in one transaction with the batch. Of an active
// account the events are those that the network expects, in its order: identity, account, those of
// the batch, commit, sync. Nobody is told of an account that is not active. The batch may have keys
// to write, such as a first session, and records.
//
// When it returns nil, the account is made for good. If the host has a repository of the DID,
// the error is repo.ErrRepoExists. If the error is one of the store, the account may have been made
// all the same: see ByDID.
func (r *Reservation) Create(ctx context.Context, key *crypto.PrivateKey, batch repo.Batch) (repo.Result, error) {
	s, a := r.op.Store, r.a
	a.Made = r.op.id
	doc, err := json.Marshal(a)
	if err != nil {
		return repo.Result{}, err
	}
	if err := r.op.renew(ctx); err != nil {
		return repo.Result{}, err
	}
	stored := s.keys.seal(a.DID, signingKey, key)
	batch.Signer = key
	batch.KV = append(slices.Clip(batch.KV),
		storage.KVWrite{Key: accountKey, Value: doc}, storage.KVWrite{Key: signingKey, Value: stored})
	if a.Status() == Active {
		batch.Events = append([]storage.Event{s.host.IdentityEvent(a.DID, a.Handle), s.statusEvent(a)}, batch.Events...)
		batch.Sync = true
	} else {
		batch.Silent, batch.Sync = true, false
	}
	res, err := s.host.Create(ctx, a.DID, batch)
	if err != nil {
		return res, err
	}
	s.keys.put(a.DID, key, stored)
	_ = r.op.finish(ctx) // if it fails, Repair does it: the account has its names
	return res, nil
}

// Release gives up what the reservation holds, but for what has become an account's own: the DID
// may have one, by this reservation or another.
func (r *Reservation) Release(ctx context.Context) error { return r.op.finish(ctx) }

// Create reserves the names of an account and makes it, or gives the names up again. Errors are
// those of Reserve and [Reservation.Create].
func (s *Store) Create(ctx context.Context, a Account, key *crypto.PrivateKey, batch repo.Batch) (repo.Result, error) {
	r, err := s.Reserve(ctx, a)
	if err != nil {
		return repo.Result{}, err
	}
	res, err := r.Create(ctx, key, batch)
	if err != nil {
		return res, errors.Join(err, r.Release(ctx))
	}
	return res, nil
}

// statusEvent tells an account's hosting status.
func (s *Store) statusEvent(a Account) storage.Event {
	return s.host.AccountEvent(a.DID, string(a.Status()))
}
