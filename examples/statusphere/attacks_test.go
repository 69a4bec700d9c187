package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

// request sends a form to the app as a browser would, except for what change does to it.
func (w *world) request(cookie string, path string, form url.Values, change func(*http.Request)) *http.Response {
	r := httptest.NewRequest("POST", w.set.url+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", w.set.url)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	if change != nil {
		change(r)
	}
	rec := httptest.NewRecorder()
	w.app.web.ServeHTTP(rec, r)
	return rec.Result()
}

// cookieOf is the cookie of a browser that has signed in.
func (u *user) cookieOf() string {
	u.w.t.Helper()
	text := ""
	for _, k := range u.Cookies(u.w.set.url) {
		if k.Name == "__Host-statusphere" {
			text = k.Name + "=" + k.Value
		}
	}
	if text == "" {
		u.w.t.Fatal("there is no cookie")
	}
	return text
}

func TestForeignForms(t *testing.T) {
	w := newWorld(t)
	u, other := w.visit(), w.visit()
	u.signIn(w.pds.Account("alice"))
	own, foreignForm := u.form("/status"), other.form("/sign-in")
	form, foreign := own.Values(), foreignForm.Values()
	form.Set("status", "👍")
	cookie := u.cookieOf()
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(text)) }
	}
	name, value, _ := strings.Cut(cookie, "=")
	for attack, c := range map[string]struct {
		cookie string
		form   url.Values
		change func(*http.Request)
	}{
		"another origin":        {cookie, form, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example.net") }},
		"no origin":             {cookie, form, func(r *http.Request) { r.Header.Del("Origin") }},
		"the null origin":       {cookie, form, func(r *http.Request) { r.Header.Set("Origin", "null") }},
		"another port":          {cookie, form, func(r *http.Request) { r.Header.Set("Origin", w.set.url+":444") }},
		"the origin over HTTP":  {cookie, form, func(r *http.Request) { r.Header.Set("Origin", "http://"+site) }},
		"a site above":          {cookie, form, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }},
		"no token":              {cookie, url.Values{"status": {"👍"}}, nil},
		"a token cut short":     {cookie, url.Values{"status": {"👍"}, "token": {form.Get("token")[:20]}}, nil},
		"another one's token":   {cookie, url.Values{"status": {"👍"}, "token": foreign["token"]}, nil},
		"two tokens":            {cookie, url.Values{"status": {"👍"}, "token": {form.Get("token"), form.Get("token")}}, nil},
		"no cookie":             {"", form, nil},
		"a cookie without MAC":  {name + "=" + strings.SplitN(value, ".", 2)[0], form, nil},
		"a cookie with another": {name + "=x" + value, form, nil},
		"two cookies":           {cookie + "; " + other.cookieOf(), form, nil},
		"the cookie of HTTP":    {"statusphere=" + value, form, nil},
		"another host":          {cookie, form, func(r *http.Request) { r.Host = "evil.example.net" }},
		"JSON":                  {cookie, form, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }},
		"plain text":            {cookie, form, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		"a long form":           {cookie, form, body(form.Encode() + "&x=" + strings.Repeat("x", 1<<20))},
		"a broken form":         {cookie, form, body("%zz")},
		"a query":               {cookie, nil, func(r *http.Request) { r.URL.RawQuery = form.Encode() }},
		"two emoji":             {cookie, url.Values{"status": {"👍👍"}, "token": form["token"]}, nil},
		"HTML":                  {cookie, url.Values{"status": {"<b>"}, "token": form["token"]}, nil},
		"nothing":               {cookie, url.Values{"token": form["token"]}, nil},
	} {
		res := w.request(c.cookie, "/status", c.form, c.change)
		if res.StatusCode < 400 || res.StatusCode >= 500 {
			t.Errorf("%s: status %d", attack, res.StatusCode)
		}
	}
	if got := w.shown(); len(got) > 0 {
		t.Errorf("something was written: %q", got)
	}
	// And the form as it is.
	if res := w.request(cookie, "/status", form, nil); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the form itself: status %d", res.StatusCode)
	}
	w.wait("alice 👍")
}

// A form of another site comes without the cookie (SameSite). The answer must not set another one,
// which would sign its user out.
func TestForeignFormsSignNobodyOut(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/sign-in", "/sign-out", "/status", "/", "/nothing", "/oauth/callback"} {
		res := w.request("", path, url.Values{"x": {"y"}}, func(r *http.Request) {
			r.Header.Set("Origin", "https://evil.example.net")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		})
		if res.StatusCode < 400 || len(res.Cookies()) > 0 {
			t.Errorf("%s: status %d, cookies %v", path, res.StatusCode, res.Cookies())
		}
	}
}

