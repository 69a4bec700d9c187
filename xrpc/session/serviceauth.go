package session

import (
	"context"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// getServiceAuth signs a token for another service with the caller's key. The service cannot ask
// whether the session that it was made for goes on, so it is short-lived.
func (s *Sessions) getServiceAuth(ctx context.Context, r *xrpc.Request, p api.ServerGetServiceAuthParams) (out api.ServerGetServiceAuthOutput, err error) {
	did, fragment, has := strings.Cut(p.Aud, "#")
	if _, err := syntax.ParseDID(did); err != nil || has && fragment == "" || strings.Contains(fragment, "#") {
		return out, xrpc.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	}
	method := string(p.Lxm)
	if method == "" {
		method = "*"
	}
	want := auth.Call(method, p.Aud)
	if r.Principal.Credential == auth.AppSession && !r.Principal.May(want) {
		return out, xrpc.InvalidRequest("insufficient access to request a service auth token for the following method: %s", p.Lxm)
	}
	if err := r.Demand(want); err != nil {
		return out, err
	}
	if proxy.Protected(p.Lxm) {
		return out, xrpc.InvalidRequest("cannot request a service auth token for the following protected method: %s", p.Lxm)
	}
	t := serviceauth.Token{Issuer: string(r.Principal.DID), Audience: p.Aud, Method: string(p.Lxm), Issued: s.now()}
	if p.Exp != nil && *p.Exp != 0 {
		t.Expires = time.Unix(*p.Exp, 0)
		switch life := t.Expires.Sub(s.now()); {
		case life < 0:
			return out, badToken(api.ErrorBadExpiration, "expiration is in past")
		case life > time.Hour:
			return out, badToken(api.ErrorBadExpiration, "cannot request a token with an expiration more than an hour in the future")
		case p.Lxm == "" && life > time.Minute:
			return out, badToken(api.ErrorBadExpiration, "cannot request a method-less token with an expiration more than a minute in the future")
		}
	}
	signer, err := s.accounts.Signer(ctx, r.Principal.DID)
	if err != nil {
		return out, err
	}
	token, err := serviceauth.Sign(ctx, signer, t)
	if err != nil {
		return out, err
	}
	// Once more, now that it is signed: so nobody gets one for a session that has ended.
	_, err = s.accounts.Authenticate(ctx, s.By(r))
	return api.ServerGetServiceAuthOutput{Token: token}, err
}
