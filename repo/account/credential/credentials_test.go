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
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sealed"
)

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
	hash, err := HashPassword(context.Background(), password)
	if err != nil {
		panic(err)
	}
	return hash
})

// town is a store with one account, its host, and a hook.
type town struct {
	*Store
	t    *testing.T
	host *repo.Host
	hook *hooked
}

func newTown(t *testing.T) *town {
	t.Helper()
	sealer, err := sealed.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{})
	w := &town{t: t, hook: &hooked{Repos: store.Repos}}
	store.Repos = w.hook
	w.Store = New(store, sealer)
	w.host = repo.NewHost(repo.Config{Store: store, Signer: w.Signer})
	w.create(owner, "alice.test", "alice@example.com")
	return w
}

func (w *town) create(did syntax.DID, handle syntax.Handle, email string) {
	w.t.Helper()
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a := Account{DID: did, Handle: handle, Email: email, Created: time.Now().UTC(), Password: passwordHash()}
	w.ok(w.Reserve(w.t.Context(), a))
	_, err = w.Create(w.t.Context(), w.host, a, key, repo.Batch{})
	w.ok(err)
}

func (w *town) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// account is the owner's account.
func (w *town) account() Account {
	w.t.Helper()
	a, err := w.ByDID(w.t.Context(), owner)
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
func (w *town) session(p Proof) (Session, Caller) {
	w.t.Helper()
	_, x, err := w.StartSession(w.t.Context(), p, false)
	w.ok(err)
	return x, Caller{DID: owner, Credentials: x.Credentials, Session: x.Name()}
}

// changes are all that raises the counter.
var changes = map[string]func(w *town){
	"a reset of the password": func(w *town) {
		token, _, err := w.NewMailToken(w.t.Context(), Trusted(owner), ResetPassword)
		w.ok(err)
		w.ok(w.SetPasswordByToken(w.t.Context(), token, "another"))
	},
	"a change of the password": func(w *town) {
		_, err := w.SetPassword(w.t.Context(), Trusted(owner), "another")
		w.ok(err)
	},
	"a takedown": func(w *town) {
		w.ok(w.TakeDown(w.t.Context(), owner, Takedown{Applied: true, Ref: "x"}, noEvents))
	},
	"a takedown that was taken back": func(w *town) {
		for _, applied := range []bool{true, false} {
			w.ok(w.TakeDown(w.t.Context(), owner, Takedown{Applied: applied, Ref: "x"}, noEvents))
		}
	},
	"a deactivation": func(w *town) {
		w.ok(w.Deactivate(w.t.Context(), Trusted(owner), time.Time{}, noEvents))
	},
	"the deletion": func(w *town) {
		// As by another process: in this one, it waits for what is under way.
		_, err := w.hook.Repos.Delete(w.t.Context(), owner, nil)
		w.ok(err)
	},
}

func noEvents(Account) []storage.Event { return nil }

// Whatever is under way when the credentials change comes to nothing: each action is stopped
// between its look at the account and its step, and the change comes between.
func TestCredentialsChangeUnderWay(t *testing.T) {
	by := func(fn func(w *town, who Caller) error) func(w *town) func() error {
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
			text, _, err := w.CreateAppPassword(ctx, Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			return func() error { _, _, err := w.StartSession(ctx, p, true); return err }
		},
		"a refresh": func(w *town) func() error {
			x, _ := w.session(Proof{Account: w.account()})
			return func() error { _, _, err := w.RotateSession(ctx, owner, x.ID); return err }
		},
		"a new app password": by(func(w *town, who Caller) error { _, _, err := w.CreateAppPassword(ctx, who, "phone", true); return err }),
		"the end of an app password": by(func(w *town, who Caller) error {
			return w.RevokeAppPassword(ctx, who, "phone")
		}),
		"a mail token":   by(func(w *town, who Caller) error { _, _, err := w.NewMailToken(ctx, who, PLCOperation); return err }),
		"a new handle":   by(func(w *town, who Caller) error { return w.ChangeHandle(ctx, who, "other.test", nothing) }),
		"a new address":  by(func(w *town, who Caller) error { return w.ChangeEmail(ctx, who, "other@example.com", "") }),
		"preferences":    by(func(w *town, who Caller) error { return w.SetPreferences(ctx, who, samePreferences) }),
		"a deactivation": by(func(w *town, who Caller) error { return w.Deactivate(ctx, who, time.Time{}, noEvents) }),
		"an event":       by(func(w *town, who Caller) error { return w.Tell(ctx, who, oneEvent) }),
		"a record": by(func(w *town, who Caller) error {
			_, err := w.host.Apply(ctx, owner, repo.Batch{Guard: w.Guard(who), Writes: []repo.Write{
				{Action: repo.Create, Collection: "com.example.note", RKey: "one", Record: note}}})
			if errors.Is(err, repo.ErrRepoNotFound) {
				err = ErrNotFound
			}
			return err
		}),
	} {
		for what, change := range changes {
			t.Run(name+" and "+what, func(t *testing.T) {
				w := newTown(t)
				do := prepare(w)
				w.hook.before(func() { change(w) })
				err := do()
				if !errors.Is(err, ErrTokenRevoked) && !errors.Is(err, ErrWrongPassword) && !errors.Is(err, ErrTakenDown) && !errors.Is(err, ErrNotFound) {
					t.Fatalf("it went on: %v", err)
				}
				if what == "the deletion" {
					return
				}
				if problems, err := w.checkNames(ctx); err != nil || len(problems) > 0 {
					t.Errorf("names: %v %v", problems, err)
				}
				if a := w.account(); a.Handle != "alice.test" || a.Email != "alice@example.com" {
					t.Errorf("the account became %+v", a)
				}
				if head, err := w.host.Head(ctx, owner); err != nil {
					t.Error(err)
				} else if list, err := w.host.Collections(ctx, owner); err != nil || len(list) > 0 {
					t.Errorf("%v has %v, %v", head, list, err)
				}
			})
		}
	}
}

func nothing(context.Context, syntax.Handle) error { return nil }

func samePreferences(list []Preference) ([]Preference, error) { return list, nil }

func oneEvent(a Account) []storage.Event {
	return []storage.Event{{DID: a.DID, Kind: "#account", Time: time.Now(), Payload: []byte{0xa0}}}
}

// What was given before the credentials changed is void afterwards.
func TestCredentialsVoid(t *testing.T) {
	ctx := t.Context()
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, Trusted(owner), "phone", false)
			w.ok(err)
			x, who := w.session(w.prove(password))
			y, byApp := w.session(w.prove(text))
			legacy := Caller{DID: owner, Credentials: w.account().Credentials}
			for _, c := range []Caller{who, byApp, legacy} {
				_, err := w.Authenticate(ctx, c)
				w.ok(err)
			}
			change(w)
			want := ErrTokenRevoked
			switch what {
			case "a takedown":
				want = ErrTakenDown
			case "the deletion":
				want = ErrNotFound
			}
			for i, c := range []Caller{who, byApp, legacy} {
				if _, err := w.Authenticate(ctx, c); !errors.Is(err, want) {
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
				for _, c := range []Caller{who, byApp} {
					if _, err := w.Authenticate(ctx, c); !errors.Is(err, ErrTokenRevoked) {
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
			if down := what == "a takedown"; down != errors.Is(err, ErrTakenDown) || !down && err != nil {
				t.Errorf("a login with the app password: %v", err)
			}
		})
	}
}

// Twenty logins that have shown the old password when it is reset get nothing that lasts.
func TestLoginsDuringReset(t *testing.T) {
	w := newTown(t)
	ctx := t.Context()
	token, _, err := w.NewMailToken(ctx, Trusted(owner), ResetPassword)
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
		if err := w.SetPasswordByToken(ctx, token, "another"); err != nil {
			t.Error(err)
		}
	})
	close(begin)
	wg.Wait()
	close(ids)
	for id := range ids { // begun before the reset, and ended by it
		if _, _, err := w.RotateSession(ctx, owner, id); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("a session with the old password: %v", err)
		}
	}
}

