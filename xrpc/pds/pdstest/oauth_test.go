package pdstest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

const noteScope = "atproto repo:com.example.note"

// create makes a record by an app.
func create(t *testing.T, s *pdstest.AppSession, collection syntax.NSID, text string) error {
	t.Helper()
	_, err := api.RepoCreateRecord(t.Context(), s, api.RepoCreateRecordInput{Repo: syntax.AtIdentifier(s.Tokens().DID), Collection: collection,
		Record: data.Raw(fmt.Sprintf(`{"$type":%q,"text":%q}`, collection, text))})
	return err
}

// records are the texts of an account's notes.
func records(t *testing.T, a *pdstest.Account, collection syntax.NSID) (texts []string) {
	t.Helper()
	var out struct {
		Records []struct{ Value struct{ Text string } }
	}
	if err := a.Query(t.Context(), "com.atproto.repo.listRecords", url.Values{"repo": {string(a.DID)}, "collection": {string(collection)}}, &out); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Records {
		texts = append(texts, r.Value.Text)
	}
	slices.Sort(texts)
	return texts
}

// ended demands that a session has ended: neither of its tokens is good.
func ended(t *testing.T, s *pdstest.AppSession, after string) {
	t.Helper()
	if err := s.Query(t.Context(), "com.atproto.server.getSession", nil, nil); !errors.Is(err, &xrpc.Error{Name: "invalid_token"}) {
		t.Errorf("a call after %s: %v", after, err)
	}
	if err := s.Copy().Renew(t.Context()); !errors.Is(err, &provider.Error{Code: "invalid_grant"}) {
		t.Errorf("a refresh after %s: %v", after, err)
	}
}

func TestApp(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS().Account("alice")
	app := net.App(noteScope).Login(alice)
	if err := create(t, app, "com.example.note", "by an app"); err != nil {
		t.Fatal(err)
	}
	if err := create(t, app, "com.example.other", "by an app"); !errors.Is(err, &xrpc.Error{Name: "ScopeMissingError"}) {
		t.Errorf("a record that was not granted: %v", err)
	}
	if got := records(t, alice, "com.example.note"); len(got) != 1 || len(records(t, alice, "com.example.other")) != 0 {
		t.Errorf("%q", got)
	}
	if err := app.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended(t, app, "revocation")
}

// A host may have pages of its own, and none at all.
func TestOwnPages(t *testing.T) {
	net := pdstest.New(t)
	alice := net.PDS(withPages).Account("alice")
	app := net.App(noteScope)
	if err := create(t, app.Login(alice), "com.example.note", "by an app"); err != nil {
		t.Error(err)
	}
	off := net.PDS(func(c *pds.Config) { c.OAuth.Off = true })
	if _, err := app.Push(t.Context(), off, nil); err == nil {
		t.Error("OAuth is off, and a request is taken")
	}
	if off.Server().OAuth != nil {
		t.Error("OAuth is off, and there")
	}
}

