package accounttest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// Histories runs n random histories of some operations each.
func Histories(t *testing.T, open Open, n, operations int) {
	histories(t, open, n, operations, nil)
}

func histories(tb testing.TB, open Open, n, operations int, mutate mutation) {
	for seed := range n {
		h := newHistory(tb, open, uint64(seed))
		h.mutate = mutate
		for range operations {
			if h.step(); tb.Failed() {
				tb.Fatalf("history %d:\n\t%s", seed, strings.Join(h.log, "\n\t"))
			}
		}
	}
}

// history is a world with a model of it.
type history struct {
	*world
	rng      *rand.Rand
	log      []string
	people   map[syntax.DID]*person // accounts that there are
	invites  map[string]*invite
	counters map[syntax.DID]int64 // the greatest that was seen of the present account
	given    []*session           // all that were ever given, also by accounts that are gone
}

// person is the model of an account.
type person struct {
	did              syntax.DID
	handle           syntax.Handle
	email            string // in lower case
	confirmed        bool
	deactivated      bool
	deleteAfter      time.Time
	down             bool
	counter          int64 // raised so often since the account was made
	downCounter      int64
	base             int64 // of the counter, when the account was made
	apps             map[string]*app
	tokens           map[credential.Purpose]token
	void             map[string]credential.Purpose // tokens that were used, or are not good any more
	theme            string
	invitesForbidden bool
	hidden           bool // its record
}

// forget makes tokens void.
func (p *person) forget(purposes ...credential.Purpose) {
	for _, purpose := range purposes {
		if t := p.tokens[purpose]; t.text != "" {
			p.void[t.text] = purpose
		}
		delete(p.tokens, purpose)
	}
}

type app struct {
	text string
	hash string
}

type token struct {
	text, email string
	at          time.Time
}

type invite struct {
	owner    string
	room     int
	disabled bool
	uses     map[syntax.DID]bool
}

// session is the model of one, and what its owner holds of it.
type session struct {
	person  *person
	counter int64 // under which it is
	made    int64 // under which its token was made
	app     *app
	name    string
	chain   []string    // refresh tokens; the last one is good
	used    []time.Time // when each but the last was exchanged
	ended   bool
	caller  account.Caller
}

func newHistory(tb testing.TB, open Open, seed uint64) *history {
	c := newClock()
	h := &history{
		world: newWorld(tb, open(tb, c.now), c), rng: rand.New(rand.NewPCG(seed, 1)),
		people: make(map[syntax.DID]*person), invites: make(map[string]*invite), counters: make(map[syntax.DID]int64),
	}
	h.ok(h.accounts.Repair(h.ctx))
	return h
}

var everybody = []syntax.DID{alice, bob, carol}

// Names that accounts compete for.
func (h *history) someHandle() syntax.Handle {
	return syntax.Handle(fmt.Sprintf("name%d.test", h.rng.IntN(4)))
}

func (h *history) someEmail() string { return fmt.Sprintf("Name%d@example.com", h.rng.IntN(4)) }

// some returns a random element.
func some[T any](h *history, list []T) (v T, ok bool) {
	if len(list) == 0 {
		return v, false
	}
	return list[h.rng.IntN(len(list))], true
}

func (h *history) byHandle(handle syntax.Handle) *person {
	for _, p := range h.people {
		if p.handle == handle {
			return p
		}
	}
	return nil
}

func (h *history) byEmail(email string) *person {
	for _, p := range h.people {
		if p.email == strings.ToLower(email) {
			return p
		}
	}
	return nil
}

// expect compares an error.
func (h *history) expect(err, want error) bool {
	h.tb.Helper()
	if !errors.Is(err, want) {
		h.tb.Errorf("%s: %v, want %v", h.log[len(h.log)-1], err, want)
	}
	return err == nil && want == nil
}

// raise models the raising of a counter.
func (h *history) raise(p *person, apps bool, kept *session) {
	p.counter++
	for _, x := range h.given {
		if x.person != p || x.ended {
			continue
		}
		if x == kept && x.counter == p.counter-1 {
			x.counter = p.counter
		} else {
			x.ended = true
		}
	}
	if !apps {
		p.apps = make(map[string]*app)
	}
}

// over is the error for a token that is not good any more, which was made under a value of the
// counter.
func (p *person) over(made int64) error {
	if p.down && p.downCounter == p.counter && made == p.counter-1 {
		return account.ErrTakenDown
	}
	return account.ErrTokenRevoked
}

