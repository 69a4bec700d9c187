package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto"
)

// A Service answers package atproto's questions about accounts and the network.
var _ interface {
	atproto.Directory
	atproto.SnapshotAccounts
	atproto.Documents
	atproto.Handles
} = (*Service)(nil)

// hosted is an account as package atproto knows it.
func hosted(a account.Account) atproto.Account {
	return atproto.Account{DID: a.DID, Handle: a.Handle, Created: a.Created, Status: atproto.Status(a.Status()), Moderated: a.Moderated}
}

// known is hosted with the error that package atproto knows.
func known(a account.Account, err error) (atproto.Account, error) {
	if errors.Is(err, account.ErrNotFound) {
		err = fmt.Errorf("%w: %w", atproto.ErrNoAccount, err)
	}
	return hosted(a), err
}

// Account returns an account by DID or handle, or [atproto.ErrNoAccount].
func (s *Service) Account(ctx context.Context, id syntax.AtIdentifier) (atproto.Account, error) {
	return known(s.accounts.Account(ctx, id))
}

// AccountIn returns the account of a snapshot, or [atproto.ErrNoAccount].
func (s *Service) AccountIn(ctx context.Context, r storage.Reader) (atproto.Account, error) {
	return known(s.accounts.AccountIn(ctx, r))
}

// ListAccounts lists accounts in the order of their creation: see [atproto.Directory].
func (s *Service) ListAccounts(ctx context.Context, after time.Time, afterDID syntax.DID, limit int) ([]atproto.Account, error) {
	page, err := s.accounts.ListAccounts(ctx, after, afterDID, limit)
	list := make([]atproto.Account, len(page))
	for i, a := range page {
		list[i] = hosted(a)
	}
	return list, err
}

// Document returns an account's DID document, and the handle that it claims.
func (s *Service) Document(ctx context.Context, did syntax.DID) ([]byte, syntax.Handle, error) {
	doc, err := s.resolver.ResolveDID(ctx, did)
	if err != nil {
		return nil, "", err
	}
	text, err := json.Marshal(doc)
	handle, _ := doc.Handle()
	return text, handle, err
}

// ResolveHandle resolves a handle over the network. Handles under the server's own domains exist
// only for accounts here, so for those it returns [atproto.ErrNoAccount].
func (s *Service) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	if _, own := s.serviceLabel(h); own {
		return "", atproto.ErrNoAccount
	}
	return s.resolver.ResolveHandle(ctx, h)
}