// A session is like one of a password, within what was granted (checks 157, 158, 160, 161).
func TestMatrix157_158_159_160_161AppScopes(t *testing.T) {
	net := pdstest.New(t)
	var called []string
	net.Handle("view.example.org", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called = append(called, strings.TrimPrefix(r.URL.Path, "/xrpc/"))
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") || r.Header.Get("DPoP") != "" {
			t.Errorf("the service gets %v", r.Header)
		}
		w.Header().Set("DPoP-Nonce", "one of another server")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{}`)
	}))
	one := net.PDS(func(c *pds.Config) {
		c.AppView.Service = pds.Service{URL: "https://view.example.org", DID: "did:web:view.example.org"}
	})
	alice, bob := one.Account("alice"), one.Account("bob")
	client := net.App(noteScope + " repo:com.example.two?action=create account:email blob:image/* rpc:com.example.search?aud=did:web:view.example.org%23bsky_appview")
	app := client.Login(alice)
	ctx := t.Context()

	session, err := api.ServerGetSession(ctx, app)
	if err != nil || session.DID != alice.DID || session.Email != alice.Email || session.Active == nil || !*session.Active {
		t.Errorf("%+v, %v", session, err)
	}
	// The address was not ticked.
	less, err := client.LoginWith(ctx, net.Browser(), alice, func(scope string) bool { return scope != "account:email" })
	if err != nil {
		t.Fatal(err)
	}
	var text map[string]any
	if err := less.Query(ctx, "com.atproto.server.getSession", nil, &text); err != nil {
		t.Fatal(err)
	}
	for name := range text {
		if strings.Contains(name, "mail") {
			t.Errorf("without account:email: %v", text)
		}
	}

	missing := &xrpc.Error{Status: 403, Name: "ScopeMissingError"}
	writes := func(collection string) error {
		return app.Procedure(ctx, "com.atproto.repo.applyWrites", map[string]any{"repo": alice.DID, "writes": []any{
			map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note", "rkey": "a", "value": map[string]any{"text": "a"}},
			map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": "a", "value": map[string]any{"text": "a"}},
		}}, nil)
	}
	if err := writes("com.example.three"); !errors.Is(err, missing) {
		t.Errorf("writes of which one is not granted: %v", err)
	}
	if got := records(t, alice, "com.example.note"); len(got) != 0 {
		t.Errorf("a part was written: %q", got)
	}
	if err := writes("com.example.two"); err != nil {
		t.Error(err)
	}
	if err := app.Procedure(ctx, "com.atproto.repo.deleteRecord", map[string]any{"repo": alice.DID, "collection": "com.example.two", "rkey": "a"}, nil); !errors.Is(err, missing) {
		t.Errorf("an action that was not granted: %v", err)
	}
	if err := app.Procedure(ctx, "com.atproto.repo.createRecord", map[string]any{"repo": bob.DID, "collection": "com.example.note", "record": map[string]any{}}, nil); err == nil {
		t.Error("a record of another account")
	}
	for kind, want := range map[string]error{"image/png": nil, "text/plain": missing} {
		if err := app.Upload(ctx, "com.atproto.repo.uploadBlob", kind, strings.NewReader("a blob"), nil); !errors.Is(err, want) {
			t.Errorf("a blob of type %s: %v", kind, err)
		}
	}
	for method, in := range map[string]map[string]any{
		"com.atproto.server.createAppPassword":              {"name": "x"},
		"com.atproto.server.deactivateAccount":              {},
		"com.atproto.server.requestAccountDelete":           nil,
		"com.atproto.identity.updateHandle":                 {"handle": "other.pds1.test"},
		"com.atproto.identity.requestPlcOperationSignature": nil,
		"com.atproto.server.requestEmailConfirmation":       nil,
		"com.atproto.server.updateEmail":                    {"email": "x@example.com"},
	} {
		var body any
		if in != nil {
			body = in
		}
		if err := app.Procedure(ctx, method, body, nil); !errors.Is(err, &xrpc.Error{Name: "ScopeMissingError"}) {
			t.Errorf("%s: %v", method, err)
		}
	}

	// Calls that are passed on.
	if err := app.Query(ctx, "com.example.search", nil, nil); err != nil {
		t.Error(err)
	}
	if err := app.Query(ctx, "com.example.find", nil, nil); !errors.Is(err, missing) {
		t.Errorf("a method that was not granted: %v", err)
	}
	other := app.Copy()
	other.Authorize = func(r *http.Request) error {
		r.Header.Set("Atproto-Proxy", "did:web:view.example.org#other")
		return nil
	}
	if err := other.Query(ctx, "com.example.search", nil, nil); err == nil {
		t.Error("a service that was not granted")
	}
	if !slices.Equal(called, []string{"com.example.search"}) {
		t.Errorf("%q were passed on", called)
	}
	// The nonce of another server is not passed on: the next call needs no second try.
	res, err := app.Get(ctx, "com.example.search", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if n := res.Header.Get("DPoP-Nonce"); n == "" || strings.Contains(n, "another") {
		t.Errorf("nonce %q", n)
	}
	if e := res.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(e, "DPoP-Nonce") || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("a page of another origin sees %q", e)
	}

	// A token of getServiceAuth is bound to what was granted (check 159).
	for params, want := range map[string]int{
		"aud=did:web:view.example.org%23bsky_appview&lxm=com.example.search":                   200,
		"aud=did:web:view.example.org%23bsky_appview":                                          403,
		"aud=did:web:view.example.org%23bsky_appview&lxm=com.atproto.server.createAppPassword": 403,
		"aud=did:web:other.example.org%23x&lxm=com.example.search":                             403,
	} {
		q, _ := url.ParseQuery(params)
		err := app.Query(ctx, "com.atproto.server.getServiceAuth", q, nil)
		var e *xrpc.Error
		if errors.As(err, &e) && e.Status != want || err == nil && want != 200 {
			t.Errorf("getServiceAuth %s: %v", params, err)
		}
	}
}

// Of two refreshes at once, both get the same tokens; a session outlives a restart, and its nonces
// change with the clock (checks 116, 117, 137).
func TestAppSessions(t *testing.T) {
	for _, kind := range []string{"public", "confidential"} {
		t.Run(kind, func(t *testing.T) {
			net := pdstest.New(t)
			one := net.PDS()
			alice := one.Account("alice")
			app := net.App(noteScope, func(doc map[string]any) {
				if kind == "confidential" {
					doc["token_endpoint_auth_method"] = "private_key_jwt"
				}
			}).Login(alice)
			first, second := app.Copy(), app.Copy()
			var both sync.WaitGroup
			for _, s := range []*pdstest.AppSession{first, second} {
				both.Go(func() {
					if err := s.Renew(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			if first.Tokens().Refresh != second.Tokens().Refresh {
				t.Error("two refreshes at once give two successors")
			}
			one.Restart()
			for range 3 {
				for _, s := range []*pdstest.AppSession{first, second} {
					if err := create(t, s, "com.example.note", "after a restart"); err != nil {
						t.Error(err)
					}
				}
				net.Clock.Advance(4 * time.Minute)
			}
			if err := first.Renew(t.Context()); err != nil {
				t.Error(err)
			}
			net.Clock.Advance(16 * time.Minute)
			if err := create(t, first, "com.example.note", "too late"); !errors.Is(err, &xrpc.Error{Status: 401, Name: "invalid_token"}) {
				t.Errorf("an access token after 16 minutes: %v", err)
			}
			// The token before it is in two hands.
			if err := second.Renew(t.Context()); !errors.Is(err, &provider.Error{Code: "invalid_grant"}) {
				t.Errorf("a token that was exchanged long ago: %v", err)
			}
			ended(t, first, "the second use of a refresh token")
		})
	}
}

// What ends the sessions of an account ends those of apps (checks 112, 122).
func TestMatrix112_122AppSessionsEnd(t *testing.T) {
	for what, end := range map[string]func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error{
		"a reset of the password": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			if err := api.ServerRequestPasswordReset(t.Context(), p.Client(), api.ServerRequestPasswordResetInput{Email: a.Email}); err != nil {
				return err
			}
			mail, err := net.Mail.Take(t.Context(), a.Email, server.ResetPassword)
			if err != nil {
				return err
			}
			return api.ServerResetPassword(t.Context(), p.Client(), api.ServerResetPasswordInput{Token: mail.Token, Password: "another password"})
		},
		"a change of the password": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			return p.Admin().Procedure(t.Context(), "com.atproto.admin.updateAccountPassword", map[string]any{"did": a.DID, "password": "another password"}, nil)
		},
		"takedown": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			return p.Admin().Procedure(t.Context(), "com.atproto.admin.updateSubjectStatus", map[string]any{
				"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": a.DID}, "takedown": map[string]any{"applied": true, "ref": "x"}}, nil)
		},
		"deactivation": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			return a.Procedure(t.Context(), "com.atproto.server.deactivateAccount", map[string]any{}, nil)
		},
		"deletion": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			return p.Admin().Procedure(t.Context(), "com.atproto.admin.deleteAccount", map[string]any{"did": a.DID}, nil)
		},
		"signing out everywhere": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			return p.Server().Credentials.EndSessions(t.Context(), account.Trusted(a.DID))
		},
		"the end of the app's sessions": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			list, err := p.Server().OAuth.Sessions(t.Context(), a.DID)
			if err != nil || len(list) != 1 {
				return fmt.Errorf("%d sessions, %w", len(list), err)
			}
			return p.Server().OAuth.EndClient(t.Context(), account.Trusted(a.DID), list[0].Client)
		},
		"the end of the session": func(t *testing.T, net *pdstest.Network, p *pdstest.PDS, a *pdstest.Account) error {
			list, err := p.Server().OAuth.Sessions(t.Context(), a.DID)
			if err != nil || len(list) != 1 {
				return fmt.Errorf("%d sessions, %w", len(list), err)
			}
			return p.Server().OAuth.EndSession(t.Context(), account.Trusted(a.DID), list[0].Name)
		},
	} {
		t.Run(what, func(t *testing.T) {
			net := pdstest.New(t)
			one := net.PDS()
			alice, bob := one.Account("alice"), one.Account("bob")
			app := net.App(noteScope)
			hers, his := app.Login(alice), app.Login(bob)
			late, err := app.Push(t.Context(), one, nil)
			if err != nil {
				t.Fatal(err)
			}
			back, err := net.Browser().Consent(late.URL, alice, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(t, net, one, alice); err != nil {
				t.Fatal(err)
			}
			ended(t, hers, what)
			if s, err := late.Finish(t.Context(), back.URL); !strings.HasPrefix(what, "the end of") && !errors.Is(err, &provider.Error{Code: "invalid_grant"}) {
				t.Errorf("a code from before %s: %v, %v", what, s, err)
			}
			if err := create(t, his, "com.example.note", "of another account"); err != nil {
				t.Error(err)
			}
		})
	}
}

// rates are no limits, that tell of requests when their callers are known.
type rates struct {
	pds.NoRates
	authenticated func(r *xrpc.Request)
}

func (x rates) Limit(_ http.ResponseWriter, r *xrpc.Request) error {
	x.authenticated(r)
	return nil
}

// A session that ends while a write is under way writes nothing. One that is renewed goes on.
func TestAppSessionChangesDuringWrite(t *testing.T) {
	for what, change := range map[string]func(*pdstest.AppSession, context.Context) error{
		"revoked": (*pdstest.AppSession).Revoke, "renewed": (*pdstest.AppSession).Renew,
	} {
		t.Run(what, func(t *testing.T) {
			net := pdstest.New(t)
			under, changed := make(chan struct{}), make(chan struct{})
			one := net.PDS(func(c *pds.Config) {
				c.Rates = rates{authenticated: func(r *xrpc.Request) {
					if r.NSID == "com.atproto.repo.createRecord" && r.Principal.Credential == auth.OAuthSession {
						close(under)
						<-changed
					}
				}}
			})
			alice := one.Account("alice")
			app := net.App(noteScope).Login(alice)
			result := make(chan error, 1)
			go func() { result <- create(t, app, "com.example.note", "late") }()
			<-under
			if err := change(app.Copy(), t.Context()); err != nil {
				t.Error(err)
			}
			close(changed)
			err, good := <-result, what == "renewed"
			if (err == nil) != good || len(records(t, alice, "com.example.note")) == 1 != good {
				t.Errorf("answered %v, written %q", err, records(t, alice, "com.example.note"))
			}
		})
	}
}

// Permission sets are read from the network, and grant what is theirs alone (checks 52, 121).
func TestPermissionSets(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice, publisher := one.Account("alice"), net.PDS().Account("publisher")
	publish := func(permissions string) {
		key, record, err := resolve.Record([]byte(`{"lexicon":1,"id":"org.example.auth","defs":{"main":{"type":"permission-set","title":"Notes","permissions":[` + permissions + `]}}}`))
		if err != nil {
			t.Fatal(err)
		}
		publisher.Put(resolve.Collection, key, record)
	}
	publish(`{"type":"permission","resource":"repo","collection":["org.example.note"]},
		{"type":"permission","resource":"repo","collection":["com.example.note"]},
		{"type":"permission","resource":"identity","attr":"*"}`)
	net.TXT(resolve.TXTName("org.example.auth"), resolve.TXTValue(publisher.DID))
	client := net.App("atproto include:org.example.auth")
	app := client.Login(alice)
	if got, want := app.Tokens().Scope, "atproto repo:org.example.note"; got != want {
		t.Errorf("granted %q, want %q", got, want)
	}
	if err := create(t, app, "org.example.note", "x"); err != nil {
		t.Error(err)
	}
	for _, collection := range []syntax.NSID{"com.example.note", "org.example.other"} {
		if err := create(t, app, collection, "x"); !errors.Is(err, &xrpc.Error{Name: "ScopeMissingError"}) {
			t.Errorf("%s: %v", collection, err)
		}
	}
	// What the set becomes holds from the next refresh on, once the set is old.
	publish(`{"type":"permission","resource":"repo","collection":["org.example.other"]}`)
	net.Clock.Advance(61 * time.Minute)
	if err := app.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := create(t, app, "org.example.other", "x"); err != nil {
		t.Error(err)
	}
	if err := create(t, app, "org.example.note", "x"); !errors.Is(err, &xrpc.Error{Name: "ScopeMissingError"}) {
		t.Errorf("what the set does not grant any more: %v", err)
	}
	_, err := net.App("atproto include:org.example.nothing").Push(t.Context(), one, nil)
	if !errors.Is(err, &provider.Error{Code: "invalid_scope"}) {
		t.Errorf("a set that is not there: %v", err)
	}
}

// raw sends a request, and returns the answer with the name of its error.
func raw(t *testing.T, net *pdstest.Network, method, address string, header ...string) (res *http.Response, name string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return answer(t, net, r)
}

func answer(t *testing.T, net *pdstest.Network, r *http.Request) (res *http.Response, name string) {
	t.Helper()
	res, err := net.Client().Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Error string `json:"error"`
	}
	_ = data.UnmarshalJSON(text, &e)
	return res, e.Error
}

// What an app finds at the addresses of OAuth, and from which origins (checks 1 to 6). Off, there is
// nothing.
func TestMatrix1_2_3_4_5_6Addresses(t *testing.T) {
	net := pdstest.New(t)
	net.PDS()
	net.PDS(func(c *pds.Config) { c.OAuth.Off = true })
	for _, c := range []struct {
		method, path string
		status       int
		open         bool // to all origins
	}{
		{"GET", "/.well-known/oauth-protected-resource", 200, true},
		{"GET", "/.well-known/oauth-authorization-server", 200, true},
		{"OPTIONS", "/.well-known/oauth-authorization-server", 200, true},
		{"GET", "/.well-known/oauth-authorization-server/", 404, false},
		{"GET", "/oauth/jwks", 200, true},
		{"OPTIONS", "/oauth/par", 200, true},
		{"OPTIONS", "/oauth/token", 200, true},
		{"OPTIONS", "/oauth/revoke", 200, true},
		{"GET", "/oauth/par", 405, true},
		{"OPTIONS", "/oauth/authorize", 405, false},
		{"OPTIONS", "/oauth/sign-in", 405, false},
		{"OPTIONS", "/xrpc/com.atproto.server.getSession", 204, true},
	} {
		res, _ := raw(t, net, c.method, "https://pds1.test"+c.path, "Origin", "https://evil.example.org")
		if open := res.Header.Get("Access-Control-Allow-Origin") == "*"; res.StatusCode != c.status || open != c.open {
			t.Errorf("%s %s: %d %v", c.method, c.path, res.StatusCode, res.Header)
		}
		if allowed := res.Header.Get("Access-Control-Allow-Headers"); c.method == "OPTIONS" && strings.HasPrefix(c.path, "/oauth/token") && allowed != "Content-Type,DPoP" {
			t.Errorf("%s: headers %q", c.path, allowed)
		}
		if strings.HasPrefix(c.path, "/xrpc/") || c.method == "OPTIONS" {
			continue
		}
		if res, _ := raw(t, net, c.method, "https://pds2.test"+c.path); res.StatusCode != 404 {
			t.Errorf("off: %s %s: %d", c.method, c.path, res.StatusCode)
		}
	}
}

// What a method answers to tokens and proofs that are not good (checks 126, 127, 135 to 138).
func TestMatrix126_127_135_136_137_138AppProofs(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice := one.Account("alice")
	app := net.App(noteScope).Login(alice)
	const address = "https://pds1.test/xrpc/com.atproto.server.getSession"
	if _, err := api.ServerGetSession(t.Context(), app); err != nil { // knows a nonce now
		t.Fatal(err)
	}
	proven := func() *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Prove(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	refused := func(what string, r *http.Request, status int, name string) {
		t.Helper()
		res, got := answer(t, net, r)
		challenge := res.Header.Get("WWW-Authenticate")
		if res.StatusCode != status || got != name || status == 401 && name != "AuthMissing" && !strings.Contains(challenge, `DPoP algs="ES256`) ||
			status == 401 && strings.HasPrefix(r.Header.Get("Authorization"), "DPoP") && (!strings.Contains(challenge, fmt.Sprintf("error=%q", name)) || res.Header.Get("DPoP-Nonce") == "") {
			t.Errorf("%s: %d %s, %v", what, res.StatusCode, got, res.Header)
		}
		if res.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(strings.Join(res.Header.Values("Access-Control-Expose-Headers"), ","), "WWW-Authenticate") {
			t.Errorf("%s: a page does not see why: %v", what, res.Header)
		}
	}
	with := func(change func(h http.Header)) *http.Request {
		r := proven()
		change(r.Header)
		return r
	}
	refused("no token", with(func(h http.Header) { h.Del("Authorization") }), 401, "AuthMissing")
	refused("no proof", with(func(h http.Header) { h.Del("DPoP") }), 401, "invalid_dpop_proof")
	refused("two proofs", with(func(h http.Header) { h.Add("DPoP", h.Get("DPoP")) }), 401, "invalid_dpop_proof")
	refused("as Bearer", with(func(h http.Header) { h.Set("Authorization", "Bearer "+app.Tokens().Access) }), 400, "InvalidToken")
	refused("a refresh token", with(func(h http.Header) { h.Set("Authorization", "DPoP "+app.Tokens().Refresh) }), 401, "invalid_token")
	session, err := api.ServerCreateSession(t.Context(), one.Client(), api.ServerCreateSessionInput{Identifier: string(alice.Handle), Password: alice.Password})
	if err != nil {
		t.Fatal(err)
	}
	for _, jwt := range []string{session.AccessJWT, session.RefreshJWT} {
		refused("a token of a password", with(func(h http.Header) { h.Set("Authorization", "DPoP "+jwt) }), 401, "invalid_token")
	}
	other := net.App(noteScope).Login(alice)
	refused("a token of another key", with(func(h http.Header) { h.Set("Authorization", "DPoP "+other.Tokens().Access) }), 401, "invalid_dpop_proof")

	used := proven()
	if res, name := answer(t, net, used.Clone(t.Context())); res.StatusCode != 200 || res.Header.Get("DPoP-Nonce") == "" {
		t.Errorf("%d %s", res.StatusCode, name)
	}
	refused("once more", used.Clone(t.Context()), 401, "invalid_dpop_proof")
	one.Restart()
	refused("after a restart", used.Clone(t.Context()), 401, "use_dpop_nonce")
	old := proven()
	net.Clock.Advance(4 * time.Minute)
	refused("an old proof", old, 401, "invalid_dpop_proof")
	refused("a new one with an old nonce", proven(), 401, "use_dpop_nonce")
	if _, err := api.ServerGetSession(t.Context(), app); err != nil {
		t.Error(err)
	}
}