// good is the error with which the caller of a session is let in.
func (x *session) good() error {
	p := x.person
	switch {
	case x.ended:
		return p.over(x.made)
	case p.down:
		return account.ErrTakenDown
	}
	return nil
}

// by is on whose word something is done: that of a session, or the administrator's.
func (h *history) by(p *person) (who account.Caller, x *session, want error) {
	var own []*session
	for _, x := range h.given {
		if x.person == p {
			own = append(own, x)
		}
	}
	if x, ok := some(h, own); ok && h.rng.IntN(2) == 0 {
		return x.caller, x, x.good()
	}
	return account.Trusted(p.did), nil, nil
}

// step carries out one random operation, and compares all there is with the model.
func (h *history) step() {
	h.tb.Helper()
	did, _ := some(h, everybody)
	p := h.people[did]
	names := slices.Sorted(maps.Keys(actions))
	name, _ := some(h, names)
	if p == nil && (name != "invite" && name != "disable" && name != "wait") {
		name = "create"
	} else if p == nil && h.rng.IntN(2) == 0 {
		name = "create"
	}
	h.log = append(h.log, name+" "+string(did))
	actions[name](h, did, p)
	h.compare()
}

// actions are the operations of histories. p is nil where there is no account.
var actions map[string]func(h *history, did syntax.DID, p *person)

