package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

// moodyPLC is a did:plc directory that answers what it is told to answer; with an empty mood, the
// truth.
type moodyPLC struct {
	dir  *plctest.Directory
	mood atomic.Value // string
}

func (m *moodyPLC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	say := func(status int, text string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
	switch mood, _ := m.mood.Load().(string); mood {
	case "down":
		panic(http.ErrAbortHandler)
	case "500":
		say(500, `{"message":"oh"}`)
	case "503":
		say(503, `<h1>Service Unavailable`)
	case "429":
		say(429, `{"message":"slow down"}`)
	case "404":
		say(404, `{"message":"DID not registered"}`)
	case "410":
		say(410, `{"message":"DID not available"}`)
	case "404 tombstone":
		say(404, `{"message":"DID not available: did:plc:x"}`)
	case "rubbish":
		say(200, `<html>welcome`)
	case "null":
		say(200, `null`)
	case "a list of null":
		say(200, `[null]`)
	case "other JSON":
		say(200, `{"did":5,"type":"poem"}`)
	case "huge":
		say(200, strings.Repeat(" ", 17<<20))
	case "redirect":
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	case "accept in silence":
		rec := httptest.NewRecorder()
		if m.dir.ServeHTTP(rec, r); r.Method == http.MethodPost {
			panic(http.ErrAbortHandler)
		}
		say(rec.Code, rec.Body.String())
	default:
		m.dir.ServeHTTP(w, r)
	}
}

// identityWorld is a server with a directory of which one can dispose.
type identityWorld struct {
	*sandbox
	t    *testing.T
	plc  *identity.PLCClient
	mood *moodyPLC
	key  *crypto.PrivateKey // of strangers, and of did:web accounts elsewhere
	web  *httptest.Server   // of did:web documents
	docs map[syntax.DID]*identity.Document
}

func newIdentityWorld(t *testing.T) *identityWorld {
	t.Helper()
	dir, err := plctest.New(plctest.Config{NoRateLimits: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &identityWorld{t: t, mood: &moodyPLC{dir: dir}, docs: map[syntax.DID]*identity.Document{}}
	plc := httptest.NewServer(w.mood)
	t.Cleanup(plc.Close)
	w.plc = &identity.PLCClient{URL: plc.URL}
	if w.key, err = crypto.GenerateKey(crypto.K256); err != nil {
		t.Fatal(err)
	}
	w.web = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		doc := w.docs[w.webDID()]
		if r.URL.Path != "/.well-known/did.json" || doc == nil {
			http.NotFound(out, r)
			return
		}
		json.NewEncoder(out).Encode(doc)
	}))
	t.Cleanup(w.web.Close)
	mail := t.TempDir() + "/mail.jsonl"
	s := inProcess(t, map[string]string{"PDS_DID_PLC_URL": plc.URL, "PDS_EMAIL_SINK_FILE": mail, "PDS_RATE_LIMITS_ENABLED": "false"})
	w.sandbox = &sandbox{&process{t: t, url: s.URL()}, mail}
	return w
}

// webDID is the DID whose document the web server has.
func (w *identityWorld) webDID() syntax.DID {
	u, err := url.Parse(w.web.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	return syntax.DID("did:web:localhost%3A" + u.Port())
}

// move creates the account of a DID that is elsewhere, whose key the world has.
func (w *identityWorld) move(did syntax.DID, handle string) *user {
	w.t.Helper()
	token, err := serviceauth.Sign(w.t.Context(), w.key, serviceauth.Token{Issuer: string(did), Audience: "did:web:localhost", Method: "com.atproto.server.createAccount"})
	if err != nil {
		w.t.Fatal(err)
	}
	u := &user{}
	err = (&xrpc.Client{Host: w.url, Authorize: xrpc.Bearer(token)}).Procedure(w.t.Context(), "com.atproto.server.createAccount", map[string]any{
		"did": did, "handle": handle, "email": strings.ReplaceAll(handle, ".", "-") + "@example.com", "password": "password of " + strings.TrimSuffix(handle, ".test"),
	}, u)
	if err != nil {
		w.t.Fatal(err)
	}
	u.Client = &xrpc.Client{Host: w.url, Authorize: xrpc.Bearer(u.AccessJWT), Retries: -1}
	return u
}

// newWeb makes an account with a did:web, whose document names another server.
func (w *identityWorld) newWeb(handle string) *user {
	w.t.Helper()
	did := w.webDID()
	w.docs[did] = &identity.Document{
		ID: did, AlsoKnownAs: []string{"at://old.example.com"},
		VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(did, identity.SigningKeyID, w.key.PublicKey())},
		Services:            []identity.Service{{ID: "#" + identity.PDSID, Type: identity.PDSType, Endpoint: "https://old.example.com"}},
	}
	return w.move(did, handle)
}

