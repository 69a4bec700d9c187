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
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
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
	trace   bool // a takedown has ended it: it is kept, void
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
func (h *history) raise(p *person, apps bool, kept *session, traces bool) {
	p.counter++
	for _, x := range h.given {
		if x.person != p {
			continue
		}
		x.trace = false
		switch {
		case x.ended:
		case x == kept && x.counter == p.counter-1:
			x.counter = p.counter
		default:
			x.ended, x.trace = true, traces
		}
	}
	if !apps {
		p.apps = make(map[string]*app)
	}
}

// inviterDown reports whether a code is that of an account that is taken down.
func (h *history) inviterDown(inv *invite) bool {
	p := h.people[syntax.DID(inv.owner)]
	return p != nil && p.down
}

// good is the error with which the caller of a session is let in.
func (x *session) good() error {
	p := x.person
	switch {
	case x.trace && p.down && p.downCounter == p.counter:
		return account.ErrTakenDown
	case x.ended:
		return account.ErrTokenRevoked
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
		want, x.trace = account.ErrTokenRevoked, false
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
