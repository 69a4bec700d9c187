package sqlstore_test

import (
	"database/sql"
	"path/filepath"
	"testing"

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
