package sqlitevfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

func open(t *testing.T, path string) *sqlite3.Conn {
	t.Helper()
	c, err := sqlite3.Open(URI(path))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func exec(t *testing.T, c *sqlite3.Conn, sql string) {
	t.Helper()
	if err := c.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// newFile makes a database with checksums, in WAL mode.
func newFile(t *testing.T, path string) {
	t.Helper()
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	exec(t, c, "PRAGMA journal_mode=WAL; CREATE TABLE t (v BLOB); INSERT INTO t VALUES (zeroblob(100000))")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"plain", "with space", "with?mark", "with#hash", "with%41percent", "with&and=is", "ümlaut", "semi;colon", "colon:x", "plus+"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		newFile(t, path)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		c := open(t, filepath.Join(dir, "other"))
		s, _, err := c.Prepare("ATTACH ? AS o")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.BindText(1, URI(path)), s.Exec(), c.Exec("SELECT v FROM o.t")); err != nil {
			t.Errorf("attach %q: %v", name, err)
		}
		if err := errors.Join(s.Close(), c.Close()); err != nil {
			t.Fatal(err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 2 {
			t.Errorf("%q: files %v", name, list)
		}
	}
	t.Chdir(t.TempDir())
	newFile(t, "relative")
	if _, err := os.Stat("relative"); err != nil {
		t.Error(err)
	}
}

// A connection makes a checkpoint after another one has written.
func TestCheckpointBesideAnotherConnection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	newFile(t, path)
	a, b := open(t, path), open(t, path)
	for range 3 {
		for _, c := range []*sqlite3.Conn{a, b} {
			exec(t, c, "INSERT INTO t VALUES (zeroblob(5000))")
		}
		exec(t, a, "PRAGMA wal_checkpoint(PASSIVE)")
		exec(t, b, "INSERT INTO t VALUES (zeroblob(5000))")
	}
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	newFile(t, path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[50_000] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, path)
	defer c.Close()
	s, _, err := c.Prepare("SELECT sum(length(hex(v))) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Step()
	if !Corrupt(s.Err()) {
		t.Errorf("error %v", s.Err())
	}
}
