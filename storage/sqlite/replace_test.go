package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const replaced = syntax.DID("did:web:replaced.example")

// manyRecords yields n records of some size, each with a reference to a blob, and calls during
// before the last.
func manyRecords(n, size int, during func()) func(func(storage.RecordChange, error) bool) {
	return func(yield func(storage.RecordChange, error) bool) {
		blobs := []cid.Cid{dag.Sum(dag.Raw, []byte("blob"))}
		for i := range n {
			if i == n-1 && during != nil {
				during()
			}
			data := fmt.Appendf(nil, "%0*d", size, i)
			if !yield(storage.RecordChange{Path: fmt.Sprintf("com.example.note/%08d", i), CID: dag.Sum(dag.CBOR, data), Data: data, Blobs: blobs}, nil) {
				return
			}
		}
	}
}

func headN(n int) storage.Head {
	c := dag.Sum(dag.CBOR, fmt.Append(nil, n))
	return storage.Head{Commit: c, Data: c, Rev: syntax.NewTID(time.UnixMicro(int64(n)), 0)}
}

// replaceWith replaces the records of the repository, from one head to the next.
func replaceWith(db *DB, from, to, n, size int, during func()) error {
	c := &storage.Change{Head: headN(to), Commit: []byte("commit")}
	if from > 0 {
		c.Prev = headN(from)
	}
	_, err := db.Store().Repos.Replace(ctx, replaced, manyRecords(n, size, during), func() (*storage.Change, error) { return c, nil })
	return err
}

