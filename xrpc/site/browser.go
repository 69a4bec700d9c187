package site

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/digest"
	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// devicePrefix begins the keys of browsers in the host's namespace, and of sign-ins in those of
// accounts.
const devicePrefix = "oauth/device/"

// version is that of everything that is stored. Documents of a version that is not known are
// refused.
const version = 1

const (
	// rememberedLife is how long a browser remembers an account, without another sign-in.
	rememberedLife = 90 * 24 * time.Hour
	// onceLife is how long a sign-in lasts that is not remembered, as the provider has it.
	onceLife = 15 * time.Minute
	// sessionLife is how long a browser is known that remembers nobody.
	sessionLife = 24 * time.Hour
	// replacedLife is how long an earlier secret does no harm, for answers that were lost and for
	// forms that are sent twice.
	replacedLife = 10 * time.Minute
	// seenEvery is how exactly it is noted when a browser was last seen: each note is a write.
	seenEvery   = 10 * time.Minute
	maxReplaced = 8
	maxAccounts = 16
)

// Browser is a browser, identified by its cookie.
type Browser struct {
	// Name is constant as long as the cookie exists.
	Name string
	// secret is that of the cookie, and stale says that it was replaced.
	secret string
	stale  bool
	device *deviceRecord // nil: nobody has signed in
}

// deviceRecord is what is stored of a browser.
type deviceRecord struct {
	Version int `json:"version"`
	// Secret is the hash of the cookie's secret, and Replaced has the hashes of earlier ones.
	Secret   string       `json:"secret"`
	Replaced []replaced   `json:"replaced,omitempty"`
	Accounts []syntax.DID `json:"accounts,omitempty"`
	// Remember is set if the cookie outlasts the browser's session.
	Remember bool `json:"remember,omitempty"`
	// Changed is when the secret last changed, and Seen when the browser last requested a page.
	Changed time.Time `json:"changed"`
	Seen    time.Time `json:"seen,omitzero"`
}

type replaced struct {
	Secret string    `json:"secret"`
	At     time.Time `json:"at"`
}

// cookieName is that of the cookie. The prefix sees to it that no other host can set it.
func (s *Site) cookieName() string {
	if s.secure() {
		return "__Host-device"
	}
	return "device"
}

func (s *Site) setCookie(w http.ResponseWriter, b Browser, remember bool) {
	c := &http.Cookie{
		Name: s.cookieName(), Value: b.Name + "." + b.secret, Path: "/", HttpOnly: true, Secure: s.secure(), SameSite: http.SameSiteLaxMode,
	}
	if remember {
		c.MaxAge = int(rememberedLife / time.Second)
	}
	http.SetCookie(w, c)
}

// anonymous is the secret of a browser in which nobody has signed in, so that it need not be
// stored.
func (s *Site) anonymous(name string) string { return digest.MAC(s.keys.device, "anonymous", name) }

func (s *Site) newBrowser(w http.ResponseWriter) Browser {
	b := Browser{Name: rand.Text()}
	b.secret = s.anonymous(b.Name)
	s.setCookie(w, b, false)
	return b
}

// Browser returns the browser of a request. If the request has no valid cookie, the response sets
// one.
func (s *Site) Browser(w http.ResponseWriter, r *http.Request) (Browser, error) {
	if b, ok := s.justMade(w); ok {
		return b, nil
	}
	ctx := r.Context()
	c, err := r.Cookie(s.cookieName())
	if err != nil {
		return s.newBrowser(w), nil
	}
	name, secret, ok := strings.Cut(c.Value, ".")
	if !ok || len(c.Value) > 200 || name == "" {
		return s.newBrowser(w), nil
	}
	b := Browser{Name: name, secret: secret}
	err = s.kv.Read(ctx, func(r storage.KVReader) error {
		b.device, err = readDevice(ctx, r, Hash(name))
		return err
	})
	first := equal(secret, s.anonymous(name))
	switch {
	case err != nil:
		return b, err
	case b.device == nil && first:
		return b, nil
	case b.device == nil:
		return s.newBrowser(w), nil
	case equal(Hash(secret), b.device.Secret):
		s.noteSeen(ctx, b)
		return b, nil
	}
	at, was := b.device.replacedAt(secret, first)
	if !was {
		return s.newBrowser(w), nil
	}
	if s.now().Sub(at) < replacedLife {
		b.stale = true
		return b, nil
	}
	// The cookie is in two hands.
	if err := s.endDevice(ctx, b); err != nil {
		return b, err
	}
	return s.newBrowser(w), nil
}

