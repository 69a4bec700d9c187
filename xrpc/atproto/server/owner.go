package server

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
)

// What follows are the methods by which owners change their accounts, for pages: the caller is
// looked at in the transaction of each change.

// RequestEmailConfirmation mails a code with which the owner of an account confirms its address:
// see [credential.Store.ConfirmEmail]. Errors are credential.ErrNoEmail, or an *xrpc.Error if the
// server sends no mail.
func (s *Service) RequestEmailConfirmation(ctx context.Context, who account.Caller) error {
	return s.mailToken(ctx, who, credential.ForEmailConfirmation)
}

// RequestEmailChange mails a code to the account's address, if that is confirmed, with which the
// address can be changed. needed reports whether the change needs a code.
func (s *Service) RequestEmailChange(ctx context.Context, who account.Caller) (needed bool, err error) {
	a, err := s.accounts.Authenticate(ctx, who)
	if err != nil || a.EmailConfirmedAt.IsZero() {
		return false, err
	}
	return true, s.mailToken(ctx, who, credential.ForEmailChange)
}

// ChangeEmail is ChangeEmail of [credential.Store], for addresses that the server accepts. For
// others the error is [ErrEmail].
func (s *Service) ChangeEmail(ctx context.Context, who account.Caller, email, token string) error {
	if !validEmail(email) {
		return ErrEmail
	}
	return s.credentials.ChangeEmail(ctx, who, email, token)
}

// RequestDeletion mails a code with which the account can be deleted: see
// [credential.Store.CloseAccount].
func (s *Service) RequestDeletion(ctx context.Context, who account.Caller) error {
	return s.mailToken(ctx, who, credential.ForDeletion)
}

// ChangeHandle gives an account another handle: a free one under the server's domains, or one of
// the owner's that already resolves to the account. Errors are account.ErrHandleTaken, or an
// *xrpc.Error.
func (s *Service) ChangeHandle(ctx context.Context, who account.Caller, handle syntax.Handle) error {
	handle, err := s.checkHandle(ctx, who.DID, handle)
	if err != nil {
		return err
	}
	return s.moveHandle(ctx, who, handle)
}

// LookUpHandle resolves a handle over the network without a cache. The error may be an
// *identity.HandleError, which says why each of the two ways failed.
func (s *Service) LookUpHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	s.resolver.Purge(syntax.AtIdentifier(h.Normalize()))
	return s.resolver.ResolveHandle(ctx, h.Normalize())
}

// Status is the state of an account: what it has, and what the network sees of it.
type Status struct {
	repo.Stats
	// Hosted is set if the DID document names this server, the account's key here and, for a
	// did:plc, a rotation key of the server. If not, Problem is the reason, in English.
	Hosted  bool
	Problem string
	// Endpoint is the server that the document names. It is empty if the document names none or
	// cannot be read.
	Endpoint string
	// BlobBytes is the total size of all uploaded blobs.
	BlobBytes int64
}

// Status returns the state of an account.
func (s *Service) Status(ctx context.Context, did syntax.DID) (st Status, err error) {
	if st.Stats, err = s.host.Stats(ctx, did); err != nil {
		return st, err
	}
	if st.BlobBytes, err = s.host.Store().Blobs.Usage(ctx, did); err != nil {
		return st, err
	}
	s.resolver.Purge(syntax.AtIdentifier(did))
	problem := s.checkDocument(ctx, did)
	st.Hosted = problem == nil
	if problem != nil {
		st.Problem = "The DID document could not be checked"
		var e *xrpc.Error
		if errors.As(problem, &e) {
			st.Problem = e.Message
		}
	}
	if doc, err := s.resolver.ResolveDID(ctx, did); err == nil {
		st.Endpoint, _ = doc.PDS()
	}
	return st, nil
}
