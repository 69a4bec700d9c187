package migrate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/identity/plctest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/testplc"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/serviceauth"
)

var _ = testenv.CheapPasswords()

// world is a directory and servers that use it.
type world struct {
	t   *testing.T
	plc *identity.PLCClient
}

func newWorld(t *testing.T) *world {
	srv := testplc.Start(t, plctest.Config{NoRateLimits: true})
	return &world{t, &identity.PLCClient{URL: srv.URL, Verify: true}}
}

// host is a server.
type host struct {
	t    *testing.T
	url  string
	mail *mailbox
}

// mailbox keeps the tokens that were mailed and not read.
type mailbox struct{ tokens chan string }

func (m *mailbox) Send(_ context.Context, msg server.Mail) error {
	if msg.Token != "" {
		m.tokens <- msg.Token
	}
	return nil
}

func (w *world) start(change ...func(*pds.Config)) *host {
	w.t.Helper()
	rotation, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		w.t.Fatal(err)
	}
	var serves http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { serves.ServeHTTP(rw, r) }))
	w.t.Cleanup(srv.Close)
	h := &host{w.t, strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), &mailbox{make(chan string, 100)}}
	cfg := pds.Config{
		URL: h.url, Store: memory.New(memory.Config{}), Directory: w.plc, Mailer: h.mail, Development: true, ResetDelay: -1,
		Policy:  server.Policy{Domains: []string{".test"}},
		Secrets: pds.Secrets{MasterKeys: [][]byte{make([]byte, 32)}, RotationKeys: []crypto.Signer{rotation}, AdminPassword: "hunter2"},
	}
	for _, fn := range change {
		fn(&cfg)
	}
	s, err := pds.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	serves = s
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
		s.Close(context.Background())
	})
	return h
}

// token is the next one that was mailed. It waits for it: mail is sent besides the answer.
func (h *host) token() string {
	select {
	case token := <-h.mail.tokens:
		return token
	case <-time.After(20 * time.Second):
		h.t.Error("no token was mailed")
		return ""
	}
}

func (h *host) call(auth, nsid string, in, out any) {
	h.t.Helper()
	c := &xrpc.Client{Host: h.url}
	if auth != "" {
		c.Authorize = xrpc.Bearer(auth)
	}
	if err := c.Procedure(context.Background(), nsid, in, out); err != nil {
		h.t.Fatalf("%s: %v", nsid, err)
	}
}

// register makes an account with records, blobs and preferences.
func (h *host) register(more map[string]any) (t tokens) {
	in := map[string]any{"handle": "alice.test", "email": "alice@example.com", "password": "old password"}
	for k, v := range more {
		in[k] = v
	}
	h.call("", "com.atproto.server.createAccount", in, &t)
	h.fill(t)
	return t
}

func (h *host) fill(t tokens) {
	h.t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		record := map[string]any{"text": fmt.Sprint(i)}
		if i%10 == 0 {
			raw := make([]byte, 1+rng.IntN(5000))
			for i := range raw {
				raw[i] = byte(rng.Uint32())
			}
			var up struct{ Blob any }
			c := &xrpc.Client{Host: h.url, Authorize: xrpc.Bearer(t.Access)}
			if err := c.Upload(context.Background(), "com.atproto.repo.uploadBlob", "application/x-thing", bytes.NewReader(raw), &up); err != nil {
				h.t.Fatal(err)
			}
			record["thing"] = up.Blob
		}
		h.call(t.Access, "com.atproto.repo.createRecord", map[string]any{"repo": t.DID, "collection": "com.example.note", "record": record}, nil)
	}
	h.call(t.Access, "app.bsky.actor.putPreferences", map[string]any{"preferences": []any{
		map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true},
		map[string]any{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00Z"},
	}}, nil)
}

