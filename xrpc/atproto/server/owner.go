package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
)

// What follows are the methods by which owners change their accounts, for pages: the caller is looked
// at in the transaction of each change.

// RequestEmailConfirmation mails a code by which the owner of an account confirms its address: see
// [credential.Store.ConfirmEmail]. Errors are credential.ErrNoEmail, or an *xrpc.Error if there is no
// mail.
func (s *Service) RequestEmailConfirmation(ctx context.Context, who account.Caller) error {
	return s.mailToken(ctx, who, credential.ForEmailConfirmation, "Confirm your e-mail address",
		"To confirm this address for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

// RequestEmailChange mails a code to the address of an account, if that is confirmed, by which it may
// be changed. needed reports whether the change needs one.
func (s *Service) RequestEmailChange(ctx context.Context, who account.Caller) (needed bool, err error) {
	a, err := s.accounts.Authenticate(ctx, who)
	if err != nil || a.EmailConfirmedAt.IsZero() {
		return false, err
	}
	return true, s.mailToken(ctx, who, credential.ForEmailChange, "Change your e-mail address",
		"To change the e-mail address of your account %[2]s, or what it is used for, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

// ChangeEmail is that of [credential.Store], for an address that the server takes: else the error is
// [ErrEmail].
func (s *Service) ChangeEmail(ctx context.Context, who account.Caller, email, token string) error {
	if !validEmail(email) {
		return ErrEmail
	}
	return s.credentials.ChangeEmail(ctx, who, email, token)
}

// RequestDeletion mails a code by which the account can be deleted: see
// [credential.Store.CloseAccount].
func (s *Service) RequestDeletion(ctx context.Context, who account.Caller) error {
	return s.mailToken(ctx, who, credential.ForDeletion, "Account deletion requested",
		"To delete your account %[2]s for good, enter this token:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, change your password.\n")
}

// ChangeHandle gives an account another handle: one under the server's domains that is free, or one
// of its owner's, which must resolve to the account already. Errors are account.ErrHandleTaken, or an
// *xrpc.Error.
func (s *Service) ChangeHandle(ctx context.Context, who account.Caller, handle syntax.Handle) error {
	handle, err := s.checkHandle(ctx, who.DID, handle)
	if err != nil {
		return err
	}
	return s.moveHandle(ctx, who, handle)
}

// LookUpHandle resolves a handle anew, as it is seen from the network: nothing is cached. An error
// may be an *identity.HandleError, which says why each of the two ways failed.
func (s *Service) LookUpHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	s.resolver.Purge(syntax.AtIdentifier(h.Normalize()))
	return s.resolver.ResolveHandle(ctx, h.Normalize())
}

// Status is how an account stands: what it has, and what the network sees of it.
type Status struct {
	repo.Stats
	// Hosted: the DID document names this server, the account's key here and, of a did:plc, a rotation
	// key of the server. If not, Problem says why, in English.
	Hosted  bool
	Problem string
	// Endpoint is the server that the document names; empty: it names none, or cannot be read.
	Endpoint string
	// BlobBytes is the size of all blobs that were uploaded.
	BlobBytes int64
}

// Status returns how an account stands.
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

// Changed tells the owner of an account by mail that a password or an address was changed, or an app
// password was made: it is for [credential.Config]. What tells of another address goes to the one
// before. Without a Mailer, and to accounts without an address, it sends nothing.
func (s *Service) Changed(ctx context.Context, c credential.Change) {
	to, kind, subject, what := c.Account.Email, PasswordChanged, "Your password has changed", "its password was changed"
	switch c.Event {
	case credential.EmailChanged:
		to, kind, subject = c.Email, EmailChanged, "Your e-mail address has changed"
		what = "its e-mail address was changed to " + oneLine(c.Account.Email) + ". No more messages about it come here"
	case credential.AppPasswordMade:
		kind, subject, what = AppPasswordMade, "An app password was made", fmt.Sprintf("an app password was made, with the name %q", oneLine(c.AppPassword))
	}
	if s.cfg.Mailer == nil || to == "" {
		return
	}
	s.tell(Mail{
		Kind: kind, To: to, DID: c.Account.DID, Handle: c.Account.Handle, Subject: s.subject(subject),
		Text: fmt.Sprintf("Your account %s, on %s%s:\n\n    %s.\n\nIf that was not you, reset your password at once, and ask the administrator of the server for help.\n",
			c.Account.Handle, c.At.UTC().Format(mailTime), fromAddress(ctx), what),
	})
}