// tell calls a method and checks the answer.
func (w *identityWorld) tell(u *user, verb, method string, in any, status int, name string) string {
	w.t.Helper()
	var body io.Reader
	contentType := ""
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			w.t.Fatal(err)
		}
		body, contentType = strings.NewReader(string(text)), "application/json"
	}
	token := ""
	if u != nil {
		token = "Bearer " + u.AccessJWT
	}
	got, gotName, text := request(w.t, verb, w.url+"/xrpc/com.atproto."+method, contentType, token, body)
	if got != status || gotName != name {
		w.t.Errorf("%s: status %d %s, want %d %s: %.300s", method, got, gotName, status, name, text)
	}
	return text
}

// TestPLCOperationThatNoDirectoryTakes is not signed, and the token stays good for one that is.
func TestPLCOperationThatNoDirectoryTakes(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.register("alice")
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token := w.token(t, "alice@example.com")
	var good struct {
		RotationKeys        []string          `json:"rotationKeys"`
		VerificationMethods map[string]string `json:"verificationMethods"`
	}
	if err := alice.Query(t.Context(), "com.atproto.identity.getRecommendedDidCredentials", nil, &good); err != nil {
		t.Fatal(err)
	}
	ours, own := good.RotationKeys[0], w.key.PublicKey().DIDKey()
	keys := []string{ours}
	for range 5 {
		k, err := crypto.GenerateKey(crypto.P256)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k.PublicKey().DIDKey())
	}
	const ed25519 = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
	pds := func(typ, endpoint string) map[string]any {
		return map[string]any{"services": map[string]any{"atproto_pds": map[string]any{"type": typ, "endpoint": endpoint}}}
	}
	many := map[string]any{}
	for i := range 11 {
		many[fmt.Sprint("s", i)] = map[string]any{"type": "T", "endpoint": "https://example.com"}
	}
	for what, in := range map[string]map[string]any{
		"no rotation keys":               {"rotationKeys": []string{}},
		"six rotation keys":              {"rotationKeys": keys},
		"a rotation key twice":           {"rotationKeys": []string{ours, own, ours}},
		"a rotation key of another type": {"rotationKeys": []string{ours, ed25519}},
		"a rotation key that is none":    {"rotationKeys": []string{"did:key:zzz"}},
		"a rotation key without prefix":  {"rotationKeys": []string{strings.TrimPrefix(ours, "did:key:")}},
		"a handle that is none":          {"alsoKnownAs": []string{"at://not a handle"}},
		"a handle without a dot":         {"alsoKnownAs": []string{"at://alice"}},
		"an alias that is no URI":        {"alsoKnownAs": []string{"alice.test"}},
		"an alias twice":                 {"alsoKnownAs": []string{"at://alice.test", "at://alice.test"}},
		"a long alias":                   {"alsoKnownAs": []string{"https://example.com/" + strings.Repeat("a", 250)}},
		"many aliases":                   {"alsoKnownAs": strings.Split(strings.Repeat("https://example.com/x ", 11), " ")[:11]},
		"a signing key of another type":  {"verificationMethods": map[string]string{"atproto": ed25519}},
		"a key that is none":             {"verificationMethods": map[string]string{"other": "https://example.com"}},
		"a key without a name":           {"verificationMethods": map[string]string{"": own}},
		"a server without a scheme":      pds("AtprotoPersonalDataServer", "pds.example.com"),
		"a server with a path":           pds("AtprotoPersonalDataServer", "https://pds.example.com/x"),
		"a server of another scheme":     pds("AtprotoPersonalDataServer", "ftp://pds.example.com"),
		"a service without a type":       pds("", "https://pds.example.com"),
		"many services":                  {"services": many},
		"too much of all": {"alsoKnownAs": slices.Collect(func(yield func(string) bool) {
			for i := range 10 {
				yield(fmt.Sprint("https://example.com/", i, strings.Repeat("a", 230)))
			}
		}), "services": map[string]any{
			"a": map[string]any{"type": strings.Repeat("t", 250), "endpoint": "https://example.com/" + strings.Repeat("e", 490)},
			"b": map[string]any{"type": strings.Repeat("t", 250), "endpoint": "https://example.com/" + strings.Repeat("e", 490)},
		}},
	} {
		in["token"] = token
		text := w.tell(alice, "POST", "identity.signPlcOperation", in, 400, "InvalidRequest")
		if !strings.Contains(text, "Invalid operation: ") {
			t.Errorf("%s: the answer does not say what is wrong: %s", what, text)
		}
		var signed struct{ Operation json.RawMessage }
		if json.Unmarshal([]byte(text), &signed); len(signed.Operation) > 0 {
			t.Errorf("%s is signed", what)
		}
	}
	// The directory is away: the token is not spent either.
	for _, mood := range []string{"down", "500", "rubbish", "other JSON"} {
		w.mood.mood.Store(mood)
		w.tell(alice, "POST", "identity.signPlcOperation", map[string]any{"token": token}, 502, "UpstreamFailure")
	}
	w.mood.mood.Store("")
	var signed struct {
		Operation *identity.PLCOperation `json:"operation"`
	}
	in := map[string]any{"token": token, "rotationKeys": []string{own, ours}, "verificationMethods": map[string]string{"atproto": good.VerificationMethods["atproto"], "other": ed25519}}
	alice.call(t, "com.atproto.identity.signPlcOperation", in, &signed)
	fails(t, alice.Procedure(t.Context(), "com.atproto.identity.signPlcOperation", in, nil), 400, "InvalidToken") // once
	alice.call(t, "com.atproto.identity.submitPlcOperation", map[string]any{"operation": signed.Operation}, nil)
}

