package pages

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
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
	maxReplaced  = 8
	maxAccounts  = 16
)

// browser is a browser.
type browser struct {
	// Name stays as long as the cookie.
	Name string
	// secret is that of the cookie, and stale says that it was replaced.
	secret string
	stale  bool
	known  *deviceRecord // nil: nobody has signed in
}

// deviceRecord is what is stored of a browser.
type deviceRecord struct {
	Version int `json:"version"`
	// Secret is the hash of the cookie's secret, and Replaced are the hashes of earlier ones.
	Secret   string       `json:"secret"`
	Replaced []replaced   `json:"replaced,omitempty"`
	Accounts []syntax.DID `json:"accounts,omitempty"`
	// Remember says that the cookie outlasts the browser's session.
	Remember bool `json:"remember,omitempty"`
	// Changed is when the secret last changed.
	Changed time.Time `json:"changed"`
}

type replaced struct {
	Secret string    `json:"secret"`
	At     time.Time `json:"at"`
}

// signInRecord is what is stored of a sign-in, with the account.
type signInRecord struct {
	Version     int       `json:"version"`
	At          time.Time `json:"at"`
	Credentials int64     `json:"credentials,omitempty"`
	// Request is the one that the sign-in is good for; empty: it is good for all.
	Request string `json:"request,omitempty"`
	// Remember says that the browser remembers the account.
	Remember bool      `json:"remember,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Address  string    `json:"address,omitempty"`
	Since    time.Time `json:"since"`
	Expires  time.Time `json:"expires"`
}

// SignIn is a sign-in of an account in a browser, as the account's owner is shown it.
type SignIn struct {
	// ID names the browser to the account. Nothing can be done with it but to end the sign-in.
	ID string
	// Since is when the account was first signed in there, and At when its owner last proved to be it.
	Since, At time.Time
	// Agent is what the browser said of itself, and Address where it was, both at that time. Either
	// may be empty.
	Agent, Address string
	// Remembered: the browser remembers the account.
	Remembered bool
}

func deviceKey(name string) string { return devicePrefix + hash(name) }

// cookieName is that of the cookie. The prefix sees to it that no other host can set it.
func (p *Pages) cookieName() string {
	if p.secure() {
		return "__Host-device"
	}
	return "device"
}

func (p *Pages) secure() bool { return strings.HasPrefix(p.cfg.Issuer, "https:") }

func (p *Pages) setCookie(w http.ResponseWriter, b browser, remember bool) {
	c := &http.Cookie{
		Name: p.cookieName(), Value: b.Name + "." + b.secret, Path: "/", HttpOnly: true, Secure: p.secure(), SameSite: http.SameSiteLaxMode,
	}
	if remember {
		c.MaxAge = int(rememberedLife / time.Second)
	}
	http.SetCookie(w, c)
}

// anonymous is the secret of a browser in which nobody has signed in, so that it need not be stored.
func (p *Pages) anonymous(name string) string { return mac(p.keys.device, "anonymous", name) }

func (p *Pages) newBrowser(w http.ResponseWriter) browser {
	b := browser{Name: rand.Text()}
	b.secret = p.anonymous(b.Name)
	p.setCookie(w, b, false)
	return b
}

// browser returns the browser of a request. One that has no good cookie gets one.
func (p *Pages) browser(w http.ResponseWriter, r *http.Request) (browser, error) {
	ctx := r.Context()
	c, err := r.Cookie(p.cookieName())
	if err != nil {
		return p.newBrowser(w), nil
	}
	name, secret, ok := strings.Cut(c.Value, ".")
	if !ok || len(c.Value) > 200 || name == "" {
		return p.newBrowser(w), nil
	}
	b := browser{Name: name, secret: secret}
	err = p.kv.Read(ctx, func(r storage.KVReader) error {
		b.known, err = readDevice(ctx, r, name)
		return err
	})
	first := equal(secret, p.anonymous(name))
	switch {
	case err != nil:
		return b, err
	case b.known == nil && first:
		return b, nil
	case b.known == nil:
		return p.newBrowser(w), nil
	case equal(hash(secret), b.known.Secret):
		return b, nil
	}
	at, was := b.known.replacedAt(secret, first)
	if !was {
		return p.newBrowser(w), nil
	}
	if p.now().Sub(at) < replacedLife {
		b.stale = true
		return b, nil
	}
	// The cookie is in two hands.
	if err := p.endDevice(ctx, b); err != nil {
		return b, err
	}
	return p.newBrowser(w), nil
}

// replacedAt is when a secret was replaced.
func (d *deviceRecord) replacedAt(secret string, first bool) (time.Time, bool) {
	for _, x := range d.Replaced {
		if equal(hash(secret), x.Secret) {
			return x.At, true
		}
	}
	return time.Time{}, first // long ago
}

func readDevice(ctx context.Context, r storage.KVReader, name string) (*deviceRecord, error) {
	doc, err := r.Get(ctx, deviceKey(name))
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
		return nil, errors.New("pages: a browser of an unknown version is stored")
	}
	return &d, nil
}

// writeDevice changes what is stored of a browser, unless another request has replaced its secret.
func (p *Pages) writeDevice(ctx context.Context, b browser, change func(*deviceRecord)) error {
	return p.kv.Write(ctx, func(tx storage.KVTx) error {
		d, err := readDevice(ctx, tx, b.Name)
		if err != nil {
			return err
		}
		if d == nil {
			d = &deviceRecord{Version: version}
		}
		change(d)
		doc, err := json.Marshal(d)
		if err != nil {
			return err
		}
		life := sessionLife
		if d.Remember {
			life = rememberedLife
		}
		return tx.Set(ctx, deviceKey(b.Name), doc, p.now().Add(life))
	})
}

// endDevice signs all accounts of a browser out.
func (p *Pages) endDevice(ctx context.Context, b browser) error {
	err := p.kv.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, deviceKey(b.Name)) })
	if err != nil || b.known == nil {
		return err
	}
	for _, did := range b.known.Accounts {
		if err := p.EndSignIn(ctx, account.Trusted(did), hash(b.Name)); err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Device returns the browser of a request: see [provider.Logins].
func (p *Pages) Device(w http.ResponseWriter, r *http.Request) (d provider.Device, err error) {
	b, err := p.browser(w, r)
	if err != nil {
		return d, err
	}
	d.ID = b.Name
	list, err := p.signedIn(r.Context(), b)
	if err != nil {
		return d, err
	}
	for _, x := range list {
		d.Accounts = append(d.Accounts, x.SignedIn)
	}
	return d, nil
}

// present is a sign-in that is there.
type present struct {
	provider.SignedIn
	account  account.Account
	remember bool
}

// signedIn are the accounts that are signed in in a browser. Whether their sign-ins are good enough
// is for the provider to say.
func (p *Pages) signedIn(ctx context.Context, b browser) (list []present, err error) {
	if b.known == nil || b.stale {
		return nil, nil
	}
	for _, did := range b.known.Accounts {
		var x signInRecord
		var a account.Account
		err := p.accounts.View(ctx, account.Trusted(did), func(found account.Account, r storage.KVReader) (err error) {
			a = found
			x, _, err = readSignIn(ctx, r, hash(b.Name))
			return err
		})
		if errors.Is(err, account.ErrNotFound) { // as View says of what is not stored, too
			continue
		} else if err != nil {
			return nil, err
		}
		if !p.now().Before(x.Expires) {
			continue
		}
		list = append(list, present{provider.SignedIn{DID: did, At: x.At, Credentials: x.Credentials, Request: x.Request}, a, x.Remember})
	}
	return list, nil
}

func readSignIn(ctx context.Context, r storage.KVReader, id string) (x signInRecord, doc []byte, err error) {
	if doc, err = r.Get(ctx, devicePrefix+id); err != nil {
		return x, nil, err
	}
	if err := exactjson.UnmarshalPlain(doc, &x); err != nil {
		return x, nil, err
	}
	if x.Version != version {
		return x, nil, errors.New("pages: a sign-in of an unknown version is stored")
	}
	return x, doc, nil
}

// enter signs an account in in a browser, by what its owner has shown: first with the account, in a
// transaction that checks the proof once more, and then with the browser, which gets another secret.
// If the second does not happen, nobody is signed in.
func (p *Pages) enter(c *call, proof credential.Proof, remember bool) error {
	ctx, did := c.ctx(), proof.Account.DID
	now := p.now().UTC().Truncate(time.Millisecond)
	id := hash(c.device.Name)
	x := signInRecord{
		Version: version, At: now, Since: now, Credentials: proof.Account.Credentials, Remember: remember,
		Agent: short(c.r.UserAgent(), 256), Address: address(c.r), Expires: now.Add(rememberedLife),
	}
	switch {
	case remember:
	case c.flow.Request != "":
		x.Request, x.Expires = c.flow.Request, now.Add(onceLife)
	default:
		x.Expires = now.Add(sessionLife)
	}
	isNew := true
	a, err := p.accounts.Update(ctx, account.Trusted(did), func(a *account.Account, step *repo.Step) error {
		if a.Status() == account.TakenDown {
			return account.ErrTakenDown
		}
		checks, err := p.credentials.ProofChecks(ctx, step, *a, proof)
		if err != nil {
			return err
		}
		step.Checks = append(step.Checks, checks...)
		old, _, err := readSignIn(ctx, step, id)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if isNew = err != nil; !isNew {
			x.Since = old.Since
		}
		doc, err := json.Marshal(x)
		if err != nil {
			return err
		}
		step.Set(devicePrefix+id, doc, x.Expires)
		return nil
	})
	if err != nil {
		return err
	}
	next := browser{Name: c.device.Name, secret: rand.Text()}
	keep := false
	var dropped []syntax.DID
	err = p.writeDevice(ctx, c.device, func(d *deviceRecord) {
		others := slices.DeleteFunc(slices.Clone(d.Accounts), func(other syntax.DID) bool { return other == did })
		if c.device.stale || d.Secret != "" && !equal(d.Secret, hash(c.device.secret)) {
			// Whoever has an earlier secret does not get at the accounts of who has the present one.
			others, dropped, d.Remember = nil, others, false
		} else {
			n := min(len(others), maxAccounts-1)
			others, dropped = others[:n], others[n:]
		}
		d.Accounts = append([]syntax.DID{did}, others...)
		d.Replaced = append([]replaced{{hash(c.device.secret), now}}, d.Replaced...)
		if d.Secret != "" && d.Secret != hash(c.device.secret) {
			d.Replaced = append([]replaced{{d.Secret, now}}, d.Replaced...)
		}
		d.Replaced = d.Replaced[:min(len(d.Replaced), maxReplaced)]
		d.Secret, d.Changed = hash(next.secret), now
		d.Remember = d.Remember || remember
		keep = d.Remember
	})
	if err != nil {
		return err
	}
	p.setCookie(c.w, next, keep)
	for _, other := range dropped {
		if err := p.EndSignIn(ctx, account.Trusted(other), id); err != nil && !errors.Is(err, account.ErrNotFound) {
			p.log.ErrorContext(ctx, "end a sign-in", "did", other, "err", err) // it expires
		}
	}
	if isNew && p.cfg.NewDevice != nil {
		p.cfg.NewDevice(ctx, a, x.shown(id))
	}
	return nil
}

func (x signInRecord) shown(id string) SignIn {
	return SignIn{ID: id, Since: x.Since, At: x.At, Agent: x.Agent, Address: x.Address, Remembered: x.Remember}
}

// leave signs an account out in a browser.
func (p *Pages) leave(ctx context.Context, b browser, did syntax.DID) error {
	if b.known == nil || b.stale || !slices.Contains(b.known.Accounts, did) {
		return nil
	}
	if err := p.EndSignIn(ctx, account.Trusted(did), hash(b.Name)); err != nil && !errors.Is(err, account.ErrNotFound) {
		return err
	}
	return p.writeDevice(ctx, b, func(d *deviceRecord) {
		d.Accounts = slices.DeleteFunc(d.Accounts, func(other syntax.DID) bool { return other == did })
	})
}

// SignIns returns the browsers in which an account is signed in, the latest first.
func (p *Pages) SignIns(ctx context.Context, who account.Caller) (list []SignIn, err error) {
	err = p.accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, storage.Prefix(devicePrefix)) {
			if err != nil {
				return err
			}
			var x signInRecord
			if err := exactjson.UnmarshalPlain(pair.Value, &x); err != nil {
				return err
			}
			if x.Credentials == a.Credentials && p.now().Before(x.Expires) {
				list = append(list, x.shown(strings.TrimPrefix(pair.Key, devicePrefix)))
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b SignIn) int { return b.At.Compare(a.At) })
	return list, err
}

// EndSignIn signs an account out in a browser: see [SignIn]. One that is not known is no error.
func (p *Pages) EndSignIn(ctx context.Context, who account.Caller, id string) error {
	_, err := p.accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(devicePrefix + id)
		return nil
	})
	return err
}

// Caller returns who a browser is signed in as, for pages of the account: the caller, the sign-in,
// and account.ErrTokenRevoked if the account is not signed in there, or only for a request of an app.
func (p *Pages) Caller(w http.ResponseWriter, r *http.Request, did syntax.DID) (account.Caller, SignIn, error) {
	b, err := p.browser(w, r)
	if err != nil {
		return account.Caller{}, SignIn{}, err
	}
	if b.known == nil || b.stale || !slices.Contains(b.known.Accounts, did) {
		return account.Caller{}, SignIn{}, account.ErrTokenRevoked
	}
	who := p.caller(b, did, "")
	var x signInRecord
	err = p.accounts.View(r.Context(), who, func(_ account.Account, kv storage.KVReader) (err error) {
		x, _, err = readSignIn(r.Context(), kv, hash(b.Name))
		return err
	})
	return who, x.shown(hash(b.Name)), err
}

// caller is who is signed in as an account in a browser, for one request of an app or for all that
// the browser asks.
func (p *Pages) caller(b browser, did syntax.DID, request string) account.Caller {
	id := hash(b.Name)
	return account.NewCaller(did, "", func(ctx context.Context, r storage.KVReader, a account.Account) ([]storage.KVCheck, error) {
		x, doc, err := readSignIn(ctx, r, id)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return nil, account.ErrTokenRevoked
		case err != nil:
			return nil, err
		case x.Credentials != a.Credentials:
			return nil, a.Ended(x.Credentials)
		case !p.now().Before(x.Expires) || x.Request != "" && x.Request != request:
			return nil, account.ErrTokenRevoked
		case a.Status() == account.TakenDown:
			return nil, account.ErrTakenDown
		}
		return []storage.KVCheck{{Key: devicePrefix + id, Value: doc}}, nil
	})
}

// raised ends the sign-ins of an account whose counter is raised.
func raised(ctx context.Context, _ account.Account, step *repo.Step, _ account.Kept) error {
	rng := storage.Prefix(devicePrefix)
	rng.KeysOnly = true
	for pair, err := range step.Keys(ctx, rng) {
		if err != nil {
			return err
		}
		step.Remove(pair.Key)
	}
	return nil
}

// address is that of who sends a request, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// short is a text of a stranger, of bounded length.
func short(s string, n int) string {
	s = strings.ToValidUTF8(s, "")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return s
}
