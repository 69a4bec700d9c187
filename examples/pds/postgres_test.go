//go:build unix

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/internal/testenv"
)

// A server keeps everything but blobs in PostgreSQL: it is killed, the database is killed and comes
// back while the server runs, and all is there. Backups are left to PostgreSQL.
func TestServerOnPostgreSQL(t *testing.T) {
	db := pgtest.Start(t)
	root := t.TempDir()
	dir, backup := filepath.Join(root, "data"), filepath.Join(root, "backup")
	env := []string{"PDS_PORT=0", "PDS_DATABASE_URL=" + db.URL()}
	o := newOperator(t, dir, env...)

	p := start(t, dir, env...)
	alice := p.register("alice")
	picture, err := alice.upload(t, "image/png", picture)
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.refer(t, picture); err != nil {
		t.Fatal(err)
	}
	p.kill()
	p = start(t, dir, env...)
	if alice, err = p.login(t, alice.Handle, "password of alice"); err != nil {
		t.Fatal(err)
	}
	if err := alice.note("after the server was killed"); err != nil {
		t.Fatal(err)
	}
	db.Kill()
	if err := db.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := alice.note("after the database was killed"); err != nil {
		t.Fatal(err)
	}
	if status, body := alice.getBlob(t, p, picture, ""); status != 200 || len(body) == 0 {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	kinds := p.events(t, alice.DID)
	commits := 0
	for _, kind := range kinds {
		if kind == "#commit" {
			commits++
		}
	}
	if commits != 4 { // the first one, the profile, two notes
		t.Errorf("events of the account: %v", kinds)
	}
	o.fails(0, "All is well", "check")
	o.fails(1, "pg_dump", "backup", backup)
	p.interrupt()
	o.fails(1, "pg_dump", "restore", backup)
	o.fails(0, "All is well", "check")
	wrong := newOperator(t, dir, "PDS_PORT=0", "PDS_DATABASE_URL=postgres://127.0.0.1:1/nothing?connect_timeout=1")
	wrong.fails(1, "127.0.0.1", "serve")
}

// A server whose database has lost events, as after a failover to a standby that was behind, says so.
func TestDatabaseThatIsBehind(t *testing.T) {
	db := pgtest.Start(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := startLogging(t, t.TempDir(), log, "PDS_PORT=0", "PDS_DATABASE_URL="+db.URL())
	p.register("alice")
	query(t, db.URL(), "WITH old AS (UPDATE pdskit.log SET last = last - 1 RETURNING last) SELECT count(*) = 1 FROM old")
	testenv.Until(t, "the server notices", func() bool {
		text, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(text), "has lost events")
	})
	p.interrupt()
}
