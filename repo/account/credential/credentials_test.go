package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

var _ = testenv.CheapPasswords()

// hooked is a store with a place to put what happens between a look at an account and the step
// that relies on it.
type hooked struct {
	storage.Repos
	mu    sync.Mutex
	apply func() // called once, before the next step of an account that is there
}

func (h *hooked) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	h.mu.Lock()
	f := h.apply
	h.apply = nil
	h.mu.Unlock()
	if f != nil {
		f()
	}
	return h.Repos.Apply(ctx, did, c)
}

// before has fn called once, before the next step.
func (h *hooked) before(fn func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apply = fn
}

const password = "correct horse"

// note is a record: {"$type": "com.example.note"}.
var note = append([]byte{0xa1, 0x65}, "$type\x70com.example.note"...)

var passwordHash = sync.OnceValue(func() string {
	s := &Store{enter: places(1)}
	hash, err := s.HashPassword(context.Background(), password)
	if err != nil {
		panic(err)
	}
	return hash
})

// town is a store with one account, its host, and a hook.
type town struct {
	*Store
	t    *testing.T
	hook *hooked
	// other is another process over the same store, past the hook.
	other *Store
}

func newTown(t *testing.T) *town {
	t.Helper()
	store := memory.New(memory.Config{})
	w := &town{t: t, hook: &hooked{Repos: store.Repos}}
	w.other = open(t, store)
	store.Repos = w.hook
	w.Store = open(t, store)
	w.create(owner, "alice.test", "alice@example.com")
	return w
}

func open(t *testing.T, store storage.Store) *Store {
	t.Helper()
	box, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Accounts: account.Open(repo.Config{Store: store, TempDir: t.TempDir()}, box)})
}

// elsewhere is the town as another process has it.
func (w *town) elsewhere() *town { return &town{Store: w.other, t: w.t, hook: w.hook, other: w.other} }

func (w *town) create(did syntax.DID, handle syntax.Handle, email string) {
	w.t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a := account.Account{DID: did, Handle: handle, Email: email, Created: time.Now().UTC(), Password: passwordHash()}
	_, err = w.accounts.Create(w.t.Context(), a, key, repo.Batch{})
	w.ok(err)
}

func (w *town) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account is the owner's account.
func (w *town) account() account.Account {
	w.t.Helper()
	a, err := w.accounts.ByDID(w.t.Context(), owner)
	w.ok(err)
	return a
}

// prove checks a password of the owner.
func (w *town) prove(password string) Proof {
	w.t.Helper()
	p, err := w.CheckPassword(w.t.Context(), w.account(), password, true)
	w.ok(err)
	return p
}

// session opens a session of the owner and returns the caller of its access token.
func (w *town) session(p Proof) (Session, account.Caller) {
	w.t.Helper()
	_, x, err := w.StartSession(w.t.Context(), p, false)
	w.ok(err)
	return x, w.Caller(Token{DID: owner, Credentials: x.Credentials, Session: x.Name()})
}

// step writes keys in the owner's namespace.
func (w *town) step(writes ...storage.KVWrite) {
	w.t.Helper()
	_, err := w.accounts.Host().Step(w.t.Context(), owner, func(s *repo.Step) error { s.KV = writes; return nil })
	w.ok(err)
}

// checkNames looks for names that are not where they should be.
func (w *town) checkNames() {
	w.t.Helper()
	if problems, err := w.accounts.Check(w.t.Context()); err != nil || len(problems) > 0 {
		w.t.Errorf("names: %v %v", problems, err)
	}
}

