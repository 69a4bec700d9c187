//go:build unix

package queue_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/postgres"
	"github.com/pdskit/pdskit/storage/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// backend makes stores with a clock.
type backend struct {
	name string
	open func(tb testing.TB, now func() time.Time) storage.Store // nil: memory
}

var backends = []backend{{"memory", nil}, {"sqlite", openSQLite}, {"postgres", openPostgres}, {"durable", openDurable}}

func openSQLite(tb testing.TB, now func() time.Time) storage.Store {
	db, err := sqlite.Open(context.Background(), filepath.Join(tb.TempDir(), "queue.sqlite"), sqlite.Config{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db.Store()
}

func openPostgres(tb testing.TB, now func() time.Time) storage.Store {
	url, schema := pgtest.URL(tb), strings.ToLower("test_"+rand.Text())
	db, err := postgres.Open(context.Background(), url, postgres.Config{Schema: schema, Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		db.Close()
		conn, err := pgx.Connect(context.Background(), url)
		if err == nil {
			_, err = conn.Exec(context.Background(), "DROP SCHEMA "+schema+" CASCADE")
			conn.Close(context.Background())
		}
		if err != nil {
			tb.Error(err)
		}
	})
	return db.Store()
}

func openDurable(tb testing.TB, now func() time.Time) storage.Store {
	db, err := files.Open(context.Background(), tb.TempDir(), durable.Config{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	return db.Store()
}

func sqliteStore(tb testing.TB) storage.Store { return openSQLite(tb, nil) }