func init() {
	actions = map[string]func(h *history, did syntax.DID, p *person){
		"create": func(h *history, did syntax.DID, p *person) {
			a := account.Account{DID: did, Handle: h.someHandle(), Email: h.someEmail(), Credentials: h.clock.now().UnixMilli()}
			codes := slices.Sorted(maps.Keys(h.invites))
			if code, ok := some(h, codes); ok && h.rng.IntN(2) == 0 {
				a.Invite = code
			}
			var want error
			inv := h.invites[a.Invite]
			switch {
			case h.byHandle(a.Handle) != nil && h.byHandle(a.Handle).did != did:
				want = account.ErrHandleTaken
			case h.byEmail(a.Email) != nil && h.byEmail(a.Email).did != did:
				want = account.ErrEmailTaken
			case inv != nil && (inv.disabled || len(inv.uses) >= inv.room):
				want = account.ErrInvite
			case p != nil:
				want = repo.ErrRepoExists
			}
			err := h.do("create", did, func() error { return h.create(a) })
			if errors.Is(want, repo.ErrRepoExists) && inv != nil && !inv.uses[did] {
				defer func() { delete(inv.uses, did) }()
			}
			if !h.expect(err, want) {
				return
			}
			delete(h.counters, did)
			h.people[did] = &person{
				did: did, handle: a.Handle, email: strings.ToLower(a.Email), base: a.Credentials, counter: a.Credentials,
				apps: make(map[string]*app), tokens: make(map[credential.Purpose]token), void: make(map[string]credential.Purpose),
			}
			if inv != nil {
				inv.uses[did] = true
			}
		},
		"rename": func(h *history, did syntax.DID, p *person) {
			handle := h.someHandle()
			who, _, want := h.by(p)
			if other := h.byHandle(handle); want == nil && other != nil && other != p {
				want = account.ErrHandleTaken
			}
			err := h.do("rename", did, func() error { return h.accounts.ChangeHandle(h.ctx, who, handle, register) })
			if h.expect(err, want) {
				p.handle = handle
			}
		},
		"address": func(h *history, did syntax.DID, p *person) {
			email := h.someEmail()
			who, x, want := h.by(p)
			t := p.tokens[credential.ForEmailChange]
			if want == nil && x != nil && p.confirmed {
				want = h.tokenError(p, t)
				if t.text == "" {
					want = credential.ErrMailTokenRequired
				}
			}
			if other := h.byEmail(email); want == nil && other != nil && other != p {
				want = account.ErrEmailTaken
			}
			err := h.do("address", did, func() error { return h.credentials.ChangeEmail(h.ctx, who, email, t.text) })
			if h.expect(err, want) {
				p.email, p.confirmed = strings.ToLower(email), false
				p.forget(purposes...)
			}
		},
		"password": func(h *history, did syntax.DID, p *person) {
			if h.rng.IntN(4) > 0 { // hashing takes long
				return
			}
			who, _, want := h.by(p)
			err := h.do("password", did, func() error {
				_, err := h.credentials.SetPassword(h.ctx, who, password)
				return err
			})
			if h.expect(err, want) {
				h.raise(p, false, nil)
				p.forget(purposes...)
			}
		},
		"reset": func(h *history, did syntax.DID, p *person) {
			t := p.tokens[credential.ForPasswordReset]
			want := h.tokenError(p, t)
			if want == nil && h.rng.IntN(3) > 0 {
				return
			}
			err := h.do("reset", did, func() error { return h.credentials.ResetPassword(h.ctx, strings.ToLower(t.text), password) })
			if h.expect(err, want) {
				h.raise(p, false, nil)
				p.forget(purposes...)
			}
		},
		"token": func(h *history, did syntax.DID, p *person) {
			purpose, _ := some(h, purposes)
			who, _, want := h.by(p)
			var text string
			err := h.do("token", did, func() (err error) {
				text, _, err = h.credentials.NewMailToken(h.ctx, who, purpose)
				return err
			})
			if h.expect(err, want) {
				p.forget(purpose)
				p.tokens[purpose] = token{text, p.email, h.clock.now()}
			}
		},
		"confirm": func(h *history, did syntax.DID, p *person) {
			t := p.tokens[credential.ForEmailConfirmation]
			who, _, want := h.by(p)
			if want == nil {
				want = h.tokenError(p, t)
			}
			err := h.do("confirm", did, func() error { return h.credentials.ConfirmEmail(h.ctx, who, p.email, t.text) })
			if h.expect(err, want) {
				p.confirmed = true
				p.forget(credential.ForEmailConfirmation)
			}
		},
		"app": func(h *history, did syntax.DID, p *person) {
			name := fmt.Sprint("app", h.rng.IntN(3))
			who, _, want := h.by(p)
			if want == nil && p.apps[name] != nil {
				want = credential.ErrDuplicateName
			}
			var text string
			var made credential.AppPassword
			err := h.do("app", did, func() (err error) {
				text, made, err = h.credentials.CreateAppPassword(h.ctx, who, name, false)
				return err
			})
			if h.expect(err, want) {
				p.apps[name] = &app{text, made.Hash}
			}
		},
		"revoke": func(h *history, did syntax.DID, p *person) {
			name := fmt.Sprint("app", h.rng.IntN(3))
			who, _, want := h.by(p)
			err := h.do("revoke", did, func() error { return h.credentials.RevokeAppPassword(h.ctx, who, name) })
			if h.expect(err, want) {
				for _, x := range h.given {
					x.ended = x.ended || x.person == p && x.app != nil && x.app == p.apps[name]
				}
				delete(p.apps, name)
			}
		},
		"login": func(h *history, did syntax.DID, p *person) {
			text := password
			var by *app
			if name, ok := some(h, slices.Sorted(maps.Keys(p.apps))); ok && h.rng.IntN(2) == 0 {
				by = p.apps[name]
				text = by.text
			}
			var want error
			if p.down && (by != nil || h.rng.IntN(2) == 0) {
				want = account.ErrTakenDown
			}
			x := &session{person: p, counter: p.counter, made: p.counter, app: by}
			err := h.do("login", did, func() error {
				proof, err := h.credentials.CheckPassword(h.ctx, h.account(did), text, true)
				if err != nil {
					return err
				}
				_, s, err := h.credentials.StartSession(h.ctx, proof, want == nil)
				x.name, x.chain = s.Name(), []string{s.ID}
				x.caller = h.credentials.Caller(credential.Token{DID: did, Session: s.Name(), Credentials: s.Credentials})
				return err
			})
			if h.expect(err, want) {
				h.given = append(h.given, x)
			}
		},
		"refresh": func(h *history, did syntax.DID, p *person) {
			x, ok := some(h, h.given)
			if !ok {
				return
			}
			h.refresh(x)
		},
		"logout": func(h *history, did syntax.DID, p *person) {
			x, ok := some(h, h.given)
			if !ok || h.people[x.person.did] != x.person {
				return
			}
			id, _ := some(h, x.chain)
			err := h.do("logout", x.person.did, func() error { return h.credentials.EndSession(h.ctx, x.person.did, id) })
			if h.expect(err, nil) {
				x.ended = true
			}
		},
		"logout everywhere": func(h *history, did syntax.DID, p *person) {
			who, x, want := h.by(p)
			err := h.do("logout everywhere", did, func() error { return h.credentials.EndSessions(h.ctx, who) })
			if h.expect(err, want) {
				h.raise(p, true, x)
			}
		},
		"deactivate": func(h *history, did syntax.DID, p *person) {
			who, x, want := h.by(p)
			var after time.Time
			if h.rng.IntN(2) == 0 {
				after = h.clock.now().Add(time.Duration(h.rng.IntN(3)) * time.Hour)
			}
			err := h.do("deactivate", did, func() error { return h.accounts.Deactivate(h.ctx, who, after) })
			if h.expect(err, want) {
				p.deactivated, p.deleteAfter = true, after
				h.raise(p, true, x)
			}
		},
		"activate": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			err := h.do("activate", did, func() error { return h.accounts.Activate(h.ctx, who) })
			if h.expect(err, want) {
				p.deactivated, p.deleteAfter = false, time.Time{}
			}
		},
		"take down": func(h *history, did syntax.DID, p *person) {
			down := h.rng.IntN(3) == 0
			err := h.do("take down", did, func() error {
				return h.accounts.TakeDown(h.ctx, did, account.Takedown{Applied: down, Ref: "x"})
			})
			if h.expect(err, nil) {
				if down && !p.down {
					h.raise(p, true, nil)
					p.downCounter = p.counter
				}
				p.down = down
			}
		},
		"record": func(h *history, did syntax.DID, p *person) {
			hide := h.rng.IntN(2) == 0
			err := h.do("record", did, func() error {
				return h.accounts.SetRecordTakedown(h.ctx, did, "com.example.note/one", account.Takedown{Applied: hide, Ref: "x"})
			})
			if h.expect(err, nil) {
				p.hidden = hide
			}
		},
		"preferences": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			theme := fmt.Sprint("theme", h.rng.IntN(100))
			err := h.do("preferences", did, func() error { return h.accounts.SetPreferences(h.ctx, who, prefer(theme)) })
			if h.expect(err, want) {
				p.theme = theme
			}
		},
		"forbid": func(h *history, did syntax.DID, p *person) {
			forbid := h.rng.IntN(2) == 0
			err := h.do("forbid", did, func() error {
				_, err := h.accounts.Update(h.ctx, account.Trusted(did), func(a *account.Account, _ *repo.Step) error {
					a.InvitesDisabled = forbid
					return nil
				})
				return err
			})
			if h.expect(err, nil) {
				p.invitesForbidden = forbid
			}
		},
		"rotate": func(h *history, did syntax.DID, p *person) {
			who, _, want := h.by(p)
			err := h.do("rotate", did, func() error { return h.accounts.RotateKey(h.ctx, who, nil) })
			h.expect(err, want)
		},
		"delete": func(h *history, did syntax.DID, p *person) {
			if h.rng.IntN(3) > 0 {
				return
			}
			want := error(nil)
			err := h.do("delete", did, func() error {
				if t := p.tokens[credential.ForDeletion]; t.text != "" {
					want = h.tokenError(p, t)
					return h.credentials.DeleteAccount(h.ctx, credential.Proof{Account: h.account(did)}, t.text)
				}
				return h.accounts.Delete(h.ctx, account.Trusted(did))
			})
			if h.expect(err, want) {
				delete(h.people, did)
				for _, x := range h.given {
					x.ended = x.ended || x.person == p
				}
			}
		},
		"invite": func(h *history, did syntax.DID, p *person) {
			owner := "admin"
			if p != nil {
				owner = string(did)
			}
			room := 1 + h.rng.IntN(2)
			var codes []string
			err := h.do("invite", did, func() (err error) {
				codes, err = h.accounts.CreateInvites(h.ctx, hostname, owner, "admin", 1, room)
				return err
			})
			if h.expect(err, nil) {
				h.invites[codes[0]] = &invite{owner: owner, room: room, uses: make(map[syntax.DID]bool)}
			}
		},
		"disable": func(h *history, did syntax.DID, p *person) {
			code, ok := some(h, slices.Sorted(maps.Keys(h.invites)))
			if !ok {
				return
			}
			err := h.do("disable", did, func() error { return h.accounts.DisableInvites(h.ctx, []string{code}, nil, nil) })
			if h.expect(err, nil) {
				h.invites[code].disabled = true
			}
		},
		"wait": func(h *history, did syntax.DID, p *person) {
			h.clock.pass(time.Duration(1+h.rng.IntN(40)) * time.Minute)
			h.ok(h.accounts.Repair(h.ctx))
		},
		"restart": func(h *history, did syntax.DID, p *person) {
			next := h.again()
			h.accounts, h.credentials = next.accounts, next.credentials
			h.ok(h.accounts.Repair(h.ctx))
			for _, x := range h.given {
				x.caller = h.credentials.Caller(credential.Token{DID: x.person.did, Session: x.name, Credentials: x.made})
			}
		},
	}
}

