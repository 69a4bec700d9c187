package operator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/limit/rate"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// everyPath are the addresses that show something.
var everyPath = []string{
	"/admin", "/admin/", "/admin/accounts", "/admin/account?did=did:web:x.example.com", "/admin/taken-down", "/admin/subject", "/admin/invites", "/admin/invites/new",
	"/admin/stream", "/admin/backups", "/admin/mail", "/admin/errors", "/admin/trail", "/admin/sign-out", "/admin/act/delete?of=did:web:x.example.com",
}

func TestNobodyGetsInWithoutSigningIn(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	for _, cookie := range []string{"", "x", strings.Repeat("A", 26), strings.Repeat("A", 5000), "../../x", "\"quoted\""} {
		for _, path := range everyPath {
			b.Cookies = map[string]string{"__Host-operator": cookie}
			p := b.get(path)
			if p.Status != 303 || p.Header.Get("Location") != "/admin/sign-in" || strings.Contains(p.Text, string(w.alice.DID)) {
				t.Errorf("%s: %d %s", path, p.Status, p.Text)
			}
			if p := b.Post(strings.SplitN(path, "?", 2)[0], url.Values{"of": {string(w.alice.DID)}}); p.Status != 403 && p.Status != 405 {
				t.Errorf("post %s: %d", path, p.Status)
			}
		}
	}
	// An account's owner is no administrator, nor is the password in a header.
	r := httptest.NewRequest("GET", w.origin()+"/admin/accounts", nil)
	r.SetBasicAuth("admin", pdstest.AdminPassword)
	if p := w.tab().Send(r); p.Status != 303 {
		t.Errorf("by basic authentication: %d", p.Status)
	}
	if _, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil {
		t.Error(err)
	}
}

func TestNoPagesWithoutAPasswordOrWhenOff(t *testing.T) {
	for name, change := range map[string]func(*pds.Config){
		"no password": func(c *pds.Config) { c.Secrets.AdminPassword = "" },
		"off":         func(c *pds.Config) { c.Operator.Off = true },
	} {
		n := pdstest.New(t)
		p := n.PDS(change)
		w := &world{Network: n, t: t, pds: p}
		for _, path := range append(everyPath, "/admin/sign-in") {
			if got := w.tab().get(path); got.Status != 404 {
				t.Errorf("%s: %s: %d", name, path, got.Status)
			}
		}
	}
}

func TestForgedForms(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	did := string(w.alice.DID)
	path := "/admin/act/delete"
	b.get(path + "?of=" + url.QueryEscape(did))
	good := b.Last.Fields(path)
	good.Set("value", string(w.alice.Handle))
	without := func(name string) url.Values {
		in := maps.Clone(good)
		delete(in, name)
		return in
	}
	with := func(name, value string) url.Values {
		in := maps.Clone(good)
		in[name] = []string{value}
		return in
	}
	other := w.tab().signIn()
	other.get(path + "?of=" + url.QueryEscape(did))
	foreign := other.Last.Fields(path)
	b.get("/admin/act/takedown?of=" + url.QueryEscape(did))
	takedown := b.Last.Fields("/admin/act/takedown")
	takedown.Set("value", string(w.alice.Handle))
	foreign.Set("value", string(w.alice.Handle))
	for name, try := range map[string]struct {
		in     url.Values
		header []string
		status int
	}{
		"another origin":         {good, []string{"Origin", "https://evil.example"}, 403},
		"a null origin":          {good, []string{"Origin", "null"}, 403},
		"no origin":              {good, []string{"Origin", ""}, 403},
		"another site":           {good, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"a script":               {good, []string{"Sec-Fetch-Mode", "cors"}, 400},
		"a frame":                {good, []string{"Sec-Fetch-Dest", "iframe"}, 400},
		"no token":               {without("token"), nil, 403},
		"another token":          {with("token", strings.Repeat("A", 43)), nil, 403},
		"no session's mark":      {without("flow"), nil, 403},
		"another session's form": {foreign, nil, 403},
		"another act's token":    {takedown, nil, 403},
		"text":                   {good, []string{"Content-Type", "text/plain"}, 415},
		"JSON":                   {good, []string{"Content-Type", "application/json"}, 415},
		"compressed":             {good, []string{"Content-Encoding", "gzip"}, 415},
		"a field twice":          {url.Values{"of": {did, did}, "token": good["token"], "flow": good["flow"]}, nil, 400},
	} {
		if p := b.Post(path, try.in, try.header...); p.Status != try.status {
			t.Errorf("%s: %d, want %d", name, p.Status, try.status)
		}
		if _, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil {
			t.Fatalf("%s: the account is gone", name)
		}
	}
	// What is done needs a POST.
	b.get(path + "?" + good.Encode())
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"} {
		r := httptest.NewRequest(method, w.origin()+path+"?"+good.Encode(), strings.NewReader(good.Encode()))
		r.Header.Set("Origin", "https://evil.example")
		p := b.Send(r)
		if p.Status < 400 && method != "HEAD" || p.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", method, p.Status, p.Header)
		}
	}
	if _, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil {
		t.Fatal("the account is gone")
	}
	if p := b.Post(path, good); p.Status != 303 {
		t.Errorf("the good one: %d %s", p.Status, p.Text)
	}
}

