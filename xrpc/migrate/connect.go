package migrate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// serverInfo is what describeServer tells.
type serverInfo struct {
	DID     syntax.DID `json:"did"`
	Domains []string   `json:"availableUserDomains"`
}

// newMover checks the options and opens the state.
func newMover(opt Options) (*mover, error) {
	for _, need := range []struct{ value, field, what string }{
		{opt.Account, "Account", "which account moves?"},
		{opt.NewHost, "NewHost", "to which server does it move?"},
		{opt.State, "State", "in which file is the state of the move kept?"},
	} {
		if need.value == "" {
			return nil, &Error{Err: fmt.Errorf("%w: %s", ErrInput, need.what), Next: "Give it, then run the move again.", Field: need.field}
		}
	}
	opt.Account = strings.TrimPrefix(opt.Account, "@")
	var err error
	if opt.NewHost, err = serverURL(opt.NewHost); err != nil {
		return nil, &Error{Err: err}
	}
	if opt.OldHost != "" {
		if opt.OldHost, err = serverURL(opt.OldHost); err != nil {
			return nil, &Error{Err: err}
		}
	}
	if opt.Patience == 0 {
		opt.Patience = 2 * time.Minute
	}
	if opt.Concurrency <= 0 {
		opt.Concurrency = 4
	}
	if opt.Poll <= 0 {
		opt.Poll = 5 * time.Second
	}
	if opt.MaxRepo <= 0 {
		opt.MaxRepo = DefaultMaxRepo
	}
	if opt.MaxBlob <= 0 {
		opt.MaxBlob = DefaultMaxBlob
	}
	if opt.pace == nil {
		opt.pace = &defaultPace
	}
	m := &mover{Options: opt}
	if m.State, err = filepath.Abs(opt.State); err != nil {
		return nil, err
	}
	if m.st, err = openState(m.State); err != nil {
		return nil, err
	}
	other := func(have, want string) bool { return have != "" && want != "" && have != want }
	if st := m.st; other(st.Account, opt.Account) && string(st.DID) != opt.Account || other(st.NewHost, opt.NewHost) || other(st.OldHost, opt.OldHost) {
		return nil, &Error{Err: fmt.Errorf("%w: %s moves %s from %s to %s", ErrState, m.State, st.Account, st.OldHost, st.NewHost),
			Next: "Give another state file for this move.", Field: "State"}
	}
	local := isLocal(opt.NewHost)
	m.plc = &identity.PLCClient{URL: opt.PLC, HTTP: opt.HTTP, Verify: true}
	m.resolver = &identity.Resolver{PLC: m.plc, HTTP: opt.HTTP, Development: local}
	var transport http.RoundTripper = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    15 * time.Second,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    opt.Concurrency + 1,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
	}
	client := new(http.Client)
	if opt.HTTP != nil {
		*client = *opt.HTTP
		if transport = opt.HTTP.Transport; transport == nil {
			transport = http.DefaultTransport
		}
	}
	client.Transport = &pacedTransport{transport, *opt.pace}
	m.http = client
	return m, nil
}

