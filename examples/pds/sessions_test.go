package main_test

import (
	"context"
	"errors"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/audit"
	oauth "github.com/pdskit/pdskit/xrpc/oauth/client"
)

var (
	formInput = regexp.MustCompile(`<input ([^>]*)>`)
	formAttr  = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
)

// formOf returns the fields of the first form of a page that are hidden, or ticked.
func formOf(t *testing.T, page string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(page, "<form method=\"post\"")
	if !ok {
		t.Fatalf("no form in %s", page)
	}
	form, _, _ = strings.Cut(form, "</form>")
	in := url.Values{}
	for _, m := range formInput.FindAllStringSubmatch(form, -1) {
		a := map[string]string{}
		for _, x := range formAttr.FindAllStringSubmatch(m[1], -1) {
			a[x[1]] = html.UnescapeString(x[2])
		}
		if a["type"] == "hidden" || a["type"] == "checkbox" {
			in.Add(a["name"], a["value"])
		}
	}
	return in
}

// letIn lets a program on this machine into an account, in a browser that is new.
func (p *process) letIn(t *testing.T, plc string, u *user, scope string) *oauth.Session {
	t.Helper()
	app, err := oauth.New(oauth.Config{Metadata: oauth.Loopback(scope, ""), Discovery: &oauth.Discovery{
		Development: true, Resolver: &identity.Resolver{PLC: &identity.PLCClient{URL: plc}, Development: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	send := func(r *http.Request, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "a browser")
		if r.Method == "POST" {
			r.Header.Set("Origin", p.url)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %d %v %s", r.URL, res.StatusCode, err, text)
		}
		return string(text)
	}
	s, err := app.LoginLocal(t.Context(), oauth.Login{Account: p.url}, func(address string) error {
		in := formOf(t, send(http.NewRequest("GET", address, nil)))
		in.Set("identifier", u.Handle)
		in.Set("password", "password of "+strings.TrimSuffix(u.Handle, ".test"))
		in.Set("remember", "yes")
		in = formOf(t, send(http.NewRequest("POST", p.url+"/oauth/sign-in", strings.NewReader(in.Encode()))))
		in.Set("decision", "allow")
		send(http.NewRequest("POST", p.url+"/oauth/authorize", strings.NewReader(in.Encode())))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An operator sees what lets people and apps into an account, and ends it while the server runs.
func TestSessionCommands(t *testing.T) {
	plc := testplc.Start(t, plctest.Config{NoRateLimits: true})
	dir, env := t.TempDir(), "PDS_DID_PLC_URL="+plc.URL
	p := start(t, dir, env)
	o := newOperator(t, dir, env, p.port())
	alice := p.register("alice")
	p.register("bob")
	one, two := p.letIn(t, plc.URL, alice, "atproto account:email"), p.letIn(t, plc.URL, alice, "atproto repo:com.example.note")
	call := func(s *oauth.Session) error {
		return s.Client().Query(context.Background(), "com.atproto.server.getSession", nil, nil)
	}
	type entry struct {
		ID, Kind, Name, Scope string
		May                   []string
	}
	type ended struct {
		DID   string
		Ended []string
	}
	list := func(args ...string) (list []entry) {
		t.Helper()
		o.ok(&list, append(args, "alice.test")...)
		return list
	}
	apps := list("oauth", "list")
	if len(apps) != 2 || apps[1].Scope != "account:email atproto" || len(apps[1].May) != 1 || apps[1].May[0] != "See your e-mail address" || !strings.HasPrefix(apps[0].Name, "http://localhost") {
		t.Fatalf("%+v", apps)
	}
	o.fails(1, "nothing was ended", "oauth", "revoke", "alice.test", apps[0].ID, "unknown")
	o.fails(1, "nothing was ended", "oauth", "revoke", "bob.test", apps[0].ID)
	o.fails(2, "wrong usage", "oauth", "revoke")
	stdout, stderr, code := o.run("oauth", "revoke", "alice.test", apps[1].ID)
	if code != 0 || stdout != "Ended 1 sessions of alice.test.\n" {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	if err := call(one); err == nil {
		t.Error("the app is still let in")
	}
	if err := call(two); err != nil {
		t.Error(err)
	}
	var out ended
	o.ok(&out, "oauth", "revoke", "alice.test")
	if len(out.Ended) != 1 || out.Ended[0] != apps[0].ID || out.DID != string(alice.DID) {
		t.Errorf("%+v", out)
	}
	if err := call(two); err == nil || len(list("oauth", "list")) != 0 {
		t.Error("the app is still let in")
	}

	open := list("account", "sessions", "list")
	kinds := map[string]int{}
	for _, x := range open {
		kinds[x.Kind]++
	}
	if kinds["browser"] != 2 || kinds["password"] != 1 || len(open) != 3 {
		t.Fatalf("%+v", open)
	}
	if err := alice.Query(t.Context(), "com.atproto.server.getSession", nil, nil); err != nil {
		t.Error(err)
	}
	if table, _, code := o.run("account", "sessions", "list", "alice.test"); code != 0 || !strings.HasPrefix(table, "ID ") || !strings.Contains(table, `"a browser 127.0.0.1"`) {
		t.Errorf("%d %s", code, table)
	}
	o.ok(&out, "account", "sessions", "end", "alice.test", open[0].ID)
	if left := list("account", "sessions", "list"); len(left) != 2 {
		t.Errorf("%+v", left)
	}
	o.ok(&out, "account", "sessions", "end", "alice.test")
	if len(out.Ended) != 2 || len(list("account", "sessions", "list")) != 0 {
		t.Errorf("%+v", out)
	}
	if err := alice.Query(t.Context(), "com.atproto.server.getSession", nil, nil); !errors.Is(err, &xrpc.Error{Name: "ExpiredToken"}) && !errors.Is(err, &xrpc.Error{Name: "InvalidToken"}) {
		t.Errorf("the session goes on: %v", err)
	}
	// What was done is in the trail that administrators see.
	p.interrupt()
	opt := datadir.Options{Existing: true}
	for _, v := range backend(t, dir) {
		if url, ok := strings.CutPrefix(v, "PDS_DATABASE_URL="); ok {
			opt.Database = url
		}
	}
	db, err := datadir.Open(t.Context(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	trail, err := (&audit.Log{KV: db.Store.KV}).List(t.Context(), 0, 10)
	if err != nil || len(trail) != 4 {
		t.Fatalf("%+v %v", trail, err)
	}
	for i, want := range []string{"pds account sessions end", "pds account sessions end", "pds oauth revoke", "pds oauth revoke"} {
		if e := trail[i]; e.Action != want || e.Subject != string(alice.DID) || e.Outcome != audit.Done || e.Through != "command line" || !strings.Contains(trail[3].Detail, apps[1].ID) {
			t.Errorf("%+v", e)
		}
	}
	var r checkReport
	if o.ok(&r, "check"); r.Found != 0 {
		t.Errorf("%+v", r)
	}
}
