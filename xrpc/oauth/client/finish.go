package client

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/auth"
)

type signer = crypto.Signer

// Finish completes a login. query is that of the URL to which the browser came back, and browser is
// the secret of Login.Browser. Finish exchanges the code for tokens, and checks, without using
// caches, that the server is responsible for the account that it names. It stores the session, and
// returns it with the AppState of the Login.
//
// A callback can be used once. Errors are *CallbackError. They wrap ErrState if there is no such
// pending login, have a Code if the user or the server has refused, or wrap ErrTemporary,
// ErrServer, ErrMismatch or an *Error. In each case the user may begin again.
func (c *Client) Finish(ctx context.Context, query url.Values, browser string) (*Session, []byte, error) {
	st, err := c.takeState(ctx, query, browser)
	var app []byte
	if st != nil {
		app = st.AppState
	}
	if err != nil {
		return nil, app, &CallbackError{AppState: app, Err: err}
	}
	get := func(name string) string { return query.Get(name) }
	switch iss := get("iss"); {
	case iss == "":
		err = fmt.Errorf("%w: the callback does not say which server it comes from", ErrMismatch)
	case iss != st.Issuer: // an attack: mix-up (RFC 9207)
		err = fmt.Errorf("%w: the login began at %s, and the callback comes from %.200q", ErrMismatch, st.Issuer, iss)
	case get("error") != "":
		return nil, app, &CallbackError{AppState: app, Code: clip(get("error")), Description: clip(get("error_description"))}
	case !wellFormed(get("code"), maxToken):
		err = fmt.Errorf("%w: the callback has no code", ErrServer)
	}
	if err != nil {
		return nil, app, &CallbackError{AppState: app, Err: err}
	}
	s, err := c.exchange(ctx, st, get("code"))
	if err != nil {
		return nil, app, &CallbackError{AppState: app, Err: err}
	}
	return s, app, nil
}

// takeState returns the login that a callback belongs to. It is gone then.
func (c *Client) takeState(ctx context.Context, query url.Values, browser string) (*loginState, error) {
	for _, name := range []string{"state", "iss", "code", "error", "error_description"} {
		if len(query[name]) > 1 {
			return nil, fmt.Errorf("%w: the callback has %s twice", ErrState, name)
		}
	}
	id := query.Get("state")
	if !wellFormed(id, maxDescription) {
		return nil, fmt.Errorf("%w: the callback has no state", ErrState)
	}
	name := digest.Hash(id)
	raw, err := c.cfg.States.Take(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrState
	}
	if err != nil {
		return nil, fmt.Errorf("%w: reading the login: %w", ErrTemporary, err)
	}
	var st loginState
	if err := c.unseal(statePlace+name, raw, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Version != version:
		return nil, fmt.Errorf("%w: stored in version %d", ErrState, st.Version)
	case !c.now().Before(st.Expires):
		return nil, fmt.Errorf("%w: it took too long", ErrState)
	case st.Browser != "" && subtle.ConstantTimeCompare([]byte(st.Browser), []byte(digest.Hash(browser))) != 1:
		return nil, fmt.Errorf("%w: another browser began it (or the same one, at another host name)", ErrState)
	}
	return &st, nil
}

// tokens are the answer of the token endpoint.
type tokens struct {
	Access  string   `json:"access_token"`
	Type    string   `json:"token_type"`
	Refresh string   `json:"refresh_token"`
	Scope   string   `json:"scope"`
	Subject string   `json:"sub"` // a DID, once it is checked
	Life    *float64 `json:"expires_in"`
}

const (
	maxToken = 16 << 10 // bytes
	maxScope = 24 << 10
	maxLife  = 366 * 24 * time.Hour
)

