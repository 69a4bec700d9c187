package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// holder is an account, somebody with a browser who lets an app in again and again, and the sessions that
// the app has. It does one thing at a time, so that at most one is without an answer when the server dies.
type holder struct {
	server  *process
	app     *pdstest.App
	browser *pdstest.Browser
	account *pdstest.Account

	live []*pdstest.AppSession
	dead []*pdstest.AppSession // ended, by an answer

	// What is without an answer.
	refreshed, revoked *pdstest.AppSession
	login              *pdstest.AppLogin
	back               *url.URL // with the code; nil: there is none
}

// lost reports whether there was no answer.
func lost(err error) bool {
	var refused *provider.Error
	var failed *xrpc.Error
	return err != nil && !errors.As(err, &refused) && !errors.As(err, &failed)
}

// step does something. It reports whether there was an answer.
func (h *holder) step(t *testing.T) bool {
	ctx := context.Background()
	var s *pdstest.AppSession
	if len(h.live) > 0 {
		s = h.live[rand.IntN(len(h.live))]
	}
	what := rand.IntN(10)
	switch {
	case s == nil || what < 3:
		login, err := h.app.PushTo(ctx, h.server.url, url.Values{"login_hint": {string(h.account.DID)}})
		if lost(err) {
			return false
		}
		var page *pdstest.Page
		if err == nil {
			page, err = h.browser.Consent(login.URL, h.account, nil)
		}
		if lost(err) {
			return false // no code was seen
		}
		if err == nil {
			s, err = login.Finish(ctx, page.URL)
		}
		if lost(err) {
			h.login, h.back = login, page.URL
			return false
		}
		if err != nil {
			t.Errorf("a login: %v", err)
			return false
		}
		h.live = append(h.live, s)
	case what < 7: // by two at once, with the same token
		other := s.Copy()
		errs := make(chan error, 1)
		go func() { errs <- other.Renew(ctx) }()
		err := s.Renew(ctx)
		err2 := <-errs
		if a, b := s.Tokens(), other.Tokens(); err == nil && err2 == nil && (a.Access != b.Access || a.Refresh != b.Refresh) {
			t.Errorf("two at once have got different tokens: %+v %+v", a, b)
		}
		if lost(err) || lost(err2) {
			if lost(err) && err2 == nil {
				h.replace(s, other)
			} else if lost(err) {
				h.refreshed = s
			}
			return false
		}
		if err != nil || err2 != nil {
			t.Errorf("a refresh: %v, %v", err, err2)
			return false
		}
	case what < 9:
		err := s.Query(ctx, "com.atproto.server.getSession", nil, nil)
		if lost(err) {
			return false
		}
		if err != nil {
			t.Errorf("a call: %v", err)
			return false
		}
	default:
		err := s.Revoke(ctx)
		if lost(err) {
			h.revoked = s
			return false
		}
		if err != nil {
			t.Errorf("a revocation: %v", err)
			return false
		}
		h.end(s)
	}
	return true
}

func (h *holder) replace(s, by *pdstest.AppSession) {
	for i := range h.live {
		if h.live[i] == s {
			h.live[i] = by
		}
	}
}

func (h *holder) end(s *pdstest.AppSession) {
	for i := range h.live {
		if h.live[i] == s {
			h.live = append(h.live[:i], h.live[i+1:]...)
			h.dead = append(h.dead, s)
			return
		}
	}
}

// settle finds out what became of that which has no answer, demands that all else is as it was answered,
// and returns how many sessions there are.
func (h *holder) settle(t *testing.T) int {
	ctx := t.Context()
	ended := &provider.Error{Code: "invalid_grant"}
	if s := h.refreshed; s != nil { // the old token is good, or leads to the same new one
		if err := s.Renew(ctx); err != nil {
			t.Errorf("a session is lost whose refresh had no answer: %v", err)
		}
	}
	if s := h.revoked; s != nil {
		switch err := s.Renew(ctx); {
		case errors.Is(err, ended):
			h.end(s)
		case err != nil:
			t.Errorf("a revocation without an answer: %v", err)
		}
	}
	if h.back != nil { // a code that is shown again ends the session that it had led to
		switch s, err := h.login.Finish(ctx, h.back); {
		case err == nil:
			h.live = append(h.live, s)
		case !errors.Is(err, ended):
			t.Errorf("a code whose exchange had no answer: %v", err)
		}
	}
	h.refreshed, h.revoked, h.login, h.back = nil, nil, nil, nil
	for _, s := range h.live {
		if err := s.Query(ctx, "com.atproto.server.getSession", nil, nil); err != nil {
			t.Errorf("a session that was there cannot call: %v", err)
		}
		if err := s.Renew(ctx); err != nil {
			t.Errorf("a session that was there cannot be refreshed: %v", err)
		}
	}
	for _, s := range h.dead {
		if err := s.Query(ctx, "com.atproto.server.getSession", nil, nil); !errors.Is(err, &xrpc.Error{Name: "invalid_token"}) {
			t.Errorf("a session that has ended calls: %v", err)
		}
		if err := s.Copy().Renew(ctx); !errors.Is(err, ended) {
			t.Errorf("a session that has ended is refreshed: %v", err)
		}
	}
	h.dead = nil
	return len(h.live)
}

// TestKilledDuringLogins kills the server again and again while apps are let in, refresh their tokens, two
// at once, call, and end their sessions. Each time it comes back, every session goes on or has ended as it
// was answered; what had no answer goes on or has ended as a whole; and there are no others.
func TestKilledDuringLogins(t *testing.T) {
	if testing.Short() {
		t.Skip("runs many processes")
	}
	dir := t.TempDir()
	env := []string{"PDS_DID_PLC_URL=" + directoryInTheNetwork(t)}
	p := start(t, dir, env...)
	env = append(env, p.port())
	redirect := app(t, nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	var all []*holder
	for i := range 4 {
		u := p.register(fmt.Sprint("holder", i))
		all = append(all, &holder{
			app: pdstest.LoopbackApp(&http.Client{Transport: transport}, "atproto repo:com.example.note", redirect), browser: pdstest.NewBrowser(transport),
			account: &pdstest.Account{DID: u.DID, Handle: syntax.Handle(u.Handle), Password: "password of " + u.Handle[:len(u.Handle)-len(".test")]},
		})
	}
	var answered atomic.Int64
	doubts, begin := map[string]int{}, time.Now()
	for range killRounds(t) {
		var busy sync.WaitGroup
		for _, h := range all {
			h.server = p
			busy.Go(func() {
				for h.step(t) {
					answered.Add(1)
				}
			})
		}
		most := answered.Load() + 20 + rand.Int64N(80)
		testenv.Until(t, "calls are answered", func() bool { return answered.Load() >= most || t.Failed() })
		p.kill()
		busy.Wait()
		if t.Failed() {
			return
		}
		for _, h := range all {
			for what, there := range map[string]bool{"refresh": h.refreshed != nil, "revocation": h.revoked != nil, "code": h.back != nil} {
				if there {
					doubts[what]++
				}
			}
		}
		p = start(t, dir, env...)
		o := newOperator(t, dir, env...)
		for _, h := range all {
			h.server = p
			want := h.settle(t)
			var list []struct{ ID string }
			o.ok(&list, "oauth", "list", string(h.account.Handle))
			if len(list) != want {
				t.Errorf("%s has %d sessions, want %d", h.account.Handle, len(list), want)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d answers, without one %v, in %v", answered.Load(), doubts, time.Since(begin).Round(time.Second))
}
