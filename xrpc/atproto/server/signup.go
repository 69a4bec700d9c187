package server

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/session"
)

// SignUp is a request for an account with a new identity.
type SignUp struct {
	Handle   syntax.Handle // under one of the server's domains
	Email    string
	Password string
	Invite   string // code; empty unless one is required
}

// ErrEmail: a text is not an e-mail address, or the server does not accept it.
var ErrEmail error = errEmail

// Policy returns the configured policy.
func (s *Service) Policy() Policy { return s.cfg.Policy }

// SendsMail reports whether the server sends mail.
func (s *Service) SendsMail() bool { return s.cfg.Mailer != nil }

// SignUp makes an account with a new did:plc, as createAccount does, but opens no session. It is
// for pages; r is the page's request. Errors are [account.ErrHandleTaken], [account.ErrEmailTaken],
// [account.ErrInvite], [ErrEmail], or another *xrpc.Error whose Name is the reason.
func (s *Service) SignUp(ctx context.Context, r *xrpc.Request, in SignUp) (account.Account, error) {
	if s.cfg.CheckClock != nil { // before a DID is registered for nothing
		if err := s.cfg.CheckClock(ctx); err != nil {
			return account.Account{}, err
		}
	}
	if err := s.CheckHandle(ctx, in.Handle); err != nil {
		return account.Account{}, err
	}
	// Whether an address is taken is not for those to know who may not have an account.
	if s.cfg.Policy.InviteRequired {
		if err := s.accounts.CheckInvite(ctx, in.Invite); err != nil {
			return account.Account{}, err
		}
	}
	switch _, err := s.accounts.Find(ctx, in.Email); {
	case err == nil:
		return account.Account{}, account.ErrEmailTaken
	case !errors.Is(err, account.ErrNotFound):
		return account.Account{}, err
	}
	create := api.ServerCreateAccountInput{Handle: in.Handle, Email: in.Email, Password: in.Password, InviteCode: in.Invite}
	a, err := s.checkNewAccount(ctx, &create, false)
	if err != nil {
		return a, err
	}
	if err := s.admit(ctx, r, a); err != nil {
		return a, err
	}
	a, _, err = s.createNewAccount(ctx, a, create, false)
	return a, err
}

// CheckHandle returns an error if a new account cannot have a handle: [account.ErrHandleTaken], or
// an *xrpc.Error. The handle may still be taken before the account is made.
func (s *Service) CheckHandle(ctx context.Context, h syntax.Handle) error {
	handle, err := s.checkNewHandle(h, false)
	if err != nil {
		return err
	}
	switch _, err := s.accounts.Find(ctx, string(handle)); {
	case err == nil:
		return account.ErrHandleTaken
	case !errors.Is(err, account.ErrNotFound):
		return err
	}
	return nil
}

// RequestPasswordReset mails a code to the account with an address. It takes the same time if there
// is none.
func (s *Service) RequestPasswordReset(ctx context.Context, email string) error {
	_, err := s.requestPasswordReset(ctx, nil, api.ServerRequestPasswordResetInput{Email: email})
	return err
}

// ResetPassword sets an account's password with a mailed code. Errors are
// [credential.ErrMailToken], [credential.ErrMailTokenExpired], and an *xrpc.Error about the
// password.
func (s *Service) ResetPassword(ctx context.Context, token, password string) error {
	if n := utf8.RuneCountInString(password); n == 0 || n > session.MaxPassword {
		return xrpc.InvalidRequest("Invalid password length.")
	}
	return s.credentials.ResetPassword(ctx, token, password)
}
