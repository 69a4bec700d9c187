package migrate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// session is an account's session at a server, or, without tokens, nobody's. It is
// opened again when it expires, and waits for a server that is away. It is safe for
// concurrent use.
type session struct {
	host     string
	http     *http.Client
	patience time.Duration
	login    func(ctx context.Context) (tokens, error) // nil: nobody's

	mu sync.Mutex
	tokens
}

// tokens are the output of createSession and createAccount.
type tokens struct {
	Access  string        `json:"accessJwt"`
	Refresh string        `json:"refreshJwt"`
	DID     syntax.DID    `json:"did"`
	Handle  syntax.Handle `json:"handle"`
	Email   string        `json:"email"`
	Active  *bool         `json:"active"`
	Status  string        `json:"status"`
}

func (s *session) set(t tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = t
}

// client is a client with a token, and without tries of its own.
func (s *session) client(token string) *xrpc.Client {
	c := &xrpc.Client{Host: s.host, HTTP: s.http, Retries: -1, MaxBody: maxAnswer}
	if token != "" {
		c.Authorize = xrpc.Bearer(token)
	}
	return c
}

// do runs a request, which must do no harm if it runs again, until it succeeds, fails
// for good, or patience ends.
func (s *session) do(ctx context.Context, fn func(c *xrpc.Client) error) error {
	begin := time.Now()
	renewed := 0
	for try, wait := 0, 250*time.Millisecond; ; try, wait = try+1, min(2*wait, 10*time.Second) {
		s.mu.Lock()
		token := s.Access
		s.mu.Unlock()
		err := fn(s.client(token))
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if s.login != nil && expired(err) && renewed < 2 {
			renewed++
			if err := s.renew(ctx, token); err != nil {
				return err
			}
			continue
		}
		var xerr *xrpc.Error
		if errors.As(err, &xerr) {
			wait = max(wait, xerr.RetryAfter(time.Now()))
			if xerr.Status == http.StatusInternalServerError && try >= 3 {
				return err
			}
		}
		if !temporary(err) || time.Since(begin)+wait > s.patience {
			return err
		}
		if err := sleep.For(ctx, wait); err != nil {
			return err
		}
	}
}

// renew opens the session again, unless somebody else did since it had the token.
func (s *session) renew(ctx context.Context, token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Access != token {
		return nil
	}
	next := s.tokens
	if err := s.client(s.Refresh).Procedure(ctx, "com.atproto.server.refreshSession", nil, &next); err != nil {
		if next, err = s.login(ctx); err != nil {
			return err
		}
	}
	s.tokens = next
	return nil
}

func (s *session) query(ctx context.Context, nsid string, params, out any) error {
	return s.do(ctx, func(c *xrpc.Client) error { return c.Query(ctx, nsid, params, out) })
}

func (s *session) procedure(ctx context.Context, nsid string, in, out any) error {
	return s.do(ctx, func(c *xrpc.Client) error { return c.Procedure(ctx, nsid, in, out) })
}

// expired reports whether a session must be opened again.
func expired(err error) bool {
	var xerr *xrpc.Error
	return errors.As(err, &xerr) && (xerr.Name == "ExpiredToken" || xerr.Status == http.StatusUnauthorized && xerr.Name == "InvalidToken")
}

// temporary reports whether the same request may succeed later.
func temporary(err error) bool {
	var xerr *xrpc.Error
	if errors.As(err, &xerr) {
		return xerr.Status == http.StatusTooManyRequests || xerr.Status >= 500 && xerr.Status != http.StatusNotImplemented
	}
	return errors.As(err, new(*net.OpError)) || errors.As(err, new(*url.Error)) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, errStalled) || errors.Is(err, identity.ErrUnavailable)
}

// isAppToken reports whether an access token is that of an app password, as far as its
// scope tells.
func isAppToken(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Scope string `json:"scope"`
	}
	return err == nil && data.UnmarshalJSON(text, &c) == nil &&
		slices.Contains([]string{"com.atproto.appPass", "com.atproto.appPassPrivileged"}, c.Scope)
}