// changes are all that raises the counter.
var changes = map[string]func(w *town){
	"a reset of the password": func(w *town) {
		token, _, err := w.NewMailToken(w.t.Context(), account.Trusted(owner), ForPasswordReset)
		w.ok(err)
		w.ok(w.ResetPassword(w.t.Context(), token, "another"))
	},
	"a change of the password": func(w *town) {
		_, err := w.SetPassword(w.t.Context(), account.Trusted(owner), "another")
		w.ok(err)
	},
	"a takedown": func(w *town) {
		w.ok(w.accounts.TakeDown(w.t.Context(), owner, account.Takedown{Applied: true, Ref: "x"}))
	},
	"a takedown that was taken back": func(w *town) {
		for _, applied := range []bool{true, false} {
			w.ok(w.accounts.TakeDown(w.t.Context(), owner, account.Takedown{Applied: applied, Ref: "x"}))
		}
	},
	"a deactivation": func(w *town) {
		w.ok(w.accounts.Deactivate(w.t.Context(), account.Trusted(owner), time.Time{}))
	},
	"the deletion": func(w *town) {
		w.ok(w.accounts.Delete(w.t.Context(), account.Trusted(owner)))
	},
}

// Whatever is under way when the credentials change comes to nothing: each action is stopped
// between its look at the account and its step, and the change comes between.
func TestCredentialsChangeUnderWay(t *testing.T) {
	by := func(fn func(w *town, who account.Caller) error) func(w *town) func() error {
		return func(w *town) func() error {
			_, who := w.session(Proof{Account: w.account()})
			return func() error { return fn(w, who) }
		}
	}
	ctx := t.Context()
	for name, prepare := range map[string]func(w *town) func() error{
		"a login": func(w *town) func() error {
			p := Proof{Account: w.account()}
			return func() error { _, _, err := w.StartSession(ctx, p, true); return err }
		},
		"a login with an app password": func(w *town) func() error {
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			return func() error { _, _, err := w.StartSession(ctx, p, true); return err }
		},
		"a refresh": func(w *town) func() error {
			x, _ := w.session(Proof{Account: w.account()})
			return func() error { _, _, err := w.RotateSession(ctx, owner, x.ID); return err }
		},
		"a new app password": by(func(w *town, who account.Caller) error {
			_, _, err := w.CreateAppPassword(ctx, who, "phone", true)
			return err
		}),
		"the end of an app password": by(func(w *town, who account.Caller) error {
			return w.RevokeAppPassword(ctx, who, "phone")
		}),
		"a mail token": by(func(w *town, who account.Caller) error {
			_, _, err := w.NewMailToken(ctx, who, ForPLCOperation)
			return err
		}),
		"a new handle": by(func(w *town, who account.Caller) error {
			return w.accounts.ChangeHandle(ctx, who, "other.test", nothing)
		}),
		"a new address":  by(func(w *town, who account.Caller) error { return w.ChangeEmail(ctx, who, "other@example.com", "") }),
		"preferences":    by(func(w *town, who account.Caller) error { return w.accounts.SetPreferences(ctx, who, samePreferences) }),
		"a deactivation": by(func(w *town, who account.Caller) error { return w.accounts.Deactivate(ctx, who, time.Time{}) }),
		"an event":       by(func(w *town, who account.Caller) error { return w.accounts.AnnounceStatus(ctx, who) }),
		"a record": by(func(w *town, who account.Caller) error {
			_, err := w.accounts.Host().Apply(ctx, owner, repo.Batch{Guard: w.accounts.Guard(who), Writes: []repo.Write{
				{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note}}})
			if errors.Is(err, repo.ErrRepoNotFound) {
				err = account.ErrNotFound
			}
			return err
		}),
	} {
		for what, change := range changes {
			t.Run(name+" and "+what, func(t *testing.T) {
				w := newTown(t)
				do := prepare(w)
				w.hook.before(func() { change(w.elsewhere()) })
				err := do()
				if !errors.Is(err, account.ErrTokenRevoked) && !errors.Is(err, ErrWrongPassword) && !errors.Is(err, account.ErrTakenDown) && !errors.Is(err, account.ErrNotFound) {
					t.Fatalf("it went on: %v", err)
				}
				if what == "the deletion" {
					return
				}
				w.checkNames()
				if a := w.account(); a.Handle != "alice.test" || a.Email != "alice@example.com" {
					t.Errorf("the account became %+v", a)
				}
				if head, err := w.accounts.Host().Head(ctx, owner); err != nil {
					t.Error(err)
				} else if list, err := w.accounts.Host().Collections(ctx, owner); err != nil || len(list) > 0 {
					t.Errorf("%v has %v, %v", head, list, err)
				}
			})
		}
	}
}