// serverURL completes the address of a server. Passwords go there: so plain HTTP is for
// this machine alone.
func serverURL(s string) (string, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(strings.TrimSuffix(s, "/"))
	switch {
	case err != nil:
		return "", err
	case u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("%q is not the address of a server, such as https://pds.example.com", s)
	case u.Scheme == "http" && !isLocal(u.String()):
		return "", fmt.Errorf("%q: passwords are not sent without encryption", s)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// isLocal reports whether an address is one of this machine.
func isLocal(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

// connect finds the servers, opens the session at the old one and, if the account is there
// already, that at the new one.
func (m *mover) connect(ctx context.Context) error {
	m.report(Event{Status: "started", Message: "Looking at both servers."})
	if err := m.findOld(ctx); err != nil {
		return m.fail("", err, "")
	}
	m.old = &session{host: m.OldHost, http: m.http, patience: m.Patience, login: m.loginOld}
	m.new = &session{host: m.NewHost, http: m.http, patience: m.Patience, login: m.loginNew}
	if err := m.describe(ctx, m.NewHost, &m.newInfo); err != nil {
		return m.fail("", err, "")
	}
	if !m.st.done(Deactivate) {
		err := m.describe(ctx, m.OldHost, &m.oldInfo)
		var t tokens
		if err == nil {
			t, err = m.loginOld(ctx)
		}
		switch {
		case err == nil:
			m.old.set(t)
			err = m.begin(ctx, t)
		case temporary(err) && ctx.Err() == nil && m.st.done(Identity):
			// The old server is needed for the last step only.
			m.report(Event{Status: "warning", Message: "The old server is away: " + err.Error()})
			err = nil
		}
		if err != nil {
			return m.fail("", err, "")
		}
	}
	if m.st.done(Account) {
		t, err := m.loginNew(ctx)
		if err != nil {
			return m.fail("", err, "")
		}
		m.new.set(t)
	}
	return nil
}

// describe asks a server about itself.
func (m *mover) describe(ctx context.Context, host string, info *serverInfo) error {
	anyone := &session{host: host, http: m.http, patience: m.Patience}
	err := anyone.query(ctx, "com.atproto.server.describeServer", nil, info)
	if err == nil {
		_, err = syntax.ParseDID(string(info.DID))
	}
	if err != nil && !temporary(err) {
		return &Error{Err: fmt.Errorf("%s: %w", host, err), Next: "Check the address of the server, then run the move again."}
	} else if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	return nil
}

// findOld finds out which server the account is at.
func (m *mover) findOld(ctx context.Context) error {
	if m.OldHost == "" {
		m.OldHost = m.st.OldHost
	}
	if m.OldHost == "" {
		id, err := m.resolver.Lookup(ctx, syntax.AtIdentifier(m.Account))
		if err != nil {
			return &Error{Err: err, Next: "Check the account's name, or say where it is.", Field: "OldHost"}
		}
		pds, ok := id.Document.PDS()
		if !ok {
			return &Error{Err: fmt.Errorf("the DID document of %s names no server", m.Account), Next: "Say where the account is.", Field: "OldHost"}
		}
		m.OldHost = pds
	}
	if m.OldHost == m.NewHost {
		return &Error{Err: fmt.Errorf("%s is at %s already", m.Account, m.NewHost),
			Next: "If a move was interrupted and its state file is lost, say where the account came from.", Field: "OldHost"}
	}
	_, err := serverURL(m.OldHost)
	return err
}

// begin fills in the state of a move that begins. As long as there is no account at the new
// server, its names can still be changed.
func (m *mover) begin(ctx context.Context, t tokens) (err error) {
	st := m.st
	switch {
	case st.DID != "" && st.DID != t.DID:
		return &Error{Err: fmt.Errorf("%w: it moves %s, and the login is of %s", ErrState, st.DID, t.DID), Next: "Give another state file for this move.", Field: "State"}
	case st.done(Account):
		return nil
	}
	if _, err := syntax.ParseDID(string(t.DID)); err != nil {
		return err
	}
	handle := syntax.Handle(m.Handle)
	if handle == "" {
		handle = m.newHandle(t.Handle)
	}
	if _, err := syntax.ParseHandle(string(handle)); err != nil {
		return &Error{Err: err, Next: "Give the handle for the new server.", Field: "Handle"}
	}
	email := m.Email
	if email == "" {
		email = t.Email
	}
	if email == "" {
		if email, err = m.ask(ctx, Question{"email", "E-mail address for the account at " + m.NewHost, false}, "Email"); err != nil {
			return err
		}
	}
	st.Account, st.DID, st.OldHost, st.NewHost, st.Handle, st.Email = m.Account, t.DID, m.OldHost, m.NewHost, handle.Normalize(), email
	return st.save()
}

// newHandle is the handle that an account gets if nothing else is said.
func (m *mover) newHandle(old syntax.Handle) syntax.Handle {
	under := func(domains []string) (label string) {
		for _, d := range domains {
			if l, ok := strings.CutSuffix(string(old.Normalize()), d); ok && strings.HasPrefix(d, ".") {
				return l
			}
		}
		return ""
	}
	label := under(m.oldInfo.Domains)
	if label == "" || under(m.newInfo.Domains) != "" || len(m.newInfo.Domains) == 0 {
		return old
	}
	return syntax.Handle(label + m.newInfo.Domains[0])
}

// createAccount makes the account at the new server, where the old one vouches for it.
func (m *mover) createAccount(ctx context.Context) error {
	if err := m.needNewPassword(ctx); err != nil {
		return err
	}
	in := map[string]any{"did": m.st.DID, "handle": m.st.Handle, "email": m.st.Email, "password": m.NewPassword}
	if m.InviteCode != "" {
		in["inviteCode"] = m.InviteCode
	}
	const method = "com.atproto.server.createAccount"
	anyone := &session{host: m.NewHost, http: m.http, patience: m.Patience}
	var t tokens
	err := anyone.do(ctx, func(c *xrpc.Client) error {
		var auth struct {
			Token string `json:"token"`
		}
		params := url.Values{"aud": {string(m.newInfo.DID)}, "lxm": {method}, "exp": {fmt.Sprint(time.Now().Add(time.Minute).Unix())}}
		if err := m.old.query(ctx, "com.atproto.server.getServiceAuth", params, &auth); err != nil {
			return fmt.Errorf("%s does not vouch for the account: %w", m.OldHost, err)
		}
		c.Authorize = xrpc.Bearer(auth.Token)
		return c.Procedure(ctx, method, in, &t)
	})
	var xerr *xrpc.Error
	switch {
	case err == nil && t.DID != m.st.DID:
		return fmt.Errorf("%w: createAccount made %q", ErrDiffers, t.DID)
	case err == nil:
		m.new.set(t)
		return nil
	case !errors.As(err, &xerr):
		return err
	}
	// It may be there: from an earlier attempt whose answer was lost, or for longer.
	if xerr.Status < 500 {
		if t, loginErr := m.loginNew(ctx); loginErr == nil {
			m.new.set(t)
			return nil
		}
	}
	switch {
	case xerr.Name == "InvalidInviteCode":
		return &Error{Err: err, Next: "Ask the operator of the new server for an invite code and give it.", Field: "InviteCode"}
	case xerr.Name == "InvalidPassword":
		return &Error{Err: err, Next: "Choose another password for the new server.", Field: "NewPassword"}
	case strings.Contains(strings.ToLower(xerr.Name+xerr.Message), "handle") || xerr.Name == "UnsupportedDomain":
		return &Error{Err: err, Next: fmt.Sprintf("The new server's handles are under %s: choose another one.", strings.Join(m.newInfo.Domains, ", ")), Field: "Handle"}
	case strings.Contains(strings.ToLower(xerr.Message), "email"):
		return &Error{Err: err, Next: "Give another address.", Field: "Email"}
	}
	return err
}
