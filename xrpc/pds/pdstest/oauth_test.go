package pdstest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
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
