package account

import (
	"context"
	"errors"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// RotateKey gives an account another signing key. register, if not nil, puts the key into the DID
// document. Then one transaction stores the key, signs the repository with it, and announces the
// identity and the head to the network.
//
// The new key is stored before register is called, so it cannot be lost. If register fails or the
// process dies, the next call of RotateKey continues with the same key. So register must accept a
// key that the document already has. Writes to the account while register runs are still signed
// with the old key; the new signature follows them.
func (s *Store) RotateKey(ctx context.Context, who Caller, register func(context.Context, *crypto.PublicKey) error) error {
	done, err := s.host.Turn(ctx, who.DID)
	if err != nil {
		return err
	}
	defer done()
	fresh, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return err
	}
	var next *crypto.PrivateKey
	var sealed []byte
	_, err = s.Update(ctx, who, func(a *Account, step *repo.Step) (err error) {
		next = fresh
		sealed, err = step.Get(ctx, nextKey)
		if err == nil {
			next, err = s.keys.unseal(a.DID, nextKey, sealed)
			return err
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		sealed = s.keys.seal(a.DID, nextKey, fresh)
		step.Expect(nextKey, nil)
		step.Set(nextKey, sealed, time.Time{})
		return nil
	})
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if register != nil {
		if err := register(ctx, next.PublicKey()); err != nil {
			return err
		}
	}
	// Whatever has become of the caller: the document names the key.
	a, err := s.ByDID(ctx, who.DID)
	if err != nil {
		return err
	}
	stored := s.keys.seal(a.DID, signingKey, next)
	in := repo.Resign{
		Signer: next, Silent: a.Status() != Active,
		Checks: []storage.KVCheck{{Key: nextKey, Value: sealed}},
		KV:     []storage.KVWrite{{Key: signingKey, Value: stored}, {Key: nextKey}},
	}
	if !in.Silent {
		in.Events = []storage.Event{s.host.IdentityEvent(a.DID, a.Handle)}
	}
	s.keys.put(a.DID, next, stored) // what comes before the new signature may have it already
	if _, err := s.host.Resign(ctx, a.DID, in); err != nil {
		s.keys.Forget(a.DID)
		return notFound(err)
	}
	return nil
}