// TestKeyWithoutAuthority: the server signs nothing for a DID whose rotation keys are all others'.
func TestKeyWithoutAuthority(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.register("alice")
	last, err := w.plc.Last(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token := w.token(t, "alice@example.com")
	var signed struct {
		Operation *identity.PLCOperation `json:"operation"`
	}
	alice.call(t, "com.atproto.identity.signPlcOperation", map[string]any{"token": token, "rotationKeys": []string{w.key.PublicKey().DIDKey()}}, &signed)
	if err := w.plc.Submit(t.Context(), alice.DID, signed.Operation); err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token = w.token(t, "alice@example.com")
	server := last.RotationKeys[0]
	for _, in := range []map[string]any{{}, {"rotationKeys": []string{server}}} { // also if it is among the new ones
		in["token"] = token
		if text := w.tell(alice, "POST", "identity.signPlcOperation", in, 400, "InvalidRequest"); !strings.Contains(text, "rotation keys") {
			t.Error(text)
		}
	}
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 400, "InvalidRequest")
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alice.test"}, 200, "") // nothing to sign
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "InvalidRequest")
	admin := w.admin()
	admin.Retries = -1
	fails(t, admin.Procedure(t.Context(), "com.atproto.admin.updateAccountHandle", map[string]any{"did": alice.DID, "handle": "alicia.test"}, nil), 400, "InvalidRequest")
	if a, err := w.plc.Data(t.Context(), alice.DID); err != nil || a.AlsoKnownAs[0] != "at://alice.test" {
		t.Errorf("%+v %v", a, err)
	}
}

// TestTombstonedDID: its account answers 400 wherever the DID is needed.
func TestTombstonedDID(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.register("alice")
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token := w.token(t, "alice@example.com")
	var signed struct {
		Operation *identity.PLCOperation `json:"operation"`
	}
	alice.call(t, "com.atproto.identity.signPlcOperation", map[string]any{"token": token, "rotationKeys": []string{w.key.PublicKey().DIDKey()}}, &signed)
	if err := w.plc.Submit(t.Context(), alice.DID, signed.Operation); err != nil {
		t.Fatal(err)
	}
	end, err := signed.Operation.Tombstone()
	if err == nil {
		err = end.Sign(t.Context(), w.key)
	}
	if err == nil {
		err = w.plc.Submit(t.Context(), alice.DID, end)
	}
	if err != nil {
		t.Fatal(err)
	}
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token = w.token(t, "alice@example.com")
	w.tell(alice, "POST", "identity.signPlcOperation", map[string]any{"token": token}, 400, "DidDeactivated")
	w.tell(alice, "POST", "identity.submitPlcOperation", map[string]any{"operation": signed.Operation}, 400, "InvalidRequest")
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 400, "DidDeactivated")
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "DidDeactivated")
	w.tell(nil, "GET", "repo.describeRepo?repo="+string(alice.DID), nil, 400, "InvalidRequest")
	if text := w.tell(alice, "GET", "server.checkAccountStatus", nil, 200, ""); !strings.Contains(text, `"validDid":false`) {
		t.Error(text)
	}
	if _, err := w.login(t, "alice.test", "password of alice"); err != nil {
		t.Errorf("a login without a document: %v", err)
	}
}