// tokenError is the error with which a token that was sent by mail is used.
func (h *history) tokenError(p *person, t token) error {
	switch {
	case t.text == "" || t.email != p.email:
		return credential.ErrMailToken
	case h.clock.now().Sub(t.at) > 24*time.Hour:
		return credential.ErrMailToken // it is gone
	case h.clock.now().Sub(t.at) > 15*time.Minute:
		return credential.ErrMailTokenExpired
	}
	return nil
}

// refresh exchanges one of the refresh tokens of a session.
func (h *history) refresh(x *session) {
	i := len(x.chain) - 1
	if h.rng.IntN(3) == 0 {
		i = h.rng.IntN(len(x.chain))
	}
	p := x.person
	gone := h.people[p.did] != p
	var want error
	next := "" // the successor that is known
	stolen := false
	switch {
	case gone && h.people[p.did] == nil:
		want = account.ErrNotFound
	case h.people[p.did].down:
		want = account.ErrTakenDown
	case gone, x.ended:
		want = account.ErrTokenRevoked
	case i == len(x.chain)-1:
	case !h.clock.now().Before(x.used[i].Add(2 * time.Hour)):
		want, stolen = account.ErrTokenRevoked, true
	default:
		next = x.chain[i+1]
	}
	var got credential.Session
	err := h.do("refresh", p.did, func() (err error) {
		_, got, err = h.credentials.RotateSession(h.ctx, p.did, x.chain[i])
		return err
	})
	if stolen {
		x.ended = true
	}
	if !h.expect(err, want) {
		return
	}
	switch {
	case next == "":
		x.chain, x.used = append(x.chain, got.ID), append(x.used, h.clock.now())
		x.made = got.Credentials
		x.caller = h.credentials.Caller(credential.Token{DID: p.did, Session: x.name, Credentials: got.Credentials})
		for j := range x.used { // those before a token that is forgotten are too
			if !h.clock.now().Before(x.used[j].Add(2 * time.Hour)) {
				x.used[j] = time.Time{}
			}
		}
	case got.ID != next:
		h.tb.Errorf("another successor: %s, want %s", got.ID, next)
	}
}

