package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
)

// replaceWith replaces alice's records, from one head to the next.
func replaceWith(db *DB, from, to, n int, during func()) error {
	c := change(alice, to)
	c.Records, c.Prev = nil, storage.Head{}
	if from > 0 {
		c.Prev = head(from)
	}
	_, err := db.Store().Repos.Replace(ctx, alice, func(yield func(storage.RecordChange, error) bool) {
		for i := range n {
			if i == n-1 && during != nil {
				during()
			}
			data := fmt.Append(nil, "record ", i)
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%06d", i), CID: dag.Sum(dag.CBOR, data), Data: data}, nil) {
				return
			}
		}
	}, func() (*storage.Change, error) { return c, nil })
	return err
}

// keysOf counts the keys of alice's object.
func keysOf(t *testing.T, db *DB) (n int) {
	t.Helper()
	err := db.use(ctx, alice, false, func(o *object) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.store.Scan("", "", false, func(string, []byte) bool { n++; return true })
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
		if err := replaceWith(db, i, i+1, n, nil); err != nil {
			t.Fatal(err)
		}
		if got := keysOf(t, db); got != 2*n+stateKeys {
			t.Errorf("after %d records: %d keys", n, got)
		}
		if err := replaceWith(db, i, i+1, 1500, nil); !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		if got := keysOf(t, db); got != 2*n+stateKeys {
			t.Errorf("after one that failed: %d keys", got)
		}
	}
	err := db.Store().Repos.View(ctx, alice, func(r storage.Reader) error {
		if err := replaceWith(db, 4, 5, 5, nil); err != nil {
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

// TestInterruptedReplaceIsSwept: what a process that died has staged is deleted when the directory
// is opened again, and an account that was not made leaves no file.
func TestInterruptedReplaceIsSwept(t *testing.T) {
	for _, records := range []int{0, 5} {
		dir := t.TempDir()
		db := openDB(t, dir, Config{})
		from := 0
		if records > 0 {
			from = 1
			if err := replaceWith(db, 0, 1, records, nil); err != nil {
				t.Fatal(err)
			}
		}
		killed := filepath.Join(t.TempDir(), "killed")
		err := replaceWith(db, from, 2, 3000, func() {
			if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		copied := openDB(t, killed, Config{})
		defer copied.Close()
		switch head, err := copied.Store().Repos.Head(ctx, alice); {
		case records == 0 && !errors.Is(err, storage.ErrNotFound):
			t.Errorf("head %v, %v", head, err)
		case records > 0 && err != nil:
			t.Error(err)
		case records > 0:
			if got := keysOf(t, copied); got != 2*records+stateKeys {
				t.Errorf("%d keys", got)
			}
		}
		if _, err := os.Stat(copied.cfg.Objects.(*Files).path(alice)); (err == nil) != (records > 0) {
			t.Errorf("file of an account of %d records: %v", records, err)
		}
	}
}
