package pdstest

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Browser is a browser without scripts: it keeps cookies, follows redirects, and parses the forms
// of pages. It is not safe for concurrent use.
type Browser struct {
	http *http.Client
}

// Browser returns a browser that reaches the sites of the network.
func (n *Network) Browser() *Browser {
	n.t.Helper()
	return NewBrowser(n.ClientFrom("192.0.2.3").Transport)
}

// NewBrowser returns a browser that reaches sites by a transport.
func NewBrowser(t http.RoundTripper) *Browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it fails for none of its options
	}
	return &Browser{http: &http.Client{
		Transport: t, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Cookies returns the cookies that the browser sends to an address.
func (b *Browser) Cookies(address string) []*http.Cookie {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	return b.http.Jar.Cookies(u)
}

// Page is the page that a browser shows.
type Page struct {
	// URL is its URL after all redirects.
	URL    *url.URL
	Status int
	Header http.Header
	Body   string
	Forms  []Form
	// Links are the targets of the page's links.
	Links []*url.URL
}

// Form is a form of a page.
type Form struct {
	Method string
	Action *url.URL
	// Fields are its fields and buttons.
	Fields []Field
}

// Field is a field or a button of a form.
type Field struct {
	Name, Value string
	// Type is the type of the input, or "button" for a button.
	Type         string
	Autocomplete string
	Checked      bool
	ReadOnly     bool
}

// Has reports whether the form has a field or a button with a name.
func (f *Form) Has(name string) bool {
	return slices.ContainsFunc(f.Fields, func(x Field) bool { return x.Name == name })
}

// filledBy returns the name of the field that a browser would fill in with something, as
// "current-password"; empty: there is none.
func (f *Form) filledBy(what string) (name string, readOnly bool) {
	for _, x := range f.Fields {
		if slices.Contains(strings.Fields(x.Autocomplete), what) && x.Type != "hidden" {
			return x.Name, x.ReadOnly
		}
	}
	return "", false
}

// Values returns the values of the form if the user changes nothing: without buttons and unchecked
// boxes.
func (f *Form) Values() url.Values {
	v := make(url.Values)
	for _, x := range f.Fields {
		box := x.Type == "checkbox" || x.Type == "radio"
		if x.Name != "" && x.Type != "button" && x.Type != "submit" && (!box || x.Checked) {
			v.Add(x.Name, x.Value)
		}
	}
	return v
}

// Open opens a URL as by a link on another site.
func (b *Browser) Open(address string) (*Page, error) {
	return b.do(http.MethodGet, address, "", "cross-site", nil)
}

// Submit submits a form of a page, with values that replace those of its fields.
func (b *Browser) Submit(p *Page, f Form, values url.Values) (*Page, error) {
	in := f.Values()
	for name, v := range values {
		in[name] = v
	}
	site := "cross-site"
	if f.Action.Host == p.URL.Host && f.Action.Scheme == p.URL.Scheme {
		site = "same-origin"
	}
	if f.Method == http.MethodGet {
		to := *f.Action
		to.RawQuery = in.Encode()
		return b.do(http.MethodGet, to.String(), "", site, nil)
	}
	return b.do(http.MethodPost, f.Action.String(), p.URL.Scheme+"://"+p.URL.Host, site, in)
}

// maxRedirects bounds how many redirects are followed.
const maxRedirects = 10

func (b *Browser) do(method, address, origin, site string, form url.Values) (*Page, error) {
	for range maxRedirects {
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader(form.Encode())
		}
		r, err := http.NewRequest(method, address, body)
		if err != nil {
			return nil, err
		}
		if body != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Origin", origin)
		}
		r.Header.Set("Accept", "text/html,*/*;q=0.8")
		r.Header.Set("Accept-Language", "en")
		r.Header.Set("Sec-Fetch-Dest", "document")
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		r.Header.Set("Sec-Fetch-Site", site)
		res, err := b.http.Do(r)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, err
		}
		to, err := res.Location()
		if err != nil || res.StatusCode < 300 || res.StatusCode > 399 {
			p := &Page{URL: r.URL, Status: res.StatusCode, Header: res.Header, Body: string(text)}
			p.read()
			return p, nil
		}
		if to.Host != r.URL.Host {
			site = "cross-site"
		}
		method, address = http.MethodGet, to.String()
	}
	return nil, fmt.Errorf("pdstest: more than %d redirects, at last to %s", maxRedirects, address)
}

