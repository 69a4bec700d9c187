package client

import (
	"crypto/rand"
	"net/http"
	"net/url"
)

// Cookies that identify the browser in which a login began. The second one is for clients whose
// first redirect URI is plain HTTP, on a developer's machine.
const (
	browserCookie      = "__Host-oauth-login"
	localBrowserCookie = "oauth-login"
)

// cookieName is the name of the client's cookie.
func (c *Client) cookieName() (name string, secure bool) {
	if u, err := url.Parse(c.cfg.Metadata.RedirectURIs[0]); err == nil && u.Scheme == "http" {
		return localBrowserCookie, false
	}
	return browserCookie, true
}

// StartHTTP is [Client.Start] for a web app: it redirects the browser to the authorization server.
// A cookie ties the login to the browser, as Login.Browser. After an error, no response was
// written.
//
// Call it in the handler of a form that the app's own pages send by POST. For requests from
// elsewhere the error is ErrForm, because otherwise any site could log users in to its own account
// (RFC 6819, 4.4.1.8). The handler must have the host name of the redirect URI, since cookies are
// bound to the host: in development that is http://127.0.0.1, not http://localhost. Each call makes
// requests to servers that the user names, so limit the calls: see package limit.
//
// Chromium applies a page's "form-action" (Content Security Policy) to redirects too, so
// form-action 'self' on the form's page blocks this redirect. Omit form-action there. Or use Start,
// with Login.Browser from a cookie of the app, and respond with a page that has the URL as a link.
func (c *Client) StartHTTP(w http.ResponseWriter, r *http.Request, l Login) error {
	if r.Method != http.MethodPost || http.NewCrossOriginProtection().Check(r) != nil {
		return ErrForm
	}
	name, secure := c.cookieName()
	secret := rand.Text()
	if old, err := r.Cookie(name); err == nil && len(old.Value) == len(secret) {
		secret = old.Value // of another tab
	}
	l.Browser = secret
	to, err := c.Start(r.Context(), l)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: secret, Path: "/", MaxAge: int(c.cfg.LoginLife.Seconds()), Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
	return nil
}

// FinishHTTP is [Client.Finish] for a web app, in the handler of the redirect URI, after StartHTTP.
// The caller writes the response, best a redirect, so that the code does not stay in the address
// bar.
func (c *Client) FinishHTTP(w http.ResponseWriter, r *http.Request) (*Session, []byte, error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	secret := ""
	name, _ := c.cookieName()
	if k, err := r.Cookie(name); err == nil {
		secret = k.Value
	}
	return c.Finish(r.Context(), r.URL.Query(), secret)
}