// TestMoodyDirectory: whatever the directory answers, no method answers 500, and what is the
// directory's fault is not said to be the caller's.
func TestMoodyDirectory(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.register("alice")
	bob := w.register("bob") // whom nobody asks about while all is well
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	token := w.token(t, "alice@example.com")
	last, err := w.plc.Last(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	op, err := last.Next() // signed below by who may not: the directory is not asked whether it is
	if err == nil {
		err = op.Sign(t.Context(), w.key)
	}
	if err != nil {
		t.Fatal(err)
	}
	const bad, gone, unknown = "UpstreamFailure", "DidDeactivated", "DidNotFound"
	for mood, want := range map[string]string{"down": bad, "500": bad, "503": bad, "429": bad, "redirect": bad, "rubbish": bad, "other JSON": bad, "huge": bad, "null": bad, "a list of null": bad,
		"404": unknown, "410": gone, "404 tombstone": gone} {
		w.mood.mood.Store(mood)
		status := 400
		if want == bad {
			status = 502
		}
		w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, status, want)
		w.tell(alice, "POST", "identity.signPlcOperation", map[string]any{"token": token}, status, want)
		w.tell(alice, "POST", "server.activateAccount", nil, status, want)
		if !slices.Contains([]string{"rubbish", "other JSON", "huge", "null", "a list of null"}, mood) { // a 200 is a 200
			w.tell(alice, "POST", "identity.submitPlcOperation", map[string]any{"operation": op}, status, want)
		}
		if text := w.tell(alice, "GET", "server.checkAccountStatus", nil, 200, ""); !strings.Contains(text, `"validDid":false`) {
			t.Errorf("%s: %s", mood, text)
		}
		if want != bad {
			continue
		}
		if !slices.Contains([]string{"rubbish", "other JSON", "null", "a list of null"}, mood) {
			w.tell(nil, "POST", "server.createAccount", map[string]any{"handle": "carol.test", "email": "carol@example.com", "password": "x"}, 502, bad)
		}
	}
	w.mood.mood.Store("down")
	if u, err := w.login(t, "bob.test", "password of bob"); err != nil || u.DID != bob.DID {
		t.Errorf("a login while the directory is down: %v", err)
	}
	// An operation whose answer is lost has been accepted all the same.
	w.mood.mood.Store("accept in silence")
	w.tell(bob, "POST", "identity.updateHandle", map[string]any{"handle": "robert.test"}, 200, "")
	w.mood.mood.Store("")
	if d, err := w.plc.Data(t.Context(), bob.DID); err != nil || d.AlsoKnownAs[0] != "at://robert.test" {
		t.Errorf("%+v %v", d, err)
	}
}

