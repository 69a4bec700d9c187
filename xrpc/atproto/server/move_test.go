package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
	"github.com/pdskit/pdskit/xrpc/session"
)

// An account moves from one server to another, is interrupted, and goes on.
func TestAccountMoves(t *testing.T) {
	old := newBench(t, nil)
	var admitted []syntax.DID
	b := newBenchAt(t, old.plcURL, old.clock, func(s *session.Config, c *Config) {
		s.ServiceDID, c.Policy.Domains = "did:web:new.example.com", []string{".new.test"}
		c.Policy.Admit = func(_ context.Context, _ *xrpc.Request, n NewAccount) error {
			admitted = append(admitted, n.DID)
			return nil
		}
	})
	alice := old.register("alice")
	token := func() string {
		var out struct{ Token string }
		q := url.Values{"aud": {"did:web:new.example.com"}, "lxm": {createAccount}}
		old.must("GET", "com.atproto.server.getServiceAuth?"+q.Encode(), alice.AccessJWT, nil, &out)
		return out.Token
	}
	in := newAccount("alice", "did", string(alice.DID), "handle", "alice.new.test")
	b.fails(401, "AuthenticationRequired", "POST", createAccount, "", in)
	b.fails(401, "AuthenticationRequired", "POST", createAccount, token(), newAccount("alice", "did", "did:web:other.example.com", "handle", "alice.new.test"))
	var reserved, once struct{ SigningKey string }
	b.must("POST", "com.atproto.server.reserveSigningKey", "", map[string]any{"did": alice.DID}, &reserved)
	if b.must("POST", "com.atproto.server.reserveSigningKey", "", map[string]any{"did": alice.DID}, &once); once != reserved {
		t.Errorf("%v, then %v", reserved, once)
	}
	var moved tokens
	b.must("POST", createAccount, token(), in, &moved)
	a, err := b.accounts.ByDID(t.Context(), alice.DID)
	if err != nil || a.DeactivatedAt.IsZero() {
		t.Fatalf("%+v, %v", a, err)
	}
	if kinds, _ := b.events(alice.DID, 0); len(kinds) > 0 {
		t.Errorf("the network was told: %v", kinds)
	}
	if key, err := b.accounts.Signer(t.Context(), alice.DID); err != nil || key.PublicKey().DIDKey() != reserved.SigningKey {
		t.Errorf("it has another key than the reserved one: %v", err)
	}
	// It was interrupted: the owner, who knows nothing of the session, begins again, with other
	// names.
	again := newAccount("alice", "did", string(alice.DID), "handle", "alice2.new.test", "password", "another", "email", "alice2@example.com")
	b.clock.pass(time.Second)
	b.must("POST", createAccount, token(), again, &moved)
	if a, err := b.accounts.ByDID(t.Context(), alice.DID); err != nil || a.Handle != "alice2.new.test" || a.Email != "alice2@example.com" {
		t.Errorf("%+v, %v", a, err)
	}
	if _, a := b.login("alice2.new.test", "another"); a.Status != 200 {
		t.Error(a.Body)
	}
	if !slices.Equal(admitted, []syntax.DID{alice.DID}) { // not for an account that is here
		t.Errorf("%v", admitted)
	}
	for what, c := range map[string][]string{
		"a bad password": {"password", ""}, "a bad handle": {"handle", "x.new.test"}, "a bad address": {"email", "x"},
	} {
		bad := newAccount("alice", append([]string{"did", string(alice.DID), "handle", "alice2.new.test"}, c...)...)
		if a := b.send("POST", createAccount, "Bearer "+token(), "", bad, nil); a.Status != 400 {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	// An import may be signed with the old key or the new one.
	keys, err := b.ImportKeys(t.Context(), alice.DID)
	if err != nil || len(keys) != 2 || keys[0].DIDKey() != reserved.SigningKey {
		t.Errorf("%v, %v", keys, err)
	}
	// Nothing becomes active before the document says so.
	b.fails(400, "InvalidRequest", "POST", "com.atproto.server.activateAccount", moved.AccessJWT, nil)
	var should map[string]any
	b.must("GET", "com.atproto.identity.getRecommendedDidCredentials", moved.AccessJWT, nil, &should)
	old.must("POST", "com.atproto.identity.requestPlcOperationSignature", alice.AccessJWT, nil, nil)
	should["token"] = old.mail.last().Token
	var signed struct {
		Operation any `json:"operation"`
	}
	old.must("POST", "com.atproto.identity.signPlcOperation", alice.AccessJWT, should, &signed)
	b.must("POST", "com.atproto.identity.submitPlcOperation", moved.AccessJWT, signed, nil)
	b.must("POST", "com.atproto.server.activateAccount", moved.AccessJWT, nil, nil)
	old.must("POST", "com.atproto.server.deactivateAccount", alice.AccessJWT, map[string]any{}, nil)
	if kinds, _ := b.events(alice.DID, 0); !slices.Equal(kinds, []string{"#identity", "#account", "#identity", "#sync"}) {
		t.Errorf("%v", kinds)
	}
	// With the account's own key, anybody with a session could have a token signed, and so give it
	// another password while it is deactivated.
	b.must("POST", "com.atproto.server.deactivateAccount", moved.AccessJWT, map[string]any{}, nil)
	var own struct{ Token string }
	q := url.Values{"aud": {"did:web:new.example.com"}, "lxm": {createAccount}}
	b.must("GET", "com.atproto.server.getServiceAuth?"+q.Encode(), moved.AccessJWT, nil, &own)
	b.resolver.Purge(syntax.AtIdentifier(alice.DID))
	again["password"] = "the thief's"
	if a := b.send("POST", createAccount, "Bearer "+own.Token, "", again, nil); a.Status != 400 || !strings.Contains(a.Body, "already exists") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if _, a := b.login("alice2.new.test", "the thief's"); a.Status != 401 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// documents are those of did:web, by their DIDs.
type documents struct {
	mu   sync.Mutex
	text map[string]string
}

// set changes a document; an empty text removes it.
func (d *documents) set(did, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.text == nil {
		d.text = make(map[string]string)
	}
	d.text[did] = text
}

func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := d.text["did:web:"+r.URL.Host]
	if text == "" || r.URL.Path != "/.well-known/did.json" {
		return nil, errors.New("nobody is reached")
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

// An account whose DID is a did:web has no operations; its document is its owner's.
func TestAccountOfADIDWeb(t *testing.T) {
	docs := &documents{}
	old := newBench(t, nil)
	b := newBenchAt(t, old.plcURL, old.clock, func(s *session.Config, c *Config) {
		r := s.Resolver.(*identity.Resolver)
		r.DNS, r.HTTP = txt{"_atproto.web.example.com": "did=did:web:web.example.com"}, &http.Client{Transport: docs}
	})
	const did = "did:web:web.example.com"
	signer, err := old.accounts.Signer(t.Context(), old.register("alice").DID)
	if err != nil {
		t.Fatal(err)
	}
	document := func(key, endpoint, handle string) string {
		return `{"id":"` + did + `","alsoKnownAs":["at://` + handle + `"],"verificationMethod":[{"id":"` + did + `#atproto","type":"Multikey","controller":"` + did +
			`","publicKeyMultibase":"` + strings.TrimPrefix(key, "did:key:") + `"}],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"` + endpoint + `"}]}`
	}
	docs.set(did, document(signer.PublicKey().DIDKey(), "https://old.example.com", "web.example.com"))
	token := func() string {
		text, err := serviceauth.Sign(t.Context(), signer, serviceauth.Token{Issuer: did, Audience: "did:web:localhost", Method: createAccount, Issued: b.clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}()
	var moved tokens
	b.must("POST", createAccount, token, newAccount("web", "did", did, "handle", "web.example.com"), &moved)
	for _, method := range []string{"requestPlcOperationSignature", "signPlcOperation", "submitPlcOperation"} {
		in := map[string]any{"signPlcOperation": map[string]any{"token": "x"}, "submitPlcOperation": map[string]any{"operation": map[string]any{}}}[method]
		b.fails(400, "InvalidRequest", "POST", "com.atproto.identity."+method, moved.AccessJWT, in)
	}
	if keys, err := b.ImportKeys(t.Context(), did); err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
	var should struct {
		RotationKeys        []string
		VerificationMethods map[string]string
	}
	if b.must("GET", "com.atproto.identity.getRecommendedDidCredentials", moved.AccessJWT, nil, &should); should.RotationKeys != nil {
		t.Errorf("%+v", should)
	}
	b.fails(400, "InvalidRequest", "POST", "com.atproto.server.activateAccount", moved.AccessJWT, nil)
	docs.set(did, document(should.VerificationMethods["atproto"], b.url, "web.example.com"))
	b.must("POST", "com.atproto.server.activateAccount", moved.AccessJWT, nil, nil)
	// A handle that the document does not name is not taken.
	b.fails(400, "InvalidRequest", "POST", "com.atproto.identity.updateHandle", moved.AccessJWT, map[string]any{"handle": "webby.test"})
	docs.set(did, document(should.VerificationMethods["atproto"], b.url, "webby.test"))
	b.must("POST", "com.atproto.identity.updateHandle", moved.AccessJWT, map[string]any{"handle": "webby.test"}, nil)
	// The key before is not known any more.
	if keys, err := b.ImportKeys(t.Context(), did); err != nil || keys != nil {
		t.Errorf("%v, %v", keys, err)
	}
	docs.set(did, "")
	if _, err := b.ImportKeys(t.Context(), did); err == nil {
		t.Error("keys without a document")
	}
}

func TestDirectoryOfAccounts(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	b.clock.pass(time.Second)
	bob := b.register("bob")
	for _, id := range []string{"alice.test", string(alice.DID)} {
		if a, err := b.Account(t.Context(), syntax.AtIdentifier(id)); err != nil || a.DID != alice.DID || a.Handle != "alice.test" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if _, err := b.Account(t.Context(), "nobody.test"); !errors.Is(err, atproto.ErrNoAccount) {
		t.Error(err)
	}
	if _, err := b.ResolveHandle(t.Context(), "nobody.test"); !errors.Is(err, atproto.ErrNoAccount) {
		t.Error(err)
	}
	list, err := b.ListAccounts(t.Context(), time.Time{}, "", 10)
	if err != nil || len(list) != 2 || list[0].DID != alice.DID || list[1].DID != bob.DID {
		t.Errorf("%v, %v", list, err)
	}
	if doc, handle, err := b.Document(t.Context(), alice.DID); err != nil || handle != "alice.test" || !strings.Contains(string(doc), string(alice.DID)) {
		t.Errorf("%s, %s, %v", doc, handle, err)
	}
	if _, _, err := b.Document(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"); err == nil {
		t.Error("a document of nobody")
	}
}

func TestWellKnown(t *testing.T) {
	b := newBench(t, nil)
	alice := b.register("alice")
	ask := func(method, host, path string) (int, string) {
		r, err := http.NewRequest(method, "http://"+host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		b.WellKnown().ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const did, doc = "/.well-known/atproto-did", "/.well-known/did.json"
	if code, text := ask("GET", "Alice.test:8080", did); code != 200 || text != string(alice.DID) {
		t.Errorf("%d %s", code, text)
	}
	if code, text := ask("GET", "localhost", doc); code != 200 || !strings.Contains(text, `"id":"did:web:localhost"`) || !strings.Contains(text, b.url) {
		t.Errorf("%d %s", code, text)
	}
	b.must("POST", "com.atproto.server.deactivateAccount", alice.AccessJWT, map[string]any{}, nil)
	for _, c := range []struct {
		method, host, path string
		code               int
	}{
		{"GET", "alice.test", did, 404}, {"GET", "nobody.test", did, 404}, {"GET", "", did, 404},
		{"POST", "alice.test", did, 405}, {"OPTIONS", "alice.test", did, 204}, {"HEAD", "localhost", doc, 200}, {"GET", "localhost", "/.well-known/x", 404},
	} {
		if code, text := ask(c.method, c.host, c.path); code != c.code {
			t.Errorf("%v: %d %s", c, code, text)
		}
	}
}

// A server that an account has left has no say there any more, though its word was good a minute ago.
func TestTheServerBeforeCannotTakeAnAccount(t *testing.T) {
	docs := &documents{}
	old := newBench(t, nil)
	b := newBenchAt(t, old.plcURL, old.clock, func(s *session.Config, c *Config) {
		r := s.Resolver.(*identity.Resolver)
		r.DNS, r.HTTP = txt{"_atproto.web.example.com": "did=did:web:web.example.com"}, &http.Client{Transport: docs}
	})
	const did = "did:web:web.example.com"
	move := func(by crypto.Signer, password string) int {
		token, err := serviceauth.Sign(t.Context(), by, serviceauth.Token{Issuer: did, Audience: "did:web:localhost", Method: createAccount, Issued: b.clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		in := newAccount("web", "did", did, "handle", "web.example.com", "password", password)
		return b.send("POST", createAccount, "Bearer "+token, "", in, nil).Status
	}
	names := func(key *crypto.PublicKey) {
		docs.set(did, `{"id":"`+did+`","alsoKnownAs":["at://web.example.com"],"verificationMethod":[{"id":"`+did+`#atproto","type":"Multikey","controller":"`+did+
			`","publicKeyMultibase":"`+strings.TrimPrefix(key.DIDKey(), "did:key:")+`"}]}`)
		b.clock.pass(time.Minute)
	}
	var keys []*crypto.PrivateKey
	for range 2 {
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	before, after := keys[0], keys[1]
	names(before.PublicKey())
	if status := move(before, "the owner's password"); status != 200 {
		t.Fatal(status)
	}
	own, err := b.accounts.Signer(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	for what, present := range map[string]*crypto.PublicKey{"a third server": after.PublicKey(), "this server": own.PublicKey()} {
		names(present)
		if status := move(before, "another password"); status != 401 {
			t.Errorf("the document names %s: %d", what, status)
		}
	}
	if _, a := b.login(did, "the owner's password"); a.Status != 200 {
		t.Error(a.Body)
	}
	names(after.PublicKey())
	if status := move(after, "a new password"); status != 200 {
		t.Errorf("the server that the document names: %d", status)
	}
}
