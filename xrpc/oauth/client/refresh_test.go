package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

const aMethod = "com.example.get"

func call(t *testing.T, s *client.Session) error {
	t.Helper()
	return s.Client().Query(t.Context(), aMethod, nil, nil)
}

// ends collects what OnEnd is told.
type ends struct {
	mu   sync.Mutex
	list []client.EndReason
}

func (e *ends) add(_ client.Info, why client.EndReason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, why)
}

func (e *ends) want(t *testing.T, reasons ...client.EndReason) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.list, reasons) {
		t.Errorf("OnEnd was told %q; want %q", e.list, reasons)
	}
	e.list = nil
}

// A token is renewed 10 to 40 seconds before it expires, and not earlier.
func TestRenewedInTime(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	a := newApp(t, net, "app.example.net")
	x := s.login(t, a)
	step := func(d time.Duration, want int) {
		t.Helper()
		net.Clock.Advance(d)
		if err := call(t, x); err != nil || s.count("/token") != want {
			t.Fatalf("%d requests, want %d; %v", s.count("/token"), want, err)
		}
	}
	step(15*time.Minute-50*time.Second, 1)
	step(41*time.Second, 2)
	// Of several that resume it, each renews it in that time; none at any other.
	early := 0
	for range 20 {
		y, err := a.Resume(t.Context(), x.ID())
		if err != nil {
			t.Fatal(err)
		}
		before := s.count("/token")
		net.Clock.Advance(15*time.Minute - 25*time.Second)
		if err := call(t, y); err != nil {
			t.Fatal(err)
		}
		if s.count("/token") > before {
			early++
			continue
		}
		net.Clock.Advance(16 * time.Second)
		if err := call(t, y); err != nil || s.count("/token") != before+1 {
			t.Fatal(err)
		}
	}
	if early == 0 || early == 20 {
		t.Errorf("%d of 20 renew it 25 seconds early: the time is not random", early)
	}
	// A token with a short life is not renewed all the time.
	s.do(func() { s.life = 20 * time.Second })
	if err := x.Refresh(t.Context()); err != nil { // it learns of the last one
		t.Fatal(err)
	}
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := s.count("/token")
	step(14*time.Second, n)
	step(5*time.Second, n+1)
}

// A server that is down does not end a session, and as long as the old token is good, it is used.
func TestServerDown(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	var e ends
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd = e.add })
	for _, down := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 429, map[string]any{"error": "slow_down"}) },
		func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, 401, map[string]any{"error": "invalid_client"})
		},
	} {
		x := s.login(t, a)
		s.do(func() { s.over["/token"] = down })
		net.Clock.Advance(15*time.Minute - 9*time.Second)
		before := s.count("/token")
		err := call(t, x)
		refused := s.count("/token") == before+1 && errors.Is(err, &client.Error{Code: "invalid_client"})
		if err != nil && !refused {
			t.Errorf("with a token that is good for 9 seconds: %v", err)
		}
		if s.count("/token") == before {
			t.Error("it was not tried")
		}
		if before = s.count("/token"); !refused {
			if err := call(t, x); err != nil || s.count("/token") != before {
				t.Errorf("it was tried again at once: %v", err)
			}
		}
		net.Clock.Advance(time.Minute)
		if err := call(t, x); err == nil || errors.Is(err, client.ErrSessionEnded) || !refused && !errors.Is(err, client.ErrTemporary) {
			t.Errorf("with a token that has expired: %v", err)
		}
		s.do(func() { delete(s.over, "/token") })
		if err := call(t, x); err != nil {
			t.Errorf("the server is back: %v", err)
		}
	}
	e.want(t)
}

