package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/accounts"
	"github.com/pdskit/pdskit/examples/pds/internal/mail"
	"github.com/pdskit/pdskit/xrpc"
)

// tokenError is the answer for a token from a mail that is not good.
func tokenError(err error) error {
	switch {
	case errors.Is(err, accounts.ErrMailToken):
		return badToken("InvalidToken", "Token is invalid")
	case errors.Is(err, accounts.ErrMailTokenOld):
		return badToken("ExpiredToken", "Token is expired")
	}
	return err
}

// mailToken sends the caller a token. The text has its place, and the handle's.
func (s *Server) mailToken(ctx context.Context, r *xrpc.Request, p accounts.Purpose, subject, text string) error {
	a, err := s.account(r, caller(r))
	if err != nil {
		return err
	}
	if a.Email == "" {
		return xrpc.InvalidRequest("account does not have an email address")
	}
	return s.sendToken(ctx, a, p, subject, text)
}

func (s *Server) sendToken(ctx context.Context, a accounts.Account, p accounts.Purpose, subject, text string) error {
	token, err := s.accounts.NewMailToken(ctx, a.DID, p)
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
	return out, s.mailToken(ctx, r, accounts.ConfirmEmail, "Confirm your e-mail address",
		"To confirm this address for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

type confirmEmailInput struct {
	Email string `json:"email"`
	Token string `json:"token"`
}

func (s *Server) confirmEmail(ctx context.Context, r *xrpc.Request, in confirmEmailInput) (out xrpc.None, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	if !strings.EqualFold(a.Email, in.Email) {
		return out, &xrpc.Error{Status: http.StatusBadRequest, Name: "InvalidEmail", Message: "invalid email"}
	}
	return out, tokenError(s.accounts.Confirm(ctx, a.DID, in.Token))
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
	return out, s.sendToken(ctx, a, accounts.UpdateEmail, "Change your e-mail address",
		"To change the e-mail address of your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes.\n")
}

type updateEmailInput struct {
	Email           string `json:"email"`
	EmailAuthFactor bool   `json:"emailAuthFactor"`
	Token           string `json:"token"`
}

func (s *Server) updateEmail(ctx context.Context, r *xrpc.Request, in updateEmailInput) (out xrpc.None, err error) {
	a, err := s.account(r, caller(r))
	if err != nil {
		return out, err
	}
	if !validEmail(in.Email) {
		return out, errBadEmail
	}
	if !a.EmailConfirmedAt.IsZero() {
		if in.Token == "" {
			return out, &xrpc.Error{Status: http.StatusBadRequest, Name: "TokenRequired", Message: "confirmation token required"}
		}
		if err := s.accounts.CheckMailToken(ctx, a.DID, accounts.UpdateEmail, in.Token); err != nil {
			return out, tokenError(err)
		}
	}
	err = s.accounts.ChangeEmail(ctx, a.DID, in.Email)
	if errors.Is(err, accounts.ErrEmailTaken) {
		err = xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	}
	return out, err
}

var errBadEmail = xrpc.InvalidRequest("This email address is not supported, please use a different email.")

type requestPasswordResetInput struct {
	Email string `json:"email"`
}

// requestPasswordReset answers alike whether there is such an account or not.
func (s *Server) requestPasswordReset(ctx context.Context, r *xrpc.Request, in requestPasswordResetInput) (out xrpc.None, err error) {
	if !strings.Contains(in.Email, "@") {
		return out, nil
	}
	a, err := s.accounts.Find(ctx, in.Email)
	if errors.Is(err, accounts.ErrNotFound) {
		return out, nil
	} else if err != nil {
		return out, err
	}
	return out, s.sendToken(ctx, a, accounts.ResetPassword, "Reset your password",
		"To set another password for your account %[2]s, enter this code:\n\n    %[1]s\n\nIt is good for 15 minutes. If you did not ask for it, do nothing.\n")
}

type resetPasswordInput struct {
	Token    string `json:"token"`
	Password string `json:"password"`
}

func (s *Server) resetPassword(ctx context.Context, r *xrpc.Request, in resetPasswordInput) (out xrpc.None, err error) {
	if n := len([]rune(in.Password)); n == 0 || n > maxNewPassword {
		return out, xrpc.InvalidRequest("Invalid password length.")
	}
	return out, tokenError(s.accounts.SetPasswordByToken(ctx, in.Token, in.Password))
}
