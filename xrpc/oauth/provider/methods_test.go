package provider

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/nettest"
	"github.com/pdskit/pdskit/internal/testpds"
	"github.com/pdskit/pdskit/lexicon/syntax"
	passwords "github.com/pdskit/pdskit/xrpc/session"
)

// pds is a whole server whose methods take tokens of a provider.
type pds struct {
	*world
	bench *testpds.Bench
	owner syntax.DID
}

func newPDS(t *testing.T) *pds {
	w := &world{t: t, logins: &testLogins{signedIn: make(map[string][]SignedIn)}, pages: &testPages{}, docs: make(map[string]func(*http.Request) (*http.Response, error))}
	x := &pds{world: w}
	x.bench = testpds.New(t, func(c *passwords.Config) {
		w.accounts = c.Credentials.Accounts()
		w.clock = c.Now()
		w.p = New(Config{
			Accounts: w.accounts, Issuer: issuer, ServiceDID: c.ServiceDID, Secret: testSecret, Logins: w.logins, Pages: w.pages, Now: w.now,
			HTTP: &http.Client{Transport: nettest.RoundTrip(w.fetch)},
		})
		c.OAuth = w.p
	})
	mux := http.NewServeMux()
	w.p.Mount(mux)
	w.mux = mux
	x.owner = x.bench.Register("alice").DID
	return x
}

// granted returns a client with an access token for scopes, besides atproto.
func (x *pds) granted(scope string) (a *app, access string) {
	a = x.public()
	a.owner = x.owner
	a.scope = strings.TrimSpace("atproto " + scope)
	x.publishJSON(clientID, clientDocument(clientID, map[string]any{"scope": a.scope}))
	x.p.documents.Purge(clientID)
	return a, a.login().access
}