// The server says that a session is over.
func TestRefused(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	var e ends
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd = e.add })
	over := func(x *client.Session, why client.EndReason) {
		t.Helper()
		err := call(t, x)
		var ended *client.EndedError
		if !errors.As(err, &ended) || ended.Reason != why || ended.ID != x.ID() || !errors.Is(err, client.ErrSessionEnded) || errors.Is(err, client.ErrTemporary) {
			t.Errorf("%v; want it ended: %s", err, why)
		}
		e.want(t, why)
		if _, err := a.Resume(t.Context(), x.ID()); !errors.Is(err, client.ErrSessionEnded) {
			t.Errorf("it is stored: %v", err)
		}
		if err := call(t, x); !errors.Is(err, client.ErrSessionEnded) {
			t.Errorf("afterwards: %v", err)
		}
		e.want(t)
		if err := x.Revoke(t.Context()); err != nil {
			t.Errorf("Revoke: %v", err)
		}
	}
	x := s.login(t, a)
	s.do(func() { s.ended = true })
	over(x, client.EndedRefused)

	// An answer with new tokens gets lost.
	x = s.login(t, a)
	s.do(func() {
		s.over["/token"] = func(w http.ResponseWriter, r *http.Request) {
			s.do(func() { s.tokens++ })
			panic(http.ErrAbortHandler)
		}
	})
	if err := x.Refresh(t.Context()); !errors.Is(err, client.ErrTemporary) {
		t.Fatal(err)
	}
	if y, err := a.Resume(t.Context(), x.ID()); err != nil || !y.Info().Uncertain {
		t.Error("it is not marked as uncertain")
	}
	s.do(func() { delete(s.over, "/token") })
	over(x, client.EndedLost)

	// The tokens are of somebody else, or for nothing.
	for _, change := range []func(map[string]any){
		func(m map[string]any) { m["sub"] = "did:web:other.example.net" }, func(m map[string]any) { m["scope"] = "repo:x" },
	} {
		s.do(func() { s.answer = nil })
		x = s.login(t, a)
		net.Clock.Advance(time.Hour)
		s.do(func() { s.answer = change })
		before := s.count("/revoke")
		over(x, client.EndedInvalid)
		if s.count("/revoke") != before+1 {
			t.Error("the tokens were not given back")
		}
	}

	// There is no refresh token.
	s.do(func() { s.answer = func(m map[string]any) { m["refresh_token"] = nil } })
	x = s.login(t, a)
	if err := x.Refresh(t.Context()); !errors.Is(err, client.ErrServer) || errors.Is(err, client.ErrSessionEnded) {
		t.Errorf("Refresh without a refresh token: %v", err)
	}
	net.Clock.Advance(15*time.Minute - 5*time.Second)
	if err := call(t, x); err != nil {
		t.Errorf("a token that cannot be renewed, and is good: %v", err)
	}
	net.Clock.Advance(time.Minute)
	over(x, client.EndedRefused)

	// A server that gives no new refresh token: the old one stays good.
	s.do(func() { s.answer = nil })
	x = s.login(t, a)
	s.do(func() { s.answer = func(m map[string]any) { m["refresh_token"] = nil } })
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.do(func() { s.answer, s.tokens = nil, s.tokens-1 })
	if err := x.Refresh(t.Context()); err != nil {
		t.Errorf("with the refresh token of before: %v", err)
	}
}

