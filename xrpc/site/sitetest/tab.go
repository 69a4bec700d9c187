package sitetest

import (
	"cmp"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Tab is a browser that keeps cookies. A test sees everything, and may change what it sends.
type Tab struct {
	T *testing.T
	// Server serves the pages of Origin.
	Server http.Handler
	Origin string
	// Language and Agent are the browser's headers Accept-Language and User-Agent.
	Language, Agent string
	// From is its network address; empty: 192.0.2.7:1234.
	From    string
	Cookies map[string]string
	// Last is the response that it shows.
	Last Answer
}

// Answer is a response.
type Answer struct {
	Path   string
	Status int
	Header http.Header
	Text   string
}

// Copy returns another browser with the same cookies.
func (b *Tab) Copy() *Tab {
	c := *b
	c.Cookies = maps.Clone(b.Cookies)
	return &c
}

// Send sends a request with the cookies.
func (b *Tab) Send(r *http.Request) Answer {
	for name, v := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	r.RemoteAddr = cmp.Or(b.From, "192.0.2.7:1234")
	r.Header.Set("Accept-Language", b.Language)
	r.Header.Set("User-Agent", b.Agent)
	rec := httptest.NewRecorder()
	b.Server.ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		if b.Cookies == nil {
			b.Cookies = make(map[string]string)
		}
		if b.Cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.Cookies, c.Name)
		}
	}
	b.Last = Answer{r.URL.Path, rec.Code, rec.Header(), rec.Body.String()}
	return b.Last
}

func set(r *http.Request, header []string) {
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
}

// Get is [Tab.Open], and follows redirects within the site.
func (b *Tab) Get(path string, header ...string) Answer {
	b.T.Helper()
	b.Open(path, header...)
	return b.Follow()
}

// Open requests a path as by a link on another site, without following redirects. header are names
// and values of further fields; an empty value removes one.
func (b *Tab) Open(path string, header ...string) Answer {
	r := httptest.NewRequest("GET", b.Origin+path, nil)
	set(r, append([]string{"Sec-Fetch-Site", "cross-site"}, header...))
	return b.Send(r)
}

// Click requests the first link of the page to a path, including its query, without following
// redirects.
func (b *Tab) Click(path string) Answer {
	b.T.Helper()
	m := regexp.MustCompile(`href="(` + regexp.QuoteMeta(path) + `\?[^"]*)"`).FindStringSubmatch(b.Last.Text)
	if m == nil {
		b.T.Fatalf("%d %s: no link to %s in %s", b.Last.Status, b.Last.Path, path, b.Last.Text)
	}
	return b.Open(html.UnescapeString(m[1]))
}

// Post sends a form as a page of the site does, without following redirects.
func (b *Tab) Post(path string, in url.Values, header ...string) Answer {
	return b.PostBody(path, strings.NewReader(in.Encode()), header...)
}

// PostBody is [Tab.Post] with any body.
func (b *Tab) PostBody(path string, body io.Reader, header ...string) Answer {
	r := httptest.NewRequest("POST", b.Origin+path, body)
	set(r, append([]string{"Content-Type", "application/x-www-form-urlencoded", "Origin", b.Origin, "Sec-Fetch-Site", "same-origin"}, header...))
	return b.Send(r)
}

// Follow follows redirects within the site.
func (b *Tab) Follow() Answer {
	b.T.Helper()
	for range 10 {
		to := b.Last.Header.Get("Location")
		if b.Last.Status < 300 || b.Last.Status > 399 || !strings.HasPrefix(to, "/") {
			return b.Last
		}
		r := httptest.NewRequest("GET", b.Origin+to, nil)
		set(r, []string{"Sec-Fetch-Site", "same-origin"})
		b.Send(r)
	}
	b.T.Fatalf("redirects come to no end, at last to %s", b.Last.Header.Get("Location"))
	return b.Last
}

var (
	inputs = regexp.MustCompile(`<input\b([^>]*)>`)
	attrs  = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

// Fields returns the unchanged values of the first form that is sent to a path; nil: there is none.
func (a Answer) Fields(action string) url.Values {
	_, form, ok := strings.Cut(a.Text, `action="`+action+`"`)
	if !ok {
		return nil
	}
	form, _, _ = strings.Cut(form, "</form>")
	out := url.Values{}
	for _, m := range inputs.FindAllStringSubmatch(form, -1) {
		in := map[string]string{}
		for _, x := range attrs.FindAllStringSubmatch(m[1], -1) {
			in[x[1]] = html.UnescapeString(x[2])
		}
		if _, checked := in["checked"]; in["type"] != "checkbox" || checked {
			out.Add(in["name"], in["value"])
		}
	}
	return out
}

// Title returns the heading of the page.
func (a Answer) Title() string {
	_, rest, _ := strings.Cut(a.Text, "<h1>")
	title, _, _ := strings.Cut(rest, "</h1>")
	return html.UnescapeString(title)
}

// Submit sends the last page's form for a path, with changes, and follows redirects. A nil value
// omits a field.
func (b *Tab) Submit(action string, change url.Values, header ...string) Answer {
	b.T.Helper()
	in := b.Last.Fields(action)
	if in == nil {
		b.T.Fatalf("%d %s: no form for %s in %s", b.Last.Status, b.Last.Path, action, b.Last.Text)
	}
	maps.Copy(in, change)
	maps.DeleteFunc(in, func(_ string, v []string) bool { return v == nil })
	b.Post(action, in, header...)
	return b.Follow()
}

// Expect ends the test if the last page does not match. An empty title matches any.
func (b *Tab) Expect(status int, title string, texts ...string) {
	b.T.Helper()
	missing := slices.DeleteFunc(texts, func(s string) bool { return strings.Contains(html.UnescapeString(b.Last.Text), s) })
	if b.Last.Status != status || title != "" && b.Last.Title() != title || len(missing) > 0 {
		b.T.Fatalf("%s: %d %q, want %d %q; missing %q\n%s\n%v", b.Last.Path, b.Last.Status, b.Last.Title(), status, title, missing, b.Last.Text, b.Last.Header)
	}
}
