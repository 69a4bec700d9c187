package host

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// Account returns the DID of the account with a handle. If there is none, it makes the account: a
// key, a did:plc that names the key, and a repository. What first returns for the new DID is
// written in the transaction that makes the repository, so an account has its first records and
// secrets, or it does not exist. A crash before that leaves a DID that nobody uses.
func (h *Host) Account(ctx context.Context, handle syntax.Handle, first func(syntax.DID) (repo.Batch, error)) (syntax.DID, error) {
	a, err := h.Accounts.Account(ctx, syntax.AtIdentifier(handle))
	if err == nil || !errors.Is(err, account.ErrNotFound) {
		return a.DID, err
	}
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		return "", err
	}
	op := identity.NewPLCOperation(handle, URL, key.PublicKey(), key.PublicKey())
	if err := op.Sign(ctx, key); err != nil {
		return "", err
	}
	did, err := op.DID()
	if err != nil {
		return "", err
	}
	batch, err := first(did)
	if err != nil {
		return "", err
	}
	if err := h.PLC.Submit(did, op); err != nil {
		return "", err
	}
	_, err = h.Accounts.Create(ctx, account.Account{DID: did, Handle: handle, Email: string(did[8:]) + "@" + Name}, key, batch)
	return did, err
}
