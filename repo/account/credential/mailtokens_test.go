package credential

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
)

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
