package site

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/pdskit/pdskit/internal/digest"
)

// Handler serves an address.
type Handler struct {
	// Action names what its form does, for Config.Limit. Empty: that is not asked.
	Action string
	// Get shows a page; nil: the address only takes a form. Post takes a form that was checked to
	// be one of this site from this browser; nil: there is none. The error of either is shown: see
	// [Call.Fail].
	Get, Post func(*Call) error
	// Fetch answers the script of a page in JSON, instead of Post: to a form that was checked like
	// those of people. The script gets the text of an error as the member "message".
	Fetch func(*Call) (any, error)
}

// Call is a request for a page, and its answer.
type Call struct {
	W http.ResponseWriter
	R *http.Request
	// Lang is the language of the answer: the browser's, unless it is changed.
	Lang    Language
	Browser Browser
	// Form are the fields of a form: none is there twice.
	Form url.Values
	// Flow is what the request is about, as a text that goes from page to page and whose form
	// tokens are good for it alone: of a form, the field "flow"; for pages without one, empty.
	Flow string

	site *Site
	set  *Set
}

// Context is that of the request.
func (c *Call) Context() context.Context { return c.R.Context() }

// Site is the site that the call is for.
func (c *Call) Site() *Site { return c.site }

// Begin begins an answer with a page to a request that came some other way than to a Handler: the
// headers are set. images are further sources of pictures for it: see [OriginOf]. Its Browser is
// not known yet: see [Call.Know].
func (s *Site) Begin(set *Set, w http.ResponseWriter, r *http.Request, images string) *Call {
	s.headers(w.Header(), images)
	return &Call{W: w, R: r, Lang: set.Language("", r.Header.Get("Accept-Language")), site: s, set: set}
}

// Know finds out from which browser the request is, and gives it a cookie if it has none.
func (c *Call) Know() (err error) {
	c.Browser, err = c.site.Browser(c.W, c.R)
	return err
}

// Serve returns what serves an address with the pages of a set.
func (s *Site) Serve(set *Set, h Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := s.Begin(set, w, r, "")
		err := c.try(h)
		switch {
		case err != nil && h.Fetch != nil:
			c.failScript(err)
		case err != nil:
			c.Fail(err)
		}
	}
}

func (c *Call) try(h Handler) error {
	isGet := c.R.Method == http.MethodGet || c.R.Method == http.MethodHead
	switch {
	case isGet && h.Get != nil:
	case c.R.Method == http.MethodPost && (h.Post != nil || h.Fetch != nil):
	default:
		allow := "POST"
		switch {
		case h.Post == nil && h.Fetch == nil:
			allow = "GET, HEAD"
		case h.Get != nil:
			allow = "GET, HEAD, POST"
		}
		c.W.Header().Set("Allow", allow)
		return Refuse(http.StatusMethodNotAllowed, "The method is not allowed here")
	}
	allowed := navigated
	if h.Fetch != nil {
		allowed = fetched
	}
	if err := allowed(c.R); err != nil {
		return err
	}
	if isGet {
		if err := c.Know(); err != nil {
			return err
		}
		return h.Get(c)
	}
	if err := c.readForm(); err != nil {
		return err
	}
	if h.Action != "" {
		if err := c.site.cfg.Limit(c.R, h.Action); err != nil {
			return err
		}
	}
	if h.Fetch != nil {
		return c.answerScript(h.Fetch)
	}
	return h.Post(c)
}

// maxForm is the length in bytes of the longest form.
const maxForm = 64 << 10

// readForm reads a form and checks that it is one of ours, from this browser.
func (c *Call) readForm() error {
	r := c.R
	if r.Header.Get("Origin") != c.site.cfg.Origin {
		return ErrForeign
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return ErrForeign
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.Header.Get("Content-Encoding") != "" {
		return Refuse(http.StatusUnsupportedMediaType, "The body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.W, r.Body, maxForm))
	if err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return Refuse(http.StatusRequestEntityTooLarge, "The form is too long")
		}
		return Refuse(http.StatusBadRequest, "The form could not be read")
	}
	if c.Form, err = parseForm(string(body)); err != nil {
		return err
	}
	if err := c.Know(); err != nil {
		return err
	}
	c.Flow = c.Form.Get("flow")
	if !equal(c.Form.Get("token"), c.site.token(c.Browser, r.URL.Path, c.Flow)) {
		return ErrForm
	}
	return nil
}

// parseForm reads the fields of a form.
func parseForm(body string) (url.Values, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, "The form is malformed")
	}
	for name, v := range form {
		if len(v) > 1 || !utf8.ValidString(name) || !utf8.ValidString(v[0]) {
			return nil, Refuse(http.StatusBadRequest, "The form is malformed")
		}
	}
	return form, nil
}

// token is that of a form: for one browser, one path and one flow.
func (s *Site) token(b Browser, path, flow string) string {
	return digest.MAC(s.keys.form, b.Name, path, flow)
}

// navigated checks that a browser asks for a page as such. Old browsers do not say.
func navigated(r *http.Request) error {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "navigate" {
		return Refuse(http.StatusBadRequest, "This page can only be navigated to")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "document" {
		return Refuse(http.StatusBadRequest, "This page cannot be part of another one")
	}
	return nil
}

// Redirect leads to another page of this server: path begins with a slash.
func (c *Call) Redirect(path string) error {
	c.W.Header().Set("Location", path)
	c.W.WriteHeader(http.StatusSeeOther)
	return nil
}