// Endpoints are limited by network and by app.
func TestOAuthIsLimited(t *testing.T) {
	net := pdstest.New(t)
	table := rate.Official()
	table.Endpoints["par"], table.Clients["par"] = []rate.Window{{Points: 3, Length: time.Minute}}, []rate.Window{{Points: 2, Length: time.Hour}}
	one := net.PDS(func(c *pds.Config) { c.Rates = rate.New(rate.Config{Table: table, Now: c.Now}) })
	busy := func(err error) bool {
		var e *provider.Error
		return errors.As(err, &e) && e.Status == http.StatusTooManyRequests
	}
	app := net.App(noteScope)
	push := func(app *pdstest.App) error {
		_, err := app.Push(t.Context(), one, nil)
		return err
	}
	if err := push(app); err != nil { // two tries: the first one learns the nonce
		t.Fatal(err)
	}
	if err := push(app); !busy(err) {
		t.Errorf("a third try of the app: %v", err)
	}
	if err := push(net.App(noteScope)); !busy(err) {
		t.Errorf("a fourth try of the network: %v", err)
	}
	net.Clock.Advance(time.Minute)
	if err := push(app); !busy(err) {
		t.Errorf("the app, after a minute: %v", err)
	}
	if err := push(net.App(noteScope)); err != nil {
		t.Error(err)
	}
}

