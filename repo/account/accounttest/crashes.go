package accounttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The accounts of the crashes.
const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	carol = syntax.DID("did:plc:cccccccccccccccccccccccc")
)

// village is a world with the accounts of alice and bob, and what they have.
type village struct {
	*world
	invite  string             // may be used once
	app     string             // alice's app password
	session credential.Session // alice's
	who     account.Caller     // by that session
	tokens  map[credential.Purpose]string
	// Of alice's factors, once she has them: the secret of her app, and recovery codes.
	secret   string
	recovery []string
}

var purposes = []credential.Purpose{
	credential.ForEmailConfirmation, credential.ForEmailChange, credential.ForPasswordReset, credential.ForDeletion, credential.ForPLCOperation,
}

func newVillage(tb testing.TB, open Open) *village {
	tb.Helper()
	c := newClock()
	v := &village{world: newWorld(tb, open(tb, c.now), c), tokens: make(map[credential.Purpose]string)}
	v.ok(v.accounts.Repair(v.ctx))
	v.ok(v.create(account.Account{DID: alice, Handle: "alice.test", Email: "Alice@example.com"}))
	c.pass(time.Minute)
	v.ok(v.create(account.Account{DID: bob, Handle: "bob.test", Email: "bob@example.com"}))
	codes, err := v.accounts.CreateInvites(v.ctx, hostname, "admin", "admin", 1, 1)
	v.ok(err)
	v.invite = codes[0]
	_, err = v.accounts.CreateInvites(v.ctx, hostname, string(alice), "admin", 2, 1)
	v.ok(err)
	var p credential.AppPassword
	v.app, p, err = v.credentials.CreateAppPassword(v.ctx, account.Trusted(alice), "phone", true)
	v.ok(err)
	_, v.session, err = v.credentials.StartSession(v.ctx, credential.Proof{Account: v.account(alice)}, false)
	v.ok(err)
	_, _, err = v.credentials.StartSession(v.ctx, credential.Proof{Account: v.account(alice), App: &p}, false)
	v.ok(err)
	v.who = v.credentials.Caller(credential.Token{DID: alice, Session: v.session.Name(), Credentials: v.session.Credentials})
	for _, p := range purposes {
		v.tokens[p], _, err = v.credentials.NewMailToken(v.ctx, account.Trusted(alice), p)
		v.ok(err)
	}
	v.ok(v.accounts.SetPreferences(v.ctx, v.who, prefer("light")))
	c.pass(time.Minute)
	return v
}

// reopened is the village as a new process finds it.
func (v *village) reopened(store *world) *village {
	next := *v
	next.world = store
	next.who = store.credentials.Caller(credential.Token{DID: alice, Session: v.session.Name(), Credentials: v.session.Credentials})
	return &next
}

func prefer(theme string) func([]account.Preference) ([]account.Preference, error) {
	return func([]account.Preference) ([]account.Preference, error) {
		return []account.Preference{{"$type": []byte(`"com.example.theme"`), "theme": []byte(`"` + theme + `"`)}}, nil
	}
}

// operation is something that may be interrupted.
type operation struct {
	name    string
	prepare func(v *village) // may be nil
	run     func(v *village) error
	// fails is the error with which it ends; nil: it succeeds.
	fails error
	// session: it is on the word of a session, and makes a step.
	session bool
	// between are steps of an operation that consists of several; each is a state of its own.
	between []func(v *village)
}

var errRefused = errors.New("accounttest: refused")

func register(context.Context, syntax.Handle) error { return nil }

