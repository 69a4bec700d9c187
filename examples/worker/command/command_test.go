package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/worker/edge"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	err = Main(t.Context(), args, IO{Stdout: &b, Stderr: &b})
	return b.String(), err
}

// What init writes is complete: the Worker reads it without complaint.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	out, err := run(t, "init", "-host", "alice.example.com", "-host", "bob.example.com", "-many", "pds.example.com", dir)
	if err != nil || !strings.Contains(out, "pds worker deploy-check https://bob.example.com") {
		t.Fatal(out, err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var secrets map[string]string
	var wrangler struct {
		Vars   map[string]string `json:"vars"`
		Routes []struct {
			Pattern string `json:"pattern"`
		} `json:"routes"`
	}
	if err := errors.Join(json.Unmarshal(read("secrets.json"), &secrets), json.Unmarshal(read("wrangler.jsonc"), &wrangler)); err != nil {
		t.Fatal(err)
	}
	cfg, err := edge.ReadConfig(func(name string) string { return secrets[name] + wrangler.Vars[name] }, []string{"SERVER", "BLOBS"})
	if err != nil || cfg.Serves("bob.example.com") == "" || cfg.Serves("carol.pds.example.com") != "pds.example.com" {
		t.Errorf("%+v, %v", cfg, err)
	}
	if !cfg.AccountObjects {
		t.Error("many accounts are in one object")
	}
	one := filepath.Join(t.TempDir(), "one")
	if out, err := run(t, "init", "-many", "pds.example.com", "-one-object", one); err != nil {
		t.Error(out, err)
	} else if text, err := os.ReadFile(filepath.Join(one, "wrangler.jsonc")); err != nil || strings.Contains(string(text), "PDS_ACCOUNT_OBJECTS") {
		t.Errorf("%s %v", text, err)
	}
	if len(wrangler.Routes) != 4 || wrangler.Routes[3].Pattern != "*.pds.example.com/*" {
		t.Errorf("%+v", wrangler.Routes)
	}
	if info, err := os.Stat(filepath.Join(dir, "secrets.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the secrets: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "build")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("the build script: %v, %v", info.Mode(), err)
	}
	before := read("secrets.json")
	if out, err := run(t, "init", "-host", "alice.example.com", dir); err == nil || !bytes.Equal(before, read("secrets.json")) {
		t.Errorf("a second call has written over the secrets: %s", out)
	}
	if bytes.Contains([]byte(out), []byte(secrets["PDS_ADMIN_PASSWORD"])) {
		t.Error("the secrets are shown")
	}
}

func TestInitRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"no host": {"init"}, "an address": {"init", "-host", "https://alice.example.com"}, "one name twice": {"init", "-host", "a.example.com", "-many", "a.example.com"},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if out, err := run(t, append(args, dir)...); err == nil {
			t.Errorf("%s: %s", name, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
	for _, args := range [][]string{nil, {"init"}, {"nothing"}, {"migrate"}, {"deploy-check"}, {"init", "-nonsense", "x"}} {
		if _, err := run(t, args...); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func statuses(list []Finding) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.Check + " " + f.Status + "\n")
	}
	return b.String()
}

// A server that works passes all checks. One that is broken fails the one that is about it, with a
// remedy.
func TestDeployCheck(t *testing.T) {
	net := pdstest.New(t)
	p := net.PDS()
	check := &Check{PLC: net.PLC().URL, HTTP: net.Client(), DNS: net.Resolver().DNS, Now: net.Clock.Now}
	empty := statuses(check.Check(t.Context(), "https://"+p.Name))
	if strings.Contains(empty, "failed") || strings.Count(empty, "skipped") != 3 {
		t.Errorf("a server without accounts:\n%s", empty)
	}
	alice := p.Account("alice")
	blob, err := api.RepoUploadBlob(t.Context(), alice, "text/plain", strings.NewReader("a blob"))
	if err != nil {
		t.Fatal(err)
	}
	alice.Create("com.example.file", map[string]any{"blob": blob.Blob})
	list := check.Check(t.Context(), "https://"+p.Name+"/")
	if got := statuses(list); strings.Count(got, " ok\n") != 8 {
		t.Errorf("%+v", list)
	}
	broken := func(path string, answer http.HandlerFunc) *Check {
		c := *check
		c.HTTP = &http.Client{Transport: breaking{net.Client().Transport, path, answer}}
		return &c
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(s))
		}
	}
	late := *check
	late.Now = func() time.Time { return net.Clock.Now().Add(-time.Hour) }
	for name, c := range map[string]*Check{
		"health":    broken("/xrpc/_health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
		"server":    broken("/.well-known/did.json", text(`{"id":"did:web:other.test"}`)),
		"oauth":     broken("/.well-known/oauth-protected-resource", text(`{"resource":"https://other.test","authorization_servers":[]}`)),
		"websocket": broken("/xrpc/com.atproto.sync.subscribeRepos", text(`{}`)),
		"account":   broken("/xrpc/com.atproto.sync.listRepos", text(`{"repos":`)),
		"handle":    broken("/.well-known/atproto-did", text("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")),
		"blob":      broken("/xrpc/com.atproto.sync.getBlob", text("other bytes")),
		"clock":     &late,
	} {
		found := false
		for _, f := range c.Check(t.Context(), "https://"+p.Name) {
			if f.Check == name {
				found = f.Status == "failed" && f.Remedy != ""
			}
		}
		if !found {
			t.Errorf("%s: not found to be broken: %+v", name, c.Check(t.Context(), "https://"+p.Name))
		}
	}
	if list := check.Check(t.Context(), "not an address"); statuses(list) != "address failed\n" {
		t.Errorf("%+v", list)
	}
	var out bytes.Buffer
	err = broken("/xrpc/_health", text("<html>")).Run(context.Background(), IO{Stdout: &out, JSON: true}, []string{"https://" + p.Name})
	var findings []Finding
	if !errors.Is(err, ErrProblems) || json.Unmarshal(out.Bytes(), &findings) != nil || len(findings) != 1 {
		t.Errorf("%v: %s", err, &out)
	}
}

// breaking answers one path in the place of the server.
type breaking struct {
	http.RoundTripper
	path   string
	answer http.HandlerFunc
}

func (b breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != b.path {
		return b.RoundTripper.RoundTrip(r)
	}
	w := httptest.NewRecorder()
	b.answer(w, r)
	res := w.Result()
	res.Request = r
	return res, nil
}
