package main

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// newDoubtful is a sink whose last transaction has failed, without it being known whether it was carried
// out.
func newDoubtful(t *testing.T, db *sql.DB, postgres bool) *sink {
	t.Helper()
	s, err := newSink(t.Context(), db, postgres)
	if err != nil {
		t.Fatal(err)
	}
	s.out = newOutbox(s, 1000, time.Minute, slog.New(slog.DiscardHandler))
	s.wanted = func(*indexer.Account) bool { return true }
	s.doubt, s.next = s.next, s.next+2
	t.Cleanup(func() { s.Close() })
	return s
}

const insertDoubtful = "INSERT INTO tap_outbox (id, did, live, event) VALUES (1, 'did:web:alice.example', TRUE, '{}')"

// TestDoubt: the database has carried out a transaction and failed to say so. Its events are sent, once.
func TestDoubt(t *testing.T) {
	for _, stored := range []bool{false, true} {
		db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "tap.sqlite")+"?_txlock=immediate&_pragma=busy_timeout(10000)")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s := newDoubtful(t, db, false)
		want := 0
		if stored {
			want = 1
			if _, err := db.Exec(insertDoubtful); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Apply(t.Context(), &indexer.Transaction{Positions: map[string]string{"x": "1"}}); err != nil {
				t.Fatal(err)
			}
			if n := s.out.size(); n != want || s.doubt != 0 {
				t.Errorf("%d events, want %d; doubt %d", n, want, s.doubt)
			}
		}
	}
}

// TestDoubtPostgres: the connection has broken, and the server is still at it.
func TestDoubtPostgres(t *testing.T) {
	db, err := sql.Open("pgx", pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"tap_outbox", "tap_identity", "ix_account", "ix_record", "ix_position"} {
		if _, err := db.Exec("DROP TABLE IF EXISTS " + table); err != nil {
			t.Fatal(err)
		}
	}
	s := newDoubtful(t, db, true)
	late, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if _, err := late.Exec(insertDoubtful); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.settle(t.Context()) }()
	waiting := func() (n int) {
		if err := db.QueryRow("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tap_outbox'::regclass").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for end := time.Now().Add(30 * time.Second); waiting() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not wait for the transaction")
		}
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := s.out.size(); n != 1 || s.doubt != 0 {
		t.Errorf("%d events; doubt %d", n, s.doubt)
	}
}
