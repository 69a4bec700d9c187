package provider

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/auth"
)

var _ = testenv.CheapPasswords()

func TestMatrix104Exchange(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	out := a.exchange(a.code(nil), nil)
	if out.status != 200 || out.str("token_type") != "DPoP" || out.str("sub") != string(alice) || !strings.Contains(out.str("scope"), "atproto") ||
		out.header.Get("Cache-Control") != "no-store" || out.header.Get("Pragma") != "no-cache" || out.header.Get("DPoP-Nonce") == "" || out.json["expires_in"] != 900.0 ||
		out.str("refresh_token") == "" {
		t.Errorf("%d %v %s", out.status, out.header, out.text)
	}
	// A permission set is replaced by what it grants.
	a.scope = "atproto include:com.example.auth"
	if out := a.exchange(a.code(nil), nil); out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%s", out.text)
	}
	// redirect_uri may be left out where it was.
	code := a.code(map[string]string{"redirect_uri": ""})
	a.exchange(code, map[string]string{"redirect_uri": ""}).tokens(t)
}

func TestMatrix105CodeTwice(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	code := a.code(nil)
	tok := a.exchange(code, nil).tokens(t)
	a.alive(tok.access, true)
	if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
	a.alive(tok.access, false)
	if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

// sessions counts those of alice.
func (w *world) sessions() []Session {
	w.t.Helper()
	list, err := w.p.Sessions(context.Background(), alice)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func TestMatrix106ParallelExchange(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	for range 10 {
		code := a.code(nil)
		var wg sync.WaitGroup
		answers := make(chan reply, 4)
		for range 4 {
			wg.Go(func() { answers <- a.exchange(code, nil) })
		}
		wg.Wait()
		close(answers)
		good := 0
		for out := range answers {
			if out.status == 200 {
				good++
			} else if !out.is(400, codeInvalidGrant) {
				t.Errorf("%d %s", out.status, out.text)
			}
		}
		if good != 1 {
			t.Errorf("%d exchanges of one code", good)
		}
	}
	if n := len(w.sessions()); n > 10 {
		t.Errorf("%d sessions of 10 codes", n)
	}
}

func TestMatrix107to111WrongExchanges(t *testing.T) {
	w := newWorld(t)
	for _, x := range []struct {
		name   string
		change map[string]string
		want   string
		gone   bool
	}{
		{"107 verifier", map[string]string{"code_verifier": strings.Repeat("a", 43)}, codeInvalidGrant, true},
		{"107 redirect_uri", map[string]string{"redirect_uri": "https://app.example.net/other"}, codeInvalidGrant, true},
		{"107 no redirect_uri", map[string]string{"redirect_uri": ""}, codeInvalidGrant, true},
		{"108 42 characters", map[string]string{"code_verifier": strings.Repeat("a", 42)}, codeInvalidRequest, false},
		{"108 129 characters", map[string]string{"code_verifier": strings.Repeat("a", 129)}, codeInvalidRequest, false},
		{"108 other characters", map[string]string{"code_verifier": strings.Repeat("a", 42) + "+"}, codeInvalidRequest, false},
		{"108 none", map[string]string{"code_verifier": ""}, codeInvalidRequest, false},
		{"110 of another server", map[string]string{"code": "cod-0123456789abcdef"}, codeInvalidGrant, false},
		{"110 unknown", map[string]string{"code": secretText{alice, "c", "x"}.String(codeText)}, codeInvalidGrant, false},
		{"110 of nobody", map[string]string{"code": secretText{"did:plc:cccccccccccccccccccccccc", "c", "x"}.String(codeText)}, codeInvalidGrant, false},
		{"110 none", map[string]string{"code": ""}, codeInvalidRequest, false},
		{"111 password", map[string]string{"grant_type": "password"}, codeUnsupportedGrant, false},
		{"111 none", map[string]string{"grant_type": ""}, codeInvalidRequest, false},
		{"111 no client", map[string]string{"client_id": ""}, codeInvalidClient, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			a := w.public()
			code := a.code(nil)
			if out := a.exchange(code, x.change); !out.is(400, x.want) {
				t.Errorf("%d %s", out.status, out.text)
			}
			if out := a.exchange(code, nil); (out.status == 200) == x.gone {
				t.Errorf("then: %d %s", out.status, out.text)
			}
		})
	}
	for name, thief := range map[string]func(owner *app) *app{
		"client": func(owner *app) *app { c := w.confidential(); c.verifier = owner.verifier; return c },
		"key": func(owner *app) *app {
			return &app{world: w, id: owner.id, redirect: owner.redirect, key: newKey(t), verifier: owner.verifier}
		},
	} {
		a := w.public()
		code := a.code(nil)
		if out := thief(a).exchange(code, nil); !out.is(400, codeInvalidGrant) {
			t.Errorf("107 %s: %d %s", name, out.status, out.text)
		}
		if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
			t.Errorf("107 %s: then: %d %s", name, out.status, out.text)
		}
	}
	a := w.public()
	code := a.code(nil)
	w.wait(codeLife)
	if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("an old code: %d %s", out.status, out.text)
	}
	code = a.code(nil)
	if out := w.raw(pathToken, formType, a.tokenParams(code, nil).Encode()); !out.is(400, codeInvalidProof) {
		t.Errorf("no proof: %d %s", out.status, out.text)
	}
	a.exchange(code, nil).tokens(t)
}