func TestPagesAreNotFramedCachedOrRead(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	for _, path := range append(everyPath, "/admin/sign-in", "/admin/nothing?<script>") {
		p := b.get(path)
		if p.Status == 404 && strings.HasPrefix(path, "/admin/nothing") {
			continue
		}
		h := p.Header
		for name, want := range map[string]string{
			"X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("%s: %s", path, csp)
		}
	}
	if p := b.get("/admin/accounts", "Sec-Fetch-Dest", "iframe"); p.Status != 400 {
		t.Errorf("in a frame: %d", p.Status)
	}
	if p := b.get("/admin/accounts", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"); p.Status != 400 {
		t.Errorf("as a picture: %d", p.Status)
	}
}

func TestCookieIsOurOwn(t *testing.T) {
	w := newWorld(t)
	b := w.tab()
	b.get("/admin/sign-in")
	b.Post("/admin/sign-in", url.Values{"password": {pdstest.AdminPassword}, "token": b.Last.Fields("/admin/sign-in")["token"]})
	var found bool
	for _, line := range b.Last.Header["Set-Cookie"] {
		if strings.HasPrefix(line, "__Host-operator=") {
			found = true
			for _, want := range []string{"Path=/", "HttpOnly", "Secure", "SameSite=Strict"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %s in %s", want, line)
				}
			}
			if strings.Contains(line, "Domain") || strings.Contains(line, "Max-Age") {
				t.Error(line)
			}
		}
	}
	if !found {
		t.Fatal(b.Last.Header)
	}
	// The store has neither the secret nor the password, in no form that lets in.
	token := b.Cookies["__Host-operator"]
	err := w.pds.Store().KV.Read(t.Context(), func(r storage.KVReader) error {
		for pair, err := range r.Keys(t.Context(), storage.Range{}) {
			if err != nil {
				return err
			}
			if text := pair.Key + string(pair.Value); strings.Contains(text, token) || strings.Contains(text, pdstest.AdminPassword) {
				t.Errorf("%s has a secret", pair.Key)
			}
			if name, ok := strings.CutPrefix(pair.Key, "operator/session/"); ok && len(name) == 26 {
				t.Errorf("%s", pair.Key)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A cookie that somebody has planted is not the one that the administrator signs in with.
func TestSessionFixation(t *testing.T) {
	w := newWorld(t)
	evil := w.tab().signIn()
	planted := evil.Cookies["__Host-operator"]
	b := w.tab()
	b.Cookies["__Host-operator"] = planted
	b.get("/admin/sign-out")
	b.Submit("/admin/sign-out", nil)
	b.Cookies["__Host-operator"] = strings.Repeat("A", 26)
	b.signIn()
	if now := b.Cookies["__Host-operator"]; now == planted || now == strings.Repeat("A", 26) {
		t.Error("the session has a secret that somebody else knows")
	}
	evil.Cookies["__Host-operator"] = strings.Repeat("A", 26)
	if p := evil.get("/admin"); p.Status != 303 {
		t.Errorf("%d", p.Status)
	}
	// Another sign-in ends the session before it.
	before := b.copy()
	b.get("/admin/sign-in")
	b.Follow()
	if b.Last.Path != "/admin" {
		t.Error(b.Last.Path)
	}
	before.get("/admin")
	before.Expect(200, "Overview")
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	out := func(b *tab, why string) {
		t.Helper()
		if p := b.get("/admin/accounts"); p.Status != 303 {
			t.Errorf("%s: %d", why, p.Status)
		}
	}
	b := w.tab().signIn()
	form := b.get("/admin/act/takedown?of=" + url.QueryEscape(string(w.alice.DID))).Fields("/admin/act/takedown")
	w.Clock.Advance(59 * time.Minute)
	b.get("/admin")
	b.Expect(200, "Overview")
	w.Clock.Advance(61 * time.Minute)
	out(b, "after an hour")
	if p := b.Post("/admin/act/takedown", form); p.Status != 401 {
		t.Errorf("a stale form: %d", p.Status)
	}
	b = w.tab().signIn()
	for range 24 {
		w.Clock.Advance(29 * time.Minute)
		b.get("/admin")
		b.Expect(200, "Overview")
	}
	w.Clock.Advance(25 * time.Minute)
	out(b, "after twelve hours of use")
	b = w.tab().signIn()
	copied := b.copy()
	b.get("/admin/sign-out")
	b.Submit("/admin/sign-out", nil)
	out(copied, "after signing out")
	one, two := w.tab().signIn(), w.tab().signIn()
	one.get("/admin/sign-out")
	one.Submit("/admin/sign-out", url.Values{"all": {"yes"}})
	out(two, "after signing out everywhere")
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Active {
		t.Errorf("%+v, %v", a, err)
	}
}

// The nodes of a store know each other's sessions, and a new password ends them on all.
func TestNewPasswordEndsSessions(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	node := func(password string) *world {
		other := &world{Network: w.Network, t: t, alice: w.alice}
		other.pds = w.PDS(func(c *pds.Config) {
			c.URL, c.Store, c.Secrets.AdminPassword = w.origin(), w.pds.Store(), password
		})
		return other
	}
	same, changed := node(pdstest.AdminPassword), node("another password")
	try := func(at *world) int {
		x := at.tab()
		x.Cookies = maps.Clone(b.Cookies)
		r := httptest.NewRequest("GET", w.origin()+"/admin/accounts", nil)
		return x.Send(r).Status
	}
	if got := try(same); got != 200 {
		t.Errorf("on another node: %d", got)
	}
	if got := try(changed); got != 303 {
		t.Errorf("with another password: %d", got)
	}
	if got := try(w); got != 200 {
		t.Errorf("where it began: %d", got)
	}
}

func TestGuessing(t *testing.T) {
	w := newWorld(t, func(c *pds.Config) { c.Rates = rate.New(rate.Config{Now: c.Now}) })
	b := w.tab()
	tries := 0
	for ; tries < 1000; tries++ {
		b.get("/admin/sign-in")
		p := b.Submit("/admin/sign-in", url.Values{"password": {fmt.Sprint("guess", tries)}})
		if p.Status == 429 {
			break
		}
		if p.Status != 401 {
			t.Fatalf("%d %s", p.Status, p.Text)
		}
	}
	if tries > 100 {
		t.Errorf("%d tries", tries)
	}
	// Not even the right one, and not by a method either: they are counted together.
	b.get("/admin/sign-in")
	if p := b.Submit("/admin/sign-in", url.Values{"password": {pdstest.AdminPassword}}); p.Status != 429 {
		t.Errorf("%d", p.Status)
	}
	r := httptest.NewRequest("GET", w.origin()+"/xrpc/com.atproto.admin.getInviteCodes", nil)
	r.SetBasicAuth("admin", pdstest.AdminPassword)
	if p := b.Send(r); p.Status != 429 {
		t.Errorf("by a method: %d", p.Status)
	}
	// Who is elsewhere gets in.
	other := w.tab()
	other.From = "198.51.100.9:1"
	other.signIn()
	list, err := w.pds.Server().Audit.List(t.Context(), 0, 100)
	if err != nil || len(list) != 1 {
		t.Errorf("guesses fill the trail: %d entries, %v", len(list), err)
	}
}

const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}`

// hostile are relays and subscribers that say of themselves what is to be a script.
type hostile struct{}

func (hostile) Subscriptions() []stream.Subscription {
	return []stream.Subscription{{ID: 1, Address: evil, Agent: evil + strings.Repeat("x", 10_000)}}
}
func (hostile) End(int64) bool { return false }

func (hostile) Status() []crawl.RelayStatus {
	return []crawl.RelayStatus{{
		Relay: "https://relay.example.net/" + evil, AskedAt: time.Now(), CheckedAt: time.Now(),
		Request: crawl.Request{Err: errors.New(evil)}, Check: crawl.Check{Problem: crawl.Problem(evil)},
	}, {Relay: "https://other.example.net", CheckedAt: time.Now(), Check: crawl.Check{Err: errors.New(strings.Repeat(evil, 1000))}}}
}
func (hostile) Ask(context.Context, string) (crawl.Request, error) {
	return crawl.Request{}, crawl.ErrNoRelay
}
func (hostile) Look(context.Context, string) (crawl.Check, error) {
	return crawl.Check{}, crawl.ErrTooSoon
}

func TestScriptsOfOthers(t *testing.T) {
	w := newWorld(t, func(c *pds.Config) {
		c.Operator.BackupHelp, c.Version = evil, evil
		c.Operator.Change = func(o *operator.Config) { o.Relays, o.Subscribers = hostile{}, hostile{} }
		c.Operator.Sizes = func(context.Context) []operator.Size { return []operator.Size{{Name: evil, Bytes: -1}} }
	})
	ctx := t.Context()
	// The store may have what no method lets in.
	_, err := w.pds.Server().Accounts.Update(ctx, account.Trusted(w.alice.DID), func(a *account.Account, _ *repo.Step) error {
		a.Invite = evil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.pds.Server().Accounts.TakeDown(ctx, w.alice.DID, account.Takedown{Applied: true, Ref: evil}); err != nil {
		t.Fatal(err)
	}
	if err := w.pds.Server().Accounts.SetRecordTakedown(ctx, w.alice.DID, "com.example.note/"+evil, account.Takedown{Applied: true, Ref: evil}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(w.pds.Server().Errors.Handler(slog.DiscardHandler))
	log.Error(evil, "err", evil, "method", evil, "relay", evil)
	if err := (operator.Backups{KV: w.pds.Store().KV}).Note(ctx, operator.Backup{Path: evil, Problem: evil}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pds.Server().Accounts.CreateInvites(ctx, evil, evil, evil, 1, 1); err != nil {
		t.Fatal(err)
	}
	b := w.tab().signIn()
	b.act("ask-relay", "https://relay.example.net/"+evil, "")
	paths := append(everyPath, "/admin/relays", "/admin/account?did="+string(w.alice.DID), "/admin/accounts?q="+url.QueryEscape(evil), "/admin/subject?of="+url.QueryEscape(evil),
		"/admin?done="+url.QueryEscape(evil), "/admin/accounts?cursor="+url.QueryEscape(evil), "/admin/act/delete?of="+url.QueryEscape(evil), "/admin/act/ask-relay?of="+url.QueryEscape("https://x/"+evil))
	shown := 0
	for _, path := range paths {
		p := b.get(path)
		if strings.Contains(p.Text, "<script") || strings.Contains(p.Text, "<img") {
			t.Errorf("%s has a script of somebody else's:\n%s", path, p.Text)
		}
		shown += strings.Count(p.Text, "&lt;script&gt;")
	}
	if shown < 8 {
		t.Errorf("it was shown %d times: no attack", shown)
	}
}

func TestGiantNamesAndPages(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	long := strings.Repeat("x", 60_000)
	for _, path := range []string{
		"/admin/accounts?q=" + long, "/admin/accounts?cursor=" + long, "/admin/account?did=did:web:" + long, "/admin/taken-down?cursor=" + long, "/admin/trail?cursor=" + long[:3000],
		"/admin/trail?cursor=-1", "/admin/trail?cursor=99999999999999999999", "/admin/trail?cursor=0", "/admin/invites?cursor=" + long, "/admin/invites?cursor=x", "/admin/invites?cursor=1::",
		"/admin/account", "/admin/account?did=alice", "/admin/account?did=did:web:a&did=did:web:b", "/admin/account?did=%ff", "/admin/account?did=%00", "/admin/accounts?q=%zz",
		"/admin/act/delete", "/admin/act/delete?of=x", "/admin/act/nothing?of=x", "/admin/act/?of=x", "/admin/act/end-subscriber?of=x", "/admin/act/end-subscriber?of=99999999999999999999",
		"/admin/act/test-mail?of=x", "/admin/act/takedown-part?of=did:web:a", "/admin/act/takedown-part?of=did:web:a%20" + long[:300], "/admin/act/disable-code?of=a/b", "/admin/act/disable-code",
		"/admin/act/ask-relay?of=x", // no relays here
	} {
		p := b.get(path)
		if p.Status < 400 || p.Status >= 500 {
			t.Errorf("%.80s: %d", path, p.Status)
		}
		if len(p.Text) > 20_000 {
			t.Errorf("%.80s: %d bytes", path, len(p.Text))
		}
	}
	form := b.get("/admin/act/takedown?of=" + url.QueryEscape(string(w.alice.DID))).Fields("/admin/act/takedown")
	for _, value := range []string{strings.Repeat("x", 301), "a\r\nb", "a\u202eb", "\x00"} {
		form.Set("value", value)
		if p := b.Post("/admin/act/takedown", form); p.Status != 422 {
			t.Errorf("%.20q: %d", value, p.Status)
		}
	}
	form.Set("value", strings.Repeat("x", 70_000))
	if p := b.Post("/admin/act/takedown", form); p.Status != 413 {
		t.Errorf("a giant form: %d", p.Status)
	}
	if a, err := w.pds.Server().Accounts.ByDID(t.Context(), w.alice.DID); err != nil || a.Status() != account.Active {
		t.Errorf("%+v, %v", a, err)
	}
}

// What is done to what does not exist is refused, and said so.
func TestActsUponNothing(t *testing.T) {
	w := newWorld(t)
	b := w.tab().signIn()
	for _, name := range []string{"takedown", "restore", "deactivate", "activate", "delete", "handle", "email", "reset-mail", "reset-factors", "end-sessions", "invites-off", "invites-on"} {
		if p := b.get("/admin/act/" + name + "?of=did:web:nobody.example.com"); p.Status != 404 {
			t.Errorf("%s: %d", name, p.Status)
		}
		// An account that goes between the form and the act.
		b.get("/admin/act/" + name + "?of=" + url.QueryEscape(string(w.bob.DID)))
		in := b.Last.Fields("/admin/act/" + name)
		in.Set("of", "did:web:nobody.example.com")
		if p := b.Post("/admin/act/"+name, in); p.Status != 404 {
			t.Errorf("%s: %d %s", name, p.Status, p.Text)
		}
	}
}

// What cannot be written to the trail is not done.
type failing struct{ storage.KV }

func (failing) Write(context.Context, func(storage.KVTx) error) error { return storage.ErrFull }

func TestNoSignInWithoutTrail(t *testing.T) {
	w := newWorld(t)
	w.pds.Server().Audit.KV = failing{w.pds.Store().KV}
	b := w.tab()
	b.get("/admin/sign-in")
	b.Submit("/admin/sign-in", url.Values{"password": {pdstest.AdminPassword}})
	if b.Last.Status != 503 || b.Cookies["__Host-operator"] != "" {
		t.Errorf("%d %v", b.Last.Status, b.Cookies)
	}
}

// Who has signed in sees the pages although nothing can be written.
func TestPagesOnAFullDisk(t *testing.T) {
	kv := &failingLater{}
	w := newWorld(t, func(c *pds.Config) {
		c.Operator.Change = func(o *operator.Config) { kv.KV = o.KV; o.KV = kv }
	})
	b := w.tab().signIn()
	kv.full.Store(true)
	w.Clock.Advance(5 * time.Minute)
	b.get("/admin/accounts")
	b.Expect(200, "Accounts")
	w.Clock.Advance(time.Hour)
	b.get("/admin/accounts")
	b.Expect(303, "")
}

// failingLater is a store that cannot be written once it is full.
type failingLater struct {
	storage.KV
	full atomic.Bool
}

func (f *failingLater) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if f.full.Load() {
		return storage.ErrFull
	}
	return f.KV.Write(ctx, fn)
}

func TestRelayOfTheOperator(t *testing.T) {
	w := newWorld(t, func(c *pds.Config) { c.Operator.Change = func(o *operator.Config) { o.Relays = hostile{} } })
	b := w.tab().signIn()
	b.act("look-relay", "https://other.example.net", "")
	b.Expect(422, "Ask what it knows")
	b.has("too soon")
	b.act("ask-relay", "https://nowhere.example.net", "")
	b.Expect(422, "Ask to crawl now")
	b.has("no such relay")
}
