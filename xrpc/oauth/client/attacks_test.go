package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// Whoever wants to renew a session while it is revoked finds that it has ended, also if its server
// could not be told.
func TestRefreshDuringRevoke(t *testing.T) {
	for _, status := range []int{200, 503} {
		synctest.Test(t, func(t *testing.T) {
			net := pdstest.New(t)
			s := rogueAt(net, "pds.example.net")
			a := newApp(t, net, "app.example.net")
			x := s.login(t, a)
			y, err := a.Resume(t.Context(), x.ID())
			if err != nil {
				t.Fatal(err)
			}
			inside, release := make(chan struct{}), make(chan struct{})
			s.do(func() {
				s.over["/revoke"] = func(w http.ResponseWriter, _ *http.Request) {
					close(inside)
					<-release
					answerJSON(w, status, map[string]any{})
				}
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := x.Revoke(t.Context()); (err != nil) != (status != 200) {
					t.Errorf("status %d: %v", status, err)
				}
			})
			<-inside
			for _, each := range []*client.Session{x, y} {
				wg.Go(func() {
					if err := each.Refresh(t.Context()); !errors.Is(err, client.ErrSessionEnded) {
						t.Errorf("status %d: %v", status, err)
					}
				})
			}
			synctest.Wait() // they wait
			close(release)
			wg.Wait()
			time.Sleep(time.Minute) // all connections end
		})
	}
}

// A session that was revoked here sends nothing any more, even if its server still takes its tokens.
func TestRevokedSessionSendsNothing(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	x := s.login(t, newApp(t, net, "app.example.net"))
	s.do(func() {
		s.over["/revoke"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 500, map[string]any{}) }
	})
	if err := x.Revoke(t.Context()); !errors.Is(err, client.ErrTemporary) {
		t.Fatal(err)
	}
	var ended *client.EndedError
	if _, err := x.HTTPClient().Get(s.origin + "/xrpc/x"); !errors.As(err, &ended) || ended.Reason != client.EndedRevoked {
		t.Errorf("%v", err)
	}
	if n := s.count("/xrpc/x"); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A Host header of the caller's, such as that of a request that is passed on, would lead a token to
// another site behind the same proxy.
func TestForeignHostHeader(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	x := s.login(t, newApp(t, net, "app.example.net"))
	hosts := make(chan string, 1)
	s.do(func() {
		s.over["/xrpc/x"] = func(w http.ResponseWriter, r *http.Request) {
			hosts <- r.Host
			answerJSON(w, 200, map[string]any{})
		}
	})
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.origin+"/xrpc/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "other.example.net"
	if res, err := x.HTTPClient().Do(r); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	if host := <-hosts; host != "pds.example.net" {
		t.Errorf("the request was for %s", host)
	}
}

// What errors say goes into logs: neither the secret part of a session's ID nor tokens, codes and
// keys may be in them.
func TestSecretsInErrors(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	store := &client.Memory{Now: net.Clock.Now}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.Sessions = store })
	x := s.login(t, a)
	raw, err := store.Get(t.Context(), x.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.CompareAndSwap(t.Context(), x.ID(), raw, []byte(`{"v":1,"key":"SECRET","access":["SECRET"]}`)); err != nil {
		t.Fatal(err)
	}
	_, random, _ := strings.Cut(string(x.ID()), "/")
	if _, err := a.Resume(t.Context(), x.ID()); err == nil || strings.Contains(err.Error(), random) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("Resume: %v", err)
	}
	for _, text := range []string{
		`{"access_token":"SECRET","access_token":"SECRET"}`, `{"access_token":["SECRET"]}`, `{"access_token":"SECRET"`, `"SECRET"`, `SECRET`,
		`{"access_token":"SECRET","token_type":"Bearer","sub":"` + s.did + `","scope":"atproto"}`, `{"access_token":"SECRET","expires_in":"SECRET"}`,
	} {
		s.do(func() {
			s.over["/token"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, text)
			}
		})
		back := s.start(t, a, s.did)
		back.Set("code", "SECRET")
		if _, _, err := a.Finish(t.Context(), back, ""); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A process that sleeps between taking the lock and using the refresh token finds, when it wakes up,
// that another one has renewed the session. It must not use the old token.
func TestSleptHolderOfALock(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	store := &client.Memory{Now: net.Clock.Now}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.Sessions, c.Locks = store, &client.Memory{} })
	a.cfg.Locks = &client.Memory{} // the lease of the first one has ended
	a.cfg.Discovery = &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
	b := a.another()
	x := s.login(t, a)
	y, err := b.Resume(t.Context(), x.ID())
	if err != nil {
		t.Fatal(err)
	}
	net.Clock.Advance(time.Hour)
	var once sync.Once
	s.do(func() {
		s.over["/.well-known/oauth-protected-resource"] = func(w http.ResponseWriter, _ *http.Request) {
			once.Do(func() {
				s.do(func() { delete(s.over, "/.well-known/oauth-protected-resource") })
				if err := y.Refresh(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
			answerJSON(w, 200, s.resource)
		}
	})
	if err := x.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	if err := call(t, x); err != nil || s.reused != 0 {
		t.Errorf("%v; a token was used twice %d times", err, s.reused)
	}
}

// Another site, or a link, begins a login at an account of its own in somebody's browser.
func TestLoginBegunElsewhere(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	a := newApp(t, net, "app.example.net")
	for name, c := range map[string]struct {
		method, origin, site string
		ok                   bool
	}{
		"own form":                {"POST", "https://app.example.net", "same-origin", true},
		"own form, old browser":   {"POST", "https://app.example.net", "", true},
		"no browser":              {"POST", "", "", true},
		"another site":            {"POST", "https://evil.example.net", "cross-site", false},
		"another site of ours":    {"POST", "https://evil.example.net", "same-site", false},
		"another, old browser":    {"POST", "https://evil.example.net", "", false},
		"sandbox, old browser":    {"POST", "null", "", false},
		"a link":                  {"GET", "", "cross-site", false},
		"a link without metadata": {"GET", "", "", false},
	} {
		r := httptest.NewRequest(c.method, "https://app.example.net/login", strings.NewReader(url.Values{}.Encode()))
		for k, v := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		rec := httptest.NewRecorder()
		err := a.StartHTTP(rec, r, client.Login{Account: s.did})
		if (err == nil) != c.ok || !c.ok && (!errors.Is(err, client.ErrForm) || len(rec.Header()) > 0) {
			t.Errorf("%s: %v, %v", name, err, rec.Header())
		}
	}
}
