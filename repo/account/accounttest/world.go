package accounttest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sealed"
)

// hostname is in front of invite codes.
const hostname = "pds.test"

// clock is a time that only the suite moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a process with accounts over a store.
type world struct {
	tb          testing.TB
	ctx         context.Context
	clock       *clock
	store       storage.Store
	accounts    *account.Store
	credentials *credential.Store
	mutate      mutation
}

// mutation, if not nil, stands in the way of every operation of a history: the tests of the suite
// break operations with it.
type mutation func(w *world, operation string, did syntax.DID, do func() error) error

func newWorld(tb testing.TB, store storage.Store, c *clock) *world {
	tb.Helper()
	box, err := sealed.New(make([]byte, sealed.KeySize))
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{tb: tb, ctx: context.Background(), clock: c, store: store}
	w.accounts = account.Open(repo.Config{Store: store, TempDir: tb.TempDir(), Now: c.now}, box)
	w.credentials = credential.New(credential.Config{Accounts: w.accounts, Now: c.now})
	return w
}

// again is another process over the same store.
func (w *world) again() *world {
	next := newWorld(w.tb, w.store, w.clock)
	next.mutate = w.mutate
	return next
}

// do carries out an operation.
func (w *world) do(operation string, did syntax.DID, fn func() error) error {
	if w.mutate == nil {
		return fn()
	}
	return w.mutate(w, operation, did, fn)
}

func (w *world) ok(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

// password is that of new accounts, and hash its hash, which takes long to compute.
const (
	password = "correct horse"
	hash     = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$8jCjveL9purNVvxZWhjl0nULgTWD4Roxh/u/NFFSew0"
)

func (w *world) create(a account.Account) error {
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a.Password = hash
	_, err = w.accounts.Create(w.ctx, a, key, repo.Batch{})
	return err
}

func (w *world) account(did syntax.DID) account.Account {
	w.tb.Helper()
	a, err := w.accounts.ByDID(w.ctx, did)
	w.ok(err)
	return a
}

// sound checks that names and counts are right, and nothing is pending.
func (w *world) sound(when string) {
	w.tb.Helper()
	problems, err := w.accounts.Check(w.ctx)
	if err != nil || len(problems) > 0 {
		w.tb.Errorf("%s: %v %v", when, problems, err)
	}
	err = w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(w.ctx, storage.Prefix("pending/")) {
			if err != nil {
				return err
			}
			w.tb.Errorf("%s: %s is left", when, pair.Key)
		}
		return nil
	})
	w.ok(err)
}

// state is everything that is stored, without what is different each time: random names, hashes
// and secrets.
func (w *world) state() string {
	w.tb.Helper()
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for info, err := range w.store.Repos.List(w.ctx, "") {
		w.ok(err)
		w.ok(w.store.Repos.View(w.ctx, info.DID, func(r storage.Reader) error {
			for pair, err := range r.Keys(w.ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				add("%s: %s", info.DID, w.plain(pair))
			}
			return nil
		}))
	}
	w.ok(w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(w.ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			if !strings.HasPrefix(pair.Key, "reset/") { // it leads to a token, and expires
				add("%s", w.plain(pair))
			}
		}
		return nil
	}))
	sort.Strings(lines)
	for ev, err := range w.store.Events.Since(w.ctx, 0) {
		w.ok(err)
		m, err := commit.Decode(ev.Kind, ev.Payload)
		w.ok(err)
		if a, is := m.(*commit.Account); is {
			add("event %s %s %v %s", ev.Kind, ev.DID, a.Active, a.Status)
		} else {
			add("event %s %s", ev.Kind, ev.DID)
		}
	}
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "\n")
}

// difference is what a state has that another one lacks, and the other way round.
func difference(got, want string) string {
	have, need := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, l := range have {
		if !slices.Contains(need, l) {
			b.WriteString("\n\t+ " + l)
		}
	}
	for _, l := range need {
		if !slices.Contains(have, l) {
			b.WriteString("\n\t- " + l)
		}
	}
	return b.String()
}

// plain is a key with its value.
func (w *world) plain(pair storage.KVPair) string {
	parse := func(v any) {
		w.tb.Helper()
		if err := json.Unmarshal(pair.Value, v); err != nil {
			w.tb.Errorf("%s: %v", pair.Key, err)
		}
	}
	kind, rest, _ := strings.Cut(pair.Key, "/")
	switch kind {
	case "account":
		var a account.Account
		parse(&a)
		a.Made = ""
		if a.Invite != "" {
			a.Invite = "code"
		}
		if a.Password != "" {
			a.Password = "hash"
		}
		if a.UserHandle != "" {
			a.UserHandle = "handle"
		}
		text, err := json.Marshal(a)
		w.ok(err)
		return "account " + string(text)
	case "key", "reservedfor":
		return pair.Key
	case "reservedkey", "userhandle":
		return kind
	case "factor":
		return w.plainFactor(pair)
	case "session":
		var x struct {
			AppPassword string
			Privileged  bool
			Credentials int64
			Used        []any
		}
		parse(&x)
		return fmt.Sprintf("session %q %v %d, %d used", x.AppPassword, x.Privileged, x.Credentials, len(x.Used))
	case "apppassword":
		var p credential.AppPassword
		parse(&p)
		return fmt.Sprintf("%s %v %d", pair.Key, p.Privileged, p.Credentials)
	case "mailtoken":
		var t struct{ Email, Created string }
		parse(&t)
		return fmt.Sprintf("%s %+v", pair.Key, t)
	case "invite":
		var inv account.Invite
		parse(&inv)
		return fmt.Sprintf("invite of %s by %s: %v %v %v", inv.Account, inv.CreatedBy, inv.Available, inv.Disabled, inv.Uses)
	case "invitesof":
		owner, _, _ := strings.Cut(rest, "/")
		return kind + " " + owner
	case "invitesat", "invitesused":
		rank, _, _ := strings.Cut(rest, "/")
		return kind + " " + rank
	}
	return pair.Key + " " + string(pair.Value)
}
