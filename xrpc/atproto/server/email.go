package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/session"
)

// mailToken sends the caller a token.
func (s *Service) mailToken(ctx context.Context, who account.Caller, p credential.Purpose) error {
	if s.cfg.Mailer == nil {
		return errNoMail
	}
	if s.cfg.Outbox != nil {
		if err := s.cfg.Outbox.HasRoom(ctx, 1); err != nil {
			return s.noRoom(err)
		}
	}
	token, a, err := s.credentials.NewMailToken(ctx, who, p)
	if err != nil {
		return err
	}
	return s.sendToken(ctx, a, p, token)
}

// noRoom is what is answered where an Outbox has no room.
func (s *Service) noRoom(err error) error {
	s.log.Error("no room for a message", "err", err)
	return errBusy
}

// sendToken sends a token to the address of an account, unless it was written with it.
func (s *Service) sendToken(ctx context.Context, a account.Account, p credential.Purpose, token string) error {
	if s.notices {
		return nil
	}
	if may, err := s.mayMail(ctx, a, p); err != nil {
		return err
	} else if !may {
		return errUnconfirmed
	}
	return s.send(ctx, s.tokenMail(a, p, token))
}

// send sends a message, or keeps it; a failure is the mail server's, not the caller's.
func (s *Service) send(ctx context.Context, m Mail) error {
	if s.cfg.Mailer != nil && s.cfg.Outbox != nil {
		return s.cfg.Outbox.Send(ctx, m)
	}
	err := s.sendTold(ctx, m)
	var failed *MailError
	if errors.As(err, &failed) {
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "The message could not be sent, please try again later"}
	}
	return err
}

// sendTold sends a message at once, for callers who are told why it failed.
func (s *Service) sendTold(ctx context.Context, m Mail) error {
	if s.cfg.Mailer == nil {
		return errNoMail
	}
	err := s.cfg.Mailer.Send(ctx, m)
	s.mailed(err)
	if err != nil {
		s.log.Error("send mail", "kind", m.Kind, "did", m.DID, "err", err)
		return &MailError{err}
	}
	return nil
}

var errNoMail = &xrpc.Error{Status: http.StatusNotImplemented, Message: "This server sends no mail"}

func (s *Service) requestEmailConfirmation(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.RequestEmailConfirmation(ctx, s.sessions.By(r))
}

func (s *Service) confirmEmail(ctx context.Context, r *xrpc.Request, in api.ServerConfirmEmailInput) (out xrpc.None, err error) {
	return out, s.credentials.ConfirmEmail(ctx, s.sessions.By(r), in.Email, in.Token)
}

func (s *Service) requestEmailUpdate(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out api.ServerRequestEmailUpdateOutput, err error) {
	out.TokenRequired, err = s.RequestEmailChange(ctx, s.sessions.By(r))
	return out, err
}

func (s *Service) updateEmail(ctx context.Context, r *xrpc.Request, in api.ServerUpdateEmailInput) (out xrpc.None, err error) {
	if !validEmail(in.Email) {
		return out, errBadEmail
	}
	if in.EmailAuthFactor == nil {
		return out, s.credentials.ChangeEmail(ctx, s.sessions.By(r), in.Email, in.Token)
	}
	return out, s.setEmailFactor(ctx, r, in)
}

// setEmailFactor is updateEmail that says whether codes sent by mail are a second factor. The
// address stays: another one is not confirmed, so codes cannot be sent there at once.
func (s *Service) setEmailFactor(ctx context.Context, r *xrpc.Request, in api.ServerUpdateEmailInput) error {
	who := s.sessions.By(r)
	a, err := s.accounts.Authenticate(ctx, who)
	if err != nil {
		return err
	}
	factors, err := s.credentials.Factors(ctx, who)
	if err != nil {
		return err
	}
	switch on := *in.EmailAuthFactor; {
	case !strings.EqualFold(a.Email, in.Email):
		if on != factors.Email {
			return xrpc.InvalidRequest("Change the address first, confirm it, and then change whether codes are sent there")
		}
		return s.credentials.ChangeEmail(ctx, who, in.Email, in.Token)
	case on:
		return s.credentials.EnableEmailCodes(ctx, who)
	}
	return s.credentials.DisableEmailCodes(ctx, who, in.Token)
}

var errBadEmail = xrpc.InvalidRequest("This email address is not supported, please use a different email.")

// requestPasswordReset has the same answer after the same time whether there is such an account or
// not: the account is looked up and the message is sent in the background.
func (s *Service) requestPasswordReset(ctx context.Context, r *xrpc.Request, in api.ServerRequestPasswordResetInput) (out xrpc.None, err error) {
	if !strings.Contains(in.Email, "@") {
		return out, nil
	}
	if s.cfg.Mailer == nil {
		return out, errNoMail
	}
	if s.cfg.Outbox != nil { // whoever it is: that tells nothing of accounts
		if err := s.cfg.Outbox.HasRoom(ctx, 0); err != nil {
			return out, s.noRoom(err)
		}
	}
	if !s.post.do(func(ctx context.Context) { s.mailReset(ctx, in.Email) }) {
		return out, errBusy
	}
	sleep.For(ctx, s.resetAnswer)
	return out, nil
}

// resetAnswer is the default of Config.ResetDelay.
const resetAnswer = 500 * time.Millisecond

var errBusy = &xrpc.Error{Status: http.StatusServiceUnavailable, Message: "Too many messages are waiting to be sent, please try again later",
	Header: http.Header{"Retry-After": {"60"}}}

// mailReset sends a token to reset the password of the account that has an address, if there is
// one. If it has got one within the last minute, that is the one to enter: see
// [credential.Store.NewResetToken].
func (s *Service) mailReset(ctx context.Context, email string) {
	a, err := s.accounts.Find(ctx, email)
	token := ""
	if err == nil && s.cfg.Outbox != nil {
		err = s.cfg.Outbox.HasRoom(ctx, 1)
	}
	if err == nil {
		token, a, err = s.credentials.NewResetToken(ctx, a.DID)
	}
	if err == nil && token != "" {
		err = s.sendToken(ctx, a, credential.ForPasswordReset, token)
	}
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		s.log.Error("mail to reset a password", "err", err)
	}
}

// mailResetTo sends an account a token to reset its password.
func (s *Service) mailResetTo(ctx context.Context, did syntax.DID) error {
	return s.mailToken(ctx, account.Trusted(did), credential.ForPasswordReset)
}

func (s *Service) resetPassword(ctx context.Context, r *xrpc.Request, in api.ServerResetPasswordInput) (out xrpc.None, err error) {
	if n := len([]rune(in.Password)); n == 0 || n > session.MaxPassword {
		return out, xrpc.InvalidRequest("Invalid password length.")
	}
	return out, s.credentials.ResetPassword(ctx, in.Token, in.Password)
}
