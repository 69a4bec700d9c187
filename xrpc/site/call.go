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

// Handler serves a path.
type Handler struct {
	// Action names the action of the form, for Config.Limit. Empty: it is not limited.
	Action string
	// Get shows a page. Nil: the path only accepts a form. Post accepts a form, which was checked
	// to be from this site and this browser. Nil: there is none. Errors of both are shown: see
	// [Call.Fail].
	Get, Post func(*Call) error
	// Fetch responds in JSON to the script of a page, instead of Post. The form is checked like any
	// other. The script gets the text of an error as the member "message".
	Fetch func(*Call) (any, error)
}

// Call is a request for a page, with its response.
type Call struct {
	W http.ResponseWriter
	R *http.Request
	// Lang is the language of the response: the browser's, unless it is changed.
	Lang    Language
	Browser Browser
	// Form has the fields of a form. No field occurs twice.
	Form url.Values
	// Flow identifies the process that the request belongs to. It is passed from page to page, and
	// form tokens are valid only for their flow. It is the field "flow" of a form, or empty for
	// pages without one.
	Flow string

	site *Site
	set  *Set
}

// Context returns the context of the request.
func (c *Call) Context() context.Context { return c.R.Context() }

// Site returns the site of the call.
func (c *Call) Site() *Site { return c.site }

// Begin prepares the response with a page to a request that did not come through a Handler: it sets
// the headers. images are further origins of pictures for the page: see [OriginOf]. The Browser is
// not known yet: see [Call.Know].
func (s *Site) Begin(set *Set, w http.ResponseWriter, r *http.Request, images string) *Call {
	s.headers(w.Header(), images)
	return &Call{W: w, R: r, Lang: set.Language("", r.Header.Get("Accept-Language")), site: s, set: set}
}

// Know identifies the browser of the request, and sets a cookie if it has none.
func (c *Call) Know() (err error) {
	c.Browser, err = c.site.Browser(c.W, c.R)
	return err
}

// Serve returns an http handler for a path, with the pages of a set.
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

// Redirect redirects to another page of this server. path begins with a slash.
func (c *Call) Redirect(path string) error {
	c.W.Header().Set("Location", path)
	c.W.WriteHeader(http.StatusSeeOther)
	return nil
}