// rows counts what is stored: rows of records, of references, and loose sets.
func rows(t *testing.T, db *DB) (n [3]int) {
	t.Helper()
	err := db.read(ctx, func(c *conn) error {
		for i, table := range [...]string{"record", "blob_ref", "loose"} {
			if _, err := c.row(func(s *sqlite3.Stmt) error { n[i] = s.ColumnInt(0); return nil }, "SELECT count(*) FROM "+table); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openReplace(t *testing.T, path string, now func() time.Time) *DB {
	t.Helper()
	db, err := Open(ctx, path, Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestReplaceLeavesNothing: the old records, and those of a call that failed, are deleted.
func TestReplaceLeavesNothing(t *testing.T) {
	db := openReplace(t, filepath.Join(t.TempDir(), "test.sqlite"), nil)
	for i, n := range []int{0, 3, 2500, 10} {
		if err := replaceWith(db, i, i+1, n, 1000, nil); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, db); got != [3]int{n, n, 0} {
			t.Errorf("after %d records: %v", n, got)
		}
		// From another head, it fails in the end.
		if err := replaceWith(db, i, i+1, 1500, 1000, nil); !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		if got := rows(t, db); got != [3]int{n, n, 0} {
			t.Errorf("after one that failed: %v", got)
		}
	}
	if _, err := db.Store().Repos.Delete(ctx, replaced, nil); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, db); got != [3]int{} {
		t.Errorf("after Delete: %v", got)
	}
	if err := db.Check(ctx); err != nil {
		t.Error(err)
	}
}

// TestInterruptedReplaceIsSwept: what a process that died has staged is deleted, but not while it
// may be alive.
func TestInterruptedReplaceIsSwept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "test.sqlite")
	db := openReplace(t, path, nil)
	if err := replaceWith(db, 0, 1, 5, 100, nil); err != nil {
		t.Fatal(err)
	}
	killed := filepath.Join(t.TempDir(), "killed")
	err := replaceWith(db, 1, 2, 3000, 100, func() {
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		// Another process looks after the file meanwhile.
		other := openReplace(t, path, nil)
		if err := other.Store().Events.Trim(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(t, db); got != [3]int{3000, 3000, 0} {
		t.Errorf("the set of a process that is alive: %v", got)
	}

	now := time.Now()
	copied := openReplace(t, filepath.Join(killed, "test.sqlite"), func() time.Time { return now })
	for _, later := range []time.Duration{0, stageTime / 2} {
		now = now.Add(later)
		if err := copied.Store().Events.Trim(ctx, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, copied); got[0] < 2005 || got[2] != 1 {
			t.Errorf("%v after the kill: %v", later, got)
		}
	}
	now = now.Add(stageTime)
	if err := copied.Store().Events.Trim(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, copied); got != [3]int{5, 5, 0} {
		t.Errorf("swept: %v", got)
	}
	if head, err := copied.Store().Repos.Head(ctx, replaced); err != nil || head != headN(1) {
		t.Errorf("head %v, %v", head, err)
	}
}

// TestReplaceThatTakesTooLong: one whose set was swept in between is a conflict, and leaves all as
// it was.
func TestReplaceThatTakesTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db := openReplace(t, path, nil)
	if err := replaceWith(db, 0, 1, 5, 100, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{2001, 3000} { // swept before the last batch, or before the swap
		err := replaceWith(db, 1, 2, n, 100, func() {
			late := openReplace(t, path, func() time.Time { return time.Now().Add(2 * stageTime) })
			if err := late.Store().Events.Trim(ctx, time.Time{}); err != nil {
				t.Fatal(err)
			}
		})
		if !errors.Is(err, storage.ErrConflict) {
			t.Errorf("error %v", err)
		}
		if got := rows(t, db); got != [3]int{5, 5, 0} {
			t.Errorf("%v", got)
		}
	}
}

// A set that expired is not taken for whole when a sweep has deleted a part of it, and not all, at
// the moment when its records are all there.
func TestHalfSweptReplaceIsAConflict(t *testing.T) {
	for _, n := range []int{batchRecords + 1, 2*batchRecords + 1} { // before the last batch, before the swap
		db := openReplace(t, filepath.Join(t.TempDir(), "test.sqlite"), nil)
		if err := replaceWith(db, 0, 1, 5, 100, nil); err != nil {
			t.Fatal(err)
		}
		err := replaceWith(db, 1, 2, n, 100, func() {
			err := db.writer.do(ctx, step{fn: func(c *conn) error {
				set, found, err := c.expired(time.Now().Add(2 * stageTime))
				if err == nil && !found {
					err = errors.New("nothing has expired")
				}
				if err != nil {
					return err
				}
				return c.sweepSome(set)
			}})
			if err != nil {
				t.Fatal(err)
			}
		})
		if !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%d records: error %v", n, err)
		}
		if err := db.Store().Events.Trim(ctx, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, db); got != [3]int{5, 5, 0} {
			t.Errorf("%d records: %v", n, got)
		}
	}
}

// TestWritersBesideReplace: while 60 MB are replaced, 20 MB with -short, the steps of another account go on.
func TestWritersBesideReplace(t *testing.T) {
	records := 60
	if testing.Short() {
		records = 20
	}
	db := openReplace(t, filepath.Join(t.TempDir(), "test.sqlite"), nil)
	done := make(chan struct{})
	var wg sync.WaitGroup
	steps, longest := 0, time.Duration(0)
	wg.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			c := &storage.Change{Head: headN(n), Commit: []byte("commit")}
			if n > 1 {
				c.Prev = headN(n - 1)
			}
			start := time.Now()
			if _, err := db.Store().Repos.Apply(ctx, "did:web:other.example", c); err != nil {
				t.Error(err)
				return
			}
			longest = max(longest, time.Since(start))
			steps++
		}
	})
	for i := range 2 {
		if err := replaceWith(db, i, i+1, records, 1_000_000, nil); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	// Each batch lets at least one step in between.
	t.Logf("%d steps, the longest took %v", steps, longest)
	if steps < 2*records*1_000_000/batchBytes {
		t.Errorf("%d steps", steps)
	}
}

// TestReadersAreNotWaitedForForEver: calls beyond the bound of readers end with an error.
func TestReadersAreNotWaitedForForEver(t *testing.T) {
	db, err := Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), Config{Readers: 2, ReaderWait: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := replaceWith(db, 0, 1, 5, 100, nil); err != nil {
		t.Fatal(err)
	}
	repos := db.Store().Repos
	err = repos.View(ctx, replaced, func(storage.Reader) error {
		return repos.View(ctx, replaced, func(storage.Reader) error {
			return db.Store().KV.Read(ctx, func(storage.KVReader) error { return nil })
		})
	})
	if !errors.Is(err, storage.ErrBusy) {
		t.Errorf("error %v", err)
	}
	if _, err := repos.Head(ctx, replaced); err != nil {
		t.Error(err)
	}
}
