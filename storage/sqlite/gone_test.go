package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// The events of a deleted repository may be a large part of the log. They are unreadable at once,
// whether the process lives on or not, and are deleted a batch at a time, so that others write in
// between. What a new repository of the same account does is read like anything else.
func TestEventsOfADeletedRepository(t *testing.T) {
	const n, other = 2*batchRecords + 500, syntax.DID("did:web:other.example")
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db := openReplace(t, path, nil)
	events := func(did syntax.DID, n, size int) (list []storage.Event) {
		for range n {
			list = append(list, storage.Event{DID: did, Kind: "x", Time: time.Now(), Payload: make([]byte, size)})
		}
		return list
	}
	apply := func(did syntax.DID, from, to int, list []storage.Event) {
		t.Helper()
		c := &storage.Change{Head: headN(to), Commit: []byte("commit"), Events: list}
		if from > 0 {
			c.Prev = headN(from)
		}
		if _, err := db.Store().Repos.Apply(ctx, did, c); err != nil {
			t.Fatal(err)
		}
	}
	apply(replaced, 0, 1, events(replaced, n, 10))
	apply(other, 0, 1, events(other, 1, 10))
	apply(replaced, 1, 2, events(replaced, 10, 1<<20))
	// As Delete does, up to the moment at which the process dies.
	stopped, stop := context.WithCancel(ctx)
	err := db.writer.do(ctx, step{fn: func(c *conn) error {
		newest, err := c.newest()
		if err == nil {
			err = c.exec("DELETE FROM repo WHERE did = ?", replaced)
		}
		if err == nil {
			err = c.exec("INSERT INTO gone (did, seq) VALUES (?, ?)", replaced, newest)
		}
		return err
	}, after: stop})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.sweep(stopped); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openReplace(t, path, nil)
	read := func(when string, want int) {
		t.Helper()
		got := 0
		for e, err := range db.Store().Events.Since(ctx, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if got++; e.DID == replaced && len(e.Payload) != 7 {
				t.Fatalf("%s: an event of the deleted repository", when)
			}
		}
		of := 0
		for _, err := range db.Store().Events.(storage.AccountEvents).OfAccount(ctx, replaced) {
			if err != nil {
				t.Fatal(err)
			}
			of++
		}
		if got != want || of != want-1 {
			t.Errorf("%s: %d events, %d of the account; want %d", when, got, of, want)
		}
	}
	left := func() (n [2]int) {
		t.Helper()
		err := db.read(ctx, func(c *conn) (err error) {
			for i, sql := range [...]string{"SELECT count(*) FROM event", "SELECT count(*) FROM gone"} {
				if _, e := c.row(func(s *sqlite3.Stmt) error { n[i] = s.ColumnInt(0); return nil }, sql); e != nil {
					err = e
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	read("after the crash", 1)
	apply(replaced, 0, 1, events(replaced, 1, 7))
	read("with a new repository", 2)
	for _, want := range [][2]int{{n + 12 - batchRecords, 1}, {n + 12 - 2*batchRecords, 1}, {8, 1}} {
		err := db.writer.do(ctx, step{fn: func(c *conn) error {
			did, seq, found, err := c.deletedRepo()
			if err == nil && !found {
				err = errors.New("nothing is to be deleted")
			}
			if err != nil {
				return err
			}
			return c.sweepSomeEvents(did, seq)
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := left(); got != want {
			t.Errorf("%v are left, want %v", got, want)
		}
	}
	read("in the middle of a sweep", 2)
	if err := db.Store().Events.Trim(ctx, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != [2]int{2, 0} {
		t.Errorf("%v are left in the end", got)
	}
	if _, err := db.Store().Repos.Delete(ctx, replaced, nil); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != [2]int{1, 0} {
		t.Errorf("%v are left after Delete", got)
	}
	if err := db.Check(ctx); err != nil {
		t.Error(err)
	}
}
