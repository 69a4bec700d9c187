package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// visitor is what the cookie of a browser says.
type visitor struct {
	// Browser is a random name of the browser. Tokens of forms, and logins, are bound to it.
	Browser string `json:"browser"`
	// Sessions are those that have begun in it. The first one is used.
	Sessions []client.SessionID `json:"sessions"`
	// Since is when the cookie was made (Unix seconds).
	Since int64 `json:"since"`
}

const (
	cookieLife  = 30 * 24 * time.Hour
	maxSessions = 5    // of one browser
	maxCookie   = 3800 // bytes; browsers keep about 4096
)

func newVisitor(now time.Time) visitor { return visitor{Browser: rand.Text(), Since: now.Unix()} }

// cookieName begins with __Host- where there is HTTPS: browsers then take it from this host only.
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-statusphere"
	}
	return "statusphere"
}

// visitor reads the cookie. ok is false if there is none that this app has made.
func (s *Server) visitor(r *http.Request) (v visitor, ok bool) {
	var value string
	for _, k := range r.CookiesNamed(s.cookieName()) {
		if value != "" {
			return visitor{}, false // somebody has added one
		}
		value = k.Value
	}
	body, sum, _ := strings.Cut(value, ".")
	if len(value) > maxCookie || !hmac.Equal([]byte(sum), []byte(s.cookieSum(body))) {
		return visitor{}, false
	}
	doc, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || data.UnmarshalJSON(doc, &v) != nil {
		return visitor{}, false
	}
	if age := s.cfg.Now().Sub(time.Unix(v.Since, 0)); age > cookieLife || v.Browser == "" {
		return visitor{}, false
	}
	return v, true
}

// setVisitor sets the cookie.
func (s *Server) setVisitor(w http.ResponseWriter, v visitor) {
	value := s.cookieValue(v)
	for len(value) > maxCookie && len(v.Sessions) > 1 { // very long DIDs
		v.Sessions = v.Sessions[:len(v.Sessions)-1]
		value = s.cookieValue(v)
	}
	http.SetCookie(w, &http.Cookie{
		Name: s.cookieName(), Value: value, Path: "/", MaxAge: int(cookieLife.Seconds()),
		Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func (s *Server) cookieValue(v visitor) string {
	doc, err := data.MarshalJSON(v)
	if err != nil {
		panic("web: " + err.Error()) // cannot be: it is strings and a number
	}
	body := base64.RawURLEncoding.EncodeToString(doc)
	return body + "." + s.cookieSum(body)
}

func (s *Server) cookieSum(body string) string { return sum(s.keys.cookie, s.cookieName(), body) }

// token is that of the forms of a browser, as long as the same account is used in it.
func (s *Server) token(v visitor) string { return sum(s.keys.form, v.Browser, string(v.session())) }

// session is the session that is used; empty: nobody is signed in.
func (v *visitor) session() client.SessionID {
	if len(v.Sessions) == 0 {
		return ""
	}
	return v.Sessions[0]
}

// with returns the visitor with a session in front. Other sessions of its account are given back in
// old.
func (v *visitor) with(id client.SessionID) (n visitor, old []client.SessionID) {
	n = visitor{Browser: v.Browser, Since: v.Since, Sessions: []client.SessionID{id}}
	for _, other := range v.Sessions {
		if other != id && (other.DID() == id.DID() || len(n.Sessions) == maxSessions) {
			old = append(old, other)
		} else if other != id {
			n.Sessions = append(n.Sessions, other)
		}
	}
	return n, old
}

// without returns the visitor without a session.
func (v *visitor) without(id client.SessionID) visitor {
	n := *v
	n.Sessions = slices.DeleteFunc(slices.Clone(v.Sessions), func(other client.SessionID) bool { return other == id })
	return n
}

// sum is the MAC of some texts, which have no zero bytes.
func sum(key []byte, parts ...string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}
