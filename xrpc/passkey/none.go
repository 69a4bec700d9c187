//go:build nopasskeys || nopages

package passkey

import (
	"context"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
)

// Passkeys is left out of this program.
type Passkeys struct{}

// Possible returns false: this program is built without passkeys.
func Possible(address string) bool { return false }

// New panics: this program is built without passkeys.
func New(cfg Config) *Passkeys {
	panic("passkey: this program is built with -tags nopasskeys or nopages: ask passkey.Possible before New")
}

// BeginRegistration returns an error.
func (*Passkeys) BeginRegistration(ctx context.Context, who account.Caller, binding string) (options []byte, err error) {
	return nil, ErrRefused
}

// FinishRegistration returns an error.
func (*Passkeys) FinishRegistration(ctx context.Context, who account.Caller, binding, name string, response []byte) (added credential.Passkey, err error) {
	return added, ErrRefused
}

// BeginLogin returns an error.
func (*Passkeys) BeginLogin(ctx context.Context, binding string) (options []byte, err error) {
	return nil, ErrRefused
}

// FinishLogin returns an error.
func (*Passkeys) FinishLogin(ctx context.Context, binding string, response []byte) (proof credential.Proof, err error) {
	return proof, ErrRefused
}
