package site

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

var _ = testenv.CheapPasswords()

func testConfig() Config {
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	accounts := account.Open(repo.Config{Store: memory.New(memory.Config{})}, box)
	return Config{Credentials: credential.New(credential.Config{Accounts: accounts}), Origin: "https://pds.example.com", Secret: make([]byte, 32)}
}

// A wrong configuration says what to do.
func TestMisuse(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"Config.Credentials": func(c *Config) { c.Credentials = nil },
		"Config.Origin":      func(c *Config) { c.Origin = "https://pds.example.com/" },
		"Config.Secret":      func(c *Config) { c.Secret = []byte("short") },
		"Brand.Accent":       func(c *Config) { c.Brand.Accent = "red" },
	} {
		cfg := testConfig()
		change(&cfg)
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, want) {
					t.Errorf("%s: %q", want, text)
				}
			}()
			New(cfg)
		}()
	}
}

// Files that are wrong are refused when the program starts.
func TestSetMisuse(t *testing.T) {
	good := fstest.MapFS{"templates/page.html": {Data: []byte(`{{define "body"}}{{end}}`)}}
	for _, tag := range tags {
		good["messages/"+tag+".txt"] = &fstest.MapFile{Data: []byte("title = x\n")}
	}
	for name, x := range map[string]struct{ path, text string }{
		"a malformed template":  {"templates/page.html", "{{"},
		"malformed parts":       {"templates/parts.html", "{{end}}"},
		"malformed messages":    {"messages/fr.txt", "x"},
		"a message of the site": {"messages/fr.txt", "password = x"},
		"a message twice":       {"messages/fr.txt", "a = x\na = y"},
		"no Portuguese":         {"messages/pt.txt", ""},
	} {
		files := maps.Clone(good)
		files[x.path] = &fstest.MapFile{Data: []byte(x.text)}
		if x.text == "" {
			delete(files, x.path)
		}
		set := NewSet(files)
		if set.Check() == nil {
			t.Errorf("%s: no error", name)
		}
		func() { // the program that has not been tested
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "site: ") {
					t.Errorf("%s: %q", name, text)
				}
			}()
			set.Languages()
			set.template("page")
		}()
	}
	if err := NewSet(good).Check(); err != nil {
		t.Error(err)
	}
}

// A page is only served by the methods that it has, and says so.
func TestMethods(t *testing.T) {
	s := New(testConfig())
	page := func(c *Call) error { return c.Show("page", &struct{ Page }{c.Page("title")}) }
	for _, x := range []struct {
		h      Handler
		method string
		status int
		allow  string
	}{
		{Handler{Get: page}, "GET", 200, ""}, {Handler{Get: page}, "POST", 405, "GET, HEAD"}, {Handler{Post: page}, "GET", 405, "POST"},
		{Handler{Get: page, Post: page}, "DELETE", 405, "GET, HEAD, POST"}, {Handler{Get: page, Post: page}, "POST", 403, ""},
	} {
		w := httptest.NewRecorder()
		s.Serve(shared, x.h)(w, httptest.NewRequest(x.method, "https://pds.example.com/x", nil))
		if w.Code != x.status || w.Header().Get("Allow") != x.allow {
			t.Errorf("%s: %d, Allow %q", x.method, w.Code, w.Header().Get("Allow"))
		}
	}
}

// A value that was sealed for one purpose, browser or server is worth nothing for another.
func TestSealerForgery(t *testing.T) {
	s := New(testConfig())
	other := testConfig()
	other.Secret[0] = 1
	a, b := Browser{Name: "a"}, Browser{Name: "b"}
	text := s.Sealer("x").Seal(a, pair{"text", 1})
	var got pair
	if !s.Sealer("x").Open(a, text, &got) || got.Number != 1 {
		t.Errorf("%+v", got)
	}
	for name, ok := range map[string]bool{
		"another browser": s.Sealer("x").Open(b, text, &got), "another purpose": s.Sealer("y").Open(a, text, &got), "another server": New(other).Sealer("x").Open(a, text, &got),
	} {
		if ok {
			t.Errorf("%s opens it", name)
		}
	}
}

// Nothing that a cookie or a form has makes the server fail.
func FuzzForms(f *testing.F) {
	s := New(testConfig())
	s.now = func() time.Time { return time.Unix(1e9, 0) }
	h := s.Serve(shared, Handler{
		Get:  func(c *Call) error { return c.Show("page", &struct{ Page }{c.Page("title")}) },
		Post: func(c *Call) error { return ErrNotOffered },
	})
	f.Add("name.secret", "a=b&token=x")
	f.Add("..", "a=1&a=2")
	f.Add("", "%zz")
	f.Fuzz(func(t *testing.T, cookie, body string) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "https://pds.example.com/x", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://pds.example.com")
		r.AddCookie(&http.Cookie{Name: "__Host-device", Value: cookie})
		if h(w, r); w.Code != 400 && w.Code != 403 {
			t.Errorf("%q %q: %d", cookie, body, w.Code)
		}
	})
}
