package session

import (
	"encoding/base64"
	"errors"
	"github.com/pdskit/pdskit/repo/account/credential"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// Scopes of session tokens.
const (
	scopeAccess      = "com.atproto.access"
	scopeAppPassword = "com.atproto.appPass"
	scopePrivileged  = "com.atproto.appPassPrivileged"
	scopeTakendown   = "com.atproto.takendown"
	scopeRefresh     = "com.atproto.refresh"
)

// accessLife is how long an access token is good.
const accessLife = 2 * time.Hour

// maxSkew is how far in the future an access token may have been made: clocks are set by seconds.
const maxSkew = time.Minute

// claims are what a session token says.
type claims struct {
	Scope string `json:"scope"`
	// Session is the name of the session, and Credentials the value of the account's counter
	// under which the token was made. Both are missing in tokens from before they were introduced.
	Session     string `json:"sid"`
	Credentials int64  `json:"cred"`
	jwt.RegisteredClaims
}

// UnmarshalJSON implements json.Unmarshaler, with exact names.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return data.UnmarshalJSON(b, (*plain)(c))
}

// key returns the key of session tokens, if the token's header has each name once.
func (s *Sessions) key(t *jwt.Token) (any, error) {
	head, _, _ := strings.Cut(t.Raw, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return nil, err
	}
	return s.cfg.Key, data.UnmarshalJSON(text, &struct{}{})
}

// Tokens returns the access token and the refresh token of a session. a is the account at the time
// when the session was opened or refreshed.
func (s *Sessions) Tokens(a account.Account, x credential.Session) (access, refresh string, err error) {
	scope := scopeAccess
	switch {
	case a.Status() == account.TakenDown:
		scope = scopeTakendown
	case x.Privileged:
		scope = scopePrivileged
	case x.AppPassword != "":
		scope = scopeAppPassword
	}
	now := s.now()
	sign := func(typ, scope, id string, life time.Duration) (string, error) {
		c := jwt.MapClaims{
			"scope": scope, "aud": s.cfg.ServiceDID, "sub": a.DID, "iat": now.Unix(), "exp": now.Add(life).Unix(),
			"sid": x.Name(), "cred": x.Credentials,
		}
		if id != "" {
			c["jti"] = id
		}
		t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
		t.Header["typ"] = typ
		return t.SignedString(s.cfg.Key)
	}
	access, err1 := sign("at+jwt", scope, "", accessLife)
	refresh, err2 := sign("refresh+jwt", scopeRefresh, x.ID, credential.RefreshLife)
	return access, refresh, errors.Join(err1, err2)
}

// signatures reads tokens and checks their signatures, but no claims.
var signatures = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithoutClaimsValidation())

// Limits on the cache of verified tokens: their number and bytes, at some 1 KiB a token.
const (
	maxVerified      = 5000
	maxVerifiedBytes = 1 << 10
)

// verify checks a session token, which may have expired if the caller says so, and that it has one
// of the scopes.
func (s *Sessions) verify(token string, expired bool, scopes ...string) (*claims, error) {
	// The signature depends on nothing but the text, so what was verified once is remembered.
	c, err := s.verified.Of([]byte(token), func(text []byte) (*claims, error) {
		c := &claims{}
		_, err := signatures.ParseWithClaims(string(text), c, s.key)
		return c, err
	})
	if err == nil {
		err = jwt.NewValidator(jwt.WithAudience(string(s.cfg.ServiceDID)), jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.now)).Validate(c)
	}
	late := errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenInvalidAudience)
	switch {
	case late && !expired:
		return nil, badToken(api.ErrorExpiredToken, "Token has expired")
	case err != nil && !late:
		return nil, badToken(api.ErrorInvalidToken, "Token could not be verified")
	case c.Scope != scopeRefresh && c.IssuedAt != nil && c.IssuedAt.After(s.now().Add(maxSkew)) && !expired:
		// Made by a clock that was ahead, it would live for longer. The refresh token gets another
		// one.
		return nil, badToken(api.ErrorExpiredToken, "Token is from the future")
	case !slices.Contains(scopes, c.Scope):
		return nil, badToken(api.ErrorInvalidToken, "Bad token scope")
	}
	if _, err := syntax.ParseDID(c.Subject); err != nil {
		return nil, badToken(api.ErrorInvalidToken, "Malformed token")
	}
	return c, nil
}
