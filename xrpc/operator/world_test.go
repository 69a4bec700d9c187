package operator_test

import (
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/pds/pdstest"
)

// world is a PDS with its administrator's pages, and the accounts of Alice and Bob.
type world struct {
	*pdstest.Network
	t          *testing.T
	pds        *pdstest.PDS
	alice, bob *pdstest.Account
}

func newWorld(t *testing.T, change ...func(*pds.Config)) *world {
	w := &world{Network: pdstest.New(t), t: t}
	w.pds = w.PDS(func(c *pds.Config) {
		c.Brand.Name, c.Version = "The Host", "1.2.3"
		for _, fn := range change {
			fn(c)
		}
	})
	w.alice, w.bob = w.pds.Account("alice"), w.pds.Account("bob")
	return w
}

func (w *world) origin() string { return "https://" + w.pds.Name }

// page is an answer.
type page struct {
	path   string
	status int
	header http.Header
	text   string
}

// tab is a browser of which a test sees everything.
type tab struct {
	*world
	cookies map[string]string
	lang    string
	from    string
	last    page
}

func (w *world) tab() *tab {
	return &tab{world: w, cookies: make(map[string]string), from: "192.0.2.7:1234"}
}

// copy is another browser with the same cookies.
func (b *tab) copy() *tab {
	return &tab{world: b.world, cookies: maps.Clone(b.cookies), from: b.from, last: b.last}
}

func (b *tab) send(r *http.Request) page {
	for name, v := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	r.RemoteAddr = b.from
	r.Header.Set("Accept-Language", b.lang)
	rec := httptest.NewRecorder()
	b.pds.Server().ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	b.last = page{r.URL.Path, rec.Code, rec.Header(), rec.Body.String()}
	return b.last
}

func set(h http.Header, header []string) {
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
		if header[i+1] == "" {
			h.Del(header[i])
		}
	}
}

func (b *tab) get(path string, header ...string) page {
	r := httptest.NewRequest("GET", b.origin()+path, nil)
	set(r.Header, []string{"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "same-origin"})
	set(r.Header, header)
	return b.send(r)
}

func (b *tab) post(path string, in url.Values, header ...string) page {
	r := httptest.NewRequest("POST", b.origin()+path, io.NopCloser(strings.NewReader(in.Encode())))
	set(r.Header, []string{
		"Content-Type", "application/x-www-form-urlencoded", "Origin", b.origin(),
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", "same-origin",
	})
	set(r.Header, header)
	return b.send(r)
}

// follow follows redirects within the server.
func (b *tab) follow() page {
	for b.last.status == http.StatusSeeOther && strings.HasPrefix(b.last.header.Get("Location"), "/") {
		b.get(b.last.header.Get("Location"))
	}
	return b.last
}

var inputs = regexp.MustCompile(`<input ([^>]*)>`)
var attrs = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)

// fields are those of the form that is sent to a path, as they are when nobody changes them.
func (p page) fields(t *testing.T, action string) url.Values {
	t.Helper()
	_, form, ok := strings.Cut(p.text, `action="`+action+`"`)
	if !ok {
		t.Fatalf("%d %s: no form for %s in %s", p.status, p.path, action, p.text)
	}
	form, _, _ = strings.Cut(form, "</form>")
	out := url.Values{}
	for _, m := range inputs.FindAllStringSubmatch(form, -1) {
		a := map[string]string{}
		for _, x := range attrs.FindAllStringSubmatch(m[1], -1) {
			a[x[1]] = html.UnescapeString(x[2])
		}
		if _, checked := a["checked"]; a["type"] == "checkbox" && !checked {
			continue
		}
		out.Add(a["name"], a["value"])
	}
	return out
}

func (p page) title() string {
	_, rest, _ := strings.Cut(p.text, "<h1>")
	title, _, _ := strings.Cut(rest, "</h1>")
	return html.UnescapeString(title)
}

// submit sends the form of the last page, with changes; a nil value leaves a field out.
func (b *tab) submit(action string, change url.Values, header ...string) page {
	b.t.Helper()
	in := b.last.fields(b.t, action)
	maps.Copy(in, change)
	maps.DeleteFunc(in, func(_ string, v []string) bool { return v == nil })
	b.post(action, in, header...)
	return b.follow()
}

// signIn signs in as the administrator.
func (b *tab) signIn() *tab {
	b.t.Helper()
	b.get("/admin/sign-in")
	b.submit("/admin/sign-in", url.Values{"password": {pdstest.AdminPassword}})
	b.expect(200, "Overview")
	return b
}

// act opens the page of an act and sends its form.
func (b *tab) act(name, of, value string) page {
	b.t.Helper()
	if p := b.get("/admin/act/" + name + "?" + url.Values{"of": {of}}.Encode()); p.status != 200 {
		b.t.Fatalf("%s of %s: %d %s", name, of, p.status, p.text)
	}
	return b.submit("/admin/act/"+name, url.Values{"value": {value}})
}

func (b *tab) expect(status int, title string) {
	b.t.Helper()
	if b.last.status != status || title != "" && b.last.title() != title {
		b.t.Fatalf("%s: %d %q, want %d %q\n%s\n%v", b.last.path, b.last.status, b.last.title(), status, title, b.last.text, b.last.header)
	}
}

// has reports whether the last page has a text.
func (b *tab) has(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(b.last.text), text) {
			b.t.Errorf("%s has no %q:\n%s", b.last.path, text, b.last.text)
		}
	}
}

// hasNot is the opposite.
func (b *tab) hasNot(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if strings.Contains(html.UnescapeString(b.last.text), text) {
			b.t.Errorf("%s has %q", b.last.path, text)
		}
	}
}
