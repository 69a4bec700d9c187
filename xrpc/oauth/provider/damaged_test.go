package provider

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// put stores a document with alice, where it stays, as damage or another version may leave it.
func (w *world) put(key, doc string) {
	w.t.Helper()
	_, err := w.accounts.Host().Step(w.t.Context(), alice, func(step *repo.Step) error {
		step.Set(key, []byte(doc), time.Time{})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// doc reads a document that is stored with alice.
func (w *world) doc(key string) (doc []byte) {
	w.t.Helper()
	err := w.accounts.View(w.t.Context(), account.Trusted(alice), func(_ account.Account, r storage.KVReader) (err error) {
		doc, err = r.Get(w.t.Context(), key)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// sessionOf returns the session of a refresh token, and its name.
func (w *world) sessionOf(refresh string) (name string, x *session) {
	w.t.Helper()
	s, _ := parseSecret(refreshText, refresh)
	x, err := parseSession(w.doc(sessionPrefix + s.name))
	if err != nil {
		w.t.Fatal(err)
	}
	return s.name, x
}

// change stores a session under another name, changed.
func (w *world) change(name string, x session, fn func(*session)) {
	w.t.Helper()
	fn(&x)
	text, err := json.Marshal(x)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(sessionPrefix+name, string(text))
}

// A session that is damaged is an error of the server. It is neither passed over, so that it could stay
// when all are ended, nor taken for one that has ended.
func TestDamagedSessions(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	code := a.code(nil)
	w.put(sessionPrefix+"damaged", "{")
	if list, err := w.p.Sessions(t.Context(), alice); err == nil {
		t.Errorf("the list: %v", list)
	}
	if err := w.p.EndClient(t.Context(), account.Trusted(alice), a.id); err == nil {
		t.Error("the sessions of an app were ended, but for one that nobody could read")
	}
	if out := a.exchange(code, nil); !out.is(500, codeServerError) {
		t.Errorf("a new session: %d %s", out.status, out.text)
	}
	name, _ := w.sessionOf(tok.refresh)
	w.put(sessionPrefix+name, "{")
	for what, out := range map[string]reply{"refresh": a.refresh(tok.refresh), "revoke": a.revoke(tok.refresh)} {
		if !out.is(500, codeServerError) {
			t.Errorf("%s: %d %s", what, out.status, out.text)
		}
	}
	if out := a.call(tok.access); out.status != 500 {
		t.Errorf("a call: %d %s", out.status, out.text)
	}
}

// So are grants that are damaged, and those of another version or of other credentials grant nothing.
func TestDamagedGrants(t *testing.T) {
	w := newWorld(t)
	a := w.confidential()
	hint := map[string]string{"login_hint": string(alice)}
	none := map[string]string{"login_hint": string(alice), "prompt": "none"}
	a.login()
	w.signIn(browser, alice)
	w.browse(browser, a.push(map[string]string{"prompt": "consent"})).asks(t, "before", AskConsent)
	form := w.consentForm(alice, nil)
	key := grantPrefix + digest.Hash(a.id)
	good := string(w.doc(key))
	for name, doc := range map[string]string{
		"another version": strings.Replace(good, `"v":1`, `"v":2`, 1), "other credentials": strings.Replace(good, `"credentials":`, `"credentials":7`, 1),
		"another client": strings.Replace(good, a.id, clientID, 1), "to a public client": strings.Replace(good, `{`, `{"public":true,`, 1),
	} {
		if doc == good {
			t.Fatalf("%s: %s", name, good)
		}
		w.put(key, doc)
		if q := w.browse(browser, a.push(none)).back(t); q.Get("error") != codeConsentRequired {
			t.Errorf("%s: %v", name, q)
		}
	}
	w.put(key, good)
	if q := w.browse(browser, a.push(none)).back(t); q.Get("code") == "" {
		t.Errorf("as it was: %v", q)
	}
	w.put(key, "{")
	w.browse(browser, a.push(hint)).page(t, "in silence", 500)
	w.browse(browser, a.push(none)).page(t, "with prompt none", 500)
	w.browse(browser, a.push(nil)).page(t, "the consent", 500)
	w.submit(browser, form).page(t, "the form", 500)
}

// So are codes, and requests. A code counts neither when its time is over nor if another version has
// stored it, also while the store still has it.
func TestDamagedCodesAndRequests(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	path := a.push(nil)
	w.browse(browser, path).asks(t, "before", AskConsent)
	form := w.consentForm(alice, nil)
	code := w.submit(browser, form).back(t).Get("code")
	s, _ := parseSecret(codeText, code)
	key := codePrefix + digest.Hash(s.secret)
	good := string(w.doc(key))
	w.put(key, "{")
	w.submit(browser, form).page(t, "the form once more", 500)
	if out := a.exchange(code, nil); !out.is(500, codeServerError) {
		t.Errorf("the code: %d %s", out.status, out.text)
	}
	if err := w.p.EndClient(t.Context(), account.Trusted(alice), a.id); err == nil {
		t.Error("the codes of an app were ended, but for one that nobody could read")
	}
	w.put(key, strings.Replace(good, `"v":1`, `"v":2`, 1))
	if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("a code of another version: %d %s", out.status, out.text)
	}
	w.put(key, good)
	w.wait(codeLife)
	if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("a code whose time is over: %d %s", out.status, out.text)
	}
	if n := len(w.sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
	for doc, status := range map[string]int{"{": 500, `{"v":2,"client":"` + clientID + `"}`: 400} {
		path := a.push(nil)
		err := w.store.KV.Write(t.Context(), func(tx storage.KVTx) error {
			return tx.Set(t.Context(), requestPrefix+digest.Hash(requestName(t, path)), []byte(doc), time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		w.browse(browser, path).page(t, doc, status)
	}
}

// Sessions of other credentials and those whose time is over do not count, also while the store still
// has them. A token counts for its own session, client and key alone, whoever could sign it.
func TestSessionsThatDoNotCount(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	name, x := w.sessionOf(a.login().refresh)
	w.change("the same", *x, func(*session) {})
	w.change("credentials", *x, func(x *session) { x.Credentials = 7 })
	w.change("over", *x, func(x *session) { x.Idle = w.now() })
	if list := w.sessions(); len(list) != 2 {
		t.Errorf("%d sessions are listed", len(list))
	}
	thief := &app{world: w, id: a.id, key: newKey(t)}
	good := accessClaims{
		Issuer: issuer, Audience: service, Subject: alice, Client: x.Client, Session: name, ID: x.Token.ID, Credentials: x.Credentials,
		Issued: x.Token.Issued, Expires: x.Token.Expires, Confirm: confirm{x.JKT},
	}
	for _, c := range []struct {
		name string
		who  *app
		fn   func(*accessClaims)
		ok   bool
	}{
		{"as it is", a, func(*accessClaims) {}, true},
		{"of another session with the token", a, func(c *accessClaims) { c.Session = "the same" }, true},
		{"of a session of other credentials", a, func(c *accessClaims) { c.Session = "credentials" }, false},
		{"of other credentials", a, func(c *accessClaims) { c.Credentials = 7 }, false},
		{"of a session that is over", a, func(c *accessClaims) { c.Session = "over" }, false},
		{"of no session", a, func(c *accessClaims) { c.Session = "none" }, false},
		{"of another client", a, func(c *accessClaims) { c.Client = confidentialID }, false},
		{"of another account", a, func(c *accessClaims) { c.Subject = bob }, false},
		{"another token", a, func(c *accessClaims) { c.ID = "x" }, false},
		{"bound to another key", thief, func(c *accessClaims) { c.Confirm = confirm{dpop.Thumbprint(thief.key.PublicKey())} }, false},
		{"with another key", thief, func(*accessClaims) {}, false},
		{"that has expired", a, func(c *accessClaims) { c.Expires = w.now().Unix() }, false},
		{"of another issuer", a, func(c *accessClaims) { c.Issuer = "https://other.example.com" }, false},
		{"for another server", a, func(c *accessClaims) { c.Audience = "did:web:other.example.com" }, false},
	} {
		claims := good
		c.fn(&claims)
		text, err := w.p.signAccess(claims)
		if err != nil {
			t.Fatal(err)
		}
		if out := c.who.call(text); (out.status == 200) != c.ok || !c.ok && out.status != 401 {
			t.Errorf("a token %s: %d %s", c.name, out.status, out.text)
		}
	}
}

// A client that renews without end has no more than some tokens in their grace, the newest.
func TestTokensInTheirGraceAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	list := []tokens{a.login()}
	for range maxUsed + 5 {
		list = append(list, a.refresh(list[len(list)-1].refresh).tokens(t))
	}
	last := len(list) - 1
	if _, x := w.sessionOf(list[last].refresh); len(x.Used) != maxUsed || len(x.Old) != maxUsed {
		t.Errorf("%d refresh tokens and %d access tokens", len(x.Used), len(x.Old))
	}
	a.alive(list[last-maxUsed].access, true)
	a.alive(list[last-maxUsed-1].access, false)
	if again := a.refresh(list[last-maxUsed].refresh).tokens(t); again != list[last] {
		t.Errorf("%v, want %v", again, list[last])
	}
	if out := a.refresh(list[last-maxUsed-1].refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

var errBroken = errors.New("broken")

type brokenKV struct{ storage.KV }

func (brokenKV) Read(context.Context, func(storage.KVReader) error) error { return errBroken }
func (brokenKV) Write(context.Context, func(storage.KVTx) error) error    { return errBroken }

type brokenLogins struct{}

func (brokenLogins) Device(http.ResponseWriter, *http.Request) (Device, error) {
	return Device{}, errBroken
}

// noAssertions remembers proofs, but no assertions.
type noAssertions struct{ dpop.Replays }

func (r noAssertions) Use(ctx context.Context, u dpop.Use, now time.Time) error {
	if strings.HasPrefix(u.Thumbprint, "assertion ") {
		return errBroken
	}
	return r.Replays.Use(ctx, u, now)
}

// What fails here is no fault of the client's or the person's, and lets nobody in.
func TestWhatFailsLetsNobodyIn(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.signIn(browser, alice)
	path := a.push(nil)
	w.browse(browser, path).asks(t, "before", AskConsent)
	form := w.consentForm(alice, nil)
	kv, logins := w.p.kv, w.p.cfg.Logins
	w.p.kv = brokenKV{}
	if out := a.par(nil); !out.is(500, codeServerError) {
		t.Errorf("a request that was not stored: %d %s", out.status, out.text)
	}
	w.browse(browser, path).page(t, "the store fails", 500)
	w.submit(browser, form).page(t, "the store fails", 500)
	w.p.kv, w.p.cfg.Logins = kv, brokenLogins{}
	w.browse(browser, path).page(t, "logins fail", 500)
	w.submit(browser, form).page(t, "logins fail", 500)
	w.p.cfg.Logins = logins
	w.publish(clientID, func(*http.Request) (*http.Response, error) { return respond(404, "text/plain", ""), nil })
	w.p.documents.Purge(clientID)
	w.browse(browser, path).page(t, "the client is gone", 400)
	w.submit(browser, form).page(t, "the client is gone", 400)
	w.public()
	w.p.documents.Purge(clientID)
	if q := w.submit(browser, form).back(t); q.Get("code") == "" {
		t.Errorf("in the end: %v", q)
	}
	// While it is unknown whether an assertion was used, it is not taken. Nor is one whose keys are not
	// to be had.
	w = newWorld(t, func(c *Config) {
		c.Replays = noAssertions{&dpop.Stored{KV: memory.New(memory.Config{}).KV}}
	})
	c := w.confidential()
	if out := c.par(nil); !out.is(500, codeServerError) {
		t.Errorf("an assertion whose use is unknown: %d %s", out.status, out.text)
	}
	for name, address := range map[string]string{"none": "https://keys.example.org/none", "another port": "https://keys.example.org:8443/jwks"} {
		w = newWorld(t)
		c = w.confidential()
		w.publishJSON(address, jwks(map[string]*crypto.PrivateKey{"one": c.authKey}))
		if name == "none" {
			w.publish(address, func(*http.Request) (*http.Response, error) { return respond(404, "application/json", "{}"), nil })
		}
		w.publishJSON(c.id, clientDocument(c.id, map[string]any{
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks_uri": address,
		}))
		if out := c.par(nil); !out.is(400, codeInvalidMetadata) {
			t.Errorf("keys at %s: %d %s", name, out.status, out.text)
		}
	}
}

// A document may be 512 KiB long, and no longer.
func TestDocumentsOfTheGreatestLength(t *testing.T) {
	for size, want := range map[int]int{maxDocument: 201, maxDocument + 1: 400} {
		w := newWorld(t)
		a := w.public()
		text, err := json.Marshal(clientDocument(clientID, map[string]any{"x": ""}))
		if err != nil {
			t.Fatal(err)
		}
		body := strings.Replace(string(text), `"x":""`, `"x":"`+strings.Repeat("x", size-len(text))+`"`, 1)
		w.publish(clientID, func(*http.Request) (*http.Response, error) { return respond(200, "application/json", body), nil })
		if out := a.par(nil); len(body) != size || out.status != want {
			t.Errorf("%d bytes: %d %s", len(body), out.status, out.text)
		}
	}
}

// Somebody who has a request open in a browser that says nothing of itself does not have it alone, but
// whoever answers it does.
func TestBrowsersThatShareARequest(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	open := func(device, path string) url.Values {
		r := httptest.NewRequest("GET", issuer+path, nil)
		r.AddCookie(&http.Cookie{Name: "device", Value: device})
		w.do(r).asks(t, device, AskSignIn)
		return w.consentForm(alice, url.Values{"decision": {"deny"}})
	}
	path := a.push(nil)
	one, two := open("one", path), open("two", path)
	if q := w.submit("one", one).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("%v", q)
	}
	w.submit("two", two).page(t, "the other browser", 403)
	path = a.push(nil)
	two = open("two", path)
	two.Set("decision", "allow")
	w.signIn(browser, alice)
	w.browse(browser, path).asks(t, "the person", AskConsent)
	w.submit("two", two).page(t, "a browser that was there before", 403)
}

// Of several accounts, the one that somebody chooses is asked: to consent, or to sign in again.
func TestChoices(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	choose := func(who string, what Ask) {
		t.Helper()
		path := a.push(nil)
		w.browse(browser, path+"&account="+who).asks(t, who, what)
		if got := string(w.pages.last.Account); got != who {
			t.Errorf("%s was chosen, and %q is asked", who, got)
		}
	}
	w.signIn(browser, alice)
	w.signIn(browser, bob)
	choose(string(alice), AskConsent)
	choose(string(bob), AskConsent)
	w.wait(signInLife)
	w.signIn(browser, bob)
	choose(string(alice), AskSignIn)
	choose(string(bob), AskConsent)
	if list := w.pages.last.Accounts; len(list) != 2 || !list[0].SignIn || list[1].SignIn {
		t.Errorf("%+v", list)
	}
	w.wait(signInLife)
	w.signIn("another browser", alice)
	w.wait(signInLife)
	w.browse("another browser", a.push(nil)).asks(t, "an old sign-in", AskSignIn)
	if got := w.pages.last.Account; got != alice {
		t.Errorf("%q is asked", got)
	}
	// Of an account that is gone, nothing is asked.
	w.signIn("another browser", alice)
	if err := w.accounts.Delete(t.Context(), account.Trusted(alice)); err != nil {
		t.Fatal(err)
	}
	w.browse("another browser", a.push(nil)).asks(t, "a deleted account", AskSignIn)
	if list := w.pages.last.Accounts; len(list) != 0 {
		t.Errorf("%+v", list)
	}
	w.signIn(browser, bob)
	w.browse(browser, a.push(nil)).asks(t, "the other account", AskConsent)
}

// A code is exchanged by a client that is authenticated as it was when it asked for it.
func TestCodesOfOtherAuthentication(t *testing.T) {
	for name, change := range map[string]func(c *app){
		"another key": func(c *app) {
			old := c.authKey
			c.authKey, c.kid = newKey(t), "two"
			c.publishKeys(map[string]*crypto.PrivateKey{"one": old, "two": c.authKey})
		},
		"another key of the same name": func(c *app) {
			c.authKey = newKey(t)
			c.publishKeys(map[string]*crypto.PrivateKey{"one": c.authKey})
		},
		"the same key of another name": func(c *app) {
			c.kid = "two"
			c.publishKeys(map[string]*crypto.PrivateKey{"two": c.authKey})
		},
		"none any more": func(c *app) {
			c.authKey = nil
			c.publishJSON(c.id, clientDocument(c.id, nil))
		},
	} {
		w := newWorld(t)
		c := w.confidential()
		code := c.code(nil)
		verifier := c.verifier
		tok := c.login()
		change(c)
		w.p.documents.Purge(c.id)
		c.verifier = verifier
		if out := c.exchange(code, nil); !out.is(400, codeInvalidGrant) {
			t.Errorf("%s: %d %s", name, out.status, out.text)
		}
		if out := c.revoke(tok.refresh); !out.is(400, codeInvalidClient) {
			t.Errorf("%s, revocation: %d %s", name, out.status, out.text)
		}
		if n := len(w.sessions()); n != 1 {
			t.Errorf("%s: %d sessions", name, n)
		}
	}
}

// A set that cannot be resolved when the code is exchanged costs neither the code nor what it says.
// Where there are no sets, what names them is dropped.
func TestSetsThatCannotBeResolved(t *testing.T) {
	sets := &changingSets{text: "repo:com.example.note"}
	w := newWorld(t, func(c *Config) { c.Sets = sets })
	a := w.public()
	a.scope = "atproto include:com.example.auth"
	code := a.code(nil)
	sets.set("")
	if out := a.exchange(code, nil); !out.is(400, codeInvalidScope) {
		t.Errorf("%d %s", out.status, out.text)
	}
	sets.set("repo:com.example.note")
	if out := a.exchange(code, nil); out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%d %s", out.status, out.text)
	}
	w = newWorld(t, func(c *Config) { c.Sets = nil })
	a = w.public()
	a.scope = "atproto include:com.example.auth"
	if out := a.exchange(a.code(nil), nil); out.str("scope") != "atproto" {
		t.Errorf("without sets: %d %s", out.status, out.text)
	}
	if asked, err := w.p.requestedScope(t.Context(), client{metadata: &metadata{Scope: a.scope}}, a.scope); err != nil || asked != "atproto" {
		t.Errorf("without sets, the account is asked for %q, %v", asked, err)
	}
}

// Scopes may be as long as they may be, and a grant that cannot be read is an error.
func TestLongScopesAndGrantsThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	longest := auth.Atproto + strings.Repeat(" ", maxScopeText-len(auth.Atproto))
	for text, want := range map[string]bool{longest: true, longest + " ": false} {
		_, err := w.p.requestedScope(t.Context(), client{metadata: &metadata{Scope: "atproto"}}, text)
		if (err == nil) != want {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	kv := storagetest.Faults{Before: func(method string) error {
		if method == "KVReader.Get" {
			return errBroken
		}
		return nil
	}}.Wrap(w.store).KV
	err := kv.Read(t.Context(), func(r storage.KVReader) error {
		_, err := readGrant(t.Context(), r, clientID)
		return err
	})
	if !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

// What was granted to an app covers what it asks for later only as long as no other app can pretend to
// be it, and only for an account that is active.
func TestGrantOfAnAppThatOthersCanBe(t *testing.T) {
	w := newWorld(t)
	a, err := w.accounts.ByDID(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	const id = "https://app.example/metadata.json"
	doc, err := json.Marshal(grant{Version: version, Client: id, Scope: "atproto transition:generic", Credentials: a.Credentials})
	if err != nil {
		t.Fatal(err)
	}
	w.put(grantPrefix+digest.Hash(id), string(doc))
	away := a
	away.DeactivatedAt = w.clock
	for name, x := range map[string]struct {
		c     Client
		a     account.Account
		scope string
		want  bool
	}{
		"confidential":            {Client{Confidential: true}, a, "atproto", true},
		"trusted":                 {Client{Trusted: true}, a, "atproto transition:generic", true},
		"public by now":           {Client{}, a, "atproto", false},
		"on a developer's laptop": {Client{Loopback: true, Trusted: true, Confidential: true}, a, "atproto", false},
		"of more":                 {Client{Confidential: true}, a, "atproto transition:email", false},
		"of an inactive account":  {Client{Confidential: true}, away, "atproto", false},
	} {
		got, err := w.p.covered(t.Context(), client{Client: x.c}, &request{Client: id, Scope: x.scope}, x.a)
		if err != nil || got != x.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	w.put(grantPrefix+digest.Hash(id), "{")
	if got, err := w.p.covered(t.Context(), client{Client: Client{Confidential: true}}, &request{Client: id, Scope: "atproto"}, a); got || err == nil {
		t.Errorf("a damaged grant: %v, %v", got, err)
	}
}
