package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/mail"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
)

// mailToken sends the caller a token. The text has its place, and the handle's.
func (s *Server) mailToken(ctx context.Context, who account.Caller, p account.Purpose, subject, text string) error {
	token, a, err := s.accounts.NewMailToken(ctx, who, p)
	if err != nil {
		return err
	}
	return s.send(ctx, s.mail, mail.Message{To: a.Email, Subject: s.subject(subject), Text: fmt.Sprintf(text, token, a.Handle)})
}

// send sends a message; a failure is the mail server's, not the caller's.
func (s *Server) send(ctx context.Context, by mail.Sender, m mail.Message) error {
	if err := by.Send(ctx, m); err != nil {
		s.log.Error("send mail", "subject", m.Subject, "err", err)
		return &xrpc.Error{Status: http.StatusBadGateway, Message: "The message could not be sent, please try again later"}
	}
	return nil
}

func (s *Server) requestEmailConfirmation(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out xrpc.None, err error) {
	return out, s.mailToken(ctx, by(r), account.ConfirmEmail, "Confirm your e-mail address",
		"To confirm this address for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

type confirmEmailInput struct {
	Email string `json:"email"`
	Token string `json:"token"`
}

func (s *Server) confirmEmail(ctx context.Context, r *xrpc.Request, in confirmEmailInput) (out xrpc.None, err error) {
	return out, s.accounts.Confirm(ctx, by(r), in.Email, in.Token)
}

type tokenRequiredOutput struct {
	TokenRequired bool `json:"tokenRequired"`
}

func (s *Server) requestEmailUpdate(ctx context.Context, r *xrpc.Request, _ xrpc.None) (out tokenRequiredOutput, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	out.TokenRequired = !a.EmailConfirmedAt.IsZero()
	if !out.TokenRequired {
		return out, nil
	}
	return out, s.mailToken(ctx, by(r), account.UpdateEmail, "Change your e-mail address",
		"To change the e-mail address of your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

type updateEmailInput struct {
	Email           string `json:"email"`
	EmailAuthFactor bool   `json:"emailAuthFactor"`
	Token           string `json:"token"`
}

func (s *Server) updateEmail(ctx context.Context, r *xrpc.Request, in updateEmailInput) (out xrpc.None, err error) {
	if !validEmail(in.Email) {
		return out, errBadEmail
	}
	return out, s.accounts.ChangeEmail(ctx, by(r), in.Email, in.Token)
}

var errBadEmail = xrpc.InvalidRequest("This email address is not supported, please use a different email.")

type requestPasswordResetInput struct {
	Email string `json:"email"`
}

// requestPasswordReset answers alike whether there is such an account or not, and after the same
// time: who the account is, the token and the mail are seen to besides.
func (s *Server) requestPasswordReset(ctx context.Context, r *xrpc.Request, in requestPasswordResetInput) (out xrpc.None, err error) {
	if !strings.Contains(in.Email, "@") {
		return out, nil
	}
	if !s.post.do(func(ctx context.Context) { s.mailReset(ctx, in.Email) }) {
		return out, errBusy
	}
	select {
	case <-time.After(s.resetAnswer):
	case <-ctx.Done():
	}
	return out, nil
}

// resetAnswer is how long requestPasswordReset takes: long enough for the mail to be on its way
// in most cases, so that what a client says of it is true.
const resetAnswer = 500 * time.Millisecond

var errBusy = &xrpc.Error{Status: http.StatusServiceUnavailable, Message: "Too many messages are waiting to be sent, please try again later",
	Header: http.Header{"Retry-After": {"60"}}}

// mailReset sends a token to reset the password of the account that has an address, if there is
// one.
func (s *Server) mailReset(ctx context.Context, email string) {
	a, err := s.accounts.Find(ctx, email)
	if err == nil {
		err = s.mailToken(ctx, account.Trusted(a.DID), account.ResetPassword, "Reset your password",
			"To set another password for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, do nothing.\n")
	}
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		s.log.Error("mail to reset a password", "err", err)
	}
}

type resetPasswordInput struct {
	Token    string `json:"token"`
	Password string `json:"password"`
}

func (s *Server) resetPassword(ctx context.Context, r *xrpc.Request, in resetPasswordInput) (out xrpc.None, err error) {
	if n := len([]rune(in.Password)); n == 0 || n > maxNewPassword {
		return out, xrpc.InvalidRequest("Invalid password length.")
	}
	return out, s.accounts.SetPasswordByToken(ctx, in.Token, in.Password)
}