// loginOld opens the session at the old server.
func (m *mover) loginOld(ctx context.Context) (t tokens, err error) {
	if m.OldPassword == "" {
		q := Question{"old-password", fmt.Sprintf("Password of %s at %s (not an app password)", m.Account, m.old.host), true}
		if m.OldPassword, err = m.ask(ctx, q, "OldPassword"); err != nil {
			return t, err
		}
	}
	id := m.Account
	if m.st.DID != "" {
		id = string(m.st.DID)
	}
	in := map[string]any{"identifier": id, "password": m.OldPassword}
	open := func() error {
		anyone := &session{host: m.old.host, http: m.http, patience: m.Patience}
		return anyone.procedure(ctx, "com.atproto.server.createSession", in, &t)
	}
	err = open()
	if errors.Is(err, &xrpc.Error{Name: "AuthFactorTokenRequired"}) {
		q := Question{"auth-factor-token", "Sign-in code that " + m.old.host + " has sent by mail", false}
		code, askErr := m.ask(ctx, q, "Ask")
		if askErr != nil {
			return t, askErr
		}
		in["authFactorToken"] = strings.TrimSpace(code)
		err = open()
	}
	switch {
	case errors.Is(err, &xrpc.Error{Name: "AccountTakedown"}):
		return t, &Error{Err: err, Next: "The account is taken down at the old server: its operator must lift that first."}
	case isStatus(err, http.StatusUnauthorized):
		return t, &Error{Err: fmt.Errorf("login at %s: %w", m.old.host, err), Next: "Check the account's name and the password, then run the move again.", Field: "OldPassword"}
	case err != nil:
		return t, fmt.Errorf("login at %s: %w", m.old.host, err)
	case isAppToken(t.Access):
		return t, &Error{Err: ErrAppPassword, Next: "Run the move again with the account's own password: an app may not move it.", Field: "OldPassword"}
	}
	return t, nil
}

// loginNew opens a session at the new server.
func (m *mover) loginNew(ctx context.Context) (t tokens, err error) {
	if err := m.needNewPassword(ctx); err != nil {
		return t, err
	}
	anyone := &session{host: m.new.host, http: m.http, patience: m.Patience}
	err = anyone.procedure(ctx, "com.atproto.server.createSession", map[string]any{"identifier": m.st.DID, "password": m.NewPassword}, &t)
	switch {
	case isStatus(err, http.StatusUnauthorized):
		return t, &Error{Err: fmt.Errorf("login at %s: %w", m.new.host, err), Next: "The account is there already. Run the move again with the password that it was given there, or reset that password first.", Field: "NewPassword"}
	case err != nil:
		return t, fmt.Errorf("login at %s: %w", m.new.host, err)
	case isAppToken(t.Access):
		return t, &Error{Err: ErrAppPassword, Next: "Run the move again with the account's own password at the new server.", Field: "NewPassword"}
	}
	return t, nil
}

func (m *mover) needNewPassword(ctx context.Context) (err error) {
	if m.NewPassword == "" {
		q := Question{"new-password", "Password for the account at " + m.new.host, true}
		m.NewPassword, err = m.ask(ctx, q, "NewPassword")
	}
	return err
}

func isStatus(err error, status int) bool {
	var xerr *xrpc.Error
	return errors.As(err, &xerr) && xerr.Status == status
}

// advice is what to do about an error, if nothing more particular is known.
func advice(err error) string {
	var xerr *xrpc.Error
	switch {
	case errors.Is(err, context.Canceled):
		return "Interrupted. Run the move again to go on."
	case errors.As(err, &xerr) && xerr.Status == http.StatusTooManyRequests:
		if wait := xerr.RetryAfter(time.Now()); wait > 0 {
			return fmt.Sprintf("The server limits how much may be done. Run the move again in %s, to go on from here.", wait.Round(time.Second))
		}
		return "The server limits how much may be done. Run the move again later, to go on from here."
	case temporary(err):
		return "The server is away or busy. Run the move again later, to go on from here."
	}
	return "When that is solved, run the move again, to go on from here."
}