func nothing(context.Context, syntax.Handle) error { return nil }

func samePreferences(list []account.Preference) ([]account.Preference, error) { return list, nil }

// What was given before the credentials changed is void afterwards.
func TestCredentialsVoid(t *testing.T) {
	ctx := t.Context()
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			x, who := w.session(w.prove(password))
			y, byApp := w.session(w.prove(text))
			legacy := w.Caller(Token{DID: owner, Credentials: w.account().Credentials})
			for _, c := range []account.Caller{who, byApp, legacy} {
				_, err := w.accounts.Authenticate(ctx, c)
				w.ok(err)
			}
			change(w)
			want := account.ErrTokenRevoked
			switch what {
			case "a takedown":
				want = account.ErrTakenDown
			case "the deletion":
				want = account.ErrNotFound
			}
			for i, c := range []account.Caller{who, byApp, legacy} {
				if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, want) {
					t.Errorf("token %d: %v, want %v", i, err, want)
				}
			}
			for _, x := range []Session{x, y} {
				if _, _, err := w.RotateSession(ctx, owner, x.ID); !errors.Is(err, want) {
					t.Errorf("session %+v: %v, want %v", x, err, want)
				}
			}
			if what == "the deletion" {
				// Not even if the DID comes back.
				w.create(owner, "alice.test", "alice@example.com")
				for _, c := range []account.Caller{who, byApp} {
					if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, account.ErrTokenRevoked) {
						t.Errorf("a token of the account that was deleted: %v", err)
					}
				}
				return
			}
			// App passwords outlast all but a change of the password, and open no session of
			// an account that is taken down.
			p, err := w.CheckPassword(ctx, w.account(), text, true)
			if strings.Contains(what, "of the password") {
				if !errors.Is(err, ErrWrongPassword) {
					t.Errorf("the app password: %v", err)
				}
				return
			}
			w.ok(err)
			_, _, err = w.StartSession(ctx, p, true)
			if down := what == "a takedown"; down != errors.Is(err, account.ErrTakenDown) || !down && err != nil {
				t.Errorf("a login with the app password: %v", err)
			}
		})
	}
}

// A takedown does not bring back what ended before it: the owner may have signed a thief out. Those
// whose sessions it ended itself are told so, and of nothing is more left when it is lifted.
func TestTakedownOfEndedSessions(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	x, out := w.session(w.prove(password))
	_, ended := w.session(w.prove(password))
	_, open := w.session(w.prove(password))
	w.ok(w.EndSession(ctx, owner, x.ID))
	w.ok(w.EndOpenSession(ctx, account.Trusted(owner), ended.Session))
	down := func(ref string) {
		t.Helper()
		w.ok(w.accounts.TakeDown(ctx, owner, account.Takedown{Applied: ref != "", Ref: ref}))
	}
	want := func(when string, want error) {
		t.Helper()
		if _, err := w.accounts.Authenticate(ctx, open); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
		for _, who := range []account.Caller{out, ended} {
			if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
				t.Errorf("%s, signed out before: %v", when, err)
			}
		}
		if list, err := w.Sessions(ctx, account.Trusted(owner)); len(list) > 0 || err != nil {
			t.Errorf("%s: %v %v", when, list, err)
		}
	}
	down("x")
	want("taken down", account.ErrTakenDown)
	down("")
	want("back", account.ErrTokenRevoked)
	down("y")
	want("down again", account.ErrTokenRevoked)
	if n, _, err := w.Counts(ctx, owner); n != 0 || err != nil {
		t.Errorf("%d sessions are kept, %v", n, err)
	}
}

