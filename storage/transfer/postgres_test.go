package transfer_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/postgres"
	"github.com/pdskit/pdskit/storage/transfer"
)

func inPostgres(tb testing.TB) storage.Store {
	db, err := postgres.Open(tb.Context(), pgtest.URL(tb), postgres.Config{Relaxed: true, Schema: "transfer_" + strings.ToLower(rand.Text())})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	s := db.Store()
	if s.Blobs, err = blobfs.Open(tb.TempDir(), blobfs.Config{}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// A server outgrows its file, and goes back.
func TestMoveToPostgresAndBack(t *testing.T) {
	from, to := inSQLite(t), inPostgres(t)
	w := newWorld(t, from, 1)
	w.live(t.Context(), 6, 120)
	moveUnderLoad(t, w, from, to, transfer.Config{From: from, To: to, Name: "PostgreSQL", Hint: "set PDS_DATABASE_URL"})
	back := inSQLite(t)
	moveUnderLoad(t, w, to, back, transfer.Config{From: to, To: back, Name: "SQLite", Hint: "unset PDS_DATABASE_URL"})
}

// More accounts than a process takes numbers for at a time, by more workers than there are connections.
func TestManyWorkersToPostgres(t *testing.T) {
	from, to := inMemory(t), inPostgres(t)
	w := newWorld(t, from, 1)
	w.live(t.Context(), 200, 0)
	finish(t, transfer.Config{From: from, To: to, Workers: 16})
	same(t, to, from)
}
