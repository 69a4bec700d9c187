package appview_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/appview"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

var _ = testenv.CheapPasswords()

func TestMisuse(t *testing.T) {
	b := testpds.New(t, nil)
	for want, cfg := range map[string]appview.Config{
		"": {Sessions: b.Sessions, Host: b.Host}, "Config.Sessions": {Host: b.Host}, "Config.Host": {Sessions: b.Sessions},
	} {
		got := func() (got any) {
			defer func() { got = recover() }()
			appview.New(cfg)
			return nil
		}()
		if text, _ := got.(string); !strings.Contains(text, want) || (got == nil) != (want == "") {
			t.Errorf("without %s: %v", want, got)
		}
	}
}

// upstream is the AppView and both moderation services.
type upstream struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string // method, audience and method of the token
	rev   string
	feed  string // the DID of its generator
}

// take returns the calls since it was called last.
func (u *upstream) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := u.calls
	u.calls = nil
	return calls
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/")
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Atproto-Repo-Rev", u.rev)
	call := method
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		call += " for " + u.claims(token)
	}
	u.calls = append(u.calls, call)
	switch method {
	case "app.bsky.actor.getProfile":
		fmt.Fprintf(w, `{"did":%q,"handle":"alice.test","displayName":"Old"}`, r.URL.Query().Get("actor"))
	case "app.bsky.feed.getAuthorFeed":
		fmt.Fprint(w, `{"feed":[]}`)
	case "app.bsky.feed.getPosts":
		fmt.Fprint(w, `{"posts":[]}`)
	case "com.atproto.repo.getRecord":
		switch rkey := r.URL.Query().Get("rkey"); {
		case rkey == "gone":
			w.WriteHeader(400)
			fmt.Fprint(w, `{"error":"RecordNotFound"}`)
		case rkey == "broken":
			w.WriteHeader(500)
		default:
			fmt.Fprintf(w, `{"uri":"at://x/y/z","value":{"did":%q}}`, u.feed)
		}
	default:
		fmt.Fprint(w, `{"ok":true}`)
	}
}

// claims are the audience and the method of a token that is not verified.
func (u *upstream) claims(token string) string {
	var c struct{ Aud, Lxm string }
	if parts := strings.Split(token, "."); len(parts) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1])
		json.Unmarshal(text, &c)
	}
	return c.Aud + " " + c.Lxm
}

const (
	appViewDID = "did:web:appview.example.com"
	reportsDID = "did:web:mod.example.com"
)

// newBench starts a server with an AppView.
func newBench(t *testing.T) (*testpds.Bench, *upstream) {
	t.Helper()
	u := &upstream{feed: "did:web:feed.example.com"}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	b := testpds.New(t, nil)
	appview.New(appview.Config{
		Sessions: b.Sessions, Host: b.Host, AppView: proxy.Service{DID: appViewDID, URL: u.URL},
		Moderation: proxy.Service{DID: "did:web:ozone.example.com", URL: u.URL}, Reports: proxy.Service{DID: reportsDID, URL: u.URL},
	}).Mount(b.Methods)
	return b, u
}

// Methods that the server does not have go to the service that has them, with a token for it.
func TestServices(t *testing.T) {
	b, u := newBench(t)
	alice := b.Register("alice")
	report := map[string]any{
		"reasonType": "com.atproto.moderation.defs#reasonSpam", "subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID},
	}
	push := func(service string) map[string]any {
		return map[string]any{"serviceDid": service, "token": "x", "platform": "web", "appId": "x"}
	}
	for _, c := range []struct {
		verb, method string
		in           any
		status       int
		calls        []string
	}{
		{"GET", "com.example.thing.get", nil, 200, []string{"com.example.thing.get for " + appViewDID + " com.example.thing.get"}},
		{"GET", "tools.ozone.moderation.getEvent?id=1", nil, 200, []string{"tools.ozone.moderation.getEvent for did:web:ozone.example.com tools.ozone.moderation.getEvent"}},
		{"POST", "com.atproto.moderation.createReport", report, 200, []string{"com.atproto.moderation.createReport for " + reportsDID + " com.atproto.moderation.createReport"}},
		{"POST", "com.atproto.moderation.createReport", map[string]any{"reasonType": 1}, 400, nil},
		{"POST", "app.bsky.notification.registerPush", push(appViewDID), 200, []string{"app.bsky.notification.registerPush for " + appViewDID + " app.bsky.notification.registerPush"}},
		{"POST", "app.bsky.notification.registerPush", push("x"), 400, nil},
		{"GET", "app.bsky.feed.getFeed?feed=at://did:web:a.example.com/app.bsky.feed.generator/one", nil, 200,
			[]string{"com.atproto.repo.getRecord", "app.bsky.feed.getFeed for did:web:feed.example.com app.bsky.feed.getFeedSkeleton"}},
		{"GET", "app.bsky.feed.getFeed?feed=at://did:web:a.example.com/app.bsky.feed.generator/gone", nil, 400, []string{"com.atproto.repo.getRecord"}},
		{"GET", "app.bsky.feed.getFeed?feed=at://did:web:a.example.com/app.bsky.feed.generator/broken", nil, 502, []string{"com.atproto.repo.getRecord"}},
		{"GET", "app.bsky.feed.getFeed?feed=at://did:web:a.example.com", nil, 400, nil},
	} {
		a := b.Send(c.verb, c.method, "Bearer "+alice.AccessJWT, c.in, nil)
		if a.Status != c.status {
			t.Errorf("%s: %d %s", c.method, a.Status, a.Body)
		}
		if diff := cmp.Diff(c.calls, u.take()); diff != "" {
			t.Errorf("%s: %s", c.method, diff)
		}
		method, _, _ := strings.Cut(c.method, "?")
		if a := b.Send(c.verb, method, "", c.in, nil); a.Status != 401 && a.Status != 400 || len(u.take()) > 0 {
			t.Errorf("%s by nobody: %d %s", method, a.Status, a.Body)
		}
	}
}

