package main_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
)

// method is a line of the README's tables.
type method struct{ nsid, who string }

var methodLine = regexp.MustCompile("(?m)^\\| `([a-zA-Z.]+)` \\| ([a-z]+) \\|")

func readMethods() (list []method, err error) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		return nil, err
	}
	for _, m := range methodLine.FindAllStringSubmatch(string(text), -1) {
		list = append(list, method{m[1], m[2]})
	}
	if len(list) < 70 {
		return nil, fmt.Errorf("README.md has only %d methods", len(list))
	}
	return list, nil
}

// inProcess starts a server in this process.
func inProcess(t *testing.T, env map[string]string) *server.Server {
	t.Helper()
	all := map[string]string{"PDS_PORT": "0", "PDS_DATA_DIRECTORY": t.TempDir(), "PDS_ADMIN_PASSWORD": "hunter2"}
	maps.Copy(all, env)
	cfg, err := config.Load(all)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	return s
}

// TestREADME holds the tables against the server: the methods that it has, and who may
// call them.
func TestREADME(t *testing.T) {
	methods, err := readMethods()
	if err != nil {
		t.Fatal(err)
	}
	view := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":"NotFound","message":"not here"}`)
	}))
	defer view.Close()
	s := inProcess(t, map[string]string{
		"PDS_BSKY_APP_VIEW_URL": view.URL, "PDS_BSKY_APP_VIEW_DID": "did:web:view.example.com",
		"PDS_REPORT_SERVICE_URL": view.URL, "PDS_REPORT_SERVICE_DID": "did:web:mod.example.com",
	})
	served := slices.Collect(maps.Keys(s.Routes()))
	for _, name := range readafter.Methods() {
		if !slices.Contains(served, name) {
			served = append(served, name)
		}
	}
	var documented []string
	for _, m := range methods {
		documented = append(documented, m.nsid)
	}
	slices.Sort(served)
	slices.Sort(documented)
	if diff := cmp.Diff(served, documented); diff != "" {
		t.Errorf("the methods of the server (-) and of README.md (+):\n%s", diff)
	}

	p := &process{t: t, url: s.URL()}
	alice := p.register("alice")
	var app struct{ Password string }
	alice.call(t, "com.atproto.server.createAppPassword", map[string]any{"name": "phone"}, &app)
	phone, err := p.login(t, "alice.test", app.Password)
	if err != nil {
		t.Fatal(err)
	}
	catalog := lexicon.Builtin()
	for _, m := range methods {
		verb, contentType, path := "GET", "", s.URL()+"/xrpc/"+m.nsid
		if schema, err := catalog.Method(syntax.NSID(m.nsid)); err == nil && schema.Kind == lexicon.KindProcedure || strings.HasSuffix(m.nsid, "Push") {
			verb = "POST"
			if err == nil && schema.Input != nil {
				contentType = schema.Input.Encoding
			}
		}
		answer := func(token string) string {
			status, name, _ := request(t, verb, path, contentType, token, nil)
			return fmt.Sprint(status, " ", name)
		}
		accepted := func(token string) bool {
			a := answer(token)
			return !strings.HasPrefix(a, "401 ") && a != "400 InvalidToken"
		}
		// Without credentials, with an app password, and with the password.
		want := map[string][3]string{
			"session":   {"401 AuthMissing"},
			"password":  {"401 AuthMissing", "400 InvalidToken"},
			"refresh":   {"401 AuthMissing", "400 InvalidToken", "400 InvalidToken"},
			"moderator": {"401 AuthMissing", "401 UntrustedIss", "401 UntrustedIss"},
			"admin":     {"401 AuthMissing", "401 AuthMissing", "401 AuthMissing"},
			"anyone":    {},
		}[m.who]
		if m.who == "" {
			t.Errorf("%s: nobody may call it", m.nsid)
		}
		tokens := []string{"", "Bearer " + phone.AccessJWT, "Bearer " + alice.AccessJWT}
		if m.nsid == "com.atproto.server.createAccount" {
			tokens = tokens[:1] // the token is a service's
		}
		if m.nsid == "com.atproto.server.deactivateAccount" || m.nsid == "com.atproto.server.requestAccountDelete" {
			tokens = tokens[:2] // succeeds with the password
		}
		for i, token := range tokens {
			if want[i] == "" {
				if !accepted(token) {
					t.Errorf("%s (%s) with credentials %d: %s", m.nsid, m.who, i, answer(token))
				}
			} else if got := answer(token); got != want[i] {
				t.Errorf("%s (%s) with credentials %d: %s, want %s", m.nsid, m.who, i, got, want[i])
			}
		}
		if m.who == "admin" || m.who == "moderator" {
			if a := answer("Basic YWRtaW46aHVudGVyMg=="); strings.HasPrefix(a, "401") {
				t.Errorf("%s for the administrator: %s", m.nsid, a)
			}
		}
	}
}
