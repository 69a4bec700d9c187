package site

import (
	"cmp"
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
	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// signInRecord is what is stored of a sign-in, with the account.
type signInRecord struct {
	Version     int       `json:"version"`
	At          time.Time `json:"at"`
	Credentials int64     `json:"credentials,omitempty"`
	// Request is the only request for which the sign-in is valid; empty: it is valid for all.
	Request string `json:"request,omitempty"`
	// Remember is set if the browser remembers the account.
	Remember bool      `json:"remember,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Address  string    `json:"address,omitempty"`
	Since    time.Time `json:"since"`
	Expires  time.Time `json:"expires"`
}

// SignIn is a sign-in of an account in a browser, as shown to the account's owner.
type SignIn struct {
	// ID identifies the browser to the account. It is no secret: it can only be used to end the
	// sign-in.
	ID string
	// Since is when the account first signed in there. At is when its owner last proved to be the
	// owner.
	Since, At time.Time
	// Agent is the browser's User-Agent, and Address its network address, both at that time. Both
	// may be empty.
	Agent, Address string
	// Remembered is set if the browser remembers the account.
	Remembered bool
	// Seen is when the browser last requested a page here, for any of its accounts, within ten
	// minutes. It is set only in lists.
	Seen time.Time
}

// maxSkew is how far the clocks of nodes may differ.
const maxSkew = time.Minute

// Within reports whether the account's owner proved to be it at most d ago. A sign-in from the future
// was noted by a clock that was ahead: nobody knows how old it is, so it is none.
func (x SignIn) Within(d time.Duration, now time.Time) bool {
	age := now.Sub(x.At)
	return age <= d && age >= -maxSkew
}

// SignedIn is an account that is signed in in a browser.
type SignedIn struct {
	Account account.Account
	SignIn
	// Credentials is the account's counter of credentials at the time of the sign-in. If the
	// account's counter has another value now, the sign-in is no longer valid.
	Credentials int64
	// Request is the only app's request for which the sign-in is valid; empty: it is valid for all.
	Request string
}

// SignedIn returns the accounts that are signed in in a browser.
func (s *Site) SignedIn(ctx context.Context, b Browser) (list []SignedIn, err error) {
	if b.device == nil || b.stale {
		return nil, nil
	}
	for _, did := range b.device.Accounts {
		var x signInRecord
		var a account.Account
		err := s.accounts.View(ctx, account.Trusted(did), func(found account.Account, r storage.KVReader) (err error) {
			a = found
			x, _, err = readSignIn(ctx, r, Hash(b.Name))
			return err
		})
		if errors.Is(err, account.ErrNotFound) { // as View says of what is not stored, too
			continue
		} else if err != nil {
			return nil, err
		}
		if !s.now().Before(x.Expires) {
			continue
		}
		list = append(list, SignedIn{a, x.shown(Hash(b.Name)), x.Credentials, x.Request})
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
		return x, nil, errors.New("site: a sign-in of an unknown version is stored")
	}
	return x, doc, nil
}

// Stay says how long a sign-in lasts.
type Stay struct {
	// Remember makes the browser remember the account for 90 days.
	Remember bool
	// Request is the app's request in which the account signs in. Without Remember, the sign-in is
	// valid only for that request, for 15 minutes. Without Request and Remember, it is valid for a
	// day.
	Request string
}

// Enter signs an account in in a browser, with a proof of its owner. It first writes to the
// account, in a transaction that checks the proof again, and then to the browser, which gets a new
// secret. If the second write fails, nobody is signed in.
func (s *Site) Enter(c *Call, proof credential.Proof, stay Stay) error {
	ctx, did := c.Context(), proof.Account.DID
	now := s.now().UTC().Truncate(time.Millisecond)
	id := Hash(c.Browser.Name)
	x := signInRecord{
		Version: version, At: now, Since: now, Credentials: proof.Account.Credentials, Remember: stay.Remember,
		Agent: Short(c.R.UserAgent(), 256), Address: Address(c.R), Expires: now.Add(rememberedLife),
	}
	switch {
	case stay.Remember:
	case stay.Request != "":
		x.Request, x.Expires = stay.Request, now.Add(onceLife)
	default:
		x.Expires = now.Add(sessionLife)
	}
	isNew := true
	a, err := s.accounts.Update(ctx, account.Trusted(did), func(a *account.Account, step *repo.Step) error {
		if a.Status() == account.TakenDown {
			return account.ErrTakenDown
		}
		checks, err := s.credentials.ProofChecks(ctx, step, *a, proof)
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
		} else if err := makeRoom(ctx, *a, step); err != nil {
			return err
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
	next := Browser{Name: c.Browser.Name, secret: rand.Text()}
	keep := false
	var dropped []syntax.DID
	err = s.writeDevice(ctx, c.Browser, func(d *deviceRecord) {
		others := slices.DeleteFunc(slices.Clone(d.Accounts), func(other syntax.DID) bool { return other == did })
		if c.Browser.stale || d.Secret != "" && !equal(d.Secret, Hash(c.Browser.secret)) {
			// Whoever has an earlier secret does not get at the accounts of who has the present
			// one.
			others, dropped, d.Remember = nil, others, false
		} else {
			n := min(len(others), maxAccounts-1)
			others, dropped = others[:n], others[n:]
		}
		d.Accounts = append([]syntax.DID{did}, others...)
		d.Replaced = append([]replaced{{Hash(c.Browser.secret), now}}, d.Replaced...)
		if d.Secret != "" && d.Secret != Hash(c.Browser.secret) {
			d.Replaced = append([]replaced{{d.Secret, now}}, d.Replaced...)
		}
		d.Replaced = d.Replaced[:min(len(d.Replaced), maxReplaced)]
		d.Secret, d.Changed = Hash(next.secret), now
		d.Remember = d.Remember || stay.Remember
		keep = d.Remember
	})
	if err != nil {
		return err
	}
	s.setCookie(c.W, next, keep)
	for _, other := range dropped {
		if err := s.EndSignIn(ctx, account.Trusted(other), id); err != nil && !errors.Is(err, account.ErrNotFound) {
			s.log.ErrorContext(ctx, "end a sign-in", "did", other, "err", err) // it expires
		}
	}
	if isNew && s.cfg.NewDevice != nil {
		s.cfg.NewDevice(ctx, a, x.shown(id))
	}
	return nil
}

// maxSignIns bounds the browsers in which an account is signed in: beyond it, those end in which it
// was the longest ago.
const maxSignIns = 500

// makeRoom adds to a step the end of old sign-ins, so that there is room for a new one.
func makeRoom(ctx context.Context, a account.Account, step *repo.Step) error {
	void := func(x signInRecord) int {
		if x.Credentials != a.Credentials {
			return 0
		}
		return 1
	}
	keys, err := storedjson.Surplus(ctx, step, devicePrefix, maxSignIns, func(x, y signInRecord) int {
		return cmp.Or(void(x)-void(y), x.At.Compare(y.At))
	})
	for _, key := range keys {
		step.Remove(key)
	}
	return err
}

func (x signInRecord) shown(id string) SignIn {
	return SignIn{ID: id, Since: x.Since, At: x.At, Agent: x.Agent, Address: x.Address, Remembered: x.Remember}
}

// Leave signs an account out in a browser.
func (s *Site) Leave(ctx context.Context, b Browser, did syntax.DID) error {
	if b.device == nil || b.stale || !slices.Contains(b.device.Accounts, did) {
		return nil
	}
	if err := s.EndSignIn(ctx, account.Trusted(did), Hash(b.Name)); err != nil && !errors.Is(err, account.ErrNotFound) {
		return err
	}
	return s.writeDevice(ctx, b, func(d *deviceRecord) {
		d.Accounts = slices.DeleteFunc(d.Accounts, func(other syntax.DID) bool { return other == did })
	})
}

// SignIns lists and ends the sign-ins of accounts without a Site, for a command line that runs
// beside servers over the same store. It is safe for concurrent use.
type SignIns struct {
	Accounts *account.Store
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// List returns the browsers in which a caller's account is signed in, the latest sign-in first.
func (x SignIns) List(ctx context.Context, who account.Caller) (list []SignIn, err error) {
	now := time.Now()
	if x.Now != nil {
		now = x.Now()
	}
	err = x.Accounts.View(ctx, who, func(a account.Account, r storage.KVReader) error {
		list = nil
		for pair, err := range r.Keys(ctx, storage.Prefix(devicePrefix)) {
			if err != nil {
				return err
			}
			var in signInRecord
			if err := exactjson.UnmarshalPlain(pair.Value, &in); err != nil {
				return err
			}
			if in.Credentials == a.Credentials && now.Before(in.Expires) {
				list = append(list, in.shown(strings.TrimPrefix(pair.Key, devicePrefix)))
			}
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	slices.SortFunc(list, func(a, b SignIn) int { return b.At.Compare(a.At) })
	return list, x.Accounts.Host().Store().KV.Read(ctx, func(r storage.KVReader) error {
		for i := range list {
			d, err := readDevice(ctx, r, list[i].ID)
			if err != nil {
				return err
			}
			list[i].Seen = list[i].At
			if d != nil && d.Seen.After(list[i].At) {
				list[i].Seen = d.Seen
			}
		}
		return nil
	})
}

// End signs the caller's account out in a browser: see [SignIn]. An unknown ID is not an error.
func (x SignIns) End(ctx context.Context, who account.Caller, id string) error {
	_, err := x.Accounts.Update(ctx, who, func(_ *account.Account, step *repo.Step) error {
		step.Remove(devicePrefix + id)
		return nil
	})
	return err
}

// SignIns returns the browsers in which an account is signed in: see [SignIns.List].
func (s *Site) SignIns(ctx context.Context, who account.Caller) ([]SignIn, error) {
	return SignIns{s.accounts, s.now}.List(ctx, who)
}

// EndSignIn signs an account out in a browser: see [SignIns.End].
func (s *Site) EndSignIn(ctx context.Context, who account.Caller, id string) error {
	return SignIns{s.accounts, s.now}.End(ctx, who, id)
}

// Address returns the network address of the sender of a request, without the port. It may be
// empty.
func Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