// An app password that is revoked during its login opens no session, also if another gets its name.
func TestAppPasswordRevokedDuringLogin(t *testing.T) {
	ctx := t.Context()
	for name, revoke := range map[string]func(w *town){
		"revoked": func(w *town) { w.ok(w.RevokeAppPassword(ctx, Trusted(owner), "phone")) },
		"another of the name": func(w *town) {
			w.ok(w.RevokeAppPassword(ctx, Trusted(owner), "phone"))
			_, _, err := w.CreateAppPassword(ctx, Trusted(owner), "phone", true)
			w.ok(err)
		},
	} {
		for _, inside := range []bool{false, true} {
			w := newTown(t)
			text, _, err := w.CreateAppPassword(ctx, Trusted(owner), "phone", false)
			w.ok(err)
			p := w.prove(text)
			before, _ := w.session(p)
			if inside {
				w.hook.before(func() { revoke(w) })
			} else {
				revoke(w)
			}
			if _, _, err := w.StartSession(ctx, p, false); !errors.Is(err, ErrWrongPassword) {
				t.Errorf("%s: %v", name, err)
			}
			if _, _, err := w.RotateSession(ctx, owner, before.ID); !errors.Is(err, ErrTokenRevoked) {
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
		w.ok(w.Deactivate(ctx, who, time.Time{}, noEvents))
	}
	if _, err := w.Authenticate(ctx, who); err != nil {
		t.Errorf("its own: %v", err)
	}
	if _, err := w.Authenticate(ctx, other); !errors.Is(err, ErrTokenRevoked) {
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
		w.ok(w.update(ctx, owner, func(_ storage.Reader, c *storage.Change) error {
			c.KV = append(c.KV, storage.KVWrite{Key: key, Value: []byte(doc)})
			return nil
		}))
	}
	_, err := w.Authenticate(ctx, Caller{DID: owner})
	w.ok(err)
	for _, id := range []string{"old.TOKEN", "app.TOKEN"} {
		_, _, err := w.RotateSession(ctx, owner, id)
		w.ok(err)
	}
	_, byApp := w.session(w.prove("aaaa-bbbb-cccc-dddd"))
	_, err = w.Authenticate(ctx, byApp)
	w.ok(err)
	w.ok(w.Confirm(ctx, Caller{DID: owner}, "Alice@example.com", "aaaaa-bbbbb"))
	_, err = w.SetPassword(ctx, Trusted(owner), "another")
	w.ok(err)
	for _, c := range []Caller{{DID: owner}, byApp} {
		if _, err := w.Authenticate(ctx, c); !errors.Is(err, ErrTokenRevoked) {
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
	_, err = w.SetPassword(ctx, Trusted(owner), "another")
	w.ok(err)
	w.ok(w.update(ctx, owner, func(_ storage.Reader, c *storage.Change) error { c.KV = append(c.KV, write); return nil }))
	var x chain
	w.ok(json.Unmarshal(write.Value, &x))
	name := strings.TrimPrefix(write.Key, sessionPrefix)
	if _, err := w.Authenticate(ctx, Caller{DID: owner, Session: name}); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("its access token: %v", err)
	}
	if _, _, err := w.RotateSession(ctx, owner, name+"."+x.Current); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("its refresh token: %v", err)
	}
}

// A token that is mailed is good for the address that it is mailed to, for its purpose, and not
// beyond a change of address or password.
func TestMailTokensAreBound(t *testing.T) {
	ctx := t.Context()
	use := func(w *town, p Purpose, token string) error {
		switch p {
		case ConfirmEmail:
			return w.Confirm(ctx, Trusted(owner), w.account().Email, token)
		case ResetPassword:
			return w.SetPasswordByToken(ctx, token, "a third")
		case DeleteAccount:
			return w.DeleteByToken(ctx, w.host, Proof{Account: w.account()}, token)
		}
		return w.UseMailToken(ctx, Trusted(owner), p, token)
	}
	for _, p := range purposes {
		for what, change := range map[string]func(w *town){
			"change of address": func(w *town) { w.ok(w.ChangeEmail(ctx, Trusted(owner), "new@example.com", "")) },
			"change of address there and back": func(w *town) {
				w.ok(w.ChangeEmail(ctx, Trusted(owner), "new@example.com", ""))
				w.ok(w.ChangeEmail(ctx, Trusted(owner), "alice@example.com", ""))
			},
			"change of password": func(w *town) { _, err := w.SetPassword(ctx, Trusted(owner), "another"); w.ok(err) },
			"newer token":        func(w *town) { _, _, err := w.NewMailToken(ctx, Trusted(owner), p); w.ok(err) },
		} {
			w := newTown(t)
			token, a, err := w.NewMailToken(ctx, Trusted(owner), p)
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
			token, _, err = w.NewMailToken(ctx, Trusted(owner), p)
			w.ok(err)
			w.ok(use(w, p, token))
		}
		// The address changes while a token is made: it is for the new one, and so is the mail.
		w := newTown(t)
		w.hook.before(func() { w.ok(w.ChangeEmail(ctx, Trusted(owner), "new@example.com", "")) })
		token, a, err := w.NewMailToken(ctx, Trusted(owner), p)
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
	token, _, err := w.NewMailToken(ctx, Trusted(owner), ConfirmEmail)
	w.ok(err)
	_, who := w.session(w.prove(password))
	if err := w.Confirm(ctx, who, "other@example.com", token); !errors.Is(err, ErrOtherEmail) {
		t.Errorf("another address: %v", err)
	}
	w.ok(w.Confirm(ctx, who, "alice@example.com", token))
	if err := w.ChangeEmail(ctx, who, "other@example.com", ""); !errors.Is(err, ErrTokenRequired) {
		t.Errorf("without a token: %v", err)
	}
	if token, _, err = w.NewMailToken(ctx, who, UpdateEmail); err != nil {
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
			case !errors.Is(err, ErrMailToken) && !errors.Is(err, ErrTokenRequired):
				// The address is no longer confirmed: whoever comes later needs no token.
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if problems, err := w.checkNames(ctx); err != nil || len(problems) > 0 {
		t.Errorf("names: %v %v", problems, err)
	}
	if len(good) == 0 {
		t.Error("nobody could use it")
	}
	// And the address is confirmed between the look at it and the step: a token is needed then.
	w = newTown(t)
	_, who = w.session(w.prove(password))
	if token, _, err = w.NewMailToken(ctx, who, ConfirmEmail); err != nil {
		t.Fatal(err)
	}
	w.hook.before(func() { w.ok(w.Confirm(ctx, who, "alice@example.com", token)) })
	if err := w.ChangeEmail(ctx, who, "other@example.com", ""); !errors.Is(err, ErrTokenRequired) {
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
			by = Trusted(owner)
		}
		wg.Go(func() {
			var err error
			if i%3 == 0 {
				err = w.ChangeEmail(ctx, by, fmt.Sprintf("Alice%d@example.com", i), "")
			} else {
				err = w.ChangeHandle(ctx, by, syntax.Handle(fmt.Sprintf("alice%d.test", i)), register)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if problems, err := w.checkNames(ctx); err != nil || len(problems) > 0 {
		t.Errorf("names: %v %v", problems, err)
	}
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
}

// kept counts the names that are kept or reserved.
func (w *town) kept() (n int) {
	w.t.Helper()
	w.ok(w.store.KV.Read(w.t.Context(), func(r storage.KVReader) error {
		for _, prefix := range []string{handlePrefix, emailPrefix, createdPrefix} {
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
	if err := w.ChangeHandle(ctx, Trusted(owner), "other.test", func(context.Context, syntax.Handle) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	gone, hangUp := context.WithCancel(ctx)
	err := w.ChangeHandle(gone, Trusted(owner), "other.test", func(ctx context.Context, _ syntax.Handle) error { hangUp(); return ctx.Err() })
	if err != nil || w.account().Handle != "other.test" {
		t.Errorf("a client that hangs up: %v, %s", err, w.account().Handle)
	}
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
	// A session that ends while the directory is told: that is taken back.
	_, who := w.session(w.prove(password))
	var told []syntax.Handle
	err = w.ChangeHandle(ctx, who, "third.test", func(_ context.Context, h syntax.Handle) error {
		if told = append(told, h); len(told) == 1 {
			changes["a change of the password"](w)
		}
		return nil
	})
	if !errors.Is(err, ErrTokenRevoked) || len(told) != 2 || told[1] != "other.test" || w.account().Handle != "other.test" {
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
			if err := w.Delete(ctx, w.host, owner); err != nil {
				t.Error(err)
			}
		})
		for i := range 4 {
			wg.Go(func() {
				err := w.ChangeHandle(ctx, Trusted(owner), syntax.Handle(fmt.Sprintf("other%d.test", i)), nothing)
				if err != nil && !errors.Is(err, ErrNotFound) {
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
	token, _, err := w.NewMailToken(ctx, Trusted(owner), DeleteAccount)
	w.ok(err)
	if err := w.DeleteByToken(ctx, w.host, p, "AAAAA-AAAAA"); !errors.Is(err, ErrMailToken) {
		t.Errorf("another token: %v", err)
	}
	errs := make(chan error, 6)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { errs <- w.DeleteByToken(ctx, w.host, p, token) })
	}
	wg.Wait()
	close(errs)
	done := 0
	for err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, ErrNotFound) {
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
	codes, err := w.CreateInvites(ctx, "pds.test", "admin", "admin", 1, 1)
	w.ok(err)
	late := Account{DID: owner, Handle: "late.test", Email: "late@example.com", Created: time.Now().UTC(), Invite: codes[0]}
	w.ok(w.Reserve(ctx, late))
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	before, err := w.Signer(ctx, owner)
	w.ok(err)
	if _, err := w.Create(ctx, w.host, late, key, repo.Batch{}); !errors.Is(err, repo.ErrRepoExists) {
		t.Fatal(err)
	}
	if now, err := w.Signer(ctx, owner); err != nil || !now.PublicKey().Equal(before.PublicKey()) {
		t.Errorf("the account signs with another key: %v", err)
	}
	w.ok(w.Release(ctx, late))
	if n := w.kept(); n != 3 {
		t.Errorf("%d names are kept", n)
	}
	w.ok(w.CheckInvite(ctx, codes[0]))
}

// Somebody who returns with another server's key finds the account as it was, or nothing.
func TestReturningMeanwhile(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	if _, err := w.SetPassword(ctx, Returning(w.account()), "another"); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("an active account: %v", err)
	}
	for name, change := range map[string]func(w *town){
		"activated": func(w *town) {
			_, err := w.Update(ctx, Trusted(owner), func(a *Account, _ *storage.Change) error { a.DeactivatedAt = time.Time{}; return nil })
			w.ok(err)
		},
		"taken down": changes["a takedown"], "reset": changes["a reset of the password"],
	} {
		w := newTown(t)
		w.ok(w.Deactivate(ctx, Trusted(owner), time.Time{}, noEvents))
		who := Returning(w.account())
		w.hook.before(func() { change(w) })
		if _, err := w.SetPassword(ctx, who, "mine"); !errors.Is(err, ErrTokenRevoked) && !errors.Is(err, ErrTakenDown) {
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
	app, _, err := w.CreateAppPassword(ctx, Trusted(owner), "phone", true)
	w.ok(err)
	x, who := w.session(w.prove(password))
	y, byApp := w.session(w.prove(app))
	before := w.prove(password)
	tokens := make(map[Purpose]string)
	for _, p := range purposes {
		tokens[p], _, err = w.NewMailToken(ctx, Trusted(owner), p)
		w.ok(err)
	}
	w.ok(w.Delete(ctx, w.host, owner))
	key, err := crypto.GenerateKey(crypto.K256)
	w.ok(err)
	a := Account{DID: owner, Handle: "alice.test", Email: "alice@example.com", Created: time.Now().UTC(), Password: passwordHash(), Credentials: time.Now().UnixMilli()}
	w.ok(w.Reserve(ctx, a))
	_, err = w.Create(ctx, w.host, a, key, repo.Batch{})
	w.ok(err)
	for i, c := range []Caller{who, byApp, {DID: owner}, {DID: owner, Credentials: 1}, {DID: owner, Credentials: a.Credentials, Session: x.Name()}} {
		if _, err := w.Authenticate(ctx, c); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("access token %d: %v", i, err)
		}
	}
	for _, x := range []Session{x, y} {
		if _, _, err := w.RotateSession(ctx, owner, x.ID); !errors.Is(err, ErrTokenRevoked) {
			t.Errorf("refresh token: %v", err)
		}
	}
	if _, _, err := w.StartSession(ctx, before, true); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("a login that began before: %v", err)
	}
	if _, err := w.CheckPassword(ctx, w.account(), app, true); !errors.Is(err, ErrWrongPassword) {
		t.Errorf("the app password: %v", err)
	}
	if err := w.SetPasswordByToken(ctx, tokens[ResetPassword], "mine"); !errors.Is(err, ErrMailToken) {
		t.Errorf("the token to reset the password: %v", err)
	}
	for _, p := range purposes {
		if err := w.UseMailToken(ctx, Trusted(owner), p, tokens[p]); !errors.Is(err, ErrMailToken) {
			t.Errorf("the token for %s: %v", p, err)
		}
	}
}

// Of two resets with one token, in any order of their steps, one sets the password.
func TestResetsWithOneToken(t *testing.T) {
	ctx := t.Context()
	w := newTown(t)
	token, _, err := w.NewMailToken(ctx, Trusted(owner), ResetPassword)
	w.ok(err)
	w.hook.before(func() { w.ok(w.SetPasswordByToken(ctx, token, "the faster")) })
	if err := w.SetPasswordByToken(ctx, token, "the slower"); !errors.Is(err, ErrMailToken) {
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
		if _, err := w.Authenticate(ctx, who); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	w.SetClock(func() time.Time { return now.Add(RefreshLife + time.Minute) })
	if _, err := w.Authenticate(ctx, who); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("after its time: %v", err)
	}
	w.SetClock(func() time.Time { return now })
	_, next, err := w.RotateSession(ctx, owner, x.ID)
	w.ok(err)
	if _, err := w.Authenticate(ctx, who); err != nil {
		t.Errorf("after a refresh: %v", err)
	}
	w.ok(w.EndSession(ctx, owner, next.ID))
	if _, err := w.Authenticate(ctx, who); !errors.Is(err, ErrTokenRevoked) {
		t.Errorf("after its end: %v", err)
	}
}