var (
	tags       = regexp.MustCompile(`(?is)<(/?)(form|input|button|a)\b((?:[^>"']|"[^"]*"|'[^']*')*)>`)
	attributes = regexp.MustCompile(`(?s)([a-zA-Z-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?`)
)

// read reads the forms and links of the page. It understands what programs write, not all that
// browsers do.
func (p *Page) read() {
	open := -1 // the form that is open
	at := func(ref string) *url.URL {
		if u, err := p.URL.Parse(ref); err == nil {
			return u
		}
		return p.URL
	}
	for _, m := range tags.FindAllStringSubmatch(p.Body, -1) {
		name, end := strings.ToLower(m[2]), m[1] != ""
		a := make(map[string]string)
		for _, x := range attributes.FindAllStringSubmatch(m[3], -1) {
			a[strings.ToLower(x[1])] = html.UnescapeString(x[2] + x[3] + x[4])
		}
		_, checked := a["checked"]
		_, readOnly := a["readonly"]
		field := Field{Name: a["name"], Value: a["value"], Type: strings.ToLower(a["type"]), Autocomplete: a["autocomplete"], Checked: checked, ReadOnly: readOnly}
		switch {
		case name == "form" && end:
			open = -1
		case name == "form":
			f := Form{Method: strings.ToUpper(a["method"]), Action: at(a["action"])}
			if f.Method == "" {
				f.Method = http.MethodGet
			}
			p.Forms = append(p.Forms, f)
			open = len(p.Forms) - 1
		case end:
		case name == "a" && a["href"] != "":
			p.Links = append(p.Links, at(a["href"]))
		case name == "a" || open < 0:
		default:
			if name == "button" {
				field.Type = "button"
			}
			if field.Type == "checkbox" && field.Value == "" {
				field.Value = "on"
			}
			p.Forms[open].Fields = append(p.Forms[open].Fields, field)
		}
	}
}

// Consent opens the URL of an app's authorization request, signs in as an account if the page asks
// for it (the browser then remembers the account), and grants the scopes for which grant returns
// true; nil: all. It returns the next page: at the app's redirect URI, or an error page.
func (b *Browser) Consent(address string, as *Account, grant func(scope string) bool) (*Page, error) {
	p, err := b.Open(address)
	server := ""
	for range 10 {
		if err != nil {
			return nil, err
		}
		if server == "" {
			server = p.URL.Host
		}
		if p.URL.Host != server || p.Status >= 400 {
			return p, nil
		}
		p, err = b.proceed(p, as, grant)
	}
	return nil, fmt.Errorf("pdstest: the pages come to no end, at last %s", p.URL)
}

// proceed does what a page asks for.
func (b *Browser) proceed(p *Page, as *Account, grant func(scope string) bool) (*Page, error) {
	for _, f := range p.Forms {
		if f.Has("decision") {
			in := url.Values{"decision": {"allow"}, "scope": nil}
			for _, x := range f.Fields {
				if x.Name == "scope" && (grant == nil || grant(x.Value)) {
					in.Add("scope", x.Value)
				}
			}
			return b.Submit(p, f, in)
		}
	}
	for _, f := range p.Forms {
		password, _ := f.filledBy("current-password")
		if password == "" {
			continue
		}
		in := url.Values{password: {as.Password}}
		for _, x := range f.Fields {
			if x.Name == "remember" && x.Type == "checkbox" {
				in.Set(x.Name, x.Value)
			}
		}
		if name, readOnly := f.filledBy("username"); name != "" && !readOnly {
			in.Set(name, string(as.Handle))
		}
		return b.Submit(p, f, in)
	}
	for _, f := range p.Forms {
		for _, x := range f.Fields {
			if x.Value == string(as.DID) {
				return b.Submit(p, f, url.Values{x.Name: {x.Value}})
			}
		}
	}
	for _, link := range p.Links {
		if link.Query().Get("account") == string(as.DID) {
			return b.do(http.MethodGet, link.String(), "", "same-origin", nil)
		}
	}
	return nil, fmt.Errorf("pdstest: the page at %s asks for nothing that is known: %.500s", p.URL, p.Body)
}