// 109: a challenge is good for one flow.
func TestMatrix109ChallengeTwice(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	a.login()
	verifier := a.verifier
	code := a.code(map[string]string{"code_challenge": digest.Hash(verifier)})
	if out := a.exchange(code, map[string]string{"code_verifier": verifier}); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
}

func TestMatrix112AccountChangesBetween(t *testing.T) {
	for name, change := range map[string]func(*world){
		"takedown":     func(w *world) { w.takeDown(alice) },
		"deactivation": func(w *world) { w.deactivate() },
		"password":     func(w *world) { w.raise() },
		"deletion": func(w *world) {
			if err := w.accounts.Delete(context.Background(), account.Trusted(alice)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		w := newWorld(t)
		a := w.public()
		code := a.code(nil)
		change(w)
		if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
			t.Errorf("%s: %d %s", name, out.status, out.text)
		}
	}
}

func TestMatrix113NoRefreshGrant(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	w.publishJSON(clientID, clientDocument(clientID, map[string]any{"grant_types": []string{"authorization_code"}}))
	tok := a.login()
	if tok.refresh != "" {
		t.Error("there is a refresh token")
	}
	a.alive(tok.access, true)
	if out := a.refresh(secretText{alice, "x", "y"}.String(refreshText)); !out.is(400, codeUnauthorized) {
		t.Errorf("%d %s", out.status, out.text)
	}
	w.wait(accessLife)
	a.alive(tok.access, false)
	if n := len(w.sessions()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestMatrix114_115Rotation(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	one := a.login()
	two := a.refresh(one.refresh).tokens(t)
	if two.refresh == one.refresh || two.access == one.access {
		t.Error("114: nothing rotates")
	}
	a.alive(one.access, true)
	a.alive(two.access, true)
	w.wait(grace - time.Second)
	a.alive(one.access, true)
	w.wait(time.Second)
	a.alive(one.access, false)
	a.alive(two.access, true)
	if out := a.refresh(one.refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("115: %d %s", out.status, out.text)
	}
	a.alive(two.access, false)
	if out := a.refresh(two.refresh); !out.is(400, codeInvalidGrant) {
		t.Errorf("115: the family: %d %s", out.status, out.text)
	}
}

func TestMatrix116ParallelRefresh(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	for range 10 {
		var wg sync.WaitGroup
		answers := make(chan reply, 8)
		for range 8 {
			wg.Go(func() { answers <- a.refresh(tok.refresh) })
		}
		wg.Wait()
		close(answers)
		first := (<-answers).tokens(t)
		for out := range answers {
			if next := out.tokens(t); next != first {
				t.Errorf("%v and %v", next, first)
			}
		}
		tok = first
	}
	a.alive(tok.access, true)
	if n := len(w.sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestMatrix117_118_119Retry(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	one := a.login()
	two := a.refresh(one.refresh).tokens(t)
	w.wait(30 * time.Second)
	if again := a.refresh(one.refresh).tokens(t); again != two {
		t.Errorf("117: %v, then %v", two, again)
	}
	// A retry that comes after the successor was used gives what is good now.
	three := a.refresh(two.refresh).tokens(t)
	if again := a.refresh(one.refresh).tokens(t); again != three {
		t.Errorf("117: %v, then %v", three, again)
	}
	thief := &app{world: w, id: a.id, redirect: a.redirect, key: newKey(t)}
	other := w.confidential()
	for name, x := range map[string]*app{"key": thief, "client": other} {
		for when, token := range map[string]string{"118 in grace": two.refresh, "119 current": three.refresh} {
			out := x.refresh(token)
			if !out.is(400, codeInvalidGrant) || strings.Contains(out.text, "ref-") || strings.Contains(out.text, "access_token") {
				t.Errorf("%s, another %s: %d %s", when, name, out.status, out.text)
			}
		}
	}
	w.wait(2 * time.Minute)
	thief.refresh(one.refresh) // beyond its grace: that must not end the session either
	a.alive(three.access, true)
	a.refresh(three.refresh).tokens(t)
	for name, token := range map[string]string{"empty": "", "malformed": "x", "unknown session": secretText{alice, "x", "y"}.String(refreshText), "nobody": secretText{bob, "x", "y"}.String(refreshText)} {
		if out := a.refresh(token); out.status != 400 || token != "" && out.str("error") != codeInvalidGrant {
			t.Errorf("%s: %d %s", name, out.status, out.text)
		}
	}
	if out := a.send(pathToken, url.Values{"client_id": {a.id}, "grant_type": {"refresh_token"}, "refresh_token": {three.refresh}, "scope": {"atproto"}}); !out.is(400, codeInvalidScope) {
		t.Errorf("scope: %d %s", out.status, out.text)
	}
}

func TestMatrix120Lifetimes(t *testing.T) {
	const day = 24 * time.Hour
	for _, x := range []struct {
		name  string
		every time.Duration // between two refreshes
		times int           // how often it works
	}{
		{"public, day 15", 15 * day, 0}, {"public, in all", 3 * day, 4},
		{"confidential, 90 days", 90 * day, 0}, {"confidential, in all", 89 * day, 8},
	} {
		w := newWorld(t)
		a := w.public()
		if strings.HasPrefix(x.name, "confidential") {
			a = w.confidential()
		}
		tok := a.login()
		for i := range x.times {
			w.wait(x.every)
			out := a.refresh(tok.refresh)
			if out.status != 200 {
				t.Fatalf("%s: refresh %d: %d %s", x.name, i, out.status, out.text)
			}
			tok = out.tokens(t)
		}
		w.wait(x.every)
		if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
			t.Errorf("%s: then: %d %s", x.name, out.status, out.text)
		}
		if n := len(w.sessions()); n != 0 {
			t.Errorf("%s: %d sessions", x.name, n)
		}
	}
	// An access token does not outlive its session.
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	w.wait(14*day - 5*time.Minute)
	out := a.refresh(tok.refresh)
	if out.json["expires_in"] != 300.0 {
		t.Errorf("%s", out.text)
	}
	w.wait(5 * time.Minute)
	a.alive(out.tokens(t).access, false)
}

// 121: what a set grants is looked up at each refresh.
func TestMatrix121SetChanges(t *testing.T) {
	sets := &changingSets{text: "repo:com.example.note"}
	w := newWorld(t, func(c *Config) { c.Sets = sets })
	a := w.public()
	a.scope = "atproto include:com.example.auth"
	out := a.exchange(a.code(nil), nil)
	if out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%s", out.text)
	}
	sets.set("repo:com.example.other")
	out = a.refresh(out.str("refresh_token"))
	if out.str("scope") != "atproto repo:com.example.other" || a.call(out.str("access_token")).str("scope") != "atproto repo:com.example.other" {
		t.Errorf("%s", out.text)
	}
	sets.set("") // cannot be resolved
	if out = a.refresh(out.str("refresh_token")); out.str("scope") != "atproto repo:com.example.other" {
		t.Errorf("%s", out.text)
	}
}

// busySets changes the account while it resolves a set, as anything may at the same time.
type busySets struct{ w *world }

func (s *busySets) Expand(ctx context.Context, include auth.Scope) ([]auth.Scope, error) {
	if err := s.w.p.EndSession(ctx, account.Trusted(alice), "unknown"); err != nil {
		return nil, err
	}
	return testSets{}.Expand(ctx, include)
}

// No account waits for the network: sets are resolved before the step that needs them.
func TestSetsAreResolvedOutsideOfSteps(t *testing.T) {
	sets := &busySets{}
	w := newWorld(t, func(c *Config) { c.Sets = sets })
	sets.w = w
	a := w.public()
	a.scope = "atproto include:com.example.auth"
	if out := a.refresh(a.login().refresh); out.str("scope") != "atproto repo:com.example.note" {
		t.Errorf("%d %s", out.status, out.text)
	}
}

func TestMatrix122AccountEndsSessions(t *testing.T) {
	for name, change := range map[string]func(*world){
		"deactivation": func(w *world) { w.deactivate() },
		"password":     func(w *world) { w.raise() },
		"takedown":     func(w *world) { w.takeDown(alice) },
		"deletion": func(w *world) {
			if err := w.accounts.Delete(context.Background(), account.Trusted(alice)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		w := newWorld(t)
		a := w.public()
		tok := a.login()
		change(w)
		a.alive(tok.access, false)
		if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
			t.Errorf("%s: %d %s", name, out.status, out.text)
		}
		if name == "deletion" {
			continue
		}
		if n := len(w.sessions()); n != 0 {
			t.Errorf("%s: %d sessions", name, n)
		}
	}
}

func (a *app) revoke(token string) reply {
	return a.send(pathRevocation, url.Values{"client_id": {a.id}, "token": {token}})
}

func TestMatrix123_124_125Revocation(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	for name, which := range map[string]func(tokens) string{
		"access": func(t tokens) string { return t.access }, "refresh": func(t tokens) string { return t.refresh },
		"expired": func(t tokens) string { w.wait(time.Hour); return t.access },
	} {
		tok := a.login()
		if out := a.revoke(which(tok)); out.status != 200 || out.text != "{}" {
			t.Errorf("123 %s: %d %s", name, out.status, out.text)
		}
		a.alive(tok.access, false)
		if out := a.refresh(tok.refresh); !out.is(400, codeInvalidGrant) {
			t.Errorf("123 %s: %d %s", name, out.status, out.text)
		}
		if out := a.revoke(tok.refresh); out.status != 200 {
			t.Errorf("123 %s, again: %d %s", name, out.status, out.text)
		}
	}
	tok := a.login()
	c := w.confidential()
	for _, token := range []string{tok.access, tok.refresh, "x", secretText{bob, "x", "y"}.String(refreshText), secretText{"did:plc:cccccccccccccccccccccccc", "x", "y"}.String(refreshText)} {
		if out := c.revoke(token); out.status != 200 {
			t.Errorf("124: %d %s", out.status, out.text)
		}
	}
	a.alive(tok.access, true)
	in := url.Values{"client_id": {a.id}, "token": {tok.refresh}}
	if out := w.raw(pathRevocation, formType, in.Encode()); !out.is(401, codeInvalidProof) {
		t.Errorf("125: no proof: %d %s", out.status, out.text)
	}
	if out := w.raw(pathRevocation, formType, "token="+tok.refresh); !out.is(400, codeInvalidClient) {
		t.Errorf("125: no client: %d %s", out.status, out.text)
	}
	if out := a.send(pathRevocation, url.Values{"client_id": {a.id}}); !out.is(400, codeInvalidRequest) {
		t.Errorf("125: no token: %d %s", out.status, out.text)
	}
	thief := &app{world: w, id: a.id, key: newKey(t)}
	if out := thief.revoke(tok.refresh); !out.is(401, codeInvalidProof) {
		t.Errorf("125: another key: %d %s", out.status, out.text)
	}
	a.alive(tok.access, true)
	// A confidential client needs no proof.
	tok = c.login()
	in = url.Values{"client_id": {c.id}, "token": {tok.access}, "client_assertion_type": {assertionType}, "client_assertion": {c.assertion()}}
	if out := w.raw(pathRevocation, formType, in.Encode()); out.status != 200 {
		t.Errorf("123: %d %s", out.status, out.text)
	}
	c.alive(tok.access, false)
	in = url.Values{"client_id": {c.id}, "token": {tok.access}}
	if out := w.raw(pathRevocation, formType, in.Encode()); !out.is(400, codeInvalidClient) {
		t.Errorf("125: no assertion: %d %s", out.status, out.text)
	}
}

// What an account is shown, and ends.
func TestSessionsOfAnAccount(t *testing.T) {
	w := newWorld(t)
	a, c := w.public(), w.confidential()
	first := a.login()
	w.wait(time.Second)
	second := c.login()
	w.wait(time.Second)
	third := a.login()
	list := w.sessions()
	if len(list) != 3 || list[0].Client != a.id || list[1].Client != c.id || list[1].Permissions.String() != "atproto repo:com.example.note" || !list[0].Renewed.After(list[1].Renewed) {
		t.Fatalf("%+v", list)
	}
	ctx := t.Context()
	if err := w.p.EndSession(ctx, account.Trusted(alice), list[0].Name); err != nil {
		t.Fatal(err)
	}
	a.alive(third.access, false)
	a.alive(first.access, true)
	c.alive(second.access, true)
	if err := w.p.EndClient(ctx, account.Trusted(alice), c.id); err != nil {
		t.Fatal(err)
	}
	c.alive(second.access, false)
	a.alive(first.access, true)
	w.signIn(browser, alice)
	w.browse(browser, c.push(map[string]string{"login_hint": string(alice)})).asks(t, "what was granted is forgotten", AskConsent)
	if err := w.p.EndSession(ctx, account.Trusted(alice), "unknown"); err != nil {
		t.Error(err)
	}
}

// An app that is thrown out while it has a code that it has not exchanged stays out.
func TestEndClientVoidsCodes(t *testing.T) {
	w := newWorld(t)
	a, c := w.public(), w.confidential()
	w.signIn(browser, alice)
	w.browse(browser, a.push(nil))
	form := w.consentForm(alice, nil)
	code := w.submit(browser, form).back(t).Get("code")
	w.browse(browser, c.push(nil))
	other := w.consent(browser, alice, nil).back(t).Get("code")
	if err := (Apps{Accounts: w.accounts, Now: w.now}).EndClient(t.Context(), account.Trusted(alice), a.id); err != nil {
		t.Fatal(err)
	}
	if out := a.exchange(code, nil); !out.is(400, codeInvalidGrant) {
		t.Errorf("%d %s", out.status, out.text)
	}
	w.submit(browser, form).page(t, "the form once more", 400)
	if n := len(w.sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
	c.exchange(other, nil).tokens(t)
}

// A session that a later version has stored is left alone, and keeps nobody out.
func TestSessionsOfAnotherVersion(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	_, err := w.accounts.Host().Step(t.Context(), alice, func(step *repo.Step) error {
		step.Set(sessionPrefix+"later", []byte(`{"v":2}`), time.Time{})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tok := a.login()
	a.alive(tok.access, true)
	if n := len(w.sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if err := w.p.EndClient(t.Context(), account.Trusted(alice), a.id); err != nil {
		t.Error(err)
	}
	a.alive(tok.access, false)
}

// 103: an account ends no session of another one.
func TestMatrix103SessionsOfOthers(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	tok := a.login()
	name := w.sessions()[0].Name
	if err := w.p.EndSession(t.Context(), account.Trusted(bob), name); err != nil {
		t.Fatal(err)
	}
	if err := w.p.EndClient(t.Context(), account.Trusted(bob), a.id); err != nil {
		t.Fatal(err)
	}
	a.alive(tok.access, true)
}

// One account cannot fill the store with sessions.
func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	first := a.login()
	for range maxSessions {
		w.wait(time.Millisecond)
		a.login()
	}
	if n := len(w.sessions()); n != maxSessions {
		t.Errorf("%d sessions", n)
	}
	a.alive(first.access, false)
}
