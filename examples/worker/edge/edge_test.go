package edge

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/pds"
)

var _ = testenv.CheapPasswords()

// variables are those of a Worker with a server for one account and one for many.
func variables(t testing.TB) map[string]string {
	t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"PDS_HOSTNAMES": "alice.example.com, bob.example.com", "PDS_HOSTNAME": "pds.example.com",
		"PDS_MASTER_KEY": strings.Repeat("0a", 32), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": hex.EncodeToString(key.Bytes()),
		"PDS_ADMIN_PASSWORD": "secret", "PDS_CRAWLERS": "https://relay.example.net",
	}
}

func read(env map[string]string) (Config, error) {
	return ReadConfig(func(name string) string { return env[name] }, slices.Collect(maps.Keys(env)))
}

func TestReadConfig(t *testing.T) {
	c, err := read(variables(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.PLC != DefaultPLC || !c.InviteRequired || c.AppView.URL != pds.Bluesky.URL || c.Reports.DID == "" || c.BlobLimit != DefaultBlobLimit {
		t.Errorf("%+v", c)
	}
	for host, want := range map[string]string{
		"alice.example.com": "alice.example.com", "ALICE.example.com": "alice.example.com", "pds.example.com": "pds.example.com",
		"carol.pds.example.com": "pds.example.com", "carol.example.com": "", "": "", "evilpds.example.com": "", "alice.example.com.evil.net": "",
	} {
		if got := c.Serves(host); got != want {
			t.Errorf("%q is served by %q", host, got)
		}
	}
	for want, change := range map[string][2]string{
		"PDS_HOSTNAMES: \"https://a.b\" is no host name": {"PDS_HOSTNAMES", "https://a.b"},
		"is there twice":                         {"PDS_HOSTNAMES", "a.example.com a.example.com"},
		"it is one of PDS_HOSTNAMES too":         {"PDS_HOSTNAMES", "pds.example.com"},
		"PDS_MASTER_KEY: a key is 32 bytes":      {"PDS_MASTER_KEY", "abcd"},
		"wrangler secret put PDS_MASTER_KEY":     {"PDS_MASTER_KEY", ""},
		"not a private key":                      {"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", strings.Repeat("0", 64)},
		"PDS_ADMIN_PASSWORD: it is missing":      {"PDS_ADMIN_PASSWORD", ""},
		"PDS_HOSTNAM: there is no such variable": {"PDS_HOSTNAM", "x"},
		"PDS_BLOB_UPLOAD_LIMIT: \"5 MB\"":        {"PDS_BLOB_UPLOAD_LIMIT", "5 MB"},
		"PDS_INVITE_REQUIRED: \"maybe\"":         {"PDS_INVITE_REQUIRED", "maybe"},
		"PDS_BSKY_APP_VIEW_DID":                  {"PDS_BSKY_APP_VIEW_URL", "https://view.example"},
		"PDS_CRAWLERS: \"relay\"":                {"PDS_CRAWLERS", "relay"},
		"PDS_EMAIL_HOOK_URL":                     {"PDS_EMAIL_HOOK_URL", "mail.example"},
	} {
		env := variables(t)
		env[change[0]] = change[1]
		if _, err := read(env); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s=%q: %v, want %q", change[0], change[1], err, want)
		} else if strings.Contains(err.Error(), env["PDS_MASTER_KEY"]) && change[0] == "PDS_MASTER_KEY" && change[1] != "" {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	if _, err := read(map[string]string{}); err == nil || !strings.Contains(err.Error(), "there is no server") {
		t.Error(err)
	}
	off := variables(t)
	off["PDS_CRAWLERS"], off["PDS_BSKY_APP_VIEW_URL"], off["PDS_REPORT_SERVICE_URL"] = "off", "off", "off"
	if c, err := read(off); err != nil || c.Relays != nil || c.AppView.URL != "" || c.Reports != (pds.Service{}) {
		t.Errorf("%+v, %v", c, err)
	}
}

// place is where a server's processes come and go.
type place struct {
	t     testing.TB
	host  string
	cfg   Config
	store storage.Store
	plc   *plctest.Directory

	// A process goes on for a moment after its answer, as when it sends mail.
	mu    sync.Mutex
	at    time.Time
	alarm time.Time
	asked int
	mail  []string
}

func (p *place) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

func (p *place) set(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = now
}

// due is when the alarm goes off.
func (p *place) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alarm
}

// crawls is how often the relay was asked to crawl.
func (p *place) crawls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func newPlace(t testing.TB, host string, change ...func(env map[string]string)) *place {
	t.Helper()
	env := variables(t)
	for _, f := range change {
		f(env)
	}
	cfg, err := read(env)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, host: host, cfg: cfg, at: time.Now()}
	p.store = memory.New(memory.Config{Now: p.now})
	if p.plc, err = plctest.New(plctest.Config{NoRateLimits: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.plc.Close() })
	return p
}

// reach is the Internet of the server.
func (p *place) reach(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	switch r.URL.Host {
	case "plc.directory":
		p.plc.ServeHTTP(w, r)
	case "relay.example.net":
		if strings.HasSuffix(r.URL.Path, "requestCrawl") {
			p.mu.Lock()
			p.asked++
			p.mu.Unlock()
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteString(`{"hostname":"x","seq":9007199254740991,"status":"active"}`)
	case "mail.example.net":
		b, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.mail = append(p.mail, string(b))
		p.mu.Unlock()
	default:
		return nil, fmt.Errorf("no site %s", r.URL.Host)
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

// start starts a process.
func (p *place) start() *Server {
	p.t.Helper()
	client := &http.Client{Transport: nettest.RoundTrip(p.reach)}
	s, err := New(p.cfg, p.host, Platform{
		Store: p.store, HTTP: client, Now: p.now, Subscribers: func() int { return 1 },
		Alarm: func(at time.Time) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.alarm.IsZero() || at.Before(p.alarm) {
				p.alarm = at
			}
			return nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// pass passes time: alarms go off, each in a process of its own.
func (p *place) pass(d time.Duration) (wakes int) {
	p.t.Helper()
	for end := p.now().Add(d); ; wakes++ {
		alarm := p.due()
		if alarm.IsZero() || alarm.After(end) {
			p.set(end)
			return wakes
		}
		if wakes > 100 {
			p.t.Fatal("woken without end")
		}
		if alarm.After(p.now()) {
			p.set(alarm)
		}
		next := p.start().Wake(p.t.Context())
		p.mu.Lock()
		p.alarm = next
		p.mu.Unlock()
	}
}

// call calls a method and returns the answer.
func call(t testing.TB, s *Server, verb, path, auth string, in any) (status int, out map[string]any) {
	t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = strings.NewReader(string(b))
	}
	r := httptest.NewRequest(verb, "https://host"+path, body)
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r.WithContext(context.WithoutCancel(t.Context())))
	json.Unmarshal(w.Body.Bytes(), &out)
	return w.Code, out
}

const admin = "Basic YWRtaW46c2VjcmV0" // admin:secret

// invite makes an invite code.
func invite(t testing.TB, s *Server) string {
	t.Helper()
	status, out := call(t, s, "POST", "/xrpc/com.atproto.server.createInviteCode", admin, map[string]any{"useCount": 1})
	if status != 200 {
		t.Fatal(status, out)
	}
	return out["code"].(string)
}

func account(t testing.TB, s *Server, handle, code string) (int, map[string]any) {
	t.Helper()
	return call(t, s, "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
		"handle": handle, "email": "a@example.com", "password": "a long password", "inviteCode": code,
	})
}

// A server for one account: its host name is the handle, nobody else gets in, it publishes the
// identity, and everything lasts when its process ends after each request.
func TestOneAccount(t *testing.T) {
	p := newPlace(t, "alice.example.com")
	code, more := invite(t, p.start()), invite(t, p.start())
	if status, out := account(t, p.start(), "alice.example.com", ""); status != 400 {
		t.Errorf("without an invite code: %d %v", status, out)
	}
	if status, out := account(t, p.start(), "mallory.example.com", code); status != 400 || out["error"] != "UnsupportedDomain" {
		t.Errorf("another name: %d %v", status, out)
	}
	status, out := account(t, p.start(), "alice.example.com", code)
	if status != 200 {
		t.Fatal(status, out)
	}
	did, token := out["did"].(string), "Bearer "+out["accessJwt"].(string)
	if status, out := account(t, p.start(), "alice.example.com", more); status == 200 {
		t.Errorf("a second account: %v", out)
	}
	if status, out := account(t, p.start(), "alice2.example.com", more); status == 200 {
		t.Errorf("a second account: %v", out)
	}
	for i := range 3 {
		status, out := call(t, p.start(), "POST", "/xrpc/com.atproto.repo.createRecord", token, map[string]any{
			"repo": did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "n": i},
		})
		if status != 200 {
			t.Fatal(status, out)
		}
	}
	if _, out := call(t, p.start(), "GET", "/xrpc/com.atproto.repo.listRecords?collection=com.example.note&repo="+did, "", nil); len(out["records"].([]any)) != 3 {
		t.Errorf("%v", out)
	}
	r := httptest.NewRequest("GET", "https://alice.example.com/.well-known/atproto-did", nil)
	w := httptest.NewRecorder()
	if p.start().ServeHTTP(w, r); w.Body.String() != did {
		t.Errorf("the handle leads to %q", w.Body)
	}
	for path, want := range map[string]string{
		"/.well-known/oauth-protected-resource": "https://alice.example.com", "/.well-known/oauth-authorization-server": "https://alice.example.com",
		"/.well-known/did.json": "did:web:alice.example.com", "/xrpc/com.atproto.server.describeServer": "did:web:alice.example.com", "/xrpc/_health": Version,
	} {
		status, out := call(t, p.start(), "GET", path, "", nil)
		if text, _ := json.Marshal(out); status != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// After its work is done a server asks for no alarm any more, so that an idle account costs nothing.
func TestIdleServerIsNotWoken(t *testing.T) {
	p := newPlace(t, "alice.example.com")
	if status, out := account(t, p.start(), "alice.example.com", invite(t, p.start())); status != 200 {
		t.Fatal(status, out)
	}
	if wakes := p.pass(60 * 24 * time.Hour); wakes == 0 || wakes > 12 || p.crawls() == 0 {
		t.Errorf("woken %d times, the relay asked %d times", wakes, p.crawls())
	}
	if !p.due().IsZero() {
		t.Errorf("it is still woken, at %v", p.due())
	}
	call(t, p.start(), "GET", "/xrpc/com.atproto.sync.listRepos", "", nil)
	if !p.due().IsZero() {
		t.Error("a read sets the alarm")
	}
}

// Maintenance that fails is tried again after growing waits.
func TestMaintenanceFails(t *testing.T) {
	p := newPlace(t, "alice.example.com")
	s := p.start()
	if status, out := account(t, s, "alice.example.com", invite(t, s)); status != 200 {
		t.Fatal(status, out)
	}
	p.set(p.now().Add(-240 * time.Hour)) // a clock that is wrong: nothing is deleted by it
	var waits []time.Duration
	for range 4 {
		next := s.Wake(t.Context())
		waits = append(waits, next.Sub(p.now()))
		p.set(next)
	}
	if !slices.IsSorted(waits) || waits[0] < time.Minute || waits[3] < 4*time.Minute {
		t.Errorf("waits %v", waits)
	}
}

// Who guesses passwords gains nothing when the object is evicted, or made to restart, after each guess:
// guesses are counted in the store. So are new accounts, which cost the directory and the relays.
func TestGuessesAreCountedAcrossEvictions(t *testing.T) {
	p := newPlace(t, "alice.example.com")
	if status, out := account(t, p.start(), "alice.example.com", invite(t, p.start())); status != 200 {
		t.Fatal(status, out)
	}
	guess := func(password string) int {
		status, _ := call(t, p.start(), "POST", "/xrpc/com.atproto.server.createSession", "", map[string]any{"identifier": "alice.example.com", "password": password})
		return status
	}
	refused := func(what string, most int, try func() int) {
		t.Helper()
		for i := range most + 1 {
			if try() == http.StatusTooManyRequests {
				t.Logf("%s: refused after %d", what, i)
				return
			}
		}
		t.Errorf("%s: %d are let through", what, most+1)
	}
	refused("guesses of a password", 30, func() int { return guess("wrong") })
	if status := guess("a long password"); status != http.StatusTooManyRequests {
		t.Errorf("the right guess after too many: %d", status)
	}
	refused("guesses of the administrator's password", 100, func() int {
		status, _ := call(t, p.start(), "POST", "/xrpc/com.atproto.server.createInviteCode", "Basic YWRtaW46d3Jvbmc=", map[string]any{"useCount": 1})
		return status
	})
	refused("new accounts", 100, func() int {
		status, _ := account(t, p.start(), "alice.example.com", "none")
		return status
	})
	p.pass(25 * time.Hour)
	if status := guess("a long password"); status != http.StatusOK {
		t.Errorf("a day later: %d", status)
	}
}

// panicking is a log whose n-th call of Bounds from now panics.
type panicking struct {
	storage.Events
	n int
}

func (p *panicking) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	if p.n--; p.n == 0 {
		panic("a fault")
	}
	return p.Events.Bounds(ctx)
}

// A panic of maintenance ends neither the program, with the requests of others, nor the maintenance: it is
// tried again, after waits that grow.
func TestMaintenancePanics(t *testing.T) {
	p := newPlace(t, "alice.example.com")
	log := &panicking{Events: p.store.Events}
	p.store.Events = log
	s := p.start()
	if status, out := account(t, s, "alice.example.com", invite(t, s)); status != 200 {
		t.Fatal(status, out)
	}
	p.set(p.now().Add(time.Hour))
	wait := time.Duration(0)
	for i := range 3 {
		log.n = 2 // the first call is that of Due
		next := s.Wake(t.Context())
		if log.n > 0 {
			t.Fatalf("round %d: no panic", i)
		}
		if next.Sub(p.now()) <= wait {
			t.Fatalf("round %d: again after %v, before that after %v", i, next.Sub(p.now()), wait)
		}
		wait = next.Sub(p.now())
		p.set(next)
	}
	asked := p.crawls()
	if s.Wake(t.Context()); p.crawls() <= asked {
		t.Error("maintenance does not go on")
	}
}

// Nothing is compressed here: the edge does it, and asks for it whether the client does or not.
func TestNothingIsCompressed(t *testing.T) {
	s := newPlace(t, "alice.example.com").start()
	r := httptest.NewRequest("GET", "https://alice.example.com/.well-known/oauth-authorization-server", nil)
	r.Header.Set("Accept-Encoding", "br, gzip")
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 200 || w.Header().Get("Content-Encoding") != "" || w.Body.Len() < 1000 {
		t.Errorf("%d %v, %d bytes", w.Code, w.Header(), w.Body.Len())
	}
}

// A server with many accounts gives handles below its name.
func TestManyAccounts(t *testing.T) {
	p := newPlace(t, "pds.example.com", func(env map[string]string) { env["PDS_INVITE_REQUIRED"] = "false" })
	for _, name := range []string{"carol", "dave"} {
		status, out := call(t, p.start(), "POST", "/xrpc/com.atproto.server.createAccount", "", map[string]any{
			"handle": name + ".pds.example.com", "email": name + "@example.com", "password": "a long password",
		})
		if status != 200 {
			t.Fatal(status, out)
		}
	}
	if status, out := account(t, p.start(), "admin.pds.example.com", ""); status == 200 {
		t.Errorf("a reserved name: %v", out)
	}
	if _, out := call(t, p.start(), "GET", "/xrpc/com.atproto.sync.listRepos", "", nil); len(out["repos"].([]any)) != 2 {
		t.Errorf("%v", out)
	}
}

// Mail goes out by HTTP, by the alarm, also when the process ends before that.
func TestMail(t *testing.T) {
	p := newPlace(t, "alice.example.com", func(env map[string]string) {
		env["PDS_EMAIL_HOOK_URL"], env["PDS_EMAIL_FROM_ADDRESS"] = "https://mail.example.net/send", "pds@example.com"
	})
	if status, out := account(t, p.start(), "alice.example.com", invite(t, p.start())); status != 200 {
		t.Fatal(status, out)
	}
	if status, out := call(t, p.start(), "POST", "/xrpc/com.atproto.server.requestPasswordReset", "", map[string]any{"email": "a@example.com"}); status != 200 {
		t.Fatal(status, out)
	}
	p.pass(time.Hour)
	sent := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.ContainsFunc(p.mail, func(m string) bool { return strings.Contains(m, "a@example.com") && strings.Contains(m, "password") })
	}
	for !sent() { // until the test is stopped
		runtime.Gosched()
	}
}
