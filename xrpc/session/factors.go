package session

import (
	"context"
	"net/http"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// factor completes a proof by a code, if there is one and the account asks for it.
func (s *Sessions) factor(ctx context.Context, p credential.Proof, code string) (credential.Proof, error) {
	if p.App != nil || code == "" {
		return p, nil
	}
	set, err := s.credentials.Factors(ctx, account.Trusted(p.Account.DID))
	if err != nil || !set.Required {
		return p, err
	}
	return s.credentials.CheckFactor(ctx, p, code)
}

// askFactor returns credential.ErrFactorRequired if a proof is not complete, and sends a code if
// the account has nothing else that shows one.
func (s *Sessions) askFactor(ctx context.Context, p credential.Proof) error {
	if p.App != nil || p.Shown.ID != "" {
		return nil
	}
	set, err := s.credentials.Factors(ctx, account.Trusted(p.Account.DID))
	if err != nil || !set.Required {
		return err
	}
	for _, f := range set.Factors {
		if f.Kind == credential.AuthenticatorApp {
			return credential.ErrFactorRequired
		}
	}
	if s.cfg.SendCode == nil {
		return credential.ErrFactorRequired
	}
	code, a, err := s.credentials.NewFactorCode(ctx, p)
	if err == nil && code != "" {
		if err = s.cfg.SendCode(ctx, a, code); err != nil {
			// Void it, so that the next try sends another one.
			_ = s.credentials.UseMailToken(ctx, account.Trusted(a.DID), credential.ForSignIn, code)
		}
	}
	if err != nil {
		return err
	}
	return errMailedFactor
}

var (
	errFactorRequired = &xrpc.Error{Status: http.StatusUnauthorized, Name: api.ErrorAuthFactorTokenRequired,
		Message: "A code of your authenticator app, or a recovery code, is required to sign in"}
	errMailedFactor = &xrpc.Error{Status: http.StatusUnauthorized, Name: api.ErrorAuthFactorTokenRequired,
		Message: "A sign in code has been sent to your email address"}
	errTooManyCodes = &xrpc.Error{Status: http.StatusTooManyRequests, Message: "Too many wrong codes, please try again later"}
)
