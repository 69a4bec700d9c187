package credential

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// MaxPasskeys is how many passkeys an account may have.
const MaxPasskeys = 20

// maxPasskeyBytes bounds what is stored of a passkey that the authenticator has chosen.
const maxPasskeyBytes = 4 << 10

// Passkey is a public-key credential of an account (WebAuthn). This package only stores it. Package
// xrpc/passkey verifies signatures and defines the meaning of the fields.
type Passkey struct {
	Factor
	CredentialID []byte `json:"credentialId"`
	// PublicKey is a COSE key.
	PublicKey []byte `json:"publicKey"`
	// Counter is the greatest signature counter that the authenticator has sent; 0 if it does not
	// count.
	Counter uint32 `json:"counter,omitempty"`
	// CounterBack is how often the authenticator has sent a counter that was not greater than the
	// previous one.
	CounterBack int `json:"counterBack,omitempty"`
	// AAGUID is the authenticator's model.
	AAGUID     []byte   `json:"aaguid,omitempty"`
	Transports []string `json:"transports,omitempty"`
	// BackupEligible says that the authenticator may copy the key to other devices. It never
	// changes. BackedUp says that it has copied it.
	BackupEligible bool `json:"backupEligible,omitempty"`
	BackedUp       bool `json:"backedUp,omitempty"`
}

// Passkeys returns an account, with its UserHandle set, and its passkeys: what is needed to
// register another one.
func (s *Store) Passkeys(ctx context.Context, who account.Caller) (a account.Account, list []Passkey, err error) {
	if a, err = s.accounts.UserHandle(ctx, who); err != nil {
		return a, nil, err
	}
	err = s.accounts.View(ctx, who, func(now account.Account, r storage.KVReader) error {
		f, _, err := readFactors(ctx, r)
		a, list = now, f.Passkeys
		return err
	})
	return a, list, err
}

// PasskeysByHandle returns the account with a user handle, and its passkeys. If there is none, the
// error is [account.ErrNotFound].
func (s *Store) PasskeysByHandle(ctx context.Context, handle string) (a account.Account, list []Passkey, err error) {
	if a, err = s.accounts.ByUserHandle(ctx, handle); err != nil {
		return a, nil, err
	}
	err = s.accounts.View(ctx, account.Trusted(a.DID), func(now account.Account, r storage.KVReader) error {
		f, _, err := readFactors(ctx, r)
		a, list = now, f.Passkeys
		return err
	})
	return a, list, err
}

// AddPasskey adds a verified passkey to an account. credentials is the account's counter at the
// time of the verification: if it has been raised since, the error is [account.ErrTokenRevoked].
// The result has ID and Created set. Other errors are [ErrDuplicatePasskey], [ErrTooManyPasskeys]
// and [ErrFactorName].
func (s *Store) AddPasskey(ctx context.Context, who account.Caller, credentials int64, p Passkey) (added Passkey, err error) {
	size := len(p.CredentialID) + len(p.PublicKey) + len(p.AAGUID)
	for _, t := range p.Transports {
		size += len(t)
	}
	if size > maxPasskeyBytes {
		return added, errLongPasskey
	}
	err = s.changeFactors(ctx, who, func(a account.Account, f *factors, _ *repo.Step) (*FactorChange, error) {
		if a.Credentials != credentials {
			return nil, account.ErrTokenRevoked
		}
		if slices.ContainsFunc(f.Passkeys, func(have Passkey) bool { return bytes.Equal(have.CredentialID, p.CredentialID) }) {
			return nil, ErrDuplicatePasskey
		}
		if len(f.Passkeys) >= MaxPasskeys {
			return nil, ErrTooManyPasskeys
		}
		var err error
		added = p
		if added.Factor, err = s.newFactor(p.Name, "Passkey"); err != nil {
			return nil, err
		}
		f.Passkeys = append(f.Passkeys, added)
		added.Kind = PasskeyKind
		return &FactorChange{Event: FactorAdded, Factor: added.Factor}, nil
	})
	return added, err
}

var errLongPasskey = errors.New("credential: the passkey has too many bytes")

// PasskeyUse is what an authenticator has sent with a verified signature.
type PasskeyUse struct {
	CredentialID []byte
	PublicKey    []byte // that it was verified with
	Counter      uint32
	BackedUp     bool
}

// UsePasskey records the use of a passkey, and returns a proof that stands for password and second
// factor together. If the passkey was removed, the error is [ErrWrongFactor]. If its counter went
// back, UsePasskey records that and notifies the owner, but the proof is valid: the counters of
// passkeys that are copied between devices by design mean little.
func (s *Store) UsePasskey(ctx context.Context, did syntax.DID, use PasskeyUse) (p Proof, err error) {
	err = s.changeFactors(ctx, account.Trusted(did), func(a account.Account, f *factors, _ *repo.Step) (change *FactorChange, err error) {
		i := slices.IndexFunc(f.Passkeys, func(have Passkey) bool { return bytes.Equal(have.CredentialID, use.CredentialID) })
		if i < 0 || !bytes.Equal(f.Passkeys[i].PublicKey, use.PublicKey) {
			return nil, ErrWrongFactor
		}
		key := &f.Passkeys[i]
		key.LastUsed, key.BackedUp = s.present(), use.BackedUp
		if use.Counter <= key.Counter && key.Counter > 0 {
			key.CounterBack++
			change = &FactorChange{Event: CounterBack, Factor: f.describe(&key.Factor)}
		}
		key.Counter = max(key.Counter, use.Counter)
		p = Proof{Account: a, Shown: Shown{Kind: PasskeyKind, ID: key.ID}, At: s.now()}
		return change, nil
	})
	if errors.Is(err, account.ErrNotFound) {
		err = ErrWrongFactor
	}
	if err != nil {
		return Proof{}, err
	}
	return p, nil
}