func operations() []operation {
	ctx := context.Background()
	deactivate := func(v *village) {
		v.ok(v.accounts.Deactivate(ctx, account.Trusted(alice), v.clock.now().Add(24*time.Hour)))
	}
	takeDown := func(v *village) {
		v.ok(v.accounts.TakeDown(ctx, alice, account.Takedown{Applied: true, Ref: "x"}))
	}
	confirm := func(v *village) {
		v.ok(v.credentials.ConfirmEmail(ctx, v.who, "alice@example.com", v.tokens[credential.ForEmailConfirmation]))
	}
	newcomer := func(v *village) account.Account {
		return account.Account{DID: carol, Handle: "carol.test", Email: "carol@example.com", Invite: v.invite, Created: v.clock.now()}
	}
	return append(factorOperations(ctx), []operation{
		{name: "create", run: func(v *village) error { return v.create(newcomer(v)) }},
		{name: "create a deactivated account", run: func(v *village) error {
			a := newcomer(v)
			a.DeactivatedAt = v.clock.now()
			return v.create(a)
		}},
		{name: "create with a taken handle", fails: account.ErrHandleTaken, run: func(v *village) error {
			a := newcomer(v)
			a.Handle = "bob.test"
			return v.create(a)
		}},
		{name: "create what is there", fails: repo.ErrRepoExists, run: func(v *village) error {
			a := newcomer(v)
			a.DID = bob
			return v.create(a)
		}},
		{name: "reserve and release", run: func(v *village) error {
			r, err := v.accounts.Reserve(ctx, newcomer(v))
			if err != nil {
				return err
			}
			return r.Release(ctx)
		}},
		{name: "rename", session: true, run: func(v *village) error { return v.accounts.ChangeHandle(ctx, v.who, "ally.test", register) }},
		{name: "rename to the same", session: true, run: func(v *village) error { return v.accounts.ChangeHandle(ctx, v.who, "alice.test", nil) }},
		{name: "rename that is refused", fails: errRefused, run: func(v *village) error {
			return v.accounts.ChangeHandle(ctx, v.who, "ally.test", func(context.Context, syntax.Handle) error { return errRefused })
		}},
		{name: "rename to a taken name", fails: account.ErrHandleTaken, run: func(v *village) error {
			return v.accounts.ChangeHandle(ctx, v.who, "bob.test", register)
		}},
		{name: "change the address", session: true, run: func(v *village) error { return v.credentials.ChangeEmail(ctx, v.who, "new@example.com", "") }},
		{name: "change a confirmed address", session: true, prepare: confirm, run: func(v *village) error {
			return v.credentials.ChangeEmail(ctx, v.who, "new@example.com", v.tokens[credential.ForEmailChange])
		}},
		{name: "change the address without a token", prepare: confirm, fails: credential.ErrMailTokenRequired, run: func(v *village) error {
			return v.credentials.ChangeEmail(ctx, v.who, "new@example.com", "")
		}},
		{name: "confirm the address", session: true, run: func(v *village) error {
			return v.credentials.ConfirmEmail(ctx, v.who, "alice@example.com", v.tokens[credential.ForEmailConfirmation])
		}},
		{name: "change the password", session: true, run: func(v *village) error {
			_, err := v.credentials.SetPassword(ctx, v.who, "another")
			return err
		}},
		{name: "change the password, and keep apps", session: true, run: func(v *village) error {
			_, err := v.credentials.ChangePassword(ctx, v.who, "another", account.Kept{AppPasswords: true, Apps: true})
			return err
		}},
		{name: "reset the password", run: func(v *village) error {
			return v.credentials.ResetPassword(ctx, v.tokens[credential.ForPasswordReset], "another")
		}},
		{name: "ask for a token", session: true, run: func(v *village) error {
			_, _, err := v.credentials.NewMailToken(ctx, v.who, credential.ForPasswordReset)
			return err
		}},
		{name: "use a token", session: true, run: func(v *village) error {
			return v.credentials.UseMailToken(ctx, v.who, credential.ForPLCOperation, v.tokens[credential.ForPLCOperation])
		}},
		{name: "make an app password", session: true, run: func(v *village) error {
			_, _, err := v.credentials.CreateAppPassword(ctx, v.who, "laptop", false)
			return err
		}},
		{name: "revoke an app password", session: true, run: func(v *village) error { return v.credentials.RevokeAppPassword(ctx, v.who, "phone") }},
		{name: "log in", session: true, run: func(v *village) error {
			a, err := v.accounts.ByDID(ctx, alice)
			if err != nil {
				return err
			}
			p, err := v.credentials.CheckPassword(ctx, a, v.app, true)
			if err == nil {
				_, _, err = v.credentials.StartSession(ctx, p, false)
			}
			return err
		}},
		{name: "refresh", session: true, run: func(v *village) error {
			_, _, err := v.credentials.RotateSession(ctx, alice, v.session.ID)
			return err
		}},
		{name: "log out", run: func(v *village) error { return v.credentials.EndSession(ctx, alice, v.session.ID) }},
		{name: "log out everywhere", session: true, run: func(v *village) error { return v.credentials.EndSessions(ctx, v.who) }},
		{name: "log out all others", session: true, run: func(v *village) error { return v.credentials.EndOtherSessions(ctx, v.who) }},
		{name: "make invites", run: func(v *village) error {
			_, err := v.accounts.CreateInvites(ctx, hostname, string(bob), "admin", 3, 2)
			return err
		}},
		{name: "earn invites", run: func(v *village) error {
			_, err := v.accounts.AccountInvites(ctx, hostname, v.who, account.Earning{Interval: time.Minute})
			return err
		}},
		{name: "disable invites", run: func(v *village) error {
			return v.accounts.DisableInvites(ctx, []string{v.invite}, []string{string(alice)}, nil)
		}},
		{name: "forbid to invite", run: func(v *village) error {
			_, err := v.accounts.Update(ctx, account.Trusted(alice), func(a *account.Account, _ *repo.Step) error {
				a.InvitesDisabled = true
				return nil
			})
			return err
		}},
		{name: "deactivate", session: true, run: func(v *village) error { return v.accounts.Deactivate(ctx, v.who, time.Time{}) }},
		{name: "deactivate until it is deleted", session: true, run: func(v *village) error {
			return v.accounts.Deactivate(ctx, v.who, v.clock.now().Add(time.Hour))
		}},
		{name: "activate", prepare: deactivate, run: func(v *village) error { return v.accounts.Activate(ctx, account.Trusted(alice)) }},
		{name: "take down", run: func(v *village) error {
			return v.accounts.TakeDown(ctx, alice, account.Takedown{Applied: true, Ref: "x"})
		}},
		{name: "restore", prepare: takeDown, run: func(v *village) error { return v.accounts.TakeDown(ctx, alice, account.Takedown{}) }},
		{name: "take a record down", run: func(v *village) error {
			return v.accounts.SetRecordTakedown(ctx, alice, "com.example.note/one", account.Takedown{Applied: true, Ref: "x"})
		}},
		{name: "set preferences", session: true, run: func(v *village) error { return v.accounts.SetPreferences(ctx, v.who, prefer("dark")) }},
		{name: "announce", session: true, run: func(v *village) error { return v.accounts.AnnounceIdentity(ctx, v.who) }},
		{name: "rotate the key", session: true, run: func(v *village) error { return v.accounts.RotateKey(ctx, v.who, nil) },
			between: []func(*village){func(v *village) {
				err := v.accounts.RotateKey(ctx, v.who, func(context.Context, *crypto.PublicKey) error { return errRefused })
				if !errors.Is(err, errRefused) {
					v.tb.Fatal(err)
				}
			}}},
		{name: "reserve a key", run: func(v *village) error {
			_, err := v.accounts.Keys().Reserve(ctx, carol)
			return err
		}},
		{name: "delete", run: func(v *village) error { return v.accounts.Delete(ctx, account.Trusted(alice)) }},
		{name: "delete a deactivated account", prepare: deactivate, run: func(v *village) error {
			return v.accounts.Delete(ctx, account.Trusted(alice))
		}},
		{name: "close the account", run: func(v *village) error {
			return v.credentials.CloseAccount(ctx, v.who, v.tokens[credential.ForDeletion])
		}},
		{name: "delete by a token", run: func(v *village) error {
			a, err := v.accounts.ByDID(ctx, alice)
			if err != nil {
				return err
			}
			return v.credentials.DeleteAccount(ctx, credential.Proof{Account: a}, v.tokens[credential.ForDeletion])
		}},
	}...)
}

