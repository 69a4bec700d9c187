package pds

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
)

var _ = testenv.CheapPasswords()

// goodConfig is that of a server in memory.
func goodConfig(t *testing.T) Config {
	t.Helper()
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := plctest.New(plctest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		URL: "http://localhost:2583", Development: true, Store: memory.New(memory.Config{}), Directory: directory.Client(),
		Secrets: Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{rotation}, AdminPassword: "secret"},
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                          func(*Config) {},
		"Config.URL is the public":  func(c *Config) { c.URL = "pds.example.com" },
		"not \"https://a.b/path\"":  func(c *Config) { c.URL = "https://a.b/path" },
		"plain HTTP":                func(c *Config) { c.Development = false },
		"Config.Store":              func(c *Config) { c.Store.KV = nil },
		"MasterKeys is empty":       func(c *Config) { c.Secrets.MasterKeys = nil },
		"Config.Secrets.MasterKeys": func(c *Config) { c.Secrets.MasterKeys = [][]byte{{1}} },
		"RotationKeys is empty":     func(c *Config) { c.Secrets.RotationKeys = nil },
		"RotationKeys has a nil":    func(c *Config) { c.Secrets.RotationKeys = []crypto.Signer{nil} },
		"SessionKey is too short":   func(c *Config) { c.Secrets.SessionKey = []byte("short") },
		"?q\": nothing comes after": func(c *Config) { c.URL = "https://a.b?q" },
		"u:p@a.b":                   func(c *Config) { c.URL = "https://u:p@a.b" },
		"maybe a port":              func(c *Config) { c.URL = "https://a.b:99999" },
		"in lower case, since":      func(c *Config) { c.URL = "https://A.b" },
		"Config.ServiceDID, which":  func(c *Config) { c.URL = "https://[::1]" },
		"invalid did \"pds\"":       func(c *Config) { c.ServiceDID = "pds" },
		"Config.RecoveryKey":        func(c *Config) { c.RecoveryKey = "did:key:z" },
		"Brand.Accent must be":      func(c *Config) { c.Brand.Accent = "blue" },
		"Brand.Logo must be":        func(c *Config) { c.Brand.Logo = "javascript:x" },
		"begins with a dot":         func(c *Config) { c.Policy.Domains = []string{"a.test"} },
		"labels of 3 to 2":          func(c *Config) { c.Policy.MaxLabel = 2 },
		"Config.AppView: invalid":   func(c *Config) { c.AppView.URL = "https://a.b" },
		"Config.Moderation: \"a\"":  func(c *Config) { c.Moderation = Service{URL: "a", DID: "did:web:a.b"} },
		"%s three times":            func(c *Config) { c.AppView = Bluesky; c.AppView.CDN = "https://a.b/%s" },
		"Config.Relays":             func(c *Config) { c.Relays = []string{"a.b"} },
		"Config.TimeServers":        func(c *Config) { c.TimeServers = []string{""} },
		"must not be negative":      func(c *Config) { c.BlobQuota = -1 },
		"no function for \"br\"":    func(c *Config) { c.Decoders = map[string]func(io.Reader) (io.Reader, error){"br": nil} },
	} {
		cfg := goodConfig(t)
		change(&cfg)
		_, err := New(cfg)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A server without domains of its own has handles that may exist.
func TestDefaultDomains(t *testing.T) {
	for url, want := range map[string]string{"http://localhost:2583": ".test", "https://pds.example.com/": ".pds.example.com"} {
		cfg := goodConfig(t)
		cfg.URL = url
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.cfg.Policy.Domains; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", url, got)
		}
	}
}

func TestReadSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	first, err := ReadSecrets(path)
	if err != nil {
		t.Fatal(err)
	}
	var flushed []string
	watch := func(path string) { flushed = append(flushed, path) }
	durablefile.Watch.Store(&watch)
	again, err := ReadSecrets(path)
	durablefile.Watch.Store(nil)
	if !slices.Contains(flushed, filepath.Dir(path)) { // who wrote the file may have died before it did this
		t.Errorf("the directory was not flushed before the secrets are used: %q", flushed)
	}
	if err != nil || string(again.MasterKeys[0]) != string(first.MasterKeys[0]) || again.AdminPassword != first.AdminPassword ||
		again.RotationKeys[0].PublicKey().DIDKey() != first.RotationKeys[0].PublicKey().DIDKey() {
		t.Errorf("%+v, %+v, %v", first, again, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "{}", strings.Replace(string(text), `"masterKey": "`, `"masterKey": "zz`, 1), strings.Replace(string(text), "rotationKey", "RotationKey", 1),
		strings.Replace(string(text), `"rotationKey": "`, `"rotationKey": "ff`, 1), string(text[:len(text)/2]),
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadSecrets(path); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
		if left, _ := os.ReadFile(path); string(left) != bad {
			t.Errorf("%q has been written over", bad)
		}
	}
}