// compare holds everything that can be seen against the model.
func (h *history) compare() {
	h.tb.Helper()
	wrong := func(format string, args ...any) {
		h.tb.Helper()
		h.tb.Errorf("after %s: %s", h.log[len(h.log)-1], fmt.Sprintf(format, args...))
	}
	for _, did := range everybody {
		a, err := h.accounts.ByDID(h.ctx, did)
		p := h.people[did]
		if p == nil {
			if !errors.Is(err, account.ErrNotFound) {
				wrong("%s is there: %v", did, err)
			}
			continue
		}
		if err != nil {
			wrong("%s: %v", did, err)
			continue
		}
		got := fmt.Sprint(a.Handle, strings.ToLower(a.Email), !a.EmailConfirmedAt.IsZero(), !a.DeactivatedAt.IsZero(), a.DeleteAfter.Unix(), a.TakedownRef != "", a.Credentials, a.InvitesDisabled)
		want := fmt.Sprint(p.handle, p.email, p.confirmed, p.deactivated, p.deleteAfter.Unix(), p.down, p.counter, p.invitesForbidden)
		if got != want {
			wrong("%s is %s, want %s", did, got, want)
		}
		if a.Credentials < h.counters[did] {
			wrong("the counter of %s went back from %d to %d", did, h.counters[did], a.Credentials)
		}
		h.counters[did] = a.Credentials
		h.compareHoldings(p, wrong)
	}
	for i := range 4 {
		for id, p := range map[string]*person{
			fmt.Sprintf("name%d.test", i): h.byHandle(syntax.Handle(fmt.Sprintf("name%d.test", i))), fmt.Sprintf("NAME%d@example.com", i): h.byEmail(fmt.Sprintf("name%d@example.com", i)),
		} {
			a, err := h.accounts.Find(h.ctx, id)
			if p == nil && !errors.Is(err, account.ErrNotFound) || p != nil && a.DID != p.did {
				wrong("%s is found: %s (%v)", id, a.DID, err)
			}
		}
	}
	for _, x := range h.given {
		want := x.good()
		switch now := h.people[x.person.did]; {
		case now == nil:
			want = account.ErrNotFound
		case now != x.person: // another account of the DID
			want = now.over(x.made)
		}
		if _, err := h.accounts.Authenticate(h.ctx, x.caller); !errors.Is(err, want) {
			wrong("session %s of %s: %v, want %v", x.name, x.person.did, err, want)
		}
	}
	for code, inv := range h.invites {
		got, err := h.accounts.Invite(h.ctx, code)
		if err != nil || got.Account != inv.owner || got.Disabled != inv.disabled || len(got.Uses) != len(inv.uses) {
			wrong("code %s is %+v (%v), want %+v", code, got, err, *inv)
		}
	}
	if n, err := h.accounts.Count(h.ctx); err != nil || n != len(h.people) {
		wrong("%d accounts were counted, want %d (%v)", n, len(h.people), err)
	}
	h.sound("after " + h.log[len(h.log)-1])
}