// check checks what can be without asking anybody.
func (t *tokens) check(issuer string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: answer of %s: %w", ErrServer, issuer, fmt.Errorf(format, args...))
	}
	_, err := syntax.ParseDID(t.Subject)
	switch {
	case !wellFormed(t.Access, maxToken):
		return bad("no access_token")
	case t.Refresh != "" && !wellFormed(t.Refresh, maxToken):
		return bad("malformed refresh_token")
	case !strings.EqualFold(t.Type, "DPoP"):
		return bad("token_type %.40q, not DPoP", t.Type)
	case err != nil:
		return bad("sub is no DID: %w", err)
	case len(t.Scope) > maxScope:
		return bad("scope of more than %d bytes", maxScope)
	case !slices.Contains(strings.Fields(t.Scope), auth.Atproto):
		return bad("the scope does not contain %s", auth.Atproto)
	}
	return nil
}

// expires is when the access token will be of no use; zero: the server does not say.
func (t *tokens) expires(now time.Time) time.Time {
	if t.Life == nil || !(*t.Life > 0) {
		return time.Time{}
	}
	return now.Add(time.Duration(math.Min(*t.Life, maxLife.Seconds()) * float64(time.Second))).UTC()
}

// exchange exchanges a code for a session.
func (c *Client) exchange(ctx context.Context, st *loginState, code string) (*Session, error) {
	key, err := parseKey(st.Key)
	if err != nil {
		return nil, err
	}
	s, err := c.disc.Server(ctx, st.Issuer)
	if err != nil {
		return nil, err
	}
	sent := c.now()
	var t tokens
	err = c.post(ctx, s, s.Token, key, st.Auth, url.Values{
		"grant_type": {grantCode}, "code": {code}, "redirect_uri": {st.Redirect}, "code_verifier": {st.Verifier},
	}, &t)
	var out *Session
	if err == nil {
		out, err = c.begin(ctx, st, &t, sent)
	}
	if err != nil {
		// Nobody has the tokens, if there are any: they must not stay good.
		c.revokeTokens(context.WithoutCancel(ctx), s, key, st.Auth, t.Refresh, t.Access)
		return nil, err
	}
	return out, nil
}

// begin checks and stores a new session.
func (c *Client) begin(ctx context.Context, st *loginState, t *tokens, sent time.Time) (*Session, error) {
	if err := t.check(st.Issuer); err != nil {
		return nil, err
	}
	did := syntax.DID(t.Subject)
	if st.DID != "" && did != st.DID {
		return nil, fmt.Errorf("%w: the login is for %s, and %s lets %s in", ErrMismatch, st.DID, st.Issuer, did)
	}
	found, err := c.disc.Account(ctx, syntax.AtIdentifier(did))
	if err != nil {
		return nil, err
	}
	if found.Server.Issuer != st.Issuer {
		return nil, fmt.Errorf("%w: %s says that it lets %s in, for whom %s speaks", ErrMismatch, st.Issuer, did, found.Server.Issuer)
	}
	r := record{
		Version: version, DID: did, Handle: found.Handle, Issuer: st.Issuer, PDS: found.PDS, Auth: st.Auth, Key: st.Key,
		Access: t.Access, Refresh: t.Refresh, Scope: t.Scope, Created: sent.UTC(), Renewed: sent.UTC(), Expires: t.expires(sent),
	}
	id := newSessionID(r.DID)
	raw, err := c.seal(sessionPlace+string(id), r)
	if err != nil {
		return nil, err
	}
	h, err := newHeld(r, raw)
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Sessions.CompareAndSwap(ctx, id, nil, raw); err != nil {
		c.cfg.Sessions.Delete(context.WithoutCancel(ctx), id, raw) // it may be there nevertheless
		return nil, fmt.Errorf("%w: storing the session: %w", ErrTemporary, err)
	}
	s := c.session(id, h)
	c.updated(s.Info())
	return s, nil
}

// revokeTokens tells a server that tokens are not needed: the refresh token, or else the access
// token.
func (c *Client) revokeTokens(ctx context.Context, s *Server, key signer, a clientAuth, refresh, access string) error {
	token, hint := refresh, "refresh_token"
	if token == "" {
		token, hint = access, "access_token"
	}
	if s.Revocation == "" || !wellFormed(token, maxToken) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return c.post(ctx, s, s.Revocation, key, a, url.Values{"token": {token}, "token_type_hint": {hint}}, nil)
}
