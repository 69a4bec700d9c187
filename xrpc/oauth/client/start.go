package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/internal/digest"
)

// Login has the options of a login.
type Login struct {
	// Account is the user's input: a handle, a DID, or the https:// URL of a PDS or an
	// authorization server, which then asks for the account. It is required.
	Account string
	// Scope is the requested scope, a part of the metadata's. Empty: all of it.
	Scope string
	// RedirectURI is where the browser comes back to: one of the metadata's. Empty: the first one.
	RedirectURI string
	// AppState is returned at the end of the login, for example the page from which the user came.
	// At most 16 KiB.
	AppState []byte
	// Prompt is "login", "consent", "select_account", "create" or "none" (OpenID Connect, 3.1.2.1,
	// and Initiating User Registration). Empty: the server decides.
	Prompt string
	// Locales are the languages that the user prefers (BCP 47), in descending order.
	Locales []string
	// Browser is a secret of the browser, from a cookie. Finish must get the same one. It prevents
	// an attack in which a victim completes the attacker's login, and then works in the attacker's
	// account (RFC 6819, 4.4.1.8). StartHTTP sets it. Empty: whoever has the URL of the callback
	// may complete the login.
	Browser string
}

// maxAppState is in bytes.
const maxAppState = 16 << 10

// Start begins a login: it finds the account's authorization server and pushes a request there. It
// returns the URL to send the browser to. The server asks the user, and the browser comes back to
// the redirect URI: see Finish.
//
// Errors are ErrInput, ErrTemporary, ErrServer, ErrMismatch, an *Error of the server, and those of
// package identity, such as identity.ErrNotFound.
func (c *Client) Start(ctx context.Context, l Login) (*url.URL, error) {
	if l.Scope == "" {
		l.Scope = c.cfg.Metadata.Scope
	}
	if l.RedirectURI == "" {
		l.RedirectURI = c.cfg.Metadata.RedirectURIs[0]
	}
	if !c.cfg.Metadata.redirects(l.RedirectURI) {
		return nil, fmt.Errorf("oauth client: the redirect URI %s is not in the client's metadata", l.RedirectURI)
	}
	if err := c.cfg.Metadata.declares(l.Scope); err != nil {
		return nil, err
	}
	if len(l.AppState) > maxAppState {
		return nil, fmt.Errorf("oauth client: Login.AppState has more than %d bytes", maxAppState)
	}
	found, err := c.disc.Find(ctx, l.Account)
	if err != nil {
		return nil, err
	}
	s := found.Server
	auth, err := c.chooseAuth(s)
	if err != nil {
		return nil, err
	}
	keyText, key, err := newKey()
	if err != nil {
		return nil, err
	}
	id := rand.Text() + rand.Text()
	st := loginState{
		Version: version, Issuer: s.Issuer, DID: found.DID, Handle: found.Handle, Auth: auth, Key: keyText,
		Verifier: rand.Text() + rand.Text(), Redirect: l.RedirectURI, AppState: l.AppState, Expires: c.now().Add(c.cfg.LoginLife),
	}
	if l.Browser != "" {
		st.Browser = digest.Hash(l.Browser)
	}
	// The login is stored before anybody can come back.
	name := digest.Hash(id)
	raw, err := c.seal(statePlace+name, st)
	if err != nil {
		return nil, err
	}
	if err := c.cfg.States.Put(ctx, name, raw, st.Expires); err != nil {
		return nil, fmt.Errorf("%w: storing the login: %w", ErrTemporary, err)
	}
	form := url.Values{
		"response_type": {"code"}, "redirect_uri": {l.RedirectURI}, "scope": {l.Scope}, "state": {id},
		"code_challenge": {digest.Hash(st.Verifier)}, "code_challenge_method": {methodS256},
	}
	if found.DID != "" {
		form.Set("login_hint", clean(l.Account))
	}
	if l.Prompt != "" {
		form.Set("prompt", l.Prompt)
	}
	if len(l.Locales) > 0 {
		form.Set("ui_locales", strings.Join(l.Locales, " "))
	}
	out, err := c.push(ctx, s, key, auth, form)
	if err != nil {
		c.cfg.States.Take(context.WithoutCancel(ctx), name) // nobody will come back; else it expires
		return nil, err
	}
	return out, nil
}

// push pushes an authorization request (RFC 9126) and returns the address at which it is answered.
func (c *Client) push(ctx context.Context, s *Server, key signer, auth clientAuth, form url.Values) (*url.URL, error) {
	var pushed struct {
		URI string `json:"request_uri"`
	}
	if err := c.post(ctx, s, s.Push, key, auth, form, &pushed); err != nil {
		return nil, err
	}
	if !wellFormed(pushed.URI, 2048) {
		return nil, fmt.Errorf("%w: %s answers with the request_uri %.100q", ErrServer, s.Issuer, pushed.URI)
	}
	u, err := parseAddress(s.Authorization, c.disc.Development)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	q := u.Query()
	q.Set("client_id", c.cfg.Metadata.ID)
	q.Set("request_uri", pushed.URI)
	u.RawQuery = q.Encode()
	return u, nil
}