// What an account has just written is in the AppView's answer.
func TestReadAfterWrite(t *testing.T) {
	b, u := newBench(t)
	alice := b.Register("alice")
	profile := func() (name string) {
		var out struct{ DisplayName string }
		b.Must("GET", "app.bsky.actor.getProfile?actor="+string(alice.DID), alice.AccessJWT, nil, &out)
		return out.DisplayName
	}
	write := func(collection, rkey string, record map[string]any) (rev string) {
		var out struct{ Commit struct{ Rev string } }
		b.Must("POST", "com.atproto.repo.putRecord", alice.AccessJWT, map[string]any{
			"repo": alice.DID, "collection": collection, "rkey": rkey, "record": record}, &out)
		return out.Commit.Rev
	}
	rev := write("com.example.note", "one", map[string]any{})
	u.mu.Lock()
	u.rev = rev
	u.mu.Unlock()
	if got := profile(); got != "Old" {
		t.Errorf("%q", got)
	}
	rev = write("app.bsky.actor.profile", "self", map[string]any{"displayName": "New"})
	if got := profile(); got != "New" {
		t.Errorf("%q", got)
	}
	u.mu.Lock()
	u.rev = rev
	u.mu.Unlock()
	if got := profile(); got != "Old" {
		t.Errorf("once the AppView has it: %q", got)
	}
}

// What a new post quotes is asked of the AppView, in the name of its author.
func TestQuotesOfNewPosts(t *testing.T) {
	b, u := newBench(t)
	alice := b.Register("alice")
	post := func(record map[string]any) (rev string) {
		record["$type"], record["createdAt"] = "app.bsky.feed.post", "2026-01-15T12:00:00Z"
		var out struct{ Commit struct{ Rev string } }
		b.Must("POST", "com.atproto.repo.createRecord", alice.AccessJWT, map[string]any{"repo": alice.DID, "collection": "app.bsky.feed.post", "record": record}, &out)
		return out.Commit.Rev
	}
	rev := post(map[string]any{"text": "first"})
	u.mu.Lock()
	u.rev = rev
	u.mu.Unlock()
	post(map[string]any{"text": "second", "embed": map[string]any{"$type": "app.bsky.embed.record", "record": map[string]any{
		"uri": "at://did:web:bob.example.com/app.bsky.feed.post/3jzfcijpj2z2a", "cid": "bafyreigrey4aogz7sq5bxfaiwlcieaivxscvgs5ivgqczecmhddmhxoyvi"}}})
	u.take()
	a := b.Send("GET", "app.bsky.feed.getAuthorFeed?actor="+string(alice.DID), "Bearer "+alice.AccessJWT, nil, nil)
	if a.Status != http.StatusOK || !strings.Contains(a.Body, "second") || strings.Contains(a.Body, "first") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	calls := u.take()
	if want := "app.bsky.feed.getPosts for " + appViewDID + " app.bsky.feed.getPosts"; !slices.Contains(calls, want) {
		t.Errorf("%q", calls)
	}
}

// A record of a repository that is elsewhere is asked of the AppView, for nobody.
func TestRecordsElsewhere(t *testing.T) {
	b, u := newBench(t)
	none := appview.New(appview.Config{Sessions: b.Sessions, Host: b.Host})
	if none.Elsewhere() != nil {
		t.Error("somebody is asked though there is no AppView")
	}
	view := appview.New(appview.Config{Sessions: b.Sessions, Host: b.Host, AppView: proxy.Service{DID: appViewDID, URL: u.URL}})
	srv := &xrpc.Server{}
	srv.Handle(xrpc.Route{NSID: "com.atproto.repo.getRecord", Handler: xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
		return view.Elsewhere()(w, r)
	})})
	front := httptest.NewServer(srv)
	defer front.Close()
	res, err := http.Get(front.URL + "/xrpc/com.atproto.repo.getRecord?repo=did:web:x.example.com&collection=y&rkey=z")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if diff := cmp.Diff([]string{"com.atproto.repo.getRecord"}, u.take()); diff != "" || res.StatusCode != http.StatusOK {
		t.Errorf("%d %s", res.StatusCode, diff)
	}
}

