package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// An account's next change ends what an earlier one of the same process could not end, and then nothing
// of it is remembered.
func TestNextChangeEndsTheLast(t *testing.T) {
	ctx := t.Context()
	s, kv, _ := newStuck(t)
	err := s.ChangeHandle(ctx, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { kv.full.Store(true); return nil })
	kv.full.Store(false)
	if n := pendingOperations(t, s); err != nil || n != 1 || len(s.unfinished) != 1 {
		t.Fatalf("%d operations are pending, %d remembered: %v", n, len(s.unfinished), err)
	}
	if err := s.ChangeHandle(ctx, Trusted(owner), "alan.test", nil); err != nil {
		t.Fatal(err)
	}
	if n := pendingOperations(t, s); n != 0 || len(s.unfinished) != 0 {
		t.Errorf("%d operations are pending, %d remembered", n, len(s.unfinished))
	}
}

// A change that finds an operation unfinished, and cannot finish it, is refused.
func TestUnfinishedOperationInTheWay(t *testing.T) {
	ctx := t.Context()
	s, kv, _ := newStuck(t)
	if err := s.ChangeHandle(ctx, Trusted(owner), "ally.test", func(context.Context, syntax.Handle) error { kv.full.Store(true); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.ChangeHandle(ctx, Trusted(owner), "alan.test", nil); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	kv.full.Store(false)
	if a, err := s.ByDID(ctx, owner); err != nil || a.Handle != "ally.test" {
		t.Errorf("%+v, %v", a, err)
	}
}

// The end of an operation tells the others of its account. A deletion among them gives up the names of
// both, unless it is counted here.
func TestEndOfAnOperationAmongOthers(t *testing.T) {
	w, ctx := newFlakyWorld(t), t.Context()
	made, another := "made", "else"
	a := Account{DID: third, Handle: "carol.test", Made: "made"}
	for _, x := range []struct {
		name  string
		a     Account
		id    string
		n     note
		count int
		left  string // what others there are afterwards
	}{
		{"rename", a, "x", note{Keys: []string{"handle/carol.test", "handle/foreign.test", "handle/old.test", "handle/shared.test"}}, 0, "a 1 [handle/shared.test], " +
			"d made 1 [handle/carol.test handle/foreign.test handle/old.test handle/shared.test], e else 1 [handle/carol.test handle/foreign.test handle/old.test handle/shared.test]"},
		{"creation", a, "made", note{Makes: true}, 1, "a 1 [handle/shared.test], d made 1 [handle/shared.test], e else 1 []"},
		{"another's creation", a, "x", note{Makes: true}, 0, "a 1 [handle/shared.test], d made 1 [handle/shared.test], e else 1 []"},
		{"creation that failed", Account{}, "made", note{Makes: true}, 0, "a 1 [handle/shared.test], d made 1 [handle/shared.test], e else 1 []"},
		{"deletion", Account{}, "x", note{Deletes: &made}, -1, "a 1 [handle/shared.test], d 1 [handle/shared.test], e else 1 []"},
		{"deletion of one before", a, "x", note{Deletes: &another}, -1, "a 1 [handle/shared.test], d made 1 [handle/shared.test], e 1 []"},
		{"deletion that failed", a, "x", note{Deletes: &made}, 0, "a 1 [handle/shared.test], d made 1 [handle/shared.test], e else 1 []"},
	} {
		var left []string
		before, after := 0, 0
		undo := errors.New("undone")
		err := w.store.KV.Write(ctx, func(tx storage.KVTx) error {
			left = nil
			set := func(key, value string) error { return tx.Set(ctx, key, []byte(value), time.Time{}) }
			err := errors.Join(set("handle/old.test", string(third)), set("handle/shared.test", string(third)), set("handle/foreign.test", string(other)),
				putNote(ctx, tx, pendingOf(third)+x.id, x.n),
				putNote(ctx, tx, pendingOf(third)+"a", note{Keys: []string{"handle/shared.test"}}),
				putNote(ctx, tx, pendingOf(third)+"d", note{Keys: []string{"handle/shared.test"}, Deletes: &made}),
				putNote(ctx, tx, pendingOf(third)+"e", note{Keys: []string{}, Deletes: &another}))
			l, layoutErr := readLayout(ctx, tx)
			before = l.Count
			if err = errors.Join(err, layoutErr, w.settleIn(ctx, tx, x.a, third, x.id, x.n)); err != nil {
				return err
			}
			if l, err = readLayout(ctx, tx); err != nil {
				return err
			}
			after = l.Count
			others, err := notes(ctx, tx, third)
			if err != nil {
				return err
			}
			for _, id := range []string{"a", "d", "e", x.id} {
				if n, ok := others[pendingOf(third)+id]; ok {
					line := []string{id}
					if n.Deletes != nil {
						line = append(line, *n.Deletes)
					}
					left = append(left, strings.Join(append(line, fmt.Sprint(n.Others), fmt.Sprint(n.Keys)), " "))
				}
			}
			if x.name == "rename" {
				for key, want := range map[string]string{"handle/carol.test": string(third), "handle/old.test": "", "handle/shared.test": string(third), "handle/foreign.test": string(other)} {
					if v, err := tx.Get(ctx, key); string(v) != want {
						t.Errorf("%s is %q, want %q (%v)", key, v, want, err)
					}
				}
			}
			return undo
		})
		if !errors.Is(err, undo) || after-before != x.count || strings.Join(left, ", ") != x.left {
			t.Errorf("%s: counted %d, left %s: %v", x.name, after-before, strings.Join(left, ", "), err)
		}
	}
}
