package main

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/pgtest"
)

// TestPostgres: everything is in PostgreSQL; the database ends while events wait, and comes back.
func TestPostgres(t *testing.T) {
	url := pgtest.URL(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("DROP SCHEMA IF EXISTS tap CASCADE; CREATE SCHEMA tap"); err != nil {
		t.Fatal(err)
	}
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	w := newWorld(t, "-db-url", url+sep+"search_path=tap")
	alice := w.pds.Account("alice")
	for _, rkey := range []string{"1", "2"} {
		alice.Create(notes, note(rkey))
	}
	w.start()
	w.repos("add", string(alice.DID))
	c := w.connect()
	c.take(3)
	w.active(alice)
	alice.Put(notes, "3", note("three"))
	m := c.next()
	// All connections of the tap are cut. It acknowledges and goes on nevertheless.
	if _, err := db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"); err != nil {
		t.Fatal(err)
	}
	alice.Put(notes, "4", note("four"))
	c.ack(m)
	// It comes with its event, or with the repository if that was to be stored when the connections were cut.
	four := text(c.next())
	if _, what, _ := strings.Cut(four, " "); what != "create com.example.note/4 four" {
		t.Error(four)
	}
	w.stop()
	w.start()
	c = w.connect()
	if got := c.take(1); !slices.Equal(got, []string{four}) {
		t.Errorf("%q, not %q", got, four)
	}
	w.eventually(w.empty)
}