// Twenty logins that have shown the old password when it is reset get nothing that lasts.
func TestLoginsDuringReset(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	token, _, err := w.NewMailToken(ctx, account.Trusted(owner), ForPasswordReset)
	w.ok(err)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	ids := make(chan string, 20)
	for range 20 {
		p := w.prove(password)
		wg.Go(func() {
			<-begin
			if _, x, err := w.StartSession(ctx, p, false); err == nil {
				ids <- x.ID
			} else if !errors.Is(err, ErrWrongPassword) {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		<-begin
		if err := w.ResetPassword(ctx, token, "another"); err != nil {
			t.Error(err)
		}
	})
	close(begin)
	wg.Wait()
	close(ids)
	for id := range ids { // begun before the reset, and ended by it
		if _, _, err := w.RotateSession(ctx, owner, id); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("a session with the old password: %v", err)
		}
	}
}

// An app password that is revoked during its login opens no session, also if another gets its name.
func TestAppPasswordRevokedDuringLogin(t *testing.T) {
	ctx := t.Context()
	for name, revoke := range map[string]func(w *town){
		"revoked": func(w *town) { w.ok(w.RevokeAppPassword(ctx, account.Trusted(owner), "phone")) },
		"another of the name": func(w *town) {
			w.ok(w.RevokeAppPassword(ctx, account.Trusted(owner), "phone"))
			_, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", true)
			w.ok(err)
		},
	} {
		for _, inside := range []bool{false, true} {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			before, _ := w.session(p)
			if inside {
				w.hook.before(func() { revoke(w.elsewhere()) })
			} else {
				revoke(w)
			}
			if _, _, err := w.StartSession(ctx, p, false); !errors.Is(err, ErrWrongPassword) {
				t.Errorf("%s: %v", name, err)
			}
			if _, _, err := w.RotateSession(ctx, owner, before.ID); !errors.Is(err, account.ErrTokenRevoked) {
				t.Errorf("%s: the session before: %v", name, err)
			}
		}
	}
}

// The session by which an account is deactivated goes on: it can be activated again.
func TestDeactivationKeepsItsSession(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	x, who := w.session(w.prove(password))
	_, other := w.session(w.prove(password))
	for range 2 {
		w.ok(w.accounts.Deactivate(ctx, who, time.Time{}))
	}
	if _, err := w.accounts.Authenticate(ctx, who); err != nil {
		t.Errorf("its own: %v", err)
	}
	if _, err := w.accounts.Authenticate(ctx, other); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("another: %v", err)
	}
	_, y, err := w.RotateSession(ctx, owner, x.ID)
	if err != nil || y.Credentials != w.account().Credentials {
		t.Errorf("%+v %v", y, err)
	}
}

// What was stored before there was a counter is good until it is raised for the first time.
func TestStoredBeforeTheCounter(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	expires := time.Now().Add(time.Hour)
	hash := hashAppPassword(owner, "aaaa-bbbb-cccc-dddd")
	for key, doc := range map[string]string{
		"account":           fmt.Sprintf(`{"did":%q,"handle":"alice.test","email":"alice@example.com","created":"2026-01-01T00:00:00Z","password":%q}`, owner, passwordHash()),
		"session/old":       fmt.Sprintf(`{"current":"TOKEN","expires":%q}`, expires.Format(time.RFC3339)),
		"session/app":       fmt.Sprintf(`{"appPassword":"phone","current":"TOKEN","expires":%q}`, expires.Format(time.RFC3339)),
		"apppassword/phone": fmt.Sprintf(`{"name":"phone","createdAt":"2026-01-01T00:00:00Z","privileged":false,"hash":%q}`, hash),
		"mailtoken/confirm_email": fmt.Sprintf(`{"token":"AAAAA-BBBBB","created":%q}`,
			time.Now().UTC().Format(time.RFC3339)),
	} {
		w.step(storage.KVWrite{Key: key, Value: []byte(doc)})
	}
	_, err := w.accounts.Authenticate(ctx, w.Caller(Token{DID: owner}))
	w.ok(err)
	for _, id := range []string{"old.TOKEN", "app.TOKEN"} {
		_, _, err := w.RotateSession(ctx, owner, id)
		w.ok(err)
	}
	_, byApp := w.session(w.prove("aaaa-bbbb-cccc-dddd"))
	_, err = w.accounts.Authenticate(ctx, byApp)
	w.ok(err)
	w.ok(w.ConfirmEmail(ctx, w.Caller(Token{DID: owner}), "Alice@example.com", "aaaaa-bbbbb"))
	_, err = w.SetPassword(ctx, account.Trusted(owner), "another")
	w.ok(err)
	for _, c := range []account.Caller{{DID: owner}, byApp} {
		if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("after the first change: %v", err)
		}
	}
}

