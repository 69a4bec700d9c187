package provider

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Parameters may be as long as their limits, and no longer.
func TestParametersAtTheirLimits(t *testing.T) {
	w := newWorld(t)
	a := w.public()
	for _, x := range []struct {
		name, good, bad, want string
	}{
		{"state", strings.Repeat("x", maxState), strings.Repeat("x", maxState+1), codeInvalidRequest},
		{"ui_locales", strings.Repeat("x", maxLocales), strings.Repeat("x", maxLocales+1), codeInvalidRequest},
		{"max_age", "2147483647", "2147483648", codeInvalidRequest},
		{"max_age", "0", "-1", codeInvalidRequest},
		{"max_age", "00", "1.5", codeInvalidRequest},
		{"login_hint", "did:web:" + strings.Repeat("a", maxHint-8), "did:web:" + strings.Repeat("a", maxHint-7), codeInvalidRequest},
		{"response_mode", modeForm, "form", codeInvalidRequest},
		{"response_mode", modeFragment, "Query", codeInvalidRequest},
		{"scope", "atproto" + strings.Repeat(" ", maxScopeText-7), "atproto" + strings.Repeat(" ", maxScopeText-6), codeInvalidScope},
		{"scope", " atproto  repo:com.example.note ", "repo:com.example.note", codeInvalidScope},
	} {
		if out := a.par(map[string]string{x.name: x.good}); out.status != 201 {
			t.Errorf("%s %.30q: %d %s", x.name, x.good, out.status, out.text)
		}
		if out := a.par(map[string]string{x.name: x.bad}); !out.is(400, x.want) {
			t.Errorf("%s %.30q: %d %s", x.name, x.bad, out.status, out.text)
		}
	}
}

// A body may be 64 KiB long. It is a form or a JSON object in UTF-8, as it is.
func TestBodiesOfRequests(t *testing.T) {
	read := func(body string, header ...string) (params, error) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return readParams(httptest.NewRecorder(), r)
	}
	const name = "Content-Type"
	for _, header := range [][]string{
		{name, formType}, {name, formType + "; charset=UTF-8"}, {name, "Application/X-WWW-Form-Urlencoded"}, {name, formType, "Content-Encoding", "Identity"},
	} {
		if p, err := read("a=b&c=&d=%C3%A9", header...); err != nil || len(p) != 2 || p["a"] != "b" || p["d"] != "é" {
			t.Errorf("%q: %v, %v", header, p, err)
		}
	}
	if p, err := read(`{"a":"b","c":"","d":"é","n":null,"i":1.50,"t":true}`, name, "application/json"); err != nil || len(p) != 4 || p["a"] != "b" || p["d"] != "é" || p["i"] != "1.50" || p["t"] != "true" {
		t.Errorf("%v, %v", p, err)
	}
	for _, header := range [][]string{{}, {name, ""}, {name, "text/plain"}, {name, formType + "; charset=latin1"}, {name, formType, "Content-Encoding", "br"}} {
		var e *Error
		if p, err := read("a=b", header...); !errors.As(err, &e) || e.Status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %v, %v", header, p, err)
		}
	}
	for _, text := range []string{"a=b&a=b", "a=%zz", "a=%ff", "%ff=a", "a=b;c=d"} {
		if p, err := read(text, name, formType); err == nil {
			t.Errorf("%q: %v", text, p)
		}
	}
	long := "a=" + strings.Repeat("x", maxBody-2)
	if p, err := read(long, name, formType); err != nil || len(p["a"]) != maxBody-2 {
		t.Error(err)
	}
	if _, err := read(long+"x", name, formType); err == nil {
		t.Error("a body that is too long was read")
	}
}