// TestWebIdentity: an account with a did:web has its owner's document, which the server cannot
// change, and no operations to sign.
func TestWebIdentity(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.newWeb("alice.test")
	doc := w.docs[alice.DID]
	for _, handle := range []string{"alicia.test", "alice.test"} { // another, and the one that it has
		w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": handle}, 400, "InvalidRequest")
		fails(t, w.admin().Procedure(t.Context(), "com.atproto.admin.updateAccountHandle", map[string]any{"did": alice.DID, "handle": handle}, nil), 400, "InvalidRequest")
	}
	w.tell(alice, "POST", "identity.requestPlcOperationSignature", nil, 400, "InvalidRequest")
	w.tell(alice, "POST", "identity.signPlcOperation", map[string]any{"token": "AAAAA-AAAAA"}, 400, "InvalidRequest")
	w.tell(alice, "POST", "identity.submitPlcOperation", map[string]any{"operation": map[string]any{}}, 400, "InvalidRequest")
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "InvalidRequest")
	var creds struct {
		RotationKeys        []string
		AlsoKnownAs         []string
		VerificationMethods map[string]string
	}
	if err := alice.Query(t.Context(), "com.atproto.identity.getRecommendedDidCredentials", nil, &creds); err != nil || creds.RotationKeys != nil || len(creds.VerificationMethods) != 1 {
		t.Errorf("%+v %v", creds, err)
	}
	// The owner does what is recommended.
	key, err := crypto.ParseDIDKey(creds.VerificationMethods["atproto"])
	if err != nil {
		t.Fatal(err)
	}
	doc.AlsoKnownAs = []string{"at://alicia.test", "at://alice.test"}
	doc.VerificationMethods[0] = identity.NewVerificationMethod(alice.DID, identity.SigningKeyID, key)
	doc.Services[0].Endpoint = w.url
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 200, "")
	w.tell(alice, "POST", "server.activateAccount", nil, 200, "")
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alice.test"}, 400, "InvalidRequest") // not the first one
	if text := w.tell(alice, "GET", "server.checkAccountStatus", nil, 200, ""); !strings.Contains(text, `"validDid":true`) {
		t.Error(text)
	}
	// Its web server is away, or answers nonsense.
	w.docs[alice.DID] = nil
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 400, "DidNotFound")
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "DidNotFound")
	w.docs[alice.DID] = &identity.Document{ID: "did:web:somebody.example.com"}
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 400, "InvalidRequest")
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "InvalidRequest")
	w.web.Close()
	w.tell(alice, "POST", "identity.updateHandle", map[string]any{"handle": "alicia.test"}, 502, "UpstreamFailure")
	w.tell(alice, "POST", "server.activateAccount", nil, 502, "UpstreamFailure")
	w.tell(nil, "POST", "server.requestPasswordReset", map[string]any{"email": "alice-test@example.com"}, 200, "")
}

// TestDocumentOfAnotherServer is not given to the clients of a session: they would follow it away.
func TestDocumentOfAnotherServer(t *testing.T) {
	w := newIdentityWorld(t)
	type session struct {
		AccessJWT, RefreshJWT string
		DIDDoc                json.RawMessage
	}
	sessions := func(u *user, handle string) (list []session) {
		t.Helper()
		in := map[string]string{"identifier": string(u.DID), "password": "password of " + strings.TrimSuffix(handle, ".test")}
		var created, got, refreshed session
		if err := w.anonymous().Procedure(t.Context(), "com.atproto.server.createSession", in, &created); err != nil {
			t.Fatal(err)
		}
		if err := (&xrpc.Client{Host: w.url, Authorize: xrpc.Bearer(created.AccessJWT)}).Query(t.Context(), "com.atproto.server.getSession", nil, &got); err != nil {
			t.Fatal(err)
		}
		if err := (&xrpc.Client{Host: w.url, Authorize: xrpc.Bearer(created.RefreshJWT)}).Procedure(t.Context(), "com.atproto.server.refreshSession", nil, &refreshed); err != nil {
			t.Fatal(err)
		}
		return []session{created, got, refreshed}
	}
	// One that moves here: both kinds of DID.
	genesis := identity.NewPLCOperation("carol.example.com", "https://old.example.com", w.key.PublicKey(), w.key.PublicKey())
	if err := genesis.Sign(context.Background(), w.key); err != nil {
		t.Fatal(err)
	}
	did, err := genesis.DID()
	if err == nil {
		err = w.plc.Submit(t.Context(), did, genesis)
	}
	if err != nil {
		t.Fatal(err)
	}
	for handle, u := range map[string]*user{"carol.test": w.move(did, "carol.test"), "webber.test": w.newWeb("webber.test")} {
		for i, s := range sessions(u, handle) {
			if s.DIDDoc != nil {
				t.Errorf("%s, %d: %s", handle, i, s.DIDDoc)
			}
		}
	}
	var made session
	w.mood.mood.Store("")
	if err := w.anonymous().Procedure(t.Context(), "com.atproto.server.createAccount", map[string]string{"handle": "alice.test", "email": "alice@example.com", "password": "password of alice"}, &made); err != nil || made.DIDDoc == nil {
		t.Errorf("a new account has no document: %v", err)
	}
	// One that is here, and one that has left for another server.
	alice := &user{}
	if alice, err = w.login(t, "alice.test", "password of alice"); err != nil {
		t.Fatal(err)
	}
	for i, s := range sessions(alice, "alice.test") {
		if s.DIDDoc == nil {
			t.Errorf("%d: no document", i)
		}
	}
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	var signed struct {
		Operation *identity.PLCOperation `json:"operation"`
	}
	alice.call(t, "com.atproto.identity.signPlcOperation", map[string]any{"token": w.token(t, "alice@example.com"), "services": map[string]any{
		"atproto_pds": map[string]any{"type": "AtprotoPersonalDataServer", "endpoint": "https://new.example.com"}}}, &signed)
	if err := w.plc.Submit(t.Context(), alice.DID, signed.Operation); err != nil {
		t.Fatal(err)
	}
	w.tell(alice, "POST", "server.activateAccount", nil, 400, "InvalidRequest") // which looks the document up again
	for i, s := range sessions(alice, "alice.test") {
		if s.DIDDoc != nil {
			t.Errorf("%d: %s", i, s.DIDDoc)
		}
	}
}

