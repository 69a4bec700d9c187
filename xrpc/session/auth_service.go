package session

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

var errUntrusted = &xrpc.Error{Status: http.StatusUnauthorized, Name: "UntrustedIss", Message: "Untrusted issuer"}

// openServiceAuth prepares to verify the service tokens of others.
func (s *Sessions) openServiceAuth() {
	audience := []string{string(s.cfg.ServiceDID), string(s.cfg.ServiceDID) + "#" + identity.PDSID}
	keys := &serviceauth.DocumentKeys{Resolver: s.resolver, Now: s.now}
	s.services = &serviceauth.Verifier{Audience: audience, Keys: freshKeys{keys}, Replays: s.replays("services"), Now: s.now}
	// A service that fails to upload tries again with the token it has. No harm is done by that.
	s.uploaders = &serviceauth.Verifier{Audience: audience, Keys: ownKeys{s.accounts}, Now: s.now}
	s.moderators = &serviceauth.Verifier{
		Audience: audience, Keys: keys, Replays: s.replays("moderators"), Now: s.now,
		KeyIDs: []string{identity.SigningKeyID, "atproto_label"},
	}
}

// freshKeys are keys of documents that are at most half a minute old. An account is made, and one that
// was left is given back, on the word of the server that the document names at present: one that it
// named before must not have the hour for which documents are believed otherwise, or the day while
// they cannot be had.
type freshKeys struct{ *serviceauth.DocumentKeys }

func (k freshKeys) Key(ctx context.Context, did syntax.DID, fragment string, _ bool) (*crypto.PublicKey, error) {
	return k.DocumentKeys.Key(ctx, did, fragment, true)
}

// ownKeys are the keys that accounts of this server have at present. Tokens of an account are signed
// here, so they are held against the key that signs them: a document may be believed for an hour, or
// longer while it cannot be had, and would have a key accepted that was replaced since.
type ownKeys struct{ accounts *account.Store }

func (k ownKeys) Key(ctx context.Context, did syntax.DID, _ string, _ bool) (*crypto.PublicKey, error) {
	signer, err := k.accounts.Signer(ctx, did)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return nil, err
	case err != nil: // the token may be a good one
		return nil, fmt.Errorf("%w: %w", identity.ErrUnavailable, err)
	}
	return signer.PublicKey(), nil
}

// replays remembers the tokens that were used by a kind of callers.
func (s *Sessions) replays(kind string) *serviceauth.Replays {
	if !s.cfg.Shared {
		return &serviceauth.Replays{}
	}
	return &serviceauth.Replays{KV: s.accounts.Host().Store().KV, Prefix: "servicetoken/" + kind + "/"}
}

// peek reads the issuer and the method of a service token that is not verified yet, to
// find out how it is to be verified. They are empty if the token is none.
func peek(r *xrpc.Request) (issuer, method string) {
	token, err := bearer(r)
	if err != nil {
		return "", ""
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Issuer string `json:"iss"`
		Method string `json:"lxm"`
	}
	if err != nil || data.UnmarshalJSON(text, &c) != nil {
		return "", ""
	}
	return c.Issuer, c.Method
}

// byModerator reports whether a request claims to come from the moderation service.
func (s *Sessions) byModerator(r *xrpc.Request) bool {
	mod := string(s.cfg.Moderator)
	issuer, _ := peek(r)
	return mod != "" && (issuer == mod || issuer == mod+"#atproto_labeler")
}

// Moderator returns an authenticator that demands the administrator's password, or a token of the
// moderation service.
func (s *Sessions) Moderator() xrpc.Authenticator {
	service := s.moderators.Authenticator(func(r *xrpc.Request, t serviceauth.Token) (auth.Principal, error) {
		if t.DID() != s.cfg.Moderator {
			return auth.Principal{}, errUntrusted
		}
		return auth.Principal{
			Role: auth.Administrator, Credential: auth.ServiceToken, Client: t.Issuer, Permissions: auth.Only(auth.Moderate),
		}, nil
	})
	return func(r *xrpc.Request) (auth.Principal, error) {
		if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); !strings.EqualFold(scheme, "bearer") {
			return s.Admin(r)
		}
		if !s.byModerator(r) { // so that no document of a stranger is fetched
			return auth.Principal{}, errUntrusted
		}
		return service(r)
	}
}

// UserOrModerator returns an authenticator that demands an access token, or a token of the
// moderation service. It grants the moderation service the permission also, which users need.
func (s *Sessions) UserOrModerator(down TakenDown, also auth.Permission) xrpc.Authenticator {
	user, moderator := s.User(down), s.Moderator()
	return func(r *xrpc.Request) (auth.Principal, error) {
		if !s.byModerator(r) {
			return user(r)
		}
		p, err := moderator(r)
		p.Permissions = p.Permissions.With(auth.Only(also))
		return p, err
	}
}

// Uploader returns an authenticator that demands an access token, or a service token signed with
// the present key of an account of this server. A service that processes videos uploads them with
// such a token.
func (s *Sessions) Uploader() xrpc.Authenticator {
	user := s.User(RefuseTakenDown)
	upload, _ := auth.ParseScopes("blob:*/*")
	service := s.uploaders.Authenticator(func(r *xrpc.Request, t serviceauth.Token) (p auth.Principal, err error) {
		if t.Issuer != string(t.DID()) {
			return p, errUntrusted
		}
		a, err := s.account(r, t.DID())
		switch {
		case err != nil:
			return p, err
		case a.Status() == account.TakenDown:
			return p, errTakenDown
		case t.Issued.Before(a.CredentialsAt): // it was signed for a session that has ended
			return p, errTokenRevoked
		}
		// Nothing of that may change while the bytes arrive.
		return auth.Principal{
			Role: auth.User, Credential: auth.ServiceToken, DID: t.DID(), Permissions: upload, Credentials: a.Credentials,
		}, nil
	})
	return func(r *xrpc.Request) (auth.Principal, error) {
		issuer, method := peek(r)
		if method == "" {
			return user(r)
		}
		if _, err := s.accounts.ByDID(r.Context(), syntax.DID(issuer)); errors.Is(err, account.ErrNotFound) {
			return auth.Principal{}, errAccountNotFound
		} else if err != nil {
			return auth.Principal{}, err
		}
		return service(r)
	}
}

// OptionalService returns an authenticator that accepts a service token of an account of another
// server, or no credentials.
func (s *Sessions) OptionalService() xrpc.Authenticator {
	demand := s.services.Authenticator(func(r *xrpc.Request, t serviceauth.Token) (auth.Principal, error) {
		if t.Issuer != string(t.DID()) {
			return auth.Principal{}, errUntrusted
		}
		return auth.Principal{Role: auth.Service, Credential: auth.ServiceToken, DID: t.DID()}, nil
	})
	return func(r *xrpc.Request) (auth.Principal, error) {
		if r.Header.Get("Authorization") == "" {
			return auth.Principal{}, nil
		}
		return demand(r)
	}
}