// A session that no list has, as a lost write of an old program might leave it, is void with the
// counter all the same.
func TestUnlistedSession(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	_, write, err := w.NewSession(w.account(), nil)
	w.ok(err)
	_, err = w.SetPassword(ctx, account.Trusted(owner), "another")
	w.ok(err)
	w.step(write)
	var x chain
	w.ok(json.Unmarshal(write.Value, &x))
	name := strings.TrimPrefix(write.Key, sessionPrefix)
	if _, err := w.accounts.Authenticate(ctx, w.Caller(Token{DID: owner, Session: name})); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("its access token: %v", err)
	}
	if _, _, err := w.RotateSession(ctx, owner, name+"."+x.Current); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("its refresh token: %v", err)
	}
}

// A token that is mailed is good for the address that it is mailed to, for its purpose, and not
// beyond a change of address or password.
func TestMailTokensAreBound(t *testing.T) {
	ctx := t.Context()
	use := func(w *town, p Purpose, token string) error {
		switch p {
		case ForEmailConfirmation:
			return w.ConfirmEmail(ctx, account.Trusted(owner), w.account().Email, token)
		case ForPasswordReset:
			return w.ResetPassword(ctx, token, "a third")
		case ForDeletion:
			return w.DeleteAccount(ctx, Proof{Account: w.account()}, token)
		}
		return w.UseMailToken(ctx, account.Trusted(owner), p, token)
	}
	for _, p := range purposes {
		for what, change := range map[string]func(w *town){
			"change of address": func(w *town) { w.ok(w.ChangeEmail(ctx, account.Trusted(owner), "new@example.com", "")) },
			"change of address there and back": func(w *town) {
				w.ok(w.ChangeEmail(ctx, account.Trusted(owner), "new@example.com", ""))
				w.ok(w.ChangeEmail(ctx, account.Trusted(owner), "alice@example.com", ""))
			},
			"change of password": func(w *town) { _, err := w.SetPassword(ctx, account.Trusted(owner), "another"); w.ok(err) },
			"newer token":        func(w *town) { _, _, err := w.NewMailToken(ctx, account.Trusted(owner), p); w.ok(err) },
		} {
			w := newTown(t)
			token, a, err := w.NewMailToken(ctx, account.Trusted(owner), p)
			if err != nil || a.Email != "alice@example.com" {
				t.Fatal(a.Email, err)
			}
			for _, other := range purposes {
				if other != p {
					if err := use(w, other, token); !errors.Is(err, ErrMailToken) {
						t.Errorf("a token for %s is good for %s: %v", p, other, err)
					}
				}
			}
			change(w)
			if err := use(w, p, token); !errors.Is(err, ErrMailToken) {
				t.Errorf("a token for %s after a %s: %v", p, what, err)
			}
			// The next one is good.
			token, _, err = w.NewMailToken(ctx, account.Trusted(owner), p)
			w.ok(err)
			w.ok(use(w, p, token))
		}
		// The address changes while a token is made: it is for the new one, and so is the mail.
		w := newTown(t)
		w.hook.before(func() { w.ok(w.other.ChangeEmail(ctx, account.Trusted(owner), "new@example.com", "")) })
		token, a, err := w.NewMailToken(ctx, account.Trusted(owner), p)
		if err != nil || a.Email != "new@example.com" {
			t.Errorf("a token for %s goes to %s: %v", p, a.Email, err)
		}
		w.ok(use(w, p, token))
	}
}