// Clients that say what they accept must accept JSON.
func TestWhatClientsAccept(t *testing.T) {
	for text, want := range map[string]bool{
		"application/json": true, "Application/JSON; q=0.5": true, "*/*": true, "text/html, */*;q=0.1": true, "text/html , application/*": true,
		"": false, "text/html": false, "application/xml": false, "application/jsonp": false, "text/*": false,
	} {
		r := &http.Request{Header: http.Header{"Accept": {text}}}
		if got := acceptsJSON(r); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if !acceptsJSON(&http.Request{}) {
		t.Error("who says nothing accepts nothing")
	}
	if !acceptsJSON(&http.Request{Header: http.Header{"Accept": {"text/html", "application/json"}}}) {
		t.Error("the second header is not read")
	}
}

// So many requests may be pending for the time that they are good, and a client is told when the
// next one may be made.
func TestPendingRequestsEnd(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := &pending{max: 2}
	want := func(retry time.Duration) {
		t.Helper()
		err := p.add(now)
		if retry == 0 {
			if err != nil {
				t.Error(err)
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || e.Retry != retry {
			t.Errorf("%v, %+v, want one after %v", err, e, retry)
		}
	}
	want(0)
	now = now.Add(time.Minute)
	want(0)
	want(requestLife - time.Minute)
	now = now.Add(requestLife - time.Minute - 1)
	want(1)
	now = now.Add(1)
	want(0) // the first has ended, the second not
	want(time.Minute)
	now = now.Add(requestLife)
	want(0)
	want(0)
	want(requestLife)
}

// The times of a session, to the second.
func TestTimesOfSessions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	x := &session{Token: accessToken{ID: "now", Expires: now.Unix() + 7}, Old: []accessToken{{ID: "old", Expires: now.Unix() + 5}}, Idle: now.Add(time.Hour), Expires: now.Add(2 * time.Hour)}
	for _, c := range []struct {
		id    string
		later time.Duration
		want  bool
	}{{"now", 0, true}, {"old", 0, true}, {"other", 0, false}, {"", 0, false}, {"old", 5*time.Second - 1, true}, {"old", 5 * time.Second, false}, {"now", time.Hour, true}} {
		if got := x.accepts(c.id, now.Add(c.later)); got != c.want {
			t.Errorf("token %q after %v: %v", c.id, c.later, got)
		}
	}
	ends := func(name string, want time.Time) {
		t.Helper()
		if got := x.ends(); !got.Equal(want) {
			t.Errorf("%s: it ends at %v, want %v", name, got, want)
		}
	}
	ends("without a refresh token", now.Add(7*time.Second))
	x.Refresh = "hash"
	ends("unused", now.Add(time.Hour))
	x.Idle = now.Add(3 * time.Hour)
	ends("in all", now.Add(2*time.Hour))
	claims := accessClaims{Expires: now.Unix()}
	for later, want := range map[time.Duration]bool{-1: false, 0: true, time.Second: true} {
		if got := claims.expired(now.Add(later)); got != want {
			t.Errorf("an access token %v after its end: %v", later, got)
		}
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name        string
		c           client
		idle, total time.Duration
	}{
		{"a public client", client{}, 14 * day, 14 * day},
		{"a confidential client", client{Client: Client{Confidential: true}}, 90 * day, 730 * day},
		{"a trusted client", client{Client: Client{Trusted: true}}, 90 * day, 730 * day},
		{"a trusted client that anybody can pretend to be", client{Client: Client{Trusted: true, Loopback: true}}, 14 * day, 14 * day},
	} {
		if idle, total := c.c.lifetimes(); idle != c.idle || total != c.total {
			t.Errorf("%s: %v and %v", c.name, idle, total)
		}
	}
}

// A client_id is at most 2048 bytes long.
func TestClientIDsAtTheirLimit(t *testing.T) {
	for _, x := range []struct {
		begin string
		check func(string) error
	}{
		{"https://app.example.net/", discoverable},
		{loopbackPrefix + "?redirect_uri=http://127.0.0.1/", func(id string) error { _, err := loopback(id); return err }},
	} {
		id := x.begin + strings.Repeat("x", maxClientID-len(x.begin))
		if err := x.check(id); err != nil {
			t.Errorf("%.40s…: %v", id, err)
		}
		if err := x.check(id + "x"); err == nil {
			t.Errorf("%.40s…x was taken", id)
		}
	}
}

// The times and lengths of assertions have bounds, to the second and to the byte.
func TestAssertionsAtTheirBounds(t *testing.T) {
	w := newWorld(t)
	now := w.now().Unix()
	in := func(d time.Duration) int64 { return now + int64(d/time.Second) }
	for _, x := range []struct {
		name   string
		claims map[string]any
		good   bool
	}{
		{"the oldest", map[string]any{"iat": in(-assertionAge)}, true},
		{"an older one", map[string]any{"iat": in(-assertionAge) - 1}, false},
		{"as far ahead as a clock may be", map[string]any{"iat": in(assertionAhead)}, true},
		{"further ahead", map[string]any{"iat": in(assertionAhead) + 1}, false},
		{"not good before that", map[string]any{"nbf": in(assertionAhead)}, true},
		{"not good before later", map[string]any{"nbf": in(assertionAhead) + 1}, false},
		{"good for the next second", map[string]any{"exp": now + 1}, true},
		{"expired now", map[string]any{"exp": now}, false},
		{"good for as long as may be", map[string]any{"exp": in(assertionLife)}, true},
		{"good for longer", map[string]any{"exp": in(assertionLife) + 1}, false},
		{"the longest name", map[string]any{"jti": strings.Repeat("x", maxAssertionJTI)}, true},
		{"a longer name", map[string]any{"jti": strings.Repeat("x", maxAssertionJTI+1)}, false},
	} {
		a := w.confidential()
		w.p.documents.Purge(a.id)
		a.changeAssertion = x.claims
		if out := a.par(nil); x.good && out.status != 201 || !x.good && !out.is(400, codeInvalidClient) {
			t.Errorf("%s: %d %s", x.name, out.status, out.text)
		}
	}
	lengths := map[int]bool{}
	a := w.confidential()
	for pad := range 24 {
		a.changeHead = map[string]any{"pad": strings.Repeat("x", pad%2)} // not every length is one of base64
		a.changeAssertion = map[string]any{"pad": ""}
		a.changeAssertion["pad"] = strings.Repeat("x", (maxAssertion-len(a.assertion()))*3/4-6+pad/2)
		text := a.assertion()
		lengths[len(text)] = true
		if _, ok := parseAssertion(text); ok != (len(text) <= maxAssertion) {
			t.Errorf("%d bytes: %v", len(text), ok)
		}
	}
	if !lengths[maxAssertion] || !lengths[maxAssertion+1] {
		t.Errorf("the lengths were %v", lengths)
	}
}
