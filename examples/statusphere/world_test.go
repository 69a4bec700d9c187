package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

var _ = testenv.CheapPasswords()

// world is an app in a network of a test: at https://status.example.net, with a PDS that it follows.
type world struct {
	t   *testing.T
	net *pdstest.Network
	pds *pdstest.PDS

	set settings
	mu  sync.Mutex
	app *app
	end func()

	told map[string]bool // events about statuses that pages have got
}

const site = "status.example.net"

// newWorld starts one. change may change the settings of the app.
func newWorld(t *testing.T, change ...func(*settings)) *world {
	t.Helper()
	w := &world{t: t, net: pdstest.New(t)}
	w.pds = w.net.PDS(func(c *pds.Config) {
		doc, err := status.Document()
		if err != nil {
			t.Fatal(err)
		}
		c.Catalog = lexicon.Builtin()
		c.Catalog.Add(doc)
	})
	secret := sha256.Sum256([]byte(t.Name()))
	w.set = settings{
		dir: t.TempDir(), url: "https://" + site, secret: secret[:], firehose: "https://" + w.pds.Name, resolver: w.net.Resolver(),
		strangers: w.net.Client(), downloads: w.net.Client(), operator: w.net.Client(), now: w.net.Clock.Now,
		log: slog.New(slog.NewTextHandler(testLog{t}, nil)), fetchPause: 10 * time.Millisecond,
	}
	for _, f := range change {
		f(&w.set)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	w.net.Handle(site, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		a := w.app
		w.mu.Unlock()
		a.web.ServeHTTP(rw, r)
	}))
	return w
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("app: %s", b)
	return len(b), nil
}

func (w *world) start() {
	w.t.Helper()
	a, err := openApp(w.t.Context(), w.set)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.run(ctx)
	}()
	w.mu.Lock()
	w.app = a
	w.mu.Unlock()
	w.end = func() {
		cancel()
		<-done
		if err := a.close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) stop() {
	if w.end != nil {
		w.end()
		w.end = nil
	}
}

// shown is what the index would show: "handle status", newest first.
func (w *world) shown() (list []string) {
	w.t.Helper()
	p, err := w.app.index.Page(w.t.Context(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, post := range p.Recent {
		list = append(list, strings.TrimSuffix(string(post.Handle), "."+w.pds.Name)+" "+post.Text)
	}
	return list
}

// wait waits until the index shows exactly this.
func (w *world) wait(want ...string) {
	w.t.Helper()
	eventually(w.t, func() error {
		if got := w.shown(); !slices.Equal(got, want) {
			return fmt.Errorf("shown is %q, not %q", got, want)
		}
		return nil
	})
}

// eventually tries until there is no error.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// set writes a status as another app does: by a session with a password, and nothing of this app.
func (w *world) say(a *pdstest.Account, text string) api.RepoCreateRecordOutput {
	w.t.Helper()
	return a.Create(status.Collection, map[string]any{
		"$type": string(status.Collection), "status": text, "createdAt": string(syntax.NewDatetime(w.net.Clock.Now())),
	})
}

// writeAnything writes a record that its server does not look at.
func (w *world) writeAnything(a *pdstest.Account, json string) (api.RepoCreateRecordOutput, error) {
	return api.RepoCreateRecord(w.t.Context(), a, api.RepoCreateRecordInput{
		Repo: syntax.AtIdentifier(a.DID), Collection: status.Collection, Record: []byte(json), Validate: new(bool),
	})
}

// user is somebody at the pages of the app.
type user struct {
	*pdstest.Browser
	w    *world
	acct *pdstest.Account
	page *pdstest.Page
}

// visit opens the app in a new browser.
func (w *world) visit() *user {
	w.t.Helper()
	u := &user{Browser: w.net.Browser(), w: w}
	u.open()
	return u
}

func (u *user) open() {
	u.w.t.Helper()
	u.take(u.Open(u.w.set.url + "/"))
}

func (u *user) take(p *pdstest.Page, err error) {
	u.w.t.Helper()
	if err != nil {
		u.w.t.Fatal(err)
	}
	u.page = p
}

// form is that of an address.
func (u *user) form(path string) pdstest.Form {
	u.w.t.Helper()
	for _, f := range u.page.Forms {
		if f.Action.Path == path {
			return f
		}
	}
	u.w.t.Fatalf("the page has no form for %s: %s", path, u.page.Body)
	return pdstest.Form{}
}

func (u *user) submit(path string, values url.Values) {
	u.w.t.Helper()
	u.take(u.Submit(u.page, u.form(path), values))
}

// signIn signs in.
func (u *user) signIn(a *pdstest.Account) {
	u.w.t.Helper()
	u.submit("/sign-in", url.Values{"account": {string(a.Handle)}})
	for _, link := range u.page.Links {
		if link.Host == u.w.pds.Name {
			u.take(u.Consent(link.String(), a, nil))
			if u.page.URL.Path != "/" || u.page.Status != http.StatusOK || !strings.Contains(u.page.Body, "Signed in as") {
				u.w.t.Fatalf("the browser is at %s with status %d: %s", u.page.URL, u.page.Status, u.page.Body)
			}
			u.acct = a
			return
		}
	}
	u.w.t.Fatalf("no link leads to the PDS: %s", u.page.Body)
}

// list is what the page shows: the texts of its list.
func (u *user) list() (list []string) {
	for _, part := range strings.Split(u.page.Body, `<bdi class="emoji">`)[1:] {
		text, _, _ := strings.Cut(part, "</bdi>")
		if text != "" { // the template
			list = append(list, text)
		}
	}
	return list
}

// pagesOf returns what the repositories have: all valid statuses of accounts, by their addresses.
func (w *world) statuses() map[string]string {
	w.t.Helper()
	return rows(w.t, w.app.index)
}

func rows(t *testing.T, x *index.Index) map[string]string {
	t.Helper()
	list, err := x.SQL.QueryContext(t.Context(), "SELECT uri, status FROM status")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	m := make(map[string]string)
	for list.Next() {
		var uri, text string
		if err := list.Scan(&uri, &text); err != nil {
			t.Fatal(err)
		}
		m[uri] = text
	}
	return m
}