// An account has moved to another server: the old one does not speak for it any more.
func TestMoved(t *testing.T) {
	net := pdstest.New(t)
	s, other := rogueAt(net, "pds.example.net"), rogueAt(net, "other.example.net")
	var e ends
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd = e.add })
	x := s.login(t, a)
	document := func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, 200, map[string]any{"id": s.did, "service": []any{map[string]any{
			"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": other.origin}}})
	}
	s.do(func() { s.over["/.well-known/did.json"] = document })
	net.Clock.Advance(2 * time.Hour) // for that long, the resolver of the test believes what it has
	if err := call(t, x); !errors.Is(err, client.ErrSessionEnded) {
		t.Errorf("%v", err)
	}
	e.want(t, client.EndedMoved)
	if s.count("/token") != 1 || s.count("/revoke") != 1 {
		t.Error("the old server was asked to renew the session, or not told that it ended")
	}
	// Servers that contradict each other end nothing: that may be mended.
	x = other.login(t, a)
	for _, change := range []func(){
		func() { other.meta["issuer"] = s.origin }, func() { other.resource["resource"] = s.origin },
		func() { other.meta["protected_resources"] = []string{s.origin} },
	} {
		var meta, resource map[string]any
		other.do(func() {
			meta, resource = maps.Clone(other.meta), maps.Clone(other.resource)
			change()
		})
		net.Clock.Advance(time.Hour)
		if err := call(t, x); err == nil || errors.Is(err, client.ErrSessionEnded) {
			t.Errorf("%v", err)
		}
		other.do(func() { other.meta, other.resource = meta, resource })
		net.Clock.Advance(time.Minute)
		if err := call(t, x); err != nil {
			t.Errorf("%v", err)
		}
	}
	e.want(t)
	// Nothing can be found out: that ends nothing.
	other.do(func() {
		other.over["/.well-known/did.json"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
	})
	net.Clock.Advance(48 * time.Hour)
	if err := call(t, x); !errors.Is(err, client.ErrTemporary) {
		t.Errorf("%v", err)
	}
	e.want(t)
	other.do(func() { delete(other.over, "/.well-known/did.json") })
	net.Clock.Advance(time.Minute)
	if err := call(t, x); err != nil {
		t.Errorf("%v", err)
	}
}

// Tokens go to the account's PDS and nowhere else.
func TestForeignRequests(t *testing.T) {
	net := pdstest.New(t)
	s, other := rogueAt(net, "pds.example.net"), rogueAt(net, "other.example.net")
	a := newApp(t, net, "app.example.net")
	x := s.login(t, a)
	for _, address := range []string{
		other.origin + "/xrpc/x", "http://pds.example.net/xrpc/x", "https://pds.example.net:444/xrpc/x", "https://pds.example.net.other.example.net/xrpc/x",
		"https://pds.example.net@other.example.net/xrpc/x",
	} {
		if _, err := x.HTTPClient().Get(address); !errors.Is(err, client.ErrOrigin) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if other.count("/xrpc/x")+s.count("/xrpc/x") != 0 {
		t.Error("a request was sent")
	}
	for _, address := range []string{"https://pds.example.net/xrpc/x", "HTTPS://pds.example.net:443/xrpc/x?y=z#f"} {
		res, err := x.HTTPClient().Get(address)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%s: %v, %v", address, res, err)
		}
	}
}

// reader has no GetBody.
type reader struct{ io.Reader }