// Whoever signs in again and again, and forgets the cookies, leaves sessions that nobody can use.
func TestUnusedSessionsAreRevoked(t *testing.T) {
	w := newWorld(t)
	alice := w.pds.Account("alice")
	u := w.visit()
	u.signIn(alice)
	sessions := func() (n int) {
		for _, err := range w.app.mustOAuth(t).Sessions(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	w.net.Clock.Advance(59 * 24 * time.Hour)
	w.app.web.RevokeUnused(t.Context())
	if n := sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	w.net.Clock.Advance(2 * 24 * time.Hour)
	w.app.web.RevokeUnused(t.Context())
	if n := sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// The servers of did:web accounts may never answer. That holds up these accounts and no other.
func TestServersOfStrangersDoNotHoldUpTheStream(t *testing.T) {
	w := newWorld(t)
	w.net.Handle("slow.test", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	alice := w.pds.Account("alice")
	w.say(alice, "👍")
	w.wait("alice 👍")
	record, err := data.Encode(map[string]any{
		"$type": string(status.Collection), "status": "🤒", "createdAt": string(syntax.NewDatetime(w.net.Clock.Now())),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // each lookup may take five seconds
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("a%d.slow.test", i)
		write := repo.Write{Action: repo.Create, Collection: status.Collection, RKey: "3l3qo2vuowo2b", Record: record}
		a := account.Account{DID: syntax.DID("did:web:" + name), Handle: syntax.Handle(name)}
		if _, err := w.pds.Server().Accounts.Create(t.Context(), a, key, repo.Batch{Writes: []repo.Write{write}}); err != nil {
			t.Fatal(err)
		}
	}
	w.say(alice, "🌱")
	w.wait("alice 🌱", "alice 👍")
	w.settle()
	w.net.Relay.Faults() // it does not know these accounts
}

// blocker holds writes back until it is released, as a server does that never answers.
type blocker struct {
	http.RoundTripper
	release       chan struct{}
	waiting, most atomic.Int64
}

func (b *blocker) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/com.atproto.repo.createRecord") {
		if n := b.waiting.Add(1); n > b.most.Load() {
			b.most.Store(n)
		}
		<-b.release
		b.waiting.Add(-1)
	}
	return b.RoundTripper.RoundTrip(r)
}

// Somebody whose own server never answers presses the button many times: others have places left.
func TestServerThatNeverAnswers(t *testing.T) {
	b := &blocker{release: make(chan struct{})}
	w := newWorld(t, func(s *settings) {
		c := *s.strangers
		b.RoundTripper = c.Transport
		c.Transport = b
		s.strangers = &c
	})
	u := w.visit()
	u.signIn(w.pds.Account("alice"))
	own := u.form("/status")
	form, cookie := own.Values(), u.cookieOf()
	form.Set("status", "👍")
	var all sync.WaitGroup
	var refused, done atomic.Int64
	for range 20 {
		all.Go(func() {
			switch res := w.request(cookie, "/status", form, nil); res.StatusCode {
			case http.StatusServiceUnavailable:
				refused.Add(1)
			case http.StatusSeeOther:
				done.Add(1)
			default:
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
	eventually(t, func() error {
		if b.waiting.Load() != 8 || refused.Load() != 8 {
			return fmt.Errorf("%d wait, %d are refused", b.waiting.Load(), refused.Load())
		}
		return nil
	})
	close(b.release)
	all.Wait()
	if b.most.Load() > 8 || done.Load()+refused.Load() != 20 {
		t.Errorf("%d at a time, %d done, %d refused", b.most.Load(), done.Load(), refused.Load())
	}
}

func TestCookies(t *testing.T) {
	w := newWorld(t)
	res := get(w, "/", "")
	k := res.Cookies()
	if len(k) != 1 || k[0].Name != "__Host-statusphere" || !k[0].Secure || !k[0].HttpOnly || k[0].SameSite != http.SameSiteLaxMode || k[0].Path != "/" || k[0].Domain != "" {
		t.Errorf("the cookie is %v", k)
	}
	if again := get(w, "/", k[0].Name+"="+k[0].Value); len(again.Cookies()) != 0 {
		t.Error("a cookie that is there is set again")
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "form-action 'self'", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Strict-Transport-Security": "max-age=",
	} {
		if !strings.Contains(res.Header.Get(name), want) {
			t.Errorf("%s: %q", name, res.Header.Get(name))
		}
	}
	// An old one is none.
	w.net.Clock.Advance(31 * 24 * time.Hour)
	if again := get(w, "/", k[0].Name+"="+k[0].Value); len(again.Cookies()) != 1 {
		t.Error("a cookie lasts for ever")
	}
	// Another key makes other cookies.
	u := w.visit()
	cookie := u.cookieOf()
	w.stop()
	w.set.secret = []byte(strings.Repeat("another!", 4))
	w.start()
	if again := get(w, "/", cookie); len(again.Cookies()) != 1 {
		t.Error("the cookie of another key is taken")
	}
}

// get asks for a page.
func get(w *world, path, cookie string) *http.Response {
	r := httptest.NewRequest("GET", w.set.url+path, nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	rec := httptest.NewRecorder()
	w.app.web.ServeHTTP(rec, r)
	return rec.Result()
}

func TestAddresses(t *testing.T) {
	w := newWorld(t)
	for path, status := range map[string]int{
		"/": 200, "/nothing": 404, "/static/nothing.css": 404, "/static/..%2f..%2fweb.go": 404, "/sign-in": 404, "/status": 404,
		"/oauth-client-metadata.json": 200, "/live": 400, "/live?after=-1": 400, "/live?after=x": 400,
	} {
		if res := get(w, path, ""); res.StatusCode != status && !(status == 404 && res.StatusCode == 405) {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
	}
	r := httptest.NewRequest("GET", "https://rebound.example.net/", nil)
	rec := httptest.NewRecorder()
	w.app.web.ServeHTTP(rec, r)
	if rec.Code != http.StatusFound || rec.Header().Get("Location") != w.set.url+"/" {
		t.Errorf("another host name: %d, %q", rec.Code, rec.Header().Get("Location"))
	}
}
