package search_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/ext/fts5"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage/search"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimEnv) != "" {
		victim()
		return
	}
	os.Exit(pgtest.Main(m))
}

// open opens a file of SQLite.
func open(file string) (*sql.DB, error) {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(normal)"}}
	return driver.Open("file:"+filepath.ToSlash(file)+"?"+q.Encode(), fts5.Register)
}

var count atomic.Int64

// each runs a test on an index in each database. The index is to be created.
func each(t *testing.T, test func(t *testing.T, db *sql.DB, x search.Index)) {
	t.Run("sqlite", func(t *testing.T) {
		db, err := open(filepath.Join(t.TempDir(), "db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		test(t, db, search.Index{})
	})
	t.Run("postgres", func(t *testing.T) {
		db := openPostgres(t)
		test(t, db, search.Index{Dialect: search.Postgres, Name: fmt.Sprintf("t%d", count.Add(1))})
	})
	t.Run("pgvector", func(t *testing.T) {
		db := openPostgres(t)
		x := search.Index{Dialect: search.Postgres, PGVector: true, Name: fmt.Sprintf("t%d", count.Add(1))}
		needPGVector(t, db, x)
		test(t, db, x)
	})
}

func openPostgres(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// needPGVector skips the test if the server has no pgvector. Then an index that wants it says so.
func needPGVector(t testing.TB, db *sql.DB, x search.Index) {
	t.Helper()
	var there bool
	if err := db.QueryRow("SELECT count(*) > 0 FROM pg_available_extensions WHERE name = 'vector'").Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		return
	}
	if err := try(db, func(tx *sql.Tx) error { return x.Create(context.Background(), tx) }); !errors.Is(err, search.ErrNoPGVector) {
		t.Fatal(err)
	}
	t.Skip("needs the extension pgvector in PostgreSQL: https://github.com/pgvector/pgvector, packaged as postgresql-NN-pgvector by some systems")
}

// do runs a transaction.
func do(t testing.TB, db *sql.DB, f func(tx *sql.Tx) error) {
	t.Helper()
	if err := try(db, f); err != nil {
		t.Fatal(err)
	}
}

func try(db *sql.DB, f func(tx *sql.Tx) error) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// create makes the tables.
func create(t testing.TB, db *sql.DB, x *search.Index) {
	t.Helper()
	do(t, db, func(tx *sql.Tx) error { return x.Create(context.Background(), tx) })
}

func put(t testing.TB, db *sql.DB, x *search.Index, docs ...search.Doc) {
	t.Helper()
	do(t, db, func(tx *sql.Tx) error {
		for _, d := range docs {
			if err := x.Put(context.Background(), tx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// ids are those of the hits, with blanks between.
func ids(t testing.TB, q search.Querier, x *search.Index, query search.Query) string {
	t.Helper()
	hits, err := x.Search(context.Background(), q, query)
	if err != nil {
		t.Fatalf("%+v: %v", query, err)
	}
	var all []string
	for _, h := range hits {
		all = append(all, h.ID)
	}
	return strings.Join(all, " ")
}

// sound checks an index.
func sound(t testing.TB, q search.Querier, x *search.Index) {
	t.Helper()
	problems, err := x.Check(context.Background(), q)
	if err != nil || len(problems) > 0 {
		t.Fatalf("%v %v", problems, err)
	}
}
