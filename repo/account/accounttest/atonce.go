package accounttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/storage"
)

// AtOnce changes the same names and credentials concurrently, by two processes over one store. Run
// it under the race detector too.
func AtOnce(t *testing.T, open Open) {
	for name, fn := range races {
		t.Run(name, func(t *testing.T) { atOnce(t, open, fn) })
	}
}

var races = map[string]func(v *village, other *village){
	"one handle":       oneHandle,
	"one DID":          oneDID,
	"one invite":       oneInvite,
	"one mail token":   oneMailToken,
	"one refresh":      oneRefresh,
	"renames":          renames,
	"renames, deleted": renamesAndDeletion,
}

func atOnce(tb testing.TB, open Open, fn func(v *village, other *village)) {
	v := newVillage(tb, open)
	fn(v, v.reopened(v.again()))
	v.clock.pass(longDead)
	v.ok(v.accounts.Repair(v.ctx))
	v.sound("at the end")
}

// many calls fn many times at once, with one process or the other, and counts the successes. Errors
// but those that are allowed are reported, and conflicts.
func many(v, other *village, fn func(v *village, i int) error, allowed ...error) (done int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range 12 {
		by := v
		if i%2 == 1 {
			by = other
		}
		wg.Go(func() {
			err := fn(by, i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
				return
			}
			for _, want := range append(allowed, storage.ErrConflict) {
				if errors.Is(err, want) {
					return
				}
			}
			v.tb.Errorf("%d: %v", i, err)
		})
	}
	wg.Wait()
	return done
}

func (v *village) exactly(done, want int) {
	v.tb.Helper()
	if done != want {
		v.tb.Errorf("%d succeeded, want %d", done, want)
	}
}

func someDID(i int) syntax.DID {
	return syntax.DID("did:plc:" + strings.Repeat(string(rune('d'+i)), 24))
}

func oneHandle(v, other *village) {
	v.exactly(many(v, other, func(v *village, i int) error {
		return v.create(account.Account{DID: someDID(i), Handle: "one.test", Email: fmt.Sprintf("one%d@example.com", i)})
	}, account.ErrHandleTaken), 1)
}

func oneDID(v, other *village) {
	v.exactly(many(v, other, func(v *village, i int) error {
		return v.create(account.Account{DID: carol, Handle: "carol.test", Email: "carol@example.com", Created: v.clock.now().Add(time.Duration(i) * time.Second)})
	}, repo.ErrRepoExists), 1)
	if a := v.account(carol); a.Handle != "carol.test" {
		v.tb.Errorf("%+v", a)
	}
}

func oneInvite(v, other *village) {
	v.exactly(many(v, other, func(v *village, i int) error {
		return v.create(account.Account{DID: someDID(i), Handle: syntax.Handle(fmt.Sprintf("one%d.test", i)), Email: fmt.Sprintf("one%d@example.com", i), Invite: v.invite})
	}, account.ErrInvite), 1)
}

func oneMailToken(v, other *village) {
	v.exactly(many(v, other, func(v *village, i int) error {
		return v.credentials.UseMailToken(v.ctx, v.who, credential.ForPLCOperation, v.tokens[credential.ForPLCOperation])
	}, credential.ErrMailToken), 1)
}

func oneRefresh(v, other *village) {
	var mu sync.Mutex
	next := make(map[string]bool)
	v.exactly(many(v, other, func(v *village, i int) error {
		_, x, err := v.credentials.RotateSession(v.ctx, alice, v.session.ID)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			next[x.ID] = true
		}
		return err
	}), 12)
	if len(next) != 1 {
		v.tb.Errorf("one token has %d successors", len(next))
	}
}

// rename changes handles and addresses, and keeps what the directory was told last.
func rename(told *syntax.Handle, mu *sync.Mutex) func(v *village, i int) error {
	return func(v *village, i int) error {
		if i%3 == 0 {
			return v.credentials.ChangeEmail(v.ctx, account.Trusted(alice), fmt.Sprintf("new%d@example.com", i), "")
		}
		return v.accounts.ChangeHandle(v.ctx, account.Trusted(alice), syntax.Handle(fmt.Sprintf("new%d.test", i)), func(_ context.Context, h syntax.Handle) error {
			mu.Lock()
			defer mu.Unlock()
			*told = h
			return nil
		})
	}
}

func renames(v, other *village) {
	var told syntax.Handle
	var mu sync.Mutex
	if many(v, other, rename(&told, &mu)) == 0 {
		v.tb.Error("nobody could rename")
	}
	if a := v.account(alice); a.Handle != told {
		v.tb.Errorf("the account is %s, the directory was told %s last", a.Handle, told)
	}
}

func renamesAndDeletion(v, other *village) {
	var told syntax.Handle
	var mu sync.Mutex
	change := rename(&told, &mu)
	many(v, other, func(v *village, i int) error {
		if i == 6 {
			return v.accounts.Delete(v.ctx, account.Trusted(alice))
		}
		return change(v, i)
	}, account.ErrNotFound)
}

// Meanwhile makes each operation of a session come too late: another process signs the account out
// everywhere between the check of the session and the transaction. The operation must be refused
// and leave nothing.
func Meanwhile(t *testing.T, open Open) {
	for _, op := range operations() {
		if op.session {
			t.Run(op.name, func(t *testing.T) { meanwhile(t, open, op) })
		}
	}
}

// between calls a function before the first step.
type between struct {
	storage.Repos
	once sync.Once
	fn   func()
}

func (b *between) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	b.once.Do(b.fn)
	return b.Repos.Apply(ctx, did, c)
}

func meanwhile(tb testing.TB, open Open, op operation) {
	v := newVillage(tb, open)
	if op.prepare != nil {
		op.prepare(v)
	}
	other := v.again()
	store, state := v.store, ""
	store.Repos = &between{Repos: v.store.Repos, fn: func() {
		v.ok(other.credentials.EndSessions(v.ctx, account.Trusted(alice)))
		state = v.state()
	}}
	process := newWorld(tb, store, v.clock)
	err := op.run(v.reopened(process))
	if state == "" {
		tb.Fatalf("it made no step: %v", err)
	}
	if !errors.Is(err, account.ErrTokenRevoked) && !errors.Is(err, credential.ErrWrongPassword) {
		tb.Errorf("it went on: %v", err)
	}
	if now := withoutNotes(v.state()); now != withoutNotes(state) {
		tb.Errorf("it left something:%s", difference(now, withoutNotes(state)))
	}
	v.sound("afterwards")
}

// withoutNotes is a state without the operation that is under way, and what it holds.
func withoutNotes(state string) string {
	var lines []string
	for _, l := range strings.Split(state, "\n") {
		if !strings.HasPrefix(l, "pending/") && !strings.HasPrefix(l, "deleteafter/") && !strings.Contains(l, "ally.test") && l != "userhandle" && !strings.Contains(l, "new@example.com") {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}
