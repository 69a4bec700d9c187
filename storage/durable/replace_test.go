package durable

import (
	"errors"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
)

// keysOf counts the keys of alice's object.
func keysOf(t *testing.T, db *DB) (n int) {
	t.Helper()
	err := db.with(ctx, alice, false, func(o *object) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.store.Scan(Scan{}, func(string, []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const stateKeys = 2 // state and outbox

// TestReplaceLeavesNothing: the old records, and those of a call that failed, are deleted; with a
// view on them, once that has ended.
func TestReplaceLeavesNothing(t *testing.T) {
	db := newDB(t, Config{})
	defer db.Close()
	for i, n := range []int{0, 3, 2500, 10} {
		if err := changes.Replace(t, db.Store(), alice, i, i+1, n, nil); err != nil {
			t.Fatal(err)
		}
		if got := keysOf(t, db); got != 2*n+stateKeys {
			t.Errorf("after %d records: %d keys", n, got)
		}
		if err := changes.Replace(t, db.Store(), alice, i, i+1, 1500, nil); !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		if got := keysOf(t, db); got != 2*n+stateKeys {
			t.Errorf("after one that failed: %d keys", got)
		}
	}
	err := db.Store().Repos.View(ctx, alice, func(r storage.Reader) error {
		if err := changes.Replace(t, db.Store(), alice, 4, 5, 5, nil); err != nil {
			return err
		}
		n := 0
		for _, err := range r.Records(ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		if n != 10 {
			t.Errorf("a view of 10 records has %d", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := 6; n < 10; n++ {
		c := change(alice, n)
		c.Records = nil
		if _, err := db.Store().Repos.Apply(ctx, alice, c); err != nil {
			t.Fatal(err)
		}
	}
	if got := keysOf(t, db); got != 2*5+stateKeys {
		t.Errorf("after a view and steps: %d keys", got)
	}
}
