package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/xrpc"
)

// front stands before a server. A method's handler answers in the server's place and
// reports whether it did.
func front(t *testing.T, h *host, methods map[string]func(w http.ResponseWriter, r *http.Request) bool) *host {
	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fn := methods[strings.TrimPrefix(r.URL.Path, "/xrpc/")]; fn != nil && fn(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return &host{t, srv.URL, h.mail}
}

// TestOldServerSignsSomethingElse: an old server that signs another operation than it was asked to,
// which would leave it in power or send the account elsewhere, is found out before it is submitted.
func TestOldServerSignsSomethingElse(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	alice := a.register(nil)
	stranger, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	evil := front(t, a, map[string]func(http.ResponseWriter, *http.Request) bool{
		"com.atproto.identity.signPlcOperation": func(w http.ResponseWriter, r *http.Request) bool {
			var in map[string]any
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				t.Error(err)
			}
			in["rotationKeys"] = append([]any{stranger.PublicKey().DIDKey()}, in["rotationKeys"].([]any)...)
			var out map[string]any
			_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			if err := (&xrpc.Client{Host: a.url, Authorize: xrpc.Bearer(token)}).Procedure(r.Context(), "com.atproto.identity.signPlcOperation", in, &out); err != nil {
				t.Error(err)
			}
			xrpc.WriteJSON(w, 200, out)
			return true
		},
	})
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password"}
	if err := runMove(t, w, evil, b, opt); !errors.Is(err, ErrDiffers) {
		t.Errorf("error %v", err)
	}
	if last, err := w.plc.Log(t.Context(), alice.DID); err != nil || len(last) != 1 {
		t.Errorf("%d operations, %v", len(last), err)
	}
}

// TestOldServerAltersContent: bytes of a blob or a repository that are not what their CIDs say do
// not arrive at the new server.
func TestOldServerAltersContent(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	a.register(nil)
	opt := Options{Account: "alice.test", OldPassword: "old password", NewPassword: "new password"}
	for method, want := range map[string]error{"com.atproto.sync.getBlob": ErrMissingBlobs, "com.atproto.sync.getRepo": nil} {
		evil := front(t, a, map[string]func(http.ResponseWriter, *http.Request) bool{
			method: func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, "something else"); return true },
		})
		opt.State = filepath.Join(t.TempDir(), "s")
		err := runMove(t, w, evil, w.start(), opt)
		var e *Error
		if !errors.As(err, &e) || want != nil && !errors.Is(err, want) || want == nil && e.Step != Export {
			t.Errorf("%s: error %v", method, err)
		}
	}
}

// TestSecondFactor: a server that demands a code at login gets it.
func TestSecondFactor(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	alice := a.register(nil)
	strict := front(t, a, map[string]func(http.ResponseWriter, *http.Request) bool{
		"com.atproto.server.createSession": func(w http.ResponseWriter, r *http.Request) bool {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body = io.NopCloser(strings.NewReader(string(text)))
			if strings.Contains(string(text), `"authFactorToken":"12345"`) {
				return false
			}
			xrpc.WriteError(w, &xrpc.Error{Status: 401, Name: "AuthFactorTokenRequired", Message: "A sign in code has been sent"})
			return true
		},
	})
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password"}
	opt.Ask = func(_ context.Context, q Question) (string, error) {
		if q.Name == "auth-factor-token" {
			return " 12345\n", nil
		}
		return a.token(), nil
	}
	if err := runMove(t, w, strict, b, opt); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.snapshot(alice.DID, "old password"), b.snapshot(alice.DID, "new password")); diff != "" {
		t.Error(diff)
	}
}

// TestSession: a session is refreshed when it expires, waits for a server that is away, and gives
// up when it would have to wait too long.
func TestSession(t *testing.T) {
	var answers []func(w http.ResponseWriter, r *http.Request)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(answers) == 0 {
			xrpc.WriteError(w, xrpc.InvalidRequest("nothing more"))
			return
		}
		next := answers[0]
		answers = answers[1:]
		next(w, r)
	}))
	defer srv.Close()
	fail := func(e *xrpc.Error, token string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer "+token {
				t.Errorf("%s: authorization %q, want %q", r.URL, got, token)
			}
			xrpc.WriteError(w, e)
		}
	}
	give := func(v any, token string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer "+token {
				t.Errorf("%s: authorization %q, want %q", r.URL, got, token)
			}
			xrpc.WriteJSON(w, 200, v)
		}
	}
	old := &xrpc.Error{Status: 400, Name: "ExpiredToken"}
	away := &xrpc.Error{Status: 503}
	limited := &xrpc.Error{Status: 429, Name: "RateLimitExceeded", Header: http.Header{"Retry-After": {"3600"}}}
	for _, tt := range []struct {
		name    string
		answers []func(w http.ResponseWriter, r *http.Request)
		want    error
	}{
		{"refreshed", []func(http.ResponseWriter, *http.Request){fail(old, "a1"), give(tokens{Access: "a2", Refresh: "r2"}, "r1"), give(nil, "a2")}, nil},
		{"opened anew", []func(http.ResponseWriter, *http.Request){fail(old, "a1"), fail(old, "r1"), give(nil, "a3")}, nil},
		{"never good", []func(http.ResponseWriter, *http.Request){fail(old, "a1"), fail(old, "r1"), fail(old, "a3"), fail(old, "r3"), fail(old, "a3")}, old},
		{"away for a moment", []func(http.ResponseWriter, *http.Request){fail(away, "a1"), fail(away, "a1"), give(nil, "a1")}, nil},
		{"limited for an hour", []func(http.ResponseWriter, *http.Request){fail(limited, "a1")}, &xrpc.Error{Status: 429}},
		{"refused", []func(http.ResponseWriter, *http.Request){fail(xrpc.InvalidRequest("no"), "a1")}, &xrpc.Error{Status: 400, Name: "InvalidRequest"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers = tt.answers
			s := &session{host: srv.URL, patience: time.Minute, tokens: tokens{Access: "a1", Refresh: "r1"},
				login: func(context.Context) (tokens, error) { return tokens{Access: "a3", Refresh: "r3"}, nil }}
			if err := s.query(t.Context(), "com.example.get", nil, nil); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if len(answers) != 0 {
				t.Errorf("%d answers are left", len(answers))
			}
		})
	}
}

// FuzzState: a state file that can be read says the same after it is written.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"did":"did:plc:x","done":[{"step":"account","at":"2026-01-01T00:00:00Z"}],"repo":{"rev":"","records":3}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"operation":{"type":"plc_operation"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		st, err := openState(path)
		if err != nil {
			return
		}
		if err := st.save(); err != nil {
			return // a time that JSON cannot hold
		}
		again, err := openState(path)
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := json.Marshal(st)
		b, err2 := json.Marshal(again)
		if err1 != nil || err2 != nil || string(a) != string(b) {
			t.Errorf("%s, was %s", b, a)
		}
	})
}
