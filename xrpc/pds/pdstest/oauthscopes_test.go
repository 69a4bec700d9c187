package pdstest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/resolve"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

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
