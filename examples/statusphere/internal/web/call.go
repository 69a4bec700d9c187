package web

import (
	"context"
	"crypto/hmac"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/pdskit/pdskit/xrpc/limit"
)

// call is a request for a page.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	visitor visitor
	form    url.Values // of a POST
}

func (c *call) ctx() context.Context { return c.r.Context() }

// refusal is an error that is shown to people.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// page serves a page.
func (s *Server) page(do func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r}
		var ok bool
		if c.visitor, ok = s.visitor(r); !ok {
			c.visitor = newVisitor(s.cfg.Now())
			if r.Method == http.MethodGet { // see readForm
				s.setVisitor(w, c.visitor)
			}
		}
		s.answer(c, do(c))
	}
}

// form serves an address that takes a form.
func (s *Server) form(do func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r}
		err := s.readForm(c)
		if err == nil {
			err = do(c)
		}
		s.answer(c, err)
	}
}

// gated bounds how many requests wait for servers at a time: those are of anyone's choice, and may
// take as long as they like.
func (s *Server) gated(do func(*call) error) func(*call) error {
	return func(c *call) error {
		leave, err := s.lookups.Enter(c.ctx(), limit.From(c.r))
		if err != nil {
			return &refusal{http.StatusServiceUnavailable, "There are too many requests at this moment. Try again."}
		}
		defer leave()
		return do(c)
	}
}

// maxForm is the length of the longest form in bytes.
const maxForm = 8 << 10

var (
	errForeign = &refusal{http.StatusForbidden, "This form did not come from a page of this app."}
	errForm    = &refusal{http.StatusForbidden, "This form is too old, or of another browser. Try again from here."}
)

// readForm reads a form and checks that it is one of ours, from this browser.
func (s *Server) readForm(c *call) error {
	r := c.r
	who, ok := s.visitor(r)
	if c.visitor = who; !ok {
		c.visitor = newVisitor(s.cfg.Now())
	}
	// Browsers send no cookie along with a form of another site. If the answer set a new one, any
	// site could sign people out.
	if r.Header.Get("Origin") != s.cfg.URL {
		return errForeign
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return errForeign
	}
	if !ok {
		s.setVisitor(c.w, c.visitor)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
		return &refusal{http.StatusUnsupportedMediaType, "This is no form."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, r.Body, maxForm))
	if over := (*http.MaxBytesError)(nil); errors.As(err, &over) {
		return &refusal{http.StatusRequestEntityTooLarge, "The form is too long."}
	}
	if err == nil {
		c.form, err = url.ParseQuery(string(body))
	}
	if err != nil {
		return &refusal{http.StatusBadRequest, "The form could not be read."}
	}
	for name, values := range c.form {
		if len(values) != 1 || !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			return &refusal{http.StatusBadRequest, "The form is malformed."}
		}
	}
	if !ok || !hmac.Equal([]byte(c.form.Get("token")), []byte(s.token(c.visitor))) {
		return errForm
	}
	return nil
}

// answer shows an error. Without one, the answer was given.
func (s *Server) answer(c *call, err error) {
	if err == nil {
		return
	}
	var refused *refusal
	if !errors.As(err, &refused) {
		if c.ctx().Err() != nil {
			return // nobody waits for an answer
		}
		s.cfg.Log.Error("a request failed", "path", c.r.URL.Path, "error", err)
		refused = &refusal{http.StatusInternalServerError, "Something went wrong here. Try again in a moment."}
	}
	if err := s.show(c, refused.status, refused.text); err != nil {
		s.cfg.Log.Error("a page could not be made", "path", c.r.URL.Path, "error", err)
		http.Error(c.w, refused.text, refused.status)
	}
}

// toHome goes to the page after a form was taken, so that reloading it sends nothing again.
func (s *Server) toHome(c *call) error {
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("Location", "/")
	c.w.WriteHeader(http.StatusSeeOther)
	return nil
}
