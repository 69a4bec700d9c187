package account

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// What names do not say is wrong is found, about whom it is.
func TestCheckFindsWhatIsWrong(t *testing.T) {
	kv := func(key, value string) func(ctx context.Context, s *Store) error {
		return func(ctx context.Context, s *Store) error {
			return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
				if value == "" {
					return tx.Delete(ctx, key)
				}
				return tx.Set(ctx, key, []byte(value), time.Time{})
			})
		}
	}
	row := func(doc string) func(ctx context.Context, s *Store) error {
		return func(ctx context.Context, s *Store) error {
			_, err := s.host.Step(ctx, owner, func(step *repo.Step) error {
				step.KV = []storage.KVWrite{{Key: accountKey}}
				if doc != "" {
					step.KV[0].Value = []byte(doc)
				}
				return nil
			})
			return err
		}
	}
	for want, damage := range map[string]func(ctx context.Context, s *Store) error{
		"handle/alice.test is not kept":            kv("handle/alice.test", ""),
		"handle/alice.test belongs to did:plc:x":   kv("handle/alice.test", "did:plc:x"),
		"handle/more.test is kept for it":          kv("handle/more.test", owner),
		"there is a repository, but no account":    row(""),
		"the account cannot be read":               row("{"),
		"the account says that it is did:plc:else": row(`{"did":"did:plc:else","handle":"alice.test"}`),
		"1 repositories, but 7 accounts":           kv("accounts", `{"version":1,"count":7}`),
	} {
		synctest.Test(t, func(t *testing.T) { // Check looks again after a while
			ctx := t.Context()
			s, _ := newStore(t)
			if err := damage(ctx, s); err != nil {
				t.Fatal(err)
			}
			problems, err := s.Check(ctx)
			found := false
			for _, p := range problems {
				found = found || strings.Contains(p.What, want)
			}
			if err != nil || !found {
				t.Errorf("%s: %v %v", want, problems, err)
			}
			gone, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := s.Check(gone); !errors.Is(err, context.Canceled) {
				t.Errorf("a check that is given up: %v", err)
			}
		})
	}
}

func TestCheckerOfAccounts(t *testing.T) { synctest.Test(t, checkerOfAccounts) }

func checkerOfAccounts(t *testing.T) {
	ctx := t.Context()
	s, _ := newStore(t)
	c := s.Checker()
	key, err := c.Key(ctx, owner)
	signer, signerErr := s.Signer(ctx, owner)
	if err != nil || signerErr != nil || !key.Equal(signer.PublicKey()) {
		t.Errorf("%v %v", err, signerErr)
	}
	if _, err := c.Key(ctx, other); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's key: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Others(gone, func(syntax.DID, string) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a check that is given up: %v", err)
	}
	if problems, err := s.checkAccount(ctx, other); err != nil || problems != nil {
		t.Errorf("an account that was deleted meanwhile: %v %v", problems, err)
	}
	if is, err := c.Incomplete(ctx, owner); is || err != nil {
		t.Errorf("%v %v", is, err)
	}
	if err := s.Deactivate(ctx, Trusted(owner), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if is, err := c.Incomplete(ctx, owner); !is || err != nil {
		t.Errorf("deactivated: %v %v", is, err)
	}
	if is, err := c.Incomplete(ctx, other); is || err != nil {
		t.Errorf("nobody: %v %v", is, err)
	}
	if err := s.store.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Delete(ctx, "handle/alice.test") }); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := c.Others(ctx, func(did syntax.DID, what string) { n++ }); err != nil || n != 1 {
		t.Errorf("%d problems, %v", n, err)
	}
}

// A check that looks again at what is wrong says that it is, or that it could not look: whichever call
// fails.
func TestCheckOfWhichOneCallFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := newFlakyWorld(t), t.Context()
		put(t, w.Store, "handle/alice.test", "")
		w.flaky.arm(0)
		if _, _, err := w.checkAll(ctx); err != nil {
			t.Fatal(err)
		}
		once := w.flaky.calls.Load()
		for n := range once + 12 { // of those that it makes when it looks again, too
			w.flaky.arm(n + 1)
			problems, err := w.Check(ctx)
			w.flaky.arm(0)
			if err == nil && len(problems) == 0 || err != nil && !errors.Is(err, errFlaky) {
				t.Errorf("call %d failed: %v, %v", n+1, problems, err)
			}
		}
	})
}
