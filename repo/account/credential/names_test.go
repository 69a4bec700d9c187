package credential

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

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