// A token is used once, and for one address, however many use it at once.
func TestMailTokenUsedAtOnce(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	token, _, err := w.NewMailToken(ctx, account.Trusted(owner), ForEmailConfirmation)
	w.ok(err)
	_, who := w.session(w.prove(password))
	if err := w.ConfirmEmail(ctx, who, "other@example.com", token); !errors.Is(err, ErrOtherEmail) {
		t.Errorf("another address: %v", err)
	}
	w.ok(w.ConfirmEmail(ctx, who, "alice@example.com", token))
	if err := w.ChangeEmail(ctx, who, "other@example.com", ""); !errors.Is(err, ErrMailTokenRequired) {
		t.Errorf("without a token: %v", err)
	}
	if token, _, err = w.NewMailToken(ctx, who, ForEmailChange); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	good := make(chan string, 8)
	for i := range 8 {
		wg.Go(func() {
			email := fmt.Sprintf("other%d@example.com", i)
			switch err := w.ChangeEmail(ctx, who, email, token); {
			case err == nil:
				good <- email
			case !errors.Is(err, ErrMailToken) && !errors.Is(err, ErrMailTokenRequired):
				// The address is no longer confirmed: whoever comes later needs no token.
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.checkNames()
	if len(good) == 0 {
		t.Error("nobody could use it")
	}
	// And the address is confirmed between the look at it and the step: a token is needed then.
	w = newTown(t)
	_, who = w.session(w.prove(password))
	if token, _, err = w.NewMailToken(ctx, who, ForEmailConfirmation); err != nil {
		t.Fatal(err)
	}
	w.hook.before(func() { w.ok(w.other.ConfirmEmail(ctx, who, "alice@example.com", token)) })
	if err := w.ChangeEmail(ctx, who, "other@example.com", ""); !errors.Is(err, ErrMailTokenRequired) {
		t.Errorf("of an address that was just confirmed: %v", err)
	}
}

// Handles and addresses that change at once, by their owner and the administrator, leave no name
// behind.
func TestRenamesAtOnce(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	_, who := w.session(w.prove(password))
	register := func(ctx context.Context, _ syntax.Handle) error { return ctx.Err() }
	var wg sync.WaitGroup
	for i := range 24 {
		by := who
		if i%2 == 0 {
			by = account.Trusted(owner)
		}
		wg.Go(func() {
			var err error
			if i%3 == 0 {
				err = w.ChangeEmail(ctx, by, fmt.Sprintf("Alice%d@example.com", i), "")
			} else {
				err = w.accounts.ChangeHandle(ctx, by, syntax.Handle(fmt.Sprintf("alice%d.test", i)), register)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.checkNames()
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
}

// kept counts the names that are kept or reserved.
func (w *town) kept() (n int) {
	w.t.Helper()
	w.ok(w.accounts.Host().Store().KV.Read(w.t.Context(), func(r storage.KVReader) error {
		for _, prefix := range []string{"handle/", "email/", "created/", "pending/"} {
			for _, err := range r.Keys(w.t.Context(), storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				n++
			}
		}
		return nil
	}))
	return n
}

// A rename that fails, or whose client hangs up, or that the deletion overtakes, leaves no name.
func TestRenameThatFails(t *testing.T) {
	ctx := t.Context()
	broken := errors.New("the directory does not answer")
	w := newTown(t)
	if err := w.accounts.ChangeHandle(ctx, account.Trusted(owner), "other.test", func(context.Context, syntax.Handle) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	gone, hangUp := context.WithCancel(ctx)
	err := w.accounts.ChangeHandle(gone, account.Trusted(owner), "other.test", func(ctx context.Context, _ syntax.Handle) error { hangUp(); return ctx.Err() })
	if err != nil || w.account().Handle != "other.test" {
		t.Errorf("a client that hangs up: %v, %s", err, w.account().Handle)
	}
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
	// A session that ends while the directory is told: that is taken back.
	_, who := w.session(w.prove(password))
	var told []syntax.Handle
	err = w.accounts.ChangeHandle(ctx, who, "third.test", func(_ context.Context, h syntax.Handle) error {
		if told = append(told, h); len(told) == 1 {
			changes["a change of the password"](w)
		}
		return nil
	})
	if !errors.Is(err, account.ErrTokenRevoked) || len(told) != 2 || told[1] != "other.test" || w.account().Handle != "other.test" {
		t.Errorf("%v: the directory was told %v", err, told)
	}
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
	// Deletions and renames at once.
	for range 20 {
		w := newTown(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.accounts.Delete(ctx, account.Trusted(owner)); err != nil {
				t.Error(err)
			}
		})
		for i := range 4 {
			wg.Go(func() {
				err := w.accounts.ChangeHandle(ctx, account.Trusted(owner), syntax.Handle(fmt.Sprintf("other%d.test", i)), nothing)
				if err != nil && !errors.Is(err, account.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := w.kept(); n != 0 {
			t.Fatalf("%d names of an account that is gone", n)
		}
	}
}

// Of deletions at once, one deletes; the others find nothing.
func TestDeletionsAtOnce(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	p := w.prove(password)
	token, _, err := w.NewMailToken(ctx, account.Trusted(owner), ForDeletion)
	w.ok(err)
	if err := w.DeleteAccount(ctx, p, "AAAAA-AAAAA"); !errors.Is(err, ErrMailToken) {
		t.Errorf("another token: %v", err)
	}
	errs := make(chan error, 6)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { errs <- w.DeleteAccount(ctx, p, token) })
	}
	wg.Wait()
	close(errs)
	done := 0
	for err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, ErrWrongPassword) {
			t.Error(err)
		}
	}
	if done != 1 {
		t.Errorf("%d of them deleted", done)
	}
}

// Two requests that create the account of one DID: the names and the invite of the one that comes
// too late are free again.
func TestCreatedTwice(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	codes, err := w.accounts.CreateInvites(ctx, "pds.test", "admin", "admin", 1, 1)
	w.ok(err)
	late := account.Account{DID: owner, Handle: "late.test", Email: "late@example.com", Created: time.Now().UTC(), Invite: codes[0]}
	reserved, err := w.accounts.Reserve(ctx, late)
	w.ok(err)
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	before, err := w.accounts.Signer(ctx, owner)
	w.ok(err)
	if _, err := reserved.Create(ctx, key, repo.Batch{}); !errors.Is(err, repo.ErrRepoExists) {
		t.Fatal(err)
	}
	if now, err := w.accounts.Signer(ctx, owner); err != nil || !now.PublicKey().Equal(before.PublicKey()) {
		t.Errorf("the account signs with another key: %v", err)
	}
	w.ok(reserved.Release(ctx))
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
	w.ok(w.accounts.CheckInvite(ctx, codes[0]))
}

// Somebody who returns with another server's key finds the account as it was, or nothing.
func TestReturningMeanwhile(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	if _, err := w.SetPassword(ctx, account.Returning(w.account()), "another"); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("an active account: %v", err)
	}
	for name, change := range map[string]func(w *town){
		"activated": func(w *town) {
			_, err := w.accounts.Update(ctx, account.Trusted(owner), func(a *account.Account, _ *repo.Step) error { a.DeactivatedAt = time.Time{}; return nil })
			w.ok(err)
		},
		"taken down": changes["a takedown"], "reset": changes["a reset of the password"],
	} {
		w := newTown(t)
		w.ok(w.accounts.Deactivate(ctx, account.Trusted(owner), time.Time{}))
		who := account.Returning(w.account())
		w.hook.before(func() { change(w.elsewhere()) })
		if _, err := w.SetPassword(ctx, who, "mine"); !errors.Is(err, account.ErrTokenRevoked) && !errors.Is(err, account.ErrTakenDown) {
			t.Errorf("%s meanwhile: %v", name, err)
		}
		if _, err := w.CheckPassword(ctx, w.account(), "mine", false); !errors.Is(err, ErrWrongPassword) {
			t.Errorf("%s meanwhile: the password was changed", name)
		}
	}
}

// An account is deleted while tokens of it are about, and one is made for the same DID, with the
// same names, as when somebody moves away and back: nothing of the first is good for the second.
func TestTokensOfAnAccountBefore(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	app, _, err := w.CreateAppPassword(ctx, account.Trusted(owner), "phone", true)
	w.ok(err)
	x, who := w.session(w.prove(password))
	y, byApp := w.session(w.prove(app))
	before := w.prove(password)
	tokens := make(map[Purpose]string)
	for _, p := range purposes {
		tokens[p], _, err = w.NewMailToken(ctx, account.Trusted(owner), p)
		w.ok(err)
	}
	w.ok(w.accounts.Delete(ctx, account.Trusted(owner)))
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a := account.Account{DID: owner, Handle: "alice.test", Email: "alice@example.com", Created: time.Now().UTC(), Password: passwordHash(), Credentials: time.Now().UnixMilli()}
	_, err = w.accounts.Create(ctx, a, key, repo.Batch{})
	w.ok(err)
	for i, c := range []account.Caller{who, byApp, w.Caller(Token{DID: owner}), w.Caller(Token{DID: owner, Credentials: 1}), w.Caller(Token{DID: owner, Credentials: a.Credentials, Session: x.Name()})} {
		if _, err := w.accounts.Authenticate(ctx, c); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("access token %d: %v", i, err)
		}
	}
	for _, x := range []Session{x, y} {
		if _, _, err := w.RotateSession(ctx, owner, x.ID); !errors.Is(err, account.ErrTokenRevoked) {
			t.Errorf("refresh token: %v", err)
		}
	}
	if _, _, err := w.StartSession(ctx, before, true); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("a login that began before: %v", err)
	}
	if _, err := w.CheckPassword(ctx, w.account(), app, true); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("the app password: %v", err)
	}
	if err := w.ResetPassword(ctx, tokens[ForPasswordReset], "mine"); !errors.Is(err, ErrMailToken) {
		t.Errorf("the token to reset the password: %v", err)
	}
	for _, p := range purposes {
		if err := w.UseMailToken(ctx, account.Trusted(owner), p, tokens[p]); !errors.Is(err, ErrMailToken) {
			t.Errorf("the token for %s: %v", p, err)
		}
	}
}

// Of two resets with one token, in any order of their steps, one sets the password.
func TestResetsWithOneToken(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	token, _, err := w.NewMailToken(ctx, account.Trusted(owner), ForPasswordReset)
	w.ok(err)
	w.hook.before(func() { w.ok(w.other.ResetPassword(ctx, token, "the faster")) })
	if err := w.ResetPassword(ctx, token, "the slower"); !errors.Is(err, ErrMailToken) {
		t.Errorf("the second: %v", err)
	}
	w.prove("the faster")
	if _, err := w.CheckPassword(ctx, w.account(), "the slower", true); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("the password of the second: %v", err)
	}
}

// A session is remembered by what is stored of it, so it ends at once wherever it is ended.
func TestRememberedSessionsEnd(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	x, who := w.session(w.prove(password))
	for range 3 {
		if _, err := w.accounts.Authenticate(ctx, who); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	w.now = func() time.Time { return now.Add(RefreshLife + time.Minute) }
	if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("after its time: %v", err)
	}
	w.now = func() time.Time { return now }
	_, next, err := w.RotateSession(ctx, owner, x.ID)
	w.ok(err)
	if _, err := w.accounts.Authenticate(ctx, who); err != nil {
		t.Errorf("after a refresh: %v", err)
	}
	w.ok(w.EndSession(ctx, owner, next.ID))
	if _, err := w.accounts.Authenticate(ctx, who); !errors.Is(err, account.ErrTokenRevoked) {
		t.Errorf("after its end: %v", err)
	}
}