// justMade is the browser that has got its cookie with the answer to this request.
func (s *Site) justMade(w http.ResponseWriter) (b Browser, ok bool) {
	if w == nil {
		return b, false
	}
	for _, line := range w.Header()["Set-Cookie"] {
		if x, err := http.ParseSetCookie(line); err == nil && x.Name == s.cookieName() {
			b.Name, b.secret, ok = strings.Cut(x.Value, ".")
		}
	}
	return b, ok
}

// replacedAt is when a secret was replaced.
func (d *deviceRecord) replacedAt(secret string, first bool) (time.Time, bool) {
	for _, x := range d.Replaced {
		if equal(Hash(secret), x.Secret) {
			return x.At, true
		}
	}
	return time.Time{}, first // long ago
}

// readDevice returns what is stored of a browser, by the hash of its name; nil: nothing.
func readDevice(ctx context.Context, r storage.KVReader, id string) (*deviceRecord, error) {
	doc, err := r.Get(ctx, devicePrefix+id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var d deviceRecord
	if err := exactjson.UnmarshalPlain(doc, &d); err != nil {
		return nil, err
	}
	if d.Version != version {
		return nil, errors.New("site: a browser of an unknown version is stored")
	}
	return &d, nil
}

// writeDevice changes what is stored of a browser, unless another request has replaced its secret.
func (s *Site) writeDevice(ctx context.Context, b Browser, change func(*deviceRecord)) error {
	return s.kv.Write(ctx, func(tx storage.KVTx) error {
		d, err := readDevice(ctx, tx, Hash(b.Name))
		if err != nil {
			return err
		}
		if d == nil {
			d = &deviceRecord{Version: version}
		}
		change(d)
		d.Seen = s.now().UTC().Truncate(time.Second)
		return s.putDevice(ctx, tx, b, d)
	})
}

func (s *Site) putDevice(ctx context.Context, tx storage.KVTx, b Browser, d *deviceRecord) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return err
	}
	life := sessionLife
	if d.Remember {
		life = rememberedLife
	}
	return tx.Set(ctx, devicePrefix+Hash(b.Name), doc, s.now().Add(life))
}

// noteSeen notes that a browser was seen, if the last note is old. What it notes is for people: nothing
// depends on it.
func (s *Site) noteSeen(ctx context.Context, b Browser) {
	now := s.now()
	if now.Sub(b.device.Seen) < seenEvery {
		return
	}
	err := s.kv.Write(ctx, func(tx storage.KVTx) error {
		d, err := readDevice(ctx, tx, Hash(b.Name))
		if err != nil || d == nil || now.Sub(d.Seen) < seenEvery {
			return err
		}
		d.Seen = now.UTC().Truncate(time.Second)
		return s.putDevice(ctx, tx, b, d)
	})
	if err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "note when a browser was seen", "err", err)
	}
}

// endDevice signs all accounts of a browser out.
func (s *Site) endDevice(ctx context.Context, b Browser) error {
	err := s.kv.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, devicePrefix+Hash(b.Name)) })
	if err != nil || b.device == nil {
		return err
	}
	for _, did := range b.device.Accounts {
		if err := s.EndSignIn(ctx, account.Trusted(did), Hash(b.Name)); err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
	}
	return nil
}
