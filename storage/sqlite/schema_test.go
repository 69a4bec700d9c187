package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/storage"
)

var ctx = context.Background()

// fresh is a connection to the file of an open and closed database that has one key.
func fresh(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "test.sqlite")
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	setKey(t, db, "old", "value")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func setKey(t *testing.T, db *DB, key, value string) {
	t.Helper()
	if err := db.Store().KV.Write(ctx, func(tx storage.KVTx) error {
		return tx.Set(ctx, key, []byte(value), time.Time{})
	}); err != nil {
		t.Fatal(err)
	}
}

// raw opens a connection that knows nothing of the schema.
func raw(t *testing.T, path string) *conn {
	t.Helper()
	c, err := (&DB{path: path}).connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

func value(t *testing.T, c *conn, sql string) (v string) {
	t.Helper()
	if _, err := c.row(func(s *sqlite3.Stmt) error { v = s.ColumnText(0); return nil }, sql); err != nil {
		t.Fatal(err)
	}
	return v
}

// A file of an older version goes through the steps after it and keeps what it has; many
// that open it at once do not do that twice.
func TestOlderVersionIsMigrated(t *testing.T) {
	path := fresh(t)
	newer := append(slices.Clone(versions[:]),
		"ALTER TABLE kv ADD COLUMN extra TEXT NOT NULL DEFAULT 'added'; CREATE TABLE steps (n INTEGER); INSERT INTO steps VALUES (1)",
		"INSERT INTO steps VALUES (2)")
	var wg sync.WaitGroup
	for range 4 {
		c := raw(t, path)
		wg.Go(func() {
			if err := migrate(ctx, c, newer); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c := raw(t, path)
	if got := value(t, c, "SELECT value || extra FROM kv WHERE key = 'old'"); got != "valueadded" {
		t.Errorf("an old value is %q", got)
	}
	if got := value(t, c, "SELECT group_concat(n) FROM steps"); got != "1,2" {
		t.Errorf("steps %s", got)
	}
	if got, err := c.version(len(newer)); err != nil || got != len(newer) {
		t.Errorf("version %d, %v", got, err)
	}
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	path := fresh(t)
	before := value(t, raw(t, path), "SELECT group_concat(sql) FROM sqlite_schema")
	err := migrate(ctx, raw(t, path), append(slices.Clone(versions[:]), "CREATE TABLE half (n INTEGER)", "DROP TABLE event; SELECT no_such_function()"))
	if err == nil {
		t.Fatal("no error")
	}
	if after := value(t, raw(t, path), "SELECT group_concat(sql) FROM sqlite_schema"); after != before {
		t.Errorf("the schema is %s", after)
	}
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	setKey(t, db, "new", "value")
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// What a newer program has made, or another one, is refused and not touched.
func TestFilesThatAreRefused(t *testing.T) {
	newer := len(versions) + 1
	for name, c := range map[string]struct {
		sql  string
		want any
	}{
		"newer":              {fmt.Sprintf("PRAGMA user_version=%d", newer), &VersionError{newer, len(versions)}},
		"newer, without id":  {fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=0", newer), ErrForeign},
		"another id":         {"PRAGMA application_id=1", ErrForeign},
		"another, version 0": {"PRAGMA application_id=0; PRAGMA user_version=0", ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			path := fresh(t)
			if err := raw(t, path).Exec(c.sql + "; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(ctx, path, Config{})
			var newer *VersionError
			switch want := c.want.(type) {
			case *VersionError:
				if !errors.As(err, &newer) || *newer != *want || !strings.Contains(err.Error(), fmt.Sprint(want.Have)) {
					t.Errorf("error %v, want %v", err, want)
				}
			case error:
				if !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

// A file from before events had weights keeps its events and repositories, and goes on.
func TestFileWithoutWeightsIsMigrated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.sqlite")
	if err := create(path); err != nil {
		t.Fatal(err)
	}
	c := raw(t, path)
	if err := migrate(ctx, c, versions[:3]); err != nil {
		t.Fatal(err)
	}
	h := headN(1)
	err := errors.Join(
		c.exec("INSERT INTO repo (did, commit_cid, data_cid, rev, block) VALUES (?, ?, ?, ?, ?)", replaced, h.Commit, h.Data, h.Rev, []byte("commit")),
		c.exec("INSERT INTO event (seq, did, kind, time, payload) VALUES (41, ?, '#identity', 1000, x'a0'), (42, ?, '#identity', 1000, x'a0')", replaced, replaced))
	if err != nil {
		t.Fatal(err)
	}
	db := openReplace(t, path, nil)
	s := db.Store()
	if head, err := s.Repos.Head(ctx, replaced); err != nil || head != h {
		t.Errorf("head %v, %v", head, err)
	}
	seq, err := s.Repos.Apply(ctx, replaced, &storage.Change{Prev: h, Head: h, Events: []storage.Event{{DID: replaced, Kind: "#account", Weight: 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repos.Apply(ctx, "did:web:other.example", &storage.Change{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}}); err != nil {
		t.Error(err)
	}
	var got []string
	for e, err := range s.Events.Since(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Seq, " ", e.Weight))
	}
	if want := []string{"41 1", "42 1", fmt.Sprint(seq, " 9")}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}
