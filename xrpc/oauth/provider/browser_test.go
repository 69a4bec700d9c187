package provider

import (
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// formPages are pages of nothing but HTML: what a browser without scripts can use.
type formPages struct{ w *world }

var testForm = template.Must(template.New("").Parse(`<!DOCTYPE html><h1>{{.Ask}}</h1><form method="post" action="{{.Action}}">
<input type="hidden" name="request" value="{{.Request}}"><input type="hidden" name="form" value="{{.Form}}"><input type="hidden" name="did" value="{{.Account}}">
{{range .Scopes}}<label><input type="checkbox" name="scope" value="{{.}}" checked>{{.}}</label>
{{end}}<button name="decision" value="allow">Allow</button><button name="decision" value="deny">Deny</button></form>`))

func (p formPages) Prompt(w http.ResponseWriter, r *http.Request, q Prompt) {
	if q.Ask == AskSignIn { // which is a form of its own, with its own address
		c := w.Header().Get("Set-Cookie")
		p.w.signIn(strings.TrimPrefix(strings.Split(c, ";")[0], "device="), alice)
		http.Redirect(w, r, q.Return, http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	testForm.Execute(w, q)
}

func (formPages) Error(w http.ResponseWriter, _ *http.Request, status int, e *Error) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<p>%s", template.HTMLEscapeString(e.Description))
}

// 94: a browser that only follows links and sends forms goes through the whole flow, over the network.
func TestMatrix94WithoutScripts(t *testing.T) {
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	defer srv.Close()
	w := newWorld(t, func(c *Config) { c.Issuer = srv.URL })
	w.p.cfg.Pages = formPages{w}
	handler = w.mux
	a := &app{world: w, id: "http://localhost", redirect: "http://127.0.0.1:9/", scope: "atproto", key: newKey(t)}
	post := func(path string, in url.Values) map[string]any {
		t.Helper()
		for try := 0; ; try++ {
			req, err := http.NewRequest("POST", srv.URL+path, strings.NewReader(in.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", formType)
			req.Header.Set("DPoP", a.proof("POST", srv.URL+path, "", a.nonce))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			a.nonce = resp.Header.Get("DPoP-Nonce")
			if err == nil && strings.Contains(string(text), codeUseNonce) && try == 0 {
				continue
			}
			out, err := jsonParams([]byte(strings.ReplaceAll(strings.ReplaceAll(string(text), ":300", `:"300"`), ":900", `:"900"`)))
			if err != nil || resp.StatusCode >= 300 {
				t.Fatalf("%d %s %v", resp.StatusCode, text, err)
			}
			m := make(map[string]any)
			for name, v := range out {
				m[name] = v
			}
			return m
		}
	}
	pushed := post(pathPAR, a.request(nil))
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var location string
	person := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), a.redirect) {
			location = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := person.Get(srv.URL + pathAuthorize + "?" + url.Values{"client_id": {a.id}, "request_uri": {pushed["request_uri"].(string)}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(text), "<h1>consent</h1>") || resp.Header.Get("X-Frame-Options") != "DENY" {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	form := hiddenFields(string(text))
	form.Set("scope", "atproto")
	form.Set("decision", "allow")
	req, _ := http.NewRequest("POST", srv.URL+pathAuthorize, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", formType)
	req.Header.Set("Origin", srv.URL)
	resp, err = person.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ = io.ReadAll(resp.Body)
	resp.Body.Close()
	back, err := url.Parse(location)
	if err != nil || back.Query().Get("code") == "" || back.Query().Get("iss") != srv.URL {
		t.Fatalf("%d %q %s", resp.StatusCode, location, text)
	}
	tok := post(pathToken, a.tokenParams(back.Query().Get("code"), nil))
	if tok["sub"] != string(alice) || tok["access_token"] == "" {
		t.Errorf("%v", tok)
	}
	post(pathRevocation, url.Values{"client_id": {a.id}, "token": {tok["refresh_token"].(string)}})
}

// 74: programs that look at a link do not take the request away from the person.
func TestMatrix74PreviewsDoNotBind(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	path := a.push(nil)
	for _, header := range [][]string{{}, {"Sec-Purpose", "prefetch", "Sec-Fetch-Mode", "navigate"}} {
		for _, method := range []string{"GET", "HEAD"} {
			r := httptest.NewRequest(method, issuer+path, nil)
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			w.do(r).asks(t, "a preview", AskSignIn)
		}
	}
	c := w.confidential()
	silent := c.push(map[string]string{"prompt": "none", "login_hint": string(alice)})
	if q := w.do(httptest.NewRequest("GET", issuer+silent, nil)).back(t); q.Get("error") != codeLoginRequired {
		t.Errorf("%v", q)
	}
	w.signIn(browser, alice)
	if q := w.browse(browser, silent).back(t); q.Get("error") != codeConsentRequired {
		t.Errorf("the preview has ended the request: %v", q)
	}
	w.browse(browser, path).asks(t, "the person", AskConsent)
	w.signIn("another browser", alice)
	w.browse("another browser", path).page(t, "80", 403)
	// A browser that sends no metadata has the request from its form on.
	path = a.push(nil)
	r := httptest.NewRequest("GET", issuer+path, nil)
	r.AddCookie(&http.Cookie{Name: "device", Value: "an old browser"})
	w.do(r).asks(t, "an old browser", AskSignIn)
	if q := w.submit("an old browser", w.consentForm("", url.Values{"decision": {"deny"}})).back(t); q.Get("error") != codeAccessDenied {
		t.Errorf("%v", q)
	}
	w.browse(browser, path).page(t, "80: after the form", 403)
}

// All endpoints ask the limiter, by client too.
func TestLimits(t *testing.T) {
	type call struct{ endpoint, client string }
	var calls []call
	var deny string
	w := newWorld(t, func(c *Config) {
		c.Limit = func(_ *http.Request, endpoint, client string) error {
			calls = append(calls, call{endpoint, client})
			if endpoint == deny {
				return &limit.Error{What: endpoint, Own: true, RetryAfter: 7e9}
			}
			return nil
		}
	})
	a := w.public()
	tok := a.login()
	a.revoke(tok.refresh)
	seen := make(map[call]bool)
	for _, c := range calls {
		seen[c] = true
	}
	for _, c := range []call{{"par", ""}, {"par", clientID}, {"token", ""}, {"token", clientID}, {"revoke", ""}, {"revoke", clientID}, {"authorize", ""}} {
		if !seen[c] {
			t.Errorf("%v was not asked for", c)
		}
	}
	for _, deny = range []string{"par", "token", "revoke"} {
		out := a.send("/oauth/"+deny, a.request(nil))
		if !out.is(429, codeUnavailable) || out.header.Get("Retry-After") != "7" {
			t.Errorf("%s: %d %v %s", deny, out.status, out.header, out.text)
		}
	}
	deny = "authorize"
	w.browse(browser, pathAuthorize).page(t, deny, 429)
	w.submit(browser, url.Values{}).page(t, deny, 429)
}

func TestWrongUse(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Config){
		"accounts": func(c *Config) { c.Accounts = nil }, "issuer": func(c *Config) { c.Issuer = issuer + "/" }, "no issuer": func(c *Config) { c.Issuer = "" },
		"service": func(c *Config) { c.ServiceDID = "" }, "secret": func(c *Config) { c.Secret = []byte("short") },
		"logins": func(c *Config) { c.Logins = nil }, "pages": func(c *Config) { c.Pages = nil },
	} {
		cfg := w.p.cfg
		change(&cfg)
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "provider: Config.") {
					t.Errorf("%s: %q", name, s)
				}
			}()
			New(cfg)
		}()
	}
}
