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

// A Reservation holds the names of an account that is about to be created. It ends with Create or
// Release. If neither is called within ten minutes, because the process died, the names are free
// again.
type Reservation struct {
	op *operation
	a  Account
}

// Reserve reserves an account's handle and e-mail address, and uses its invite code if it has one.
// Errors are [ErrHandleTaken], [ErrEmailTaken] and [ErrInvite]. Register the account's DID between
// Reserve and [Reservation.Create]. If there is no DID to register, [Store.Create] does both.
func (s *Store) Reserve(ctx context.Context, a Account) (*Reservation, error) {
	if a.Created.IsZero() {
		a.Created = s.present()
	}
	inviterDown := false
	if a.Invite != "" {
		var err error
		if inviterDown, err = s.inviterDown(ctx, a.Invite); err != nil {
			return nil, err
		}
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
		switch {
		case a.Invite == "":
			return nil
		case inviterDown:
			return ErrInvite
		}
		return useInvite(ctx, tx, a.Invite, a.DID, s.now())
	})
	if err != nil {
		return nil, err
	}
	return &Reservation{op, a}, nil
}

// Create makes the account with its repository, in one transaction with the batch. The batch may
// have further keys, such as a first session, and records. If the account is active, the events are
// those that the network expects, in this order: identity, account, the batch's own, commit, sync.
// An account that is not active has no events.
//
// If Create returns nil, the account exists durably. If the host already has a repository of the
// DID, the error is [repo.ErrRepoExists]. After an error of the store, the account may exist
// nevertheless: see [Store.ByDID].
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

// Release gives the reserved names up, except those that an account of the DID has by now, through
// this reservation or another.
func (r *Reservation) Release(ctx context.Context) error { return r.op.finish(ctx) }

// Create reserves the names of an account and creates it. If that fails, it releases the names.
// Errors are those of [Store.Reserve] and [Reservation.Create].
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
