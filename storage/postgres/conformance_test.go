//go:build unix

package postgres_test

import (
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/postgres"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// backend keeps a store in a schema of its own for each directory, whose name is in a file there:
// so a copy of the directory is what another process of the same host has. Blobs lie in the directory.
func backend(cfg postgres.Config) storagetest.Backend {
	return storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		tb.Helper()
		db, blobs := open(tb, pgtest.URL(tb), dir, cfg), openBlobs(tb, dir)
		s := db.Store()
		s.Blobs = blobs
		return s, db.Close
	}}
}

func openBlobs(tb testing.TB, dir string) storage.Blobs {
	tb.Helper()
	blobs, err := blobfs.Open(filepath.Join(dir, "blobs"), blobfs.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return blobs
}

func open(tb testing.TB, url, dir string, cfg postgres.Config) *postgres.DB {
	tb.Helper()
	cfg.Schema = schema(tb, url, dir)
	db, err := postgres.Open(tb.Context(), url, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

// schema names the schema of a directory, and drops it when the test ends that has made it.
func schema(tb testing.TB, url, dir string) string {
	tb.Helper()
	file := filepath.Join(dir, "schema")
	if name, err := os.ReadFile(file); err == nil {
		return string(name)
	} else if !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	h := fnv.New64a()
	fmt.Fprint(h, dir, os.Getpid(), time.Now().UnixNano())
	name := fmt.Sprintf("test_%x", h.Sum64())
	if err := os.WriteFile(file, []byte(name), fs.FileMode(0o600)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { exec(tb, url, "DROP SCHEMA IF EXISTS "+name+" CASCADE") })
	return name
}

// exec runs statements by a connection of its own.
func exec(tb testing.TB, url, sql string) {
	tb.Helper()
	ctx := tb.Context()
	if ctx.Err() != nil { // in a cleanup
		ctx = testContext
	}
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		tb.Logf("%s: %v", sql, err)
		return
	}
	defer c.Close(ctx)
	for _, sql := range []string{"SET lock_timeout = '10s'", sql} {
		if _, err := c.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			tb.Errorf("%s: %v", sql, err)
		}
	}
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, backend(postgres.Config{Wait: 3 * time.Second}))
}

// PDSKIT_CRASHES=200 go test -run TestCrash ./storage/postgres
func TestCrash(t *testing.T) {
	url := pgtest.URL(t) // before other processes need it
	b := backend(postgres.Config{})
	open := b.Open
	b.Open = func(tb testing.TB, dir string) (storage.Store, func() error) {
		atRest(tb, url)
		return open(tb, dir)
	}
	storagetest.RunCrash(t, b, 8)
}

// atRest waits until the server has noticed the end of a process that was killed, and has carried out
// what that had sent: it may be a commit.
func atRest(tb testing.TB, url string) {
	tb.Helper()
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(2 * time.Millisecond) {
		if query(tb, url, "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pdskit'") == "0" {
			return
		}
	}
}

func TestProcesses(t *testing.T) {
	pgtest.URL(t)
	storagetest.RunProcesses(t, backend(postgres.Config{}), 100)
}

// The server of the benchmark flushes what is committed, unless PDSKIT_POSTGRES names one. Exchange is
// what one exchange with the server costs, and Flush one commit: the rest is to be compared with that.
func BenchmarkStore(b *testing.B) {
	url := os.Getenv(pgtest.Env)
	if url == "" {
		url = pgtest.Start(b).URL()
	}
	c, err := pgx.Connect(testContext, url)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close(testContext)
	for name, sql := range map[string]string{"Exchange": "SELECT 1", "Flush": "SELECT pg_logical_emit_message(true, '', 'x')::text"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if _, err := c.Exec(testContext, sql); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	storagetest.Benchmark(b, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		db := open(tb, url, dir, postgres.Config{})
		return db.Store(), db.Close
	}})
}

// query returns the only value of a query.
func query(tb testing.TB, url, sql string) (value string) {
	tb.Helper()
	c, err := pgx.Connect(testContext, url)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close(testContext)
	if err := c.QueryRow(testContext, sql).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return value
}