// snapshot is all that an account has at a server.
func (h *host) snapshot(did syntax.DID, password string) map[string]string {
	h.t.Helper()
	ctx := context.Background()
	var t tokens
	h.call("", "com.atproto.server.createSession", map[string]any{"identifier": did, "password": password}, &t)
	c := &xrpc.Client{Host: h.url, Authorize: xrpc.Bearer(t.Access)}
	get := func(nsid string, q url.Values) (*http.Response, []byte) {
		resp, err := c.Get(ctx, nsid, q)
		if err != nil {
			h.t.Fatal(nsid, err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			h.t.Fatal(err)
		}
		return resp, b
	}
	all := map[string]string{}
	_, file := get("com.atproto.sync.getRepo", url.Values{"did": {string(did)}})
	rd, err := commit.ReadRepo(bytes.NewReader(file), commit.RepoOptions{DID: did})
	if err != nil {
		h.t.Fatal(err)
	}
	defer rd.Close()
	for rec, err := range rd.Records() {
		if err != nil {
			h.t.Fatal(err)
		}
		all[rec.Path] = string(rec.Data)
	}
	_, list := get("com.atproto.sync.listBlobs", url.Values{"did": {string(did)}, "limit": {"1000"}})
	var blobs struct{ CIDs []string }
	if err := json.Unmarshal(list, &blobs); err != nil {
		h.t.Fatal(err)
	}
	for _, name := range blobs.CIDs {
		resp, b := get("com.atproto.sync.getBlob", url.Values{"did": {string(did)}, "cid": {name}})
		all["blob "+name] = resp.Header.Get("Content-Type") + " " + string(b)
	}
	_, prefs := get("app.bsky.actor.getPreferences", nil)
	all["preferences"] = string(prefs)
	return all
}

var errCrash = errors.New("crash")

// TestCrashes moves an account there and back again, and ends the program at every
// point between two actions.
func TestCrashes(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	alice := a.register(nil)
	passwords := map[*host]string{a: "old password", b: "new password"}
	dir := t.TempDir()
	for i, way := range [][2]*host{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		want := from.snapshot(alice.DID, passwords[from])
		passwords[to] = fmt.Sprint("password ", i) // at a, another one than before
		seen := map[string]bool{}
		opt := Options{
			Account: "alice.test", State: filepath.Join(dir, fmt.Sprint(i)), OldPassword: passwords[from], NewPassword: passwords[to],
			hook: func(point string) error {
				if seen[point] {
					return nil
				}
				seen[point] = true
				return errCrash
			},
		}
		runs := 0
		for ; ; runs++ {
			err := runMove(t, w, from, to, opt)
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) || runs > 100 {
				t.Fatal(err)
			}
			checkFile(t, opt.State, passwords)
		}
		if runs < 3*len(Steps()) {
			t.Errorf("only %d crashes", runs)
		}
		if diff := cmp.Diff(want, to.snapshot(alice.DID, passwords[to])); diff != "" {
			t.Error(diff)
		}
		checkHome(t, w, alice.DID, from, to)
	}
	// Nothing is left to do, and no harm done, by one more run.
	if err := runMove(t, w, b, a, Options{Account: "alice.test", State: filepath.Join(dir, "1"), OldPassword: passwords[b], NewPassword: passwords[a]}); err != nil {
		t.Error(err)
	}
}

// runMove runs a move; a token that it asks for is taken from the mail.
func runMove(t *testing.T, w *world, from, to *host, opt Options) error {
	t.Helper()
	m := opt
	m.OldHost, m.NewHost, m.PLC, m.Patience = from.url, to.url, w.plc.URL, -1
	if m.Ask == nil {
		m.Ask = func(_ context.Context, q Question) (string, error) {
			if q.Name == "token" {
				return from.token(), nil
			}
			return "", fmt.Errorf("%w: %s", ErrInput, q.Name)
		}
	}
	if m.Report == nil {
		m.Report = func(e Event) { fmt.Fprintf(t.Output(), "%+v\n", e) }
	}
	return Run(t.Context(), m)
}

// checkFile checks that a state file keeps secrets neither from its owner nor for others.
func checkFile(t *testing.T, path string, passwords map[*host]string) {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range passwords {
		if strings.Contains(string(text), p) {
			t.Errorf("the state file has the password %q", p)
		}
	}
	if strings.Contains(string(text), "eyJ") {
		t.Error("the state file has a session")
	}
}

// checkHome checks that the network finds an account at one server, and not at the other.
func checkHome(t *testing.T, w *world, did syntax.DID, from, to *host) {
	t.Helper()
	doc, err := w.plc.Resolve(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	if pds, _ := doc.PDS(); pds != to.url {
		t.Errorf("the document names %s", pds)
	}
	for _, tt := range []struct {
		*host
		active bool
	}{{from, false}, {to, true}} {
		var st struct{ Active bool }
		c := &xrpc.Client{Host: tt.url}
		if err := c.Query(t.Context(), "com.atproto.sync.getRepoStatus", didParam{did}, &st); err != nil || st.Active != tt.active {
			t.Errorf("%s: active %v, want %v (%v)", tt.url, st.Active, tt.active, err)
		}
	}
}

// TestRotationKey: with a rotation key of the user's, no token is needed; the key keeps its
// authority, and the old server loses its own.
func TestRotationKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	alice := a.register(map[string]any{"recoveryKey": key.PublicKey().DIDKey()})
	before, err := w.plc.Data(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password", RotationKey: key,
		Ask: func(_ context.Context, q Question) (string, error) { return "", ErrInput }}
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Fatal(err)
	}
	after, err := w.plc.Data(t.Context(), alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	if len(after.RotationKeys) != 2 || after.RotationKeys[0] != before.RotationKeys[0] || after.RotationKeys[1] == before.RotationKeys[1] {
		t.Errorf("rotation keys %v, were %v", after.RotationKeys, before.RotationKeys)
	}
	checkHome(t, w, alice.DID, a, b)
}

