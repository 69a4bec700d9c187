package site

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

//go:embed passkey.js
var passkeyScript string

// passkeyPath is where the script is. Its name changes with its text.
var passkeyPath = "/site/passkey-" + Hash(passkeyScript)[:16] + ".js"

// PasskeyScript returns the path of the script with which a page asks for a passkey: see [Page].
// The beginning of passkey.js says what the page must contain.
func PasskeyScript() string { return passkeyPath }

// PasskeyForm has the values that the script needs in a form. The template "passkey" writes them as
// attributes of the form's tag. The form must contain the template "passkey-problem", and a button
// with the id "passkey-button".
//
//	<form method="post" action="/path" {{template "passkey" (.PasskeyForm "get" "/options")}}>
//	{{template "hidden" (.Hidden "/path")}}{{template "passkey-problem"}}
//	<button id="passkey-button">…</button></form>
type PasskeyForm struct {
	// Ceremony is "get" or "create". Options is the path of a Handler whose Fetch returns the
	// options of a passkey.Passkeys. Token is the form token for that path.
	Ceremony, Options, Token string
	// Texts that the script shows.
	Cancelled, Failed, Duplicate string
}

// PasskeyForm returns the values for a form. options is a path without escapes.
func (p *Page) PasskeyForm(ceremony, options string) PasskeyForm {
	return PasskeyForm{
		Ceremony: ceremony, Options: (&url.URL{Path: options}).EscapedPath(), Token: p.token(options),
		Cancelled: p.T("passkey.cancelled"), Failed: p.T("passkey.failed"), Duplicate: p.T("passkey.duplicate"),
	}
}

// serveFile serves a file whose name changes with its text.
func serveFile(kind, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind+"; charset=utf-8")
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		w.Write([]byte(text))
	}
}

// allowScript lets a page run one script, by its whole address, so that nothing else that the
// server serves is one, such as the blobs of accounts. The script may send requests to the server.
func (s *Site) allowScript(h http.Header, path string) {
	policy := h.Get("Content-Security-Policy")
	h.Set("Content-Security-Policy", strings.Replace(policy, "default-src 'none';", "default-src 'none'; script-src "+s.cfg.Origin+path+"; connect-src 'self';", 1))
}

// fetched checks that a script of a page asks. Old browsers do not say.
func fetched(r *http.Request) error {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" && mode != "cors" && mode != "same-origin" {
		return Refuse(http.StatusBadRequest, "This is for scripts of pages of this server")
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" && dest != "empty" {
		return Refuse(http.StatusBadRequest, "This is for scripts of pages of this server")
	}
	return nil
}

// answerScript answers a script.
func (c *Call) answerScript(fetch func(*Call) (any, error)) error {
	out, err := fetch(c)
	if err != nil {
		return err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	c.W.Header().Set("Content-Type", "application/json")
	c.W.Write(text)
	return nil
}

// failScript tells a script of an error, in words for people.
func (c *Call) failScript(err error) {
	e, expected := Shown(err)
	if !expected {
		c.site.log.ErrorContext(c.Context(), "pages", "path", c.R.URL.Path, "err", err)
	}
	for name, v := range e.Header {
		c.W.Header()[http.CanonicalHeaderKey(name)] = v
	}
	message := e.Text
	if e.Key != "" {
		message = c.Lang.Message(e.Key)
	}
	c.W.Header().Set("Content-Type", "application/json")
	c.W.WriteHeader(e.Status)
	json.NewEncoder(c.W).Encode(map[string]string{"message": message})
}