// Preferences of another AppView are not those that are kept here.
func TestPreferencesOfOthers(t *testing.T) {
	b, _ := newBench(t)
	none := testpds.New(t, nil)
	appview.New(appview.Config{Sessions: none.Sessions, Host: none.Host}).Mount(none.Methods)
	for _, c := range []struct {
		b     *testpds.Bench
		proxy string
		kept  bool
	}{
		{b, "", true}, {b, appViewDID + "#bsky_appview", true}, {b, appViewDID + "#other", false}, {b, "did:web:x.example.com#bsky_appview", false},
		{none, "", true}, {none, "did:web:x.example.com#bsky_appview", true}, {none, "did:web:x.example.com#other", false},
	} {
		alice, a := c.b.Login("alice.test", "password of alice")
		if a.Status != 200 {
			alice = c.b.Register("alice")
		}
		client := &xrpc.Client{Host: c.b.URL, Retries: -1, Authorize: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+alice.AccessJWT)
			if c.proxy != "" {
				r.Header.Set("Atproto-Proxy", c.proxy)
			}
			return nil
		}}
		var out struct{ Preferences []any }
		if err := client.Query(t.Context(), "app.bsky.actor.getPreferences", nil, &out); (err == nil) != c.kept {
			t.Errorf("%s: %v", c.proxy, err)
		}
	}
	// Without an AppView, what the host does not have has no default.
	alice, _ := none.Login("alice.test", "password of alice")
	if a := none.Send("GET", "com.example.thing.get", "Bearer "+alice.AccessJWT, nil, nil); a.Status == 200 {
		t.Error("somebody answered")
	}
}

func TestPreferences(t *testing.T) {
	b, _ := newBench(t)
	alice := b.Register("alice")
	var app struct{ Password string }
	b.Must("POST", "com.atproto.server.createAppPassword", alice.AccessJWT, map[string]any{"name": "phone"}, &app)
	phone, _ := b.Login("alice.test", app.Password)
	const get, put = "app.bsky.actor.getPreferences", "app.bsky.actor.putPreferences"
	personal := map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "2010-06-01T00:00:00.000Z"}
	tags := map[string]any{"$type": "app.bsky.actor.defs#interestsPref", "tags": []any{"a"}}
	own := map[string]any{"$type": "app.bsky.example#pref", "n": 1.5}
	prefs := func(list ...any) map[string]any { return map[string]any{"preferences": list} }
	b.Must("POST", put, alice.AccessJWT, prefs(personal, tags, own), nil)
	seen := func(token string) (types []string) {
		var out struct{ Preferences []map[string]any }
		b.Must("GET", get, token, nil, &out)
		for _, p := range out.Preferences {
			name, _ := strings.CutPrefix(p["$type"].(string), "app.bsky.")
			if name == "actor.defs#declaredAgePref" && (p["isOverAge13"] != true || p["isOverAge18"] != false) {
				t.Errorf("%v", p)
			}
			types = append(types, name)
		}
		return types
	}
	const age = "actor.defs#declaredAgePref"
	if diff := cmp.Diff([]string{"actor.defs#personalDetailsPref", "actor.defs#interestsPref", "example#pref", age}, seen(alice.AccessJWT)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"actor.defs#interestsPref", "example#pref", age}, seen(phone.AccessJWT)); diff != "" {
		t.Error(diff)
	}
	for what, in := range map[string]map[string]any{
		"without a type": prefs(map[string]any{"n": 1}), "of another namespace": prefs(map[string]any{"$type": "com.example.pref"}),
	} {
		if a := b.Send("POST", put, "Bearer "+alice.AccessJWT, in, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	if a := b.Send("POST", put, "Bearer "+phone.AccessJWT, prefs(personal), nil); a.Status != 400 {
		t.Errorf("personal details by an app: %d %s", a.Status, a.Body)
	}
	b.Must("POST", put, phone.AccessJWT, prefs(tags), nil) // leaves alone what the app does not see
	if diff := cmp.Diff([]string{"actor.defs#personalDetailsPref", "actor.defs#interestsPref", age}, seen(alice.AccessJWT)); diff != "" {
		t.Error(diff)
	}
}

// The moderation service sees all preferences of an account.
func TestPreferencesForModerators(t *testing.T) {
	m := testpds.NewModerator(t)
	b := testpds.New(t, m.Configure)
	appview.New(appview.Config{Sessions: b.Sessions, Host: b.Host, AppView: proxy.Service{DID: appViewDID}}).Mount(b.Methods)
	alice := b.Register("alice")
	b.Must("POST", "app.bsky.actor.putPreferences", alice.AccessJWT, map[string]any{"preferences": []any{
		map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "2010-06-01T00:00:00.000Z"},
	}}, nil)
	const method = "app.bsky.actor.getPreferences"
	for query, status := range map[string]int{"?did=" + string(alice.DID): 200, "": 400, "?did=alice": 400, "?did=did:web:nobody.example.com": 403} {
		token := m.Token(t, serviceauth.Token{Issuer: string(m.DID) + "#atproto_labeler", Audience: "did:web:localhost", Method: method, Issued: b.Now()})
		a := b.Send("GET", method+query, token, nil, nil)
		if a.Status != status || status == 200 && !strings.Contains(a.Body, "birthDate") {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
}