// TestWrittenMeanwhile: what is written at the old server while the token is looked for is
// brought along.
func TestWrittenMeanwhile(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	alice := a.register(nil)
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password"}
	opt.Ask = func(_ context.Context, q Question) (string, error) {
		a.call(alice.Access, "com.atproto.repo.createRecord", map[string]any{"repo": alice.DID, "collection": "com.example.late", "record": map[string]any{}}, nil)
		return a.token(), nil
	}
	writes := 0
	opt.hook = func(point string) error {
		if writes++; writes < 12 { // there is time to notice up to the activation
			a.call(alice.Access, "com.atproto.repo.putRecord", map[string]any{"repo": alice.DID, "collection": "com.example.late", "rkey": "self", "record": map[string]any{"n": writes}}, nil)
		}
		return nil
	}
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a.snapshot(alice.DID, "old password"), b.snapshot(alice.DID, "new password")); diff != "" {
		t.Error(diff)
	}
}

// TestErrors: errors say what to do, and what is done about it helps.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start(func(c *pds.Config) { c.Policy.InviteRequired = true })
	alice := a.register(nil)
	var app struct{ Password string }
	a.call(alice.Access, "com.atproto.server.createAppPassword", map[string]any{"name": "phone", "privileged": true}, &app)
	var invite struct{ Code string }
	admin := &xrpc.Client{Host: b.url, Authorize: func(r *http.Request) error { r.SetBasicAuth("admin", "hunter2"); return nil }}
	if err := admin.Procedure(t.Context(), "com.atproto.server.createInviteCode", map[string]any{"useCount": 1}, &invite); err != nil {
		t.Fatal(err)
	}
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "wrong", NewPassword: "new password"}
	check := func(want error, next string) {
		t.Helper()
		err := runMove(t, w, a, b, opt)
		var e *Error
		if !errors.As(err, &e) || want != nil && !errors.Is(err, want) || !strings.Contains(e.Next, next) {
			t.Fatalf("error %v", err)
		}
	}
	check(&xrpc.Error{Status: 401}, "Check the account's name and the password")
	opt.OldPassword = app.Password
	check(ErrAppPassword, "own password")
	opt.OldPassword = "old password"
	check(&xrpc.Error{Name: "InvalidInviteCode"}, "invite code")
	opt.InviteCode, opt.Handle = invite.Code, "x.test"
	check(&xrpc.Error{Name: "InvalidHandle"}, "choose another one")
	opt.Handle = "alicia.test"
	opt.hook = func(point string) error { // the answer that the account was made is lost
		if point == "acted "+Account {
			return errCrash
		}
		return nil
	}
	for range 2 { // the code is used up, and needed no more
		if err := runMove(t, w, a, b, opt); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
	}
	opt.hook = nil
	asked := 0
	opt.Ask = func(_ context.Context, q Question) (string, error) {
		token := a.token()
		if asked++; asked == 1 {
			return "AAAAA-BBBBB", nil
		}
		return token, nil
	}
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Fatal(err)
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	doc, err := w.plc.Resolve(t.Context(), alice.DID)
	if h, _ := doc.Handle(); err != nil || h != "alicia.test" {
		t.Errorf("handle %v %v", h, err)
	}
	opt.NewHost = "https://elsewhere.example.com"
	if _, err := newMover(opt); !errors.Is(err, ErrState) {
		t.Errorf("state of another move: %v", err)
	}
	opt.NewHost = "http://pds.example.com"
	if _, err := newMover(opt); err == nil || !strings.Contains(err.Error(), "encryption") {
		t.Errorf("plain HTTP: %v", err)
	}
}

// TestMissingBlobs: blobs that are too large for the new server are named, and left behind
// only if the user says so.
func TestMissingBlobs(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start(func(c *pds.Config) { c.BlobLimit = 100 })
	alice := a.register(nil)
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password"}
	err := runMove(t, w, a, b, opt)
	if !errors.Is(err, ErrMissingBlobs) || !strings.Contains(err.Error(), "go on without them") {
		t.Fatal(err)
	}
	opt.AllowMissingBlobs = true
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Fatal(err)
	}
	checkHome(t, w, alice.DID, a, b)
}

