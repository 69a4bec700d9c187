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

// Passkey is a public-key credential of an account (WebAuthn). This package keeps it; what it
// verifies signatures with knows what the fields mean: see package xrpc/passkey.
type Passkey struct {
	Factor
	CredentialID []byte `json:"credentialId"`
	// PublicKey is a COSE key.
	PublicKey []byte `json:"publicKey"`
	// Counter is the greatest that the authenticator has shown; 0 for those that do not count.
	Counter uint32 `json:"counter,omitempty"`
	// CounterBack is how often it has shown one that was not greater than the one before.
	CounterBack int `json:"counterBack,omitempty"`
	// AAGUID is the authenticator's model.
	AAGUID     []byte   `json:"aaguid,omitempty"`
	Transports []string `json:"transports,omitempty"`
	// BackupEligible never changes: the authenticator may copy the key to other devices. BackedUp:
	// it has.
	BackupEligible bool `json:"backupEligible,omitempty"`
	BackedUp       bool `json:"backedUp,omitempty"`
}

// Passkeys returns the passkeys of an account, whose UserHandle is set then: what is needed to
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

// PasskeysByHandle returns the account that authenticators know by a user handle, and its passkeys.
// The error is account.ErrNotFound if there is none.
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

// AddPasskey adds a passkey that was verified to an account as it was then: if the counter has been
// raised since, the error is account.ErrTokenRevoked. ID and Created are set. Errors are
// ErrDuplicatePasskey, ErrTooManyPasskeys and ErrFactorName.
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

// PasskeyUse is what an authenticator has shown with a signature that was verified.
type PasskeyUse struct {
	CredentialID []byte
	PublicKey    []byte // that it was verified with
	Counter      uint32
	BackedUp     bool
}

// UsePasskey notes the use of a passkey, and returns the proof that it is: of the password and a
// second factor together. If the passkey is not there any more the error is ErrWrongFactor. A
// counter that goes back is noted, and the owner told, but lets the owner in: passkeys that are
// copied between devices by design have counters of little meaning.
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
