package operator

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/site"
)

const (
	sessionPrefix = "operator/session/"
	// version is that of what is stored. Sessions of other versions are none.
	version = 1
	// sessionLife is how long a session lasts, and idleLife how long it lasts without use.
	sessionLife = 12 * time.Hour
	idleLife    = time.Hour
	// seenEvery is how exactly its use is noted: each note is a write.
	seenEvery = time.Minute
	// tokenLength is that of the secret in the cookie: of rand.Text.
	tokenLength = 26
)

// sessionRecord is what is stored of a session.
type sessionRecord struct {
	Version int       `json:"version"`
	Since   time.Time `json:"since"`
	Seen    time.Time `json:"seen"`
	// Mark is the mark of the password with which it began.
	Mark string `json:"mark"`
}

// ends is when the session ends if it is not used any more.
func (x sessionRecord) ends() time.Time {
	a, b := x.Since.Add(sessionLife), x.Seen.Add(idleLife)
	if a.Before(b) {
		return a
	}
	return b
}

// cookieName is that of the cookie. The prefix sees to it that no other host can set it.
func (p *Pages) cookieName() string {
	if p.secure() {
		return "__Host-operator"
	}
	return "operator"
}

func (p *Pages) secure() bool { return strings.HasPrefix(p.site.Origin(), "https:") }

func (p *Pages) setCookie(c *site.Call, token string) {
	cookie := &http.Cookie{Name: p.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: p.secure(), SameSite: http.SameSiteStrictMode}
	if token == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(c.W, cookie)
}

// sessionKey is where a session is stored.
func sessionKey(token string) string { return sessionPrefix + site.Hash(token) }

// flowOf is what forms of a session carry, so that they are good in no other.
func flowOf(token string) string { return site.Hash("form " + token)[:22] }

// cookie returns the secret that a request has; empty: none that could be one.
func (p *Pages) cookie(r *http.Request) string {
	x, err := r.Cookie(p.cookieName())
	if err != nil || len(x.Value) != tokenLength {
		return ""
	}
	return x.Value
}

// mark is that of the present password, as it is stored.
func (p *Pages) mark() string {
	return site.Hash(base64.RawURLEncoding.EncodeToString(p.cfg.Passwords.AdminMark()))
}

// good reports whether a session goes on.
func (p *Pages) good(x sessionRecord) bool {
	now := p.now()
	return x.Version == version && now.Before(x.ends()) && hmac.Equal([]byte(x.Mark), []byte(p.mark()))
}

// session returns the secret of the session that a request belongs to; empty: it has none.
func (p *Pages) session(c *site.Call) (token string, err error) {
	if token = p.cookie(c.R); token == "" {
		return "", nil
	}
	ctx := c.Context()
	x, err := p.readSession(ctx, token)
	if err != nil || !p.good(x) {
		return "", err
	}
	if p.now().Sub(x.Seen) < seenEvery {
		return token, nil
	}
	err = p.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		x, err := read(tx.Get(ctx, sessionKey(token)))
		if err != nil || !p.good(x) {
			return err // it has ended meanwhile: this request is the last one
		}
		x.Seen = p.now().UTC()
		return put(ctx, tx, token, x)
	})
	if err != nil && ctx.Err() == nil {
		// The disk may be full. That is when the pages are needed.
		p.site.Logger().ErrorContext(ctx, "note that the administrator's session is used", "err", err)
	}
	return token, nil
}

func (p *Pages) readSession(ctx context.Context, token string) (x sessionRecord, err error) {
	err = p.cfg.KV.Read(ctx, func(r storage.KVReader) (err error) {
		x, err = read(r.Get(ctx, sessionKey(token)))
		return err
	})
	return x, err
}

// read reads a session; one that is not there is the zero one.
func read(doc []byte, err error) (x sessionRecord, _ error) {
	if errors.Is(err, storage.ErrNotFound) {
		return x, nil
	} else if err != nil {
		return x, err
	}
	return x, exactjson.UnmarshalPlain(doc, &x)
}

func put(ctx context.Context, tx storage.KVTx, token string, x sessionRecord) error {
	doc, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return tx.Set(ctx, sessionKey(token), doc, x.ends())
}

// begin begins a session in place of the one that the browser has.
func (p *Pages) begin(c *site.Call) error {
	ctx, token, now := c.Context(), rand.Text(), p.now().UTC()
	old := p.cookie(c.R)
	err := p.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		if old != "" {
			if err := tx.Delete(ctx, sessionKey(old)); err != nil {
				return err
			}
		}
		return put(ctx, tx, token, sessionRecord{Version: version, Since: now, Seen: now, Mark: p.mark()})
	})
	if err == nil {
		p.setCookie(c, token)
	}
	return err
}

// end ends a session, or all of them.
func (p *Pages) end(c *site.Call, token string, all bool) error {
	ctx := c.Context()
	err := p.cfg.KV.Write(ctx, func(tx storage.KVTx) error {
		keys := []string{sessionKey(token)}
		if all {
			rng := storage.Prefix(sessionPrefix)
			rng.KeysOnly = true
			for pair, err := range tx.Keys(ctx, rng) {
				if err != nil {
					return err
				}
				keys = append(keys, pair.Key)
			}
		}
		for _, key := range keys {
			if err := tx.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		p.setCookie(c, "")
	}
	return err
}
