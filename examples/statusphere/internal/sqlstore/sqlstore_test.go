package sqlstore_test

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/pdskit/pdskit/examples/statusphere/internal/sqlstore"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/oauth/client/clienttest"
)

// open opens a database twice, as two processes do.
func open(t *testing.T) (one, other *sqlstore.Store) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.sqlite")
	handle := func() *sqlstore.Store {
		db, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(30000)&_pragma=journal_mode(wal)")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		if _, err := db.Exec(sqlstore.Schema); err != nil {
			t.Fatal(err)
		}
		return &sqlstore.Store{DB: db}
	}
	return handle(), handle()
}

func TestStore(t *testing.T) {
	clienttest.Sessions(t, func(t *testing.T) (one, other client.SessionStore) { return open(t) })
	clienttest.States(t, func(t *testing.T) (one, other client.StateStore) { return open(t) })
	clienttest.Locks(t, func(t *testing.T) (one, other client.Locker) { return open(t) })
}

// Strangers begin logins and never come back.
func TestLoginsOfStrangers(t *testing.T) {
	s, _ := open(t)
	s.MaxLogins = 5
	now := time.Now()
	for i := range 20 {
		if err := s.Put(t.Context(), fmt.Sprint(i), []byte{1}, now.Add(time.Hour+time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		if _, err := s.Take(t.Context(), fmt.Sprint(i)); (err == nil) != (i >= 15) || err != nil && !errors.Is(err, client.ErrNotFound) {
			t.Errorf("login %d: %v", i, err)
		}
	}
}
