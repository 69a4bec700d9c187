package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// officialConsent is the browser of somebody who signs in at the official PDS and consents. It
// returns the query that the app gets.
func officialConsent(t *testing.T, page *url.URL, handle, password, did string) url.Values {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	origin := page.Scheme + "://" + page.Host
	do := func(method, address, site, mode string, in, out any) *http.Response {
		t.Helper()
		var body io.Reader
		if in != nil {
			text, _ := json.Marshal(in)
			body = bytes.NewReader(text)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, address, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Sec-Fetch-Mode", mode)
		r.Header.Set("Sec-Fetch-Dest", map[string]string{"navigate": "document"}[mode])
		r.Header.Set("User-Agent", "Mozilla/5.0")
		if site == "same-origin" {
			r.Header.Set("Referer", page.String())
		}
		if in != nil {
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Accept", "application/json")
			r.Header.Set("Origin", origin)
			for _, c := range jar.Cookies(page) {
				if c.Name == "csrf-token" {
					r.Header.Set("X-Csrf-Token", c.Value)
				}
			}
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		if res.StatusCode >= 400 {
			t.Fatalf("%s: %s: %.500s", address, res.Status, text)
		}
		if out != nil {
			if err := json.Unmarshal(text, out); err != nil {
				t.Fatalf("%s: %v: %.300s", address, err, text)
			}
		}
		return res
	}
	do("GET", page.String(), "cross-site", "navigate", nil, nil)
	api := origin + "/@atproto/oauth-provider/~api"
	do("POST", api+"/sign-in", "same-origin", "same-origin", map[string]any{"locale": "en", "username": handle, "password": password, "remember": true}, nil)
	var to struct{ URL string }
	do("POST", api+"/consent", "same-origin", "same-origin", map[string]any{"did": did}, &to)
	back, err := do("GET", to.URL, "same-origin", "navigate", nil, nil).Location()
	if err != nil {
		t.Fatal(err)
	}
	return back.Query()
}

// TestOfficialPDS logs in at the official PDS: the npm package @atproto/pds, which needs Node.js
// 22. It runs with PDSKIT_INTEROP=1, and PDSKIT_NPM naming a folder where the package was
// installed.
func TestOfficialPDS(t *testing.T) {
	if os.Getenv("PDSKIT_INTEROP") == "" || os.Getenv("PDSKIT_NPM") == "" {
		t.Skip("runs with PDSKIT_INTEROP=1, and PDSKIT_NPM naming a folder where @atproto/pds was installed")
	}
	modules := testenv.NodeModules(t, "@atproto/pds")
	plc := testplc.Start(t, plctest.Config{})
	server := "http://" + testenv.OfficialPDS(t, modules, plc.URL)
	ctx := t.Context()
	var account struct{ DID, Handle string }
	const password = "password of alice"
	err := (&xrpc.Client{Host: server}).Procedure(ctx, "com.atproto.server.createAccount", map[string]any{
		"handle": "alice.test", "email": "alice@example.com", "password": password,
	}, &account)
	if err != nil {
		t.Fatal(err)
	}

	store := &client.Memory{}
	var e ends
	newClient := func() *client.Client {
		c, err := client.New(client.Config{
			Metadata: client.Loopback("atproto transition:generic", "/callback"), Sessions: store, OnEnd: e.add,
			Discovery: &client.Discovery{Development: true, Resolver: &identity.Resolver{PLC: &identity.PLCClient{URL: plc.URL}, Development: true}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := newClient()
	var s *client.Session
	for _, input := range []string{account.DID, server} {
		to, err := c.Start(ctx, client.Login{Account: input, AppState: []byte("x"), Browser: "b"})
		if err != nil {
			t.Fatal(err)
		}
		back := officialConsent(t, to, account.Handle, password, account.DID)
		var app []byte
		if s, app, err = c.Finish(ctx, back, "b"); err != nil || string(app) != "x" {
			t.Fatalf("%s: %v", input, err)
		}
		if _, _, err := c.Finish(ctx, back, "b"); !errors.Is(err, client.ErrState) {
			t.Errorf("twice: %v", err)
		}
	}
	if i := s.Info(); string(i.DID) != account.DID || i.PDS != server || i.Issuer != server || i.Expires.IsZero() {
		t.Errorf("%+v", i)
	}
	use := func(s *client.Session) error {
		if err := create(ctx, s, "hello"); err != nil {
			return err
		}
		return s.Client().Query(ctx, "com.atproto.server.getSession", nil, nil)
	}
	if err := use(s); err != nil {
		t.Fatal(err)
	}
	// The previous access token is refused after a renewal. Others of the session get on.
	other, err := newClient().Resume(ctx, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if err := use(other); err != nil {
			t.Fatal(err)
		}
		if err := use(s); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range 8 {
		x := []*client.Session{s, other}[i%2]
		wg.Go(func() {
			if err := errors.Join(x.Refresh(ctx), use(x)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	e.want(t)
	// After revocation the refresh token is of no use.
	copied, err := store.Get(ctx, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(ctx); err != nil {
		t.Fatal(err)
	}
	e.want(t, client.EndedRevoked)
	if err := store.CompareAndSwap(ctx, s.ID(), nil, copied); err != nil {
		t.Fatal(err)
	}
	again, err := newClient().Resume(ctx, s.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Refresh(ctx); !errors.Is(err, client.ErrSessionEnded) {
		t.Errorf("after revocation: %v", err)
	}
	n := 0
	for s, err := range c.Sessions(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if err := use(s); err != nil {
			t.Errorf("the first session: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d sessions are left", n)
	}
}