// TestSpellingsOfThisServer: an account whose document names this server in another spelling is at
// home here; one whose document names a neighbour is not, however near.
func TestSpellingsOfThisServer(t *testing.T) {
	w := newIdentityWorld(t)
	alice := w.register("alice")
	web := w.newWeb("webber.test")
	var creds struct{ VerificationMethods map[string]string }
	if err := web.Query(t.Context(), "com.atproto.identity.getRecommendedDidCredentials", nil, &creds); err != nil {
		t.Fatal(err)
	}
	key, err := crypto.ParseDIDKey(creds.VerificationMethods["atproto"])
	if err != nil {
		t.Fatal(err)
	}
	w.docs[web.DID].VerificationMethods[0] = identity.NewVerificationMethod(web.DID, identity.SigningKeyID, key)
	// A key with which the test can submit what the server would not.
	alice.call(t, "com.atproto.identity.requestPlcOperationSignature", nil, nil)
	last, err := w.plc.Last(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	var signed struct {
		Operation *identity.PLCOperation `json:"operation"`
	}
	alice.call(t, "com.atproto.identity.signPlcOperation", map[string]any{"token": w.token(t, "alice@example.com"),
		"rotationKeys": []string{w.key.PublicKey().DIDKey(), last.RotationKeys[0]}}, &signed)
	if err := w.plc.Submit(t.Context(), alice.DID, signed.Operation); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(w.url, "http://") // localhost and a port
	type named struct {
		typ, endpoint string
		home          bool
	}
	for _, at := range []named{
		{identity.PDSType, w.url, true},
		{identity.PDSType, w.url + "/", true},
		{identity.PDSType, "HTTP://" + host, true},
		{identity.PDSType, "http://" + strings.ToUpper(host), true},
		{identity.PDSType, "Http://LocalHost" + strings.TrimPrefix(host, "localhost") + "/", true},
		{identity.PDSType, "https://" + host, false},
		{identity.PDSType, w.url + "1", false},
		{identity.PDSType, "http://localhost", false},
		{identity.PDSType, "http://localhost:80", false},
		{identity.PDSType, "http://localhost.example.com" + strings.TrimPrefix(host, "localhost"), false},
		{"SomeOtherServer", w.url, false},
		{identity.PDSType, w.url, true},
	} {
		op, err := signed.Operation.Next()
		if err != nil {
			t.Fatal(err)
		}
		op.Services = map[string]identity.PLCService{identity.PDSID: {Type: at.typ, Endpoint: at.endpoint}}
		if err := op.Sign(t.Context(), w.key); err != nil {
			t.Fatal(err)
		}
		if err := w.plc.Submit(t.Context(), alice.DID, op); err != nil {
			t.Fatalf("%s: %v", at.endpoint, err)
		}
		signed.Operation = op
		w.docs[web.DID].Services = []identity.Service{{ID: "#" + identity.PDSID, Type: at.typ, Endpoint: at.endpoint}}
		status, name := 200, ""
		if !at.home {
			status, name = 400, "InvalidRequest"
		}
		for _, u := range []*user{alice, web} {
			w.tell(u, "POST", "server.activateAccount", nil, status, name)
			if text := w.tell(u, "GET", "server.checkAccountStatus", nil, 200, ""); strings.Contains(text, `"validDid":true`) != at.home {
				t.Errorf("%s %s: %s", u.DID, at.endpoint, text)
			}
			if text := w.tell(u, "GET", "server.getSession", nil, 200, ""); strings.Contains(text, `"didDoc"`) != at.home {
				t.Errorf("%s %s: %s", u.DID, at.endpoint, text)
			}
		}
	}
}