// TestWebDID moves an account whose DID document its owner keeps.
func TestWebDID(t *testing.T) {
	ctx := t.Context()
	w := newWorld(t)
	a, b := w.start(), w.start()
	var doc identity.Document
	site := httptest.NewServer(http.HandlerFunc(func(hw http.ResponseWriter, r *http.Request) {
		text, err := json.Marshal(doc)
		if err != nil {
			t.Error(err)
		}
		hw.Header().Set("Content-Type", "application/json")
		hw.Write(text)
	}))
	defer site.Close()
	u, err := url.Parse(site.URL)
	if err != nil {
		t.Fatal(err)
	}
	did := syntax.DID("did:web:localhost%3A" + u.Port())
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	set := func(pds string, key *crypto.PublicKey) {
		doc = identity.Document{ID: did, AlsoKnownAs: []string{"at://alice.test"},
			VerificationMethods: []identity.VerificationMethod{identity.NewVerificationMethod(did, "atproto", key)},
			Services:            []identity.Service{{ID: "#atproto_pds", Type: identity.PDSType, Endpoint: pds}}}
	}
	set("https://nowhere.example.com", key.PublicKey())
	token, err := serviceauth.Sign(ctx, key, serviceauth.Token{Issuer: string(did), Audience: "did:web:" + strings.Replace(strings.TrimPrefix(a.url, "http://"), ":", "%3A", 1), Method: "com.atproto.server.createAccount"})
	if err != nil {
		t.Fatal(err)
	}
	var alice tokens
	a.call(token, "com.atproto.server.createAccount", map[string]any{"handle": "alice.test", "email": "alice@example.com", "password": "old password", "did": did}, &alice)
	recommended := func(h *host, token string) *crypto.PublicKey {
		var c credentials
		if err := (&xrpc.Client{Host: h.url, Authorize: xrpc.Bearer(token)}).Query(ctx, "com.atproto.identity.getRecommendedDidCredentials", nil, &c); err != nil {
			t.Fatal(err)
		}
		k, err := crypto.ParseDIDKey(c.VerificationMethods["atproto"])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	set(a.url, recommended(a, alice.Access))
	a.call(alice.Access, "com.atproto.server.activateAccount", nil, nil)
	a.fill(alice)

	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "s"), OldPassword: "old password", NewPassword: "new password", Poll: 50 * time.Millisecond}
	waited := false
	opt.Report = func(e Event) {
		fmt.Fprintf(t.Output(), "%+v\n", e)
		if e.Status == "waiting" {
			waited = true
			k, err := e.Document.SigningKey()
			pds, _ := e.Document.PDS()
			if err != nil {
				t.Error(err)
			}
			set(pds, k)
		}
	}
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Fatal(err)
	}
	if !waited {
		t.Error("the document changed by itself")
	}
	if diff := cmp.Diff(a.snapshot(did, "old password"), b.snapshot(did, "new password")); diff != "" {
		t.Error(diff)
	}
}

// Nobody is there to type the token that comes by mail: the error says which option has it.
func TestNoAnswer(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	a.register(nil)
	opt := Options{Account: "alice.test", State: filepath.Join(t.TempDir(), "state"), OldPassword: "old password", NewPassword: "new password",
		Ask: func(context.Context, Question) (string, error) { return "", ErrInput }}
	var stopped *Error
	if err := runMove(t, w, a, b, opt); !errors.Is(err, ErrInput) || !errors.As(err, &stopped) || stopped.Field != "Token" || stopped.Step != Sign || stopped.Next == "" {
		t.Errorf("%v: %+v", err, stopped)
	}
	opt.Token, opt.Ask = a.token(), nil
	if err := runMove(t, w, a, b, opt); err != nil {
		t.Error(err)
	}
}

// What is missing is named, with the field that it belongs to.
func TestOptionsThatAreMissing(t *testing.T) {
	all := Options{Account: "alice.example.com", NewHost: "https://pds.example.net", State: filepath.Join(t.TempDir(), "state")}
	for field, change := range map[string]func(*Options){
		"Account": func(o *Options) { o.Account = "" }, "NewHost": func(o *Options) { o.NewHost = "" }, "State": func(o *Options) { o.State = "" },
	} {
		opt := all
		change(&opt)
		var stopped *Error
		if err := Run(t.Context(), opt); !errors.Is(err, ErrInput) || !errors.As(err, &stopped) || stopped.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