// The owner of an account is told of a browser that is new to it.
func TestNewBrowserIsTold(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice := one.Account("alice")
	app, browser := net.App(noteScope), net.Browser()
	for range 2 {
		if _, err := app.LoginWith(t.Context(), browser, alice, nil); err != nil {
			t.Fatal(err)
		}
	}
	mail, err := net.Mail.Take(t.Context(), alice.Email, server.NewSignIn)
	if err != nil || !strings.Contains(mail.Text, "192.0.2.3") || !strings.Contains(mail.Text, string(alice.Handle)) {
		t.Errorf("%+v, %v", mail, err)
	}
	one.Restart() // which sends all mail first
	for _, m := range net.Mail.To(alice.Email) {
		if m.Kind == server.NewSignIn {
			t.Error("told of a browser that is not new")
		}
	}
}

// The owner of an account is told of an app that has new permissions: in words, with time and place,
// and not again when the app is let in with the same.
func TestNewPermissionsAreTold(t *testing.T) {
	net := pdstest.New(t)
	one := net.PDS()
	alice := one.Account("alice")
	app, browser := net.App(noteScope+" account:email"), net.Browser()
	login := func(scope string) {
		t.Helper()
		granted := strings.Fields(scope)
		if _, err := app.LoginWith(t.Context(), browser, alice, func(s string) bool { return slices.Contains(granted, s) }); err != nil {
			t.Fatal(err)
		}
	}
	told := func() string {
		t.Helper()
		mail, err := net.Mail.Take(t.Context(), alice.Email, server.NewApp)
		if err != nil {
			t.Fatal(err)
		}
		return mail.Text
	}
	login(noteScope)
	text := told()
	for _, want := range []string{
		string(alice.Handle), "app: app1.example.net", app.ID, "address: 192.0.2.3", net.Clock.Now().UTC().Format("2 January 2006"), "- Change your public data of these kinds: com.example.note", "change your password",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	login(noteScope)
	login(noteScope + " account:email")
	if text := told(); !strings.Contains(text, "- See your e-mail address") || strings.Contains(text, "com.example.note") {
		t.Error(text)
	}
	one.Restart() // which sends all mail first
	for _, m := range net.Mail.To(alice.Email) {
		if m.Kind == server.NewApp {
			t.Errorf("told of what is not new: %s", m.Text)
		}
	}
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// While a permission set cannot be had, it is believed for a day more, and by sessions that there are
// for as long as they last.
func TestPermissionSetsThatCannotBeHad(t *testing.T) {
	net := pdstest.New(t)
	publisher := net.PDS().Account("publisher")
	var down atomic.Bool
	var asked atomic.Int64
	one := net.PDS(func(c *pds.Config) {
		next := c.HTTP.Transport
		c.HTTP = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "com.atproto.sync.getRecord") {
				asked.Add(1)
				if down.Load() {
					return nil, errors.New("the network is down")
				}
			}
			return next.RoundTrip(r)
		})}
	})
	key, record, err := resolve.Record([]byte(`{"lexicon":1,"id":"org.example.auth","defs":{"main":{"type":"permission-set","permissions":[
		{"type":"permission","resource":"repo","collection":["org.example.note"]}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	publisher.Put(resolve.Collection, key, record)
	net.TXT(resolve.TXTName("org.example.auth"), resolve.TXTValue(publisher.DID))
	alice, app := one.Account("alice"), net.App("atproto include:org.example.auth")
	old := app.Login(alice)
	if _, err := app.LoginWith(t.Context(), net.Browser(), alice, nil); err != nil || asked.Load() != 1 {
		t.Errorf("%v; asked %d times within an hour", err, asked.Load())
	}
	down.Store(true)
	net.Clock.Advance(2 * time.Hour)
	app.Login(alice)
	if asked.Load() < 2 {
		t.Error("not asked again after an hour")
	}
	net.Clock.Advance(24 * time.Hour)
	if _, err := app.Push(t.Context(), one, nil); !errors.Is(err, &provider.Error{Code: "invalid_scope"}) {
		t.Errorf("after a day: %v", err)
	}
	if err := old.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := create(t, old, "org.example.note", "still"); err != nil {
		t.Error(err)
	}
}