// send calls a method. in is the body: a string is sent as an image, nil as nothing.
func (x *pds) send(a *app, access, verb, method string, in any) (status int, name, text string) {
	x.t.Helper()
	path, _, _ := strings.Cut("/xrpc/"+method, "?")
	var body io.Reader
	kind := "application/json"
	switch in := in.(type) {
	case nil:
	case []string:
		kind, body = in[0], strings.NewReader(in[1])
	default:
		b, err := json.Marshal(in)
		if err != nil {
			x.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequest(verb, x.bench.URL+"/xrpc/"+method, body)
	if err != nil {
		x.t.Fatal(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", kind)
	}
	r.Header.Set("Authorization", "DPoP "+access)
	r.Header.Set("DPoP", a.proof(verb, issuer+path, access, x.p.calls.Nonce()))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	var e struct{ Error string }
	json.Unmarshal(out, &e)
	return res.StatusCode, e.Error, string(out)
}

// TestMatrix140to161Scopes calls real methods with granted scopes.
func TestMatrix140to161Scopes(t *testing.T) {
	x := newPDS(t)
	note := map[string]any{"$type": "com.example.note", "text": "hello"}
	record := func(extra ...any) map[string]any {
		m := map[string]any{"repo": x.owner, "collection": "com.example.note", "rkey": "a", "record": note}
		for i := 0; i < len(extra); i += 2 {
			m[extra[i].(string)] = extra[i+1]
		}
		return m
	}
	write := func(kind, collection, rkey string) map[string]any {
		m := map[string]any{"$type": "com.atproto.repo.applyWrites#" + kind, "collection": collection, "rkey": rkey}
		if kind != "delete" {
			m["value"] = map[string]any{"$type": collection, "text": "x"}
		}
		return m
	}
	const service = "did:web:api.example.com%23svc"
	for _, c := range []struct {
		name, scope  string
		verb, method string
		in           any
		status       int
		code         string
	}{
		{"140 create", "repo:com.example.note?action=create", "POST", "com.atproto.repo.createRecord", record("rkey", "b"), 200, ""},
		{"140 put", "repo:com.example.note?action=create", "POST", "com.atproto.repo.putRecord", record(), 403, "ScopeMissingError"},
		{"140 put with both", "repo:com.example.note?action=create&action=update", "POST", "com.atproto.repo.putRecord", record(), 200, ""},
		{"140 another collection", "repo:com.example.other", "POST", "com.atproto.repo.createRecord", record("rkey", "c"), 403, "ScopeMissingError"},
		{"141 delete", "repo:*?action=delete", "POST", "com.atproto.repo.deleteRecord", map[string]any{"repo": x.owner, "collection": "com.example.other", "rkey": "a"}, 200, ""},
		{"141 create", "repo:*?action=delete", "POST", "com.atproto.repo.createRecord", record("rkey", "d"), 403, "ScopeMissingError"},
		{"147 any method", "rpc:*?aud=" + service, "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com%23svc", nil, 200, ""},
		{"147 without a fragment", "rpc:*?aud=" + service, "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com", nil, 403, "ScopeMissingError"},
		{"147 one method", "rpc:com.example.get?aud=" + service, "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com%23svc&lxm=com.example.get", nil, 200, ""},
		{"147 another method", "rpc:com.example.get?aud=" + service, "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com%23svc&lxm=com.example.put", nil, 403, "ScopeMissingError"},
		{"148 upper case", "blob:image/png", "POST", "com.atproto.repo.uploadBlob", []string{"image/PNG", "x"}, 200, ""},
		{"148 another type", "blob:image/png", "POST", "com.atproto.repo.uploadBlob", []string{"video/mp4", "x"}, 403, "ScopeMissingError"},
		{"148 no scope", "", "POST", "com.atproto.repo.uploadBlob", []string{"image/png", "x"}, 403, "ScopeMissingError"},
		{"149 handle", "transition:generic", "POST", "com.atproto.identity.updateHandle", map[string]any{"handle": "alice2.test"}, 403, "ScopeMissingError"},
		{"149 chat", "transition:generic", "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com%23svc&lxm=chat.bsky.convo.listConvos", nil, 403, "ScopeMissingError"},
		{"149 record", "transition:generic", "POST", "com.atproto.repo.createRecord", record("rkey", "e"), 200, ""},
		{"152 confirm", "account:email", "POST", "com.atproto.server.confirmEmail", map[string]any{"email": "alice@example.com", "token": "x"}, 403, "ScopeMissingError"},
		{"157 one of two", "repo:com.example.note", "POST", "com.atproto.repo.applyWrites",
			map[string]any{"repo": x.owner, "writes": []any{write("create", "com.example.note", "all"), write("create", "com.example.other", "all")}}, 403, "ScopeMissingError"},
		{"157 both", "repo?collection=com.example.note&collection=com.example.other", "POST", "com.atproto.repo.applyWrites",
			map[string]any{"repo": x.owner, "writes": []any{write("create", "com.example.note", "all"), write("create", "com.example.other", "all")}}, 200, ""},
		{"159 protected", "transition:generic", "GET", "com.atproto.server.getServiceAuth?aud=did:web:api.example.com%23svc&lxm=com.atproto.server.createAppPassword", nil, 400, "InvalidRequest"},
		{"161 app passwords", "transition:generic account:email?action=manage identity:*", "POST", "com.atproto.server.createAppPassword", map[string]any{"name": "x"}, 403, "ScopeMissingError"},
		{"161 list", "transition:generic", "GET", "com.atproto.server.listAppPasswords", nil, 403, "ScopeMissingError"},
		{"161 deactivation", "transition:generic identity:* account:repo?action=manage", "POST", "com.atproto.server.deactivateAccount", map[string]any{}, 403, "ScopeMissingError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, access := x.granted(c.scope)
			if c.name == "157 both" { // nothing of the refused one was written
				if status, _, text := x.send(a, access, "GET", "com.atproto.repo.getRecord?repo="+string(x.owner)+"&collection=com.example.note&rkey=all", nil); status != 400 {
					t.Errorf("157: %d %s", status, text)
				}
			}
			status, code, text := x.send(a, access, c.verb, c.method, c.in)
			if status != c.status || code != c.code {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	for scope, email := range map[string]bool{"": false, "account:email": true, "account:email?action=manage": true, "transition:email": true, "transition:generic": false} {
		a, access := x.granted(scope)
		status, _, text := x.send(a, access, "GET", "com.atproto.server.getSession", nil)
		if status != 200 || strings.Contains(text, "alice@example.com") != email {
			t.Errorf("151, 160: %q: %d %s", scope, status, text)
		}
	}
}

// A session that has ended changes nothing, whatever kind of method it is.
func TestMethodsOfEndedSessions(t *testing.T) {
	x := newPDS(t)
	a, access := x.granted("repo:com.example.note identity:handle")
	create := map[string]any{"repo": x.owner, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note"}}
	if status, _, text := x.send(a, access, "POST", "com.atproto.repo.createRecord", create); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if status, _, text := x.send(a, access, "POST", "com.atproto.identity.updateHandle", map[string]any{"handle": "alice2.test"}); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	a.revoke(access)
	for method, in := range map[string]any{"com.atproto.repo.createRecord": create, "com.atproto.identity.updateHandle": map[string]any{"handle": "alice3.test"}} {
		if status, code, text := x.send(a, access, "POST", method, in); status != 401 || code != codeInvalidToken {
			t.Errorf("%s: %d %s", method, status, text)
		}
	}
}

// An app that renews its tokens while it writes loses no write: the token before is good for a minute,
// and what a write rests on is looked at again.
func TestWritesDuringRefresh(t *testing.T) {
	x := newPDS(t)
	a := x.public()
	a.owner = x.owner
	tok := a.login()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				in := map[string]any{"repo": x.owner, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note"}}
				if status, _, text := x.send(a, tok.access, "POST", "com.atproto.repo.createRecord", in); status != 200 {
					t.Errorf("%d %s", status, text)
				}
			}
		})
	}
	wg.Go(func() {
		next := tok
		for range 10 {
			next = a.refresh(next.refresh).tokens(t)
		}
	})
	wg.Wait()
}