// longDead is how long after its death a process is known to be dead.
const longDead = 11 * time.Minute

// Crashes runs each operation of accounts once for every call of the store that it makes, and
// simulates the death of the process before or after that call.
func Crashes(t *testing.T, open Open) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) { crash(t, open, op) })
	}
}

func crash(tb testing.TB, open Open, op operation) {
	start := func() *village {
		v := newVillage(tb, open)
		if op.prepare != nil {
			op.prepare(v)
		}
		return v
	}
	v := start()
	good := []string{v.state()}
	if err := op.run(v); !errors.Is(err, op.fails) {
		tb.Fatalf("without a crash: %v", err)
	}
	v.sound("without a crash")
	good = append(good, v.state())
	for _, fn := range op.between {
		v := start()
		fn(v)
		good = append(good, v.state())
	}
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			v := start()
			d := &storagetest.Death{At: at, After: after}
			process := newWorld(tb, d.Faults().Wrap(v.store), v.clock)
			err := op.run(v.reopened(process))
			if !d.Died() {
				break // it makes fewer calls
			}
			when := fmt.Sprintf("died after call %d", at)
			if !after {
				when = fmt.Sprintf("died before call %d", at)
			}
			// An error that says that it did not succeed, or none: the answer may be on its way.
			if err != nil && !errors.Is(err, storagetest.ErrDied) && (op.fails == nil || !errors.Is(err, op.fails)) {
				tb.Errorf("%s: %v", when, err)
			}
			next := v.reopened(v.again())
			next.ok(next.accounts.Repair(next.ctx))
			next.clock.pass(longDead)
			next.ok(next.accounts.Repair(next.ctx))
			next.sound(when)
			state, found := next.state(), false
			for _, g := range good {
				found = found || state == g
			}
			if !found {
				tb.Errorf("%s: the state is neither that before nor that after.\nFrom before:%s\nFrom after:%s", when, difference(state, good[0]), difference(state, good[1]))
			}
			if state == good[0] && err == nil && op.fails == nil && good[0] != good[1] {
				tb.Errorf("%s: it said that it had succeeded, but nothing has changed", when)
			}
			if tb.Failed() {
				return
			}
		}
	}
}
