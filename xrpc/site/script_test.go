package site

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A Fetch is for scripts of the site's own pages, which get JSON and errors in words; nobody else can
// have it asked, and no page navigates to it.
func TestFetch(t *testing.T) {
	s := New(testConfig())
	var fail error
	h := s.Serve(shared, Handler{Fetch: func(*Call) (any, error) { return map[string]string{"a": "<b>"}, fail }})
	b := Browser{Name: "name"}
	token := s.token(b, "/x", "")
	send := func(method string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "https://pds.example.com/x", strings.NewReader(url.Values{"token": {token}}.Encode()))
		for name, v := range map[string]string{
			"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://pds.example.com", "Sec-Fetch-Site": "same-origin",
			"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Accept-Language": "de",
		} {
			r.Header.Set(name, v)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		r.AddCookie(&http.Cookie{Name: "__Host-device", Value: "name." + s.anonymous("name")})
		w := httptest.NewRecorder()
		h(w, r)
		return w
	}
	if w := send("POST"); w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Body.String() != `{"a":"\u003cb\u003e"}` || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	for _, x := range []struct {
		method string
		header []string
		status int
	}{
		{"GET", nil, 405}, {"PUT", nil, 405}, {"POST", []string{"Origin", "https://evil.example.net"}, 403}, {"POST", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", []string{"Sec-Fetch-Mode", "navigate"}, 400}, {"POST", []string{"Sec-Fetch-Dest", "iframe"}, 400}, {"POST", []string{"Content-Type", "text/plain"}, 415},
	} {
		w := send(x.method, x.header...)
		var told struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || told.Message == "" || w.Code != x.status || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %v: %d %s", x.method, x.header, w.Code, w.Body)
		}
	}
	for want, err := range map[string]error{"Sie sind abgemeldet": ErrSignedOut, "Auf dem Server": errors.New("a secret of the server"), "nicht hier": Refuse(400, "nicht hier")} {
		fail = err
		if w := send("POST"); !strings.Contains(w.Body.String(), want) || strings.Contains(w.Body.String(), "secret") || w.Code < 400 {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
	}
}

// A page has the script that it names, and no other; one that names none has none.
func TestScriptPolicy(t *testing.T) {
	s := New(testConfig())
	show := func(script string) string {
		w := httptest.NewRecorder()
		s.Serve(shared, Handler{Get: func(c *Call) error {
			v := &struct{ Page }{c.Page("title")}
			v.Script = script
			return c.Show("page", v)
		}})(w, httptest.NewRequest("GET", "https://pds.example.com/x", nil))
		csp := w.Header().Get("Content-Security-Policy")
		if n := strings.Count(w.Body.String(), "<script"); n != strings.Count(csp, "script-src") {
			t.Errorf("%d scripts with %q", n, csp)
		}
		return csp
	}
	if csp := show(""); strings.Contains(csp, "connect-src") {
		t.Error(csp)
	}
	want := "default-src 'none'; script-src https://pds.example.com" + PasskeyScript() + "; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
	if csp := show(PasskeyScript()); csp != want {
		t.Error(csp)
	}
}
