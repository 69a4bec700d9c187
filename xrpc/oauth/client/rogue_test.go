package client_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// rogue is a server that does what a test wants: at first it is an authorization server, a PDS, and
// the site of the one account that it hosts, a did:web, all of which behave. It is as strict as
// servers may be: a refresh token that is used twice ends the session.
type rogue struct {
	origin string
	did    string

	mu       sync.Mutex
	meta     map[string]any // of the authorization server
	resource map[string]any // of the PDS
	over     map[string]http.HandlerFunc
	answer   func(map[string]any) // changes answers with tokens
	nonce    string               // that proofs must have; empty: any
	life     time.Duration        // of access tokens
	now      func() time.Time

	calls   map[string]int // by path
	forms   map[string][]url.Values
	tokens  int // how often tokens were given out; the last ones are good
	expires time.Time
	ended   bool
	reused  int
}

func newRogue(origin, did string, now func() time.Time) *rogue {
	s := &rogue{
		origin: origin, did: did, now: now, life: 15 * time.Minute, over: make(map[string]http.HandlerFunc), calls: make(map[string]int),
		forms: make(map[string][]url.Values), ended: true,
	}
	s.resource = map[string]any{"resource": origin, "authorization_servers": []string{origin}}
	s.meta = map[string]any{
		"issuer": origin, "authorization_endpoint": origin + "/authorize?x=y", "token_endpoint": origin + "/token",
		"pushed_authorization_request_endpoint": origin + "/par", "revocation_endpoint": origin + "/revoke",
		"scopes_supported": []string{"atproto"}, "response_types_supported": []string{"code"},
		"grant_types_supported":            []string{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"ES256"}, "dpop_signing_alg_values_supported": []string{"ES256"},
		"authorization_response_iss_parameter_supported": true, "require_pushed_authorization_requests": true,
		"client_id_metadata_document_supported": true, "protected_resources": []string{origin},
	}
	return s
}

// localServer is a server at a port of this machine.
func localServer() (s *rogue, stop func()) {
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	s = newRogue("http://localhost:"+port, "did:web:localhost%3A"+port, time.Now)
	handler = s
	return s, server.Close
}

// rogueAt puts a rogue at a site of the network.
func rogueAt(net *pdstest.Network, site string) *rogue {
	s := newRogue("https://"+site, "did:web:"+site, net.Clock.Now)
	net.Handle(site, s)
	return s
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (s *rogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[r.URL.Path]++
	s.forms[r.URL.Path] = append(s.forms[r.URL.Path], r.PostForm)
	if fn := s.over[r.URL.Path]; fn != nil {
		s.mu.Unlock()
		defer s.mu.Lock()
		fn(w, r)
		return
	}
	switch path := r.URL.Path; {
	case path == "/.well-known/did.json":
		answerJSON(w, 200, map[string]any{
			"id": s.did, "alsoKnownAs": []string{"at://" + strings.TrimPrefix(s.did, "did:web:")},
			"service": []any{map[string]any{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": s.origin}},
		})
	case path == "/.well-known/atproto-did":
		fmt.Fprint(w, s.did)
	case path == "/.well-known/oauth-protected-resource":
		answerJSON(w, 200, s.resource)
	case path == "/.well-known/oauth-authorization-server":
		answerJSON(w, 200, s.meta)
	case path != "/authorize" && s.wantsNonce(w, r):
	case path == "/par":
		answerJSON(w, 201, map[string]any{"request_uri": "urn:x:1", "expires_in": 60})
	case path == "/authorize": // it lets everybody in who has pushed a request
		asked := s.forms["/par"][len(s.forms["/par"])-1]
		http.Redirect(w, r, asked.Get("redirect_uri")+"?"+url.Values{"state": {asked.Get("state")}, "iss": {s.origin}, "code": {"code1"}}.Encode(), http.StatusSeeOther)
	case path == "/token":
		s.token(w, r)
	case path == "/revoke":
		s.ended = true
		answerJSON(w, 200, map[string]any{})
	case strings.HasPrefix(path, "/xrpc/"):
		if s.ended || r.Header.Get("Authorization") != fmt.Sprint("DPoP access", s.tokens) || !s.now().Before(s.expires) {
			w.Header().Set("WWW-Authenticate", `DPoP algs="ES256", error="invalid_token", error_description="bad"`)
			answerJSON(w, 401, map[string]any{"error": "invalid_token", "message": "bad"})
			return
		}
		answerJSON(w, 200, map[string]any{})
	default:
		http.NotFound(w, r)
	}
}

// wantsNonce answers a request whose proof has not the nonce.
func (s *rogue) wantsNonce(w http.ResponseWriter, r *http.Request) bool {
	if s.nonce == "" {
		return false
	}
	w.Header().Set("DPoP-Nonce", s.nonce)
	if claimsOf(r.Header.Get("DPoP"))["nonce"] == s.nonce {
		return false
	}
	askNonce(w, r)
	return true
}

func askNonce(w http.ResponseWriter, r *http.Request) {
	status := 400
	if strings.HasPrefix(r.URL.Path, "/xrpc/") {
		status = 401
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
	}
	answerJSON(w, status, map[string]any{"error": "use_dpop_nonce"})
}

func (s *rogue) token(w http.ResponseWriter, r *http.Request) {
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		s.ended = false
	case "refresh_token":
		if s.ended || r.PostForm.Get("refresh_token") != fmt.Sprint("refresh", s.tokens) {
			if !s.ended {
				s.reused++
			}
			s.ended = true
			answerJSON(w, 400, map[string]any{"error": "invalid_grant", "error_description": "used before"})
			return
		}
	}
	s.tokens++
	s.expires = s.now().Add(s.life)
	out := map[string]any{
		"access_token": fmt.Sprint("access", s.tokens), "refresh_token": fmt.Sprint("refresh", s.tokens), "token_type": "DPoP",
		"scope": "atproto repo:com.example.note", "sub": s.did, "expires_in": s.life.Seconds(),
	}
	if s.answer != nil {
		s.answer(out)
	}
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	answerJSON(w, 200, out)
}

// do changes the server while it serves.
func (s *rogue) do(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

func (s *rogue) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

// lastForm is what was posted to a path at last.
func (s *rogue) lastForm(path string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.forms[path]); n > 0 {
		return s.forms[path][n-1]
	}
	return nil
}

// start begins a login at the rogue, and returns what a browser would come back with.
func (s *rogue) start(t *testing.T, a *app, account string) url.Values {
	t.Helper()
	if _, err := a.Start(t.Context(), client.Login{Account: account, AppState: []byte("state of the app")}); err != nil {
		t.Fatal(err)
	}
	return url.Values{"state": {s.lastForm("/par").Get("state")}, "iss": {s.origin}, "code": {"code1"}}
}

// login logs in the rogue's account.
func (s *rogue) login(t *testing.T, a *app) *client.Session {
	t.Helper()
	x, _, err := a.Finish(t.Context(), s.start(t, a, s.did), "")
	if err != nil {
		t.Fatal(err)
	}
	return x
}