// compareHoldings compares what an account has.
func (h *history) compareHoldings(p *person, wrong func(string, ...any)) {
	apps, err := h.credentials.AppPasswords(h.ctx, p.did)
	var names []string
	for _, a := range apps {
		names = append(names, a.Name)
		if have := p.apps[a.Name]; have == nil || have.hash != a.Hash {
			wrong("app password %s of %s", a.Name, p.did)
		}
	}
	if err != nil || len(apps) != len(p.apps) {
		wrong("%s has the app passwords %v (%v), want %d", p.did, names, err, len(p.apps))
	}
	for _, purpose := range purposes {
		t := p.tokens[purpose]
		if err := h.credentials.CheckMailToken(h.ctx, account.Trusted(p.did), purpose, t.text); !errors.Is(err, h.tokenError(p, t)) {
			wrong("the token for %s of %s: %v, want %v", purpose, p.did, err, h.tokenError(p, t))
		}
	}
	for text, purpose := range p.void {
		if err := h.credentials.CheckMailToken(h.ctx, account.Trusted(p.did), purpose, text); !errors.Is(err, credential.ErrMailToken) {
			wrong("a token for %s of %s that is void: %v", purpose, p.did, err)
		}
	}
	list, err := h.accounts.Preferences(h.ctx, p.did)
	if err != nil || (len(list) == 1) != (p.theme != "") || p.theme != "" && string(list[0]["theme"]) != `"`+p.theme+`"` {
		wrong("%s prefers %s (%v), want %s", p.did, list, err, p.theme)
	}
	if down, err := h.accounts.RecordTakedown(h.ctx, p.did, "com.example.note/one"); err != nil || down.Applied != p.hidden {
		wrong("the record of %s is taken down: %v (%v)", p.did, down, err)
	}
	own := 0
	for _, inv := range h.invites {
		if inv.owner == string(p.did) {
			own++
		}
	}
	if codes, err := h.accounts.InvitesOf(h.ctx, string(p.did)); err != nil || len(codes) != own {
		wrong("%s has %d codes (%v), want %d", p.did, len(codes), err, own)
	}
	due, err := h.accounts.DeletionsDue(h.ctx, 10)
	is := slices.ContainsFunc(due, func(a account.Account) bool { return a.DID == p.did })
	if want := p.deactivated && !p.down && !p.deleteAfter.IsZero() && !p.deleteAfter.After(h.clock.now()); err != nil || is != want {
		wrong("the deletion of %s is due: %v (%v), want %v", p.did, is, err, want)
	}
	err = h.store.Repos.View(h.ctx, p.did, func(r storage.Reader) error {
		for pair, err := range r.Keys(h.ctx, storage.Prefix("session/")) {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(pair.Key, "session/")
			if !slices.ContainsFunc(h.given, func(x *session) bool { return x.name == name && !x.ended }) {
				wrong("session %s is left", name)
			}
		}
		return nil
	})
	if err != nil {
		wrong("%v", err)
	}
}