// A body that cannot be had again is sent once, and the caller gets the answer.
func TestBodies(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	a := newApp(t, net, "app.example.net")
	x := s.login(t, a)
	var got []string
	s.do(func() {
		s.over["/xrpc/"+aMethod] = func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			got = append(got, string(text))
			if claimsOf(r.Header.Get("DPoP"))["nonce"] != "n" {
				w.Header().Set("DPoP-Nonce", "n")
				askNonce(w, r)
				return
			}
			if r.Header.Get("Authorization") != "DPoP access2" {
				w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`)
				answerJSON(w, 401, map[string]any{"error": "InvalidToken"})
				return
			}
			answerJSON(w, 200, map[string]any{})
		}
	})
	upload := func(body io.Reader) error { return x.Client().Upload(t.Context(), aMethod, "text/plain", body, nil) }
	if err := upload(reader{strings.NewReader("stream")}); !errors.Is(err, &xrpc.Error{Status: 401}) || !slices.Equal(got, []string{"stream"}) {
		t.Errorf("%q, %v", got, err)
	}
	got = nil
	if err := upload(reader{strings.NewReader("stream")}); !errors.Is(err, &xrpc.Error{Status: 401}) || !slices.Equal(got, []string{"stream"}) {
		t.Errorf("%q, %v", got, err)
	}
	// One that can is sent once more for the nonce, and once more with another token.
	got = nil
	if err := upload(bytes.NewReader([]byte("bytes"))); err != nil || !slices.Equal(got, []string{"bytes", "bytes"}) {
		t.Errorf("%q, %v", got, err)
	}
	// A token that is refused although it is new is tried once more, and no more.
	got = nil
	s.do(func() {
		s.over["/xrpc/"+aMethod] = func(w http.ResponseWriter, r *http.Request) {
			got = append(got, r.Header.Get("Authorization"))
			w.Header().Set("WWW-Authenticate", `DPoP error="invalid_token"`)
			answerJSON(w, 401, map[string]any{"error": "InvalidToken"})
		}
	})
	if err := upload(strings.NewReader("x")); !errors.Is(err, &xrpc.Error{Status: 401}) || !slices.Equal(got, []string{"DPoP access2", "DPoP access3"}) {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.sessionGood(x); err != nil {
		t.Error(err)
	}
	// Before a body that can be sent once, the nonce and the token are made sure of.
	s.do(func() { s.nonce = "another" })
	net.Clock.Advance(90 * time.Second) // the token is good yet
	if err := upload(reader{strings.NewReader("stream")}); err != nil {
		t.Errorf("a stream after a pause: %v", err)
	}
	before := s.count("/xrpc/com.atproto.server.getSession")
	if err := upload(reader{strings.NewReader("stream")}); err != nil || s.count("/xrpc/com.atproto.server.getSession") != before {
		t.Errorf("a stream at once: %v", err)
	}
	for asks, pause := range []time.Duration{50 * time.Second, time.Minute} { // after the last nonce
		net.Clock.Advance(pause)
		if err := upload(reader{strings.NewReader("stream")}); err != nil || s.count("/xrpc/com.atproto.server.getSession") != before+asks {
			t.Errorf("a stream after %v: %v", pause, err)
		}
	}
	// If that fails, the body is not sent.
	net.Clock.Advance(time.Minute)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Client().Upload(gone, aMethod, "text/plain", reader{strings.NewReader("stream")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a stream of a caller that is gone: %v", err)
	}
	// A body that cannot be had again after all is the caller's error.
	s.do(func() { s.nonce = "a third" })
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.origin+"/xrpc/"+aMethod, strings.NewReader("bytes"))
	if err != nil {
		t.Fatal(err)
	}
	lost := errors.New("the file is gone")
	r.GetBody = func() (io.ReadCloser, error) { return nil, lost }
	if _, err := x.HTTPClient().Do(r); !errors.Is(err, lost) {
		t.Errorf("a body that is gone: %v", err)
	}
}

func (s *rogue) sessionGood(x *client.Session) error {
	s.do(func() { s.over = map[string]http.HandlerFunc{} })
	res, err := x.HTTPClient().Get(s.origin + "/xrpc/x")
	if err == nil && res.StatusCode != 200 {
		err = errors.New(res.Status)
	}
	return err
}

// Many calls at once, of several processes with one store: one request for each renewal.
func TestConcurrentRefresh(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	var e ends
	store := &client.Memory{Now: net.Clock.Now}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd, c.Sessions = e.add, store })
	id := s.login(t, a).ID()
	for round := range 5 {
		net.Clock.Advance(time.Hour)
		before := s.count("/token")
		var wg sync.WaitGroup
		for range 4 {
			c := a.another()
			for range 4 {
				wg.Go(func() {
					x, err := c.Resume(t.Context(), id)
					if err == nil {
						err = call(t, x)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if n := s.count("/token") - before; n != 1 || s.reused != 0 {
			t.Fatalf("round %d: %d requests, %d used a token twice", round, n, s.reused)
		}
	}
	e.want(t)
}

// Processes that do not share their locks, as after a lease that was too short: whoever loses the
// race takes what the winner has stored.
func TestWithoutLocks(t *testing.T) {
	net := pdstest.New(t)
	s := rogueAt(net, "pds.example.net")
	var e ends
	store := &client.Memory{Now: net.Clock.Now}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd, c.Sessions = e.add, store })
	other := func() *client.Session {
		t.Helper()
		a.cfg.Locks = &client.Memory{}
		a.cfg.Discovery = &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
		for x, err := range a.another().Sessions(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			return x
		}
		return nil
	}
	x := s.login(t, a)

	// While x renews the session, another process does, and is the first.
	y := other()
	once := sync.OnceFunc(func() {
		s.do(func() { delete(s.over, "/token") })
		if err := y.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
	})
	s.do(func() {
		s.over["/token"] = func(w http.ResponseWriter, r *http.Request) {
			once()
			answerJSON(w, 400, map[string]any{"error": "invalid_grant"})
		}
	})
	if err := x.Refresh(t.Context()); err != nil {
		t.Errorf("the loser: %v", err)
	}
	if err := errors.Join(call(t, x), call(t, y)); err != nil {
		t.Error(err)
	}

	// While x renews it, another process tries, gets no answer, and says so in the store.
	y = other()
	s.do(func() {
		s.over["/token"] = func(w http.ResponseWriter, r *http.Request) {
			s.do(func() {
				s.over["/token"] = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
			})
			if err := y.Refresh(t.Context()); !errors.Is(err, client.ErrTemporary) {
				t.Error(err)
			}
			if z := other(); !z.Info().Uncertain {
				t.Error("it is not marked as uncertain")
			}
			s.do(func() {
				delete(s.over, "/token")
				s.token(w, r)
			})
		}
	})
	if err := x.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	z := other()
	if err := errors.Join(call(t, x), call(t, y), call(t, z)); err != nil || z.Info().Uncertain {
		t.Errorf("%v %+v", err, z.Info())
	}

	// While x renews it, somebody revokes it: nobody keeps the new tokens.
	y = other()
	s.do(func() {
		s.over["/token"] = func(w http.ResponseWriter, r *http.Request) {
			s.do(func() { delete(s.over, "/token") })
			if err := y.Revoke(t.Context()); err != nil {
				t.Error(err)
			}
			s.do(func() {
				s.ended = false
				s.token(w, r)
			})
		}
	})
	if err := x.Refresh(t.Context()); !errors.Is(err, client.ErrSessionEnded) || !s.ended {
		t.Errorf("%v; ended at the server: %v", err, s.ended)
	}
	e.want(t, client.EndedRevoked)
}

// What a process remembers of an account is older than its session with the new server.
func TestStaleIdentity(t *testing.T) {
	net := pdstest.New(t)
	s, other := rogueAt(net, "pds.example.net"), rogueAt(net, "other.example.net")
	var e ends
	store := &client.Memory{Now: net.Clock.Now}
	a := newApp(t, net, "app.example.net", func(c *client.Config) { c.OnEnd, c.Sessions = e.add, store })
	x := s.login(t, a) // this process knows where the account is
	if err := x.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.want(t, client.EndedRevoked)
	s.do(func() {
		s.over["/.well-known/did.json"] = func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, 200, map[string]any{"id": s.did, "service": []any{map[string]any{
				"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": other.origin}}})
		}
	})
	other.do(func() { other.did = s.did })
	old := a.Client
	a.cfg.Discovery = &client.Discovery{Resolver: net.Resolver(), HTTP: net.Client(), Development: true, Now: net.Clock.Now}
	a.Client = a.another()
	x = other.login(t, a)
	net.Clock.Advance(15 * time.Minute) // and the first process has not heard of the move
	y, err := old.Resume(t.Context(), x.ID())
	if err == nil {
		err = call(t, y)
	}
	if err != nil {
		t.Error(err)
	}
	e.want(t)
}