// register makes accounts by the methods of the server.
func register(t *testing.T, s *Server, names ...string) (dids []syntax.DID) {
	t.Helper()
	for _, name := range names {
		body := fmt.Sprintf(`{"handle":"%s.localhost.test","email":"%s@example.com","password":"a long password"}`, name, name)
		r := httptest.NewRequest("POST", "/xrpc/com.atproto.server.createAccount", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var out struct{ DID syntax.DID }
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		dids = append(dids, out.DID)
	}
	return dids
}

// Maintenance looks through so many accounts at a time, goes on where it was, also after a restart,
// and reports when it has seen all of them.
func TestMaintenanceGoesOn(t *testing.T) {
	cfg := goodConfig(t)
	cfg.Policy.Domains = []string{".localhost.test"}
	var found []Maintenance
	cfg.Hooks.Maintained = func(m Maintenance) { found = append(found, m) }
	open := func() *Server {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.sweep = 2
		return s
	}
	s := open()
	dids := register(t, s, "alice", "bob", "carol", "dave", "eve")
	round := func(s *Server, p *pass, reports int) {
		t.Helper()
		if err := s.tidy(t.Context(), time.Now(), p, term{kv: s.cfg.Store.KV}); err != nil {
			t.Fatal(err)
		}
		if len(found) != reports {
			t.Fatalf("%d reports, want %d", len(found), reports)
		}
	}
	p := new(pass)
	round(s, p, 0)
	round(s, p, 0)
	round(s, p, 1) // the fifth account
	if found[0] != (Maintenance{Accounts: 5}) {
		t.Errorf("%+v", found[0])
	}
	register(t, s, "frank")
	if err := s.Host.Delete(t.Context(), dids[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Host.Delete(t.Context(), dids[1]); err != nil {
		t.Fatal(err)
	}
	round(s, p, 1)
	s = open() // in the midst of a pass
	p = new(pass)
	round(s, p, 1) // the other half, of which nothing can be said
	round(s, p, 1)
	round(s, p, 2)
	if found[1] != (Maintenance{Accounts: 4}) {
		t.Errorf("%+v", found[1])
	}
	if _, err := s.Host.Apply(t.Context(), dids[2], repo.Batch{Writes: []repo.Write{{
		Action: repo.Create, Collection: "com.example.note", RKey: "x", Record: []byte("\xa1\x65$type\x70com.example.note"),
	}}}); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(-time.Hour) // by a clock that was ahead until then
	p = new(pass)
	for range 2 {
		if err := s.tidy(t.Context(), later, p, term{kv: s.cfg.Store.KV}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(found); n != 3 || found[2].Ahead == 0 {
		t.Errorf("%d reports, %+v", n, found[n-1])
	}
}

// Run ends with its context, and with it the subscriptions.
func TestRunEnds(t *testing.T) {
	s, err := New(goodConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	subscribed := make(chan error)
	go func() {
		cursor := int64(0)
		for _, err := range s.Outbox.Subscribe(context.Background(), &cursor) {
			if err != nil {
				subscribed <- err
			}
		}
		close(subscribed)
	}()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-subscribed; err == nil {
		t.Error("a subscription ends without an error")
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// What a server has besides methods can be called, and added to.
func TestPages(t *testing.T) {
	s, err := New(goodConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Mux.HandleFunc("GET /about", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "about") })
	s.Methods.With("com.atproto.server.describeServer", func(rt xrpc.Route) xrpc.Route {
		rt.Handler = rt.Handler.Wrap(func(w http.ResponseWriter, r *xrpc.Request, next func(http.ResponseWriter, *xrpc.Request) error) error {
			w.Header().Set("X-Wrapped", "yes")
			return next(w, r)
		})
		return rt
	})
	for path, want := range map[string]string{
		"/": "Personal Data Server", "/about": "about", "/robots.txt": "Allow: /", "/xrpc/_health": "version",
		"/.well-known/did.json": "did:web:localhost%3A2583", "/tls-check?domain=localhost": "success",
		"/xrpc/com.atproto.server.describeServer": "localhost",
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if strings.HasSuffix(path, "describeServer") && w.Header().Get("X-Wrapped") != "yes" {
			t.Error("the method is not wrapped")
		}
	}
}
