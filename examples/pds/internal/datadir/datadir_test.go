package datadir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
)

func open(t *testing.T, path string, opt datadir.Options) *datadir.Dir {
	t.Helper()
	d, err := datadir.Open(t.Context(), path, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestLock(t *testing.T) {
	path := t.TempDir()
	if _, err := datadir.Open(t.Context(), path, datadir.Options{Existing: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a database: %v", err)
	}
	if left, _ := os.ReadDir(path); len(left) > 0 {
		t.Errorf("opening what is not there made %v", left)
	}
	one := open(t, path, datadir.Options{})
	two := open(t, path, datadir.Options{})
	if _, err := datadir.Open(t.Context(), path, datadir.Options{Alone: true}); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("alone, beside two others: %v", err)
	}
	if err := errors.Join(one.Close(), two.Close()); err != nil {
		t.Fatal(err)
	}
	alone := open(t, path, datadir.Options{Alone: true})
	if _, err := datadir.Open(t.Context(), path, datadir.Options{}); !errors.Is(err, datadir.ErrInUse) {
		t.Errorf("beside one that wants to be alone: %v", err)
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, datadir.Options{})
}

// A process that moves the data, be it one that was stopped, keeps others out that would too.
func TestOnlyMover(t *testing.T) {
	path := t.TempDir()
	server := open(t, path, datadir.Options{Use: datadir.Serve})
	one, two := open(t, path, datadir.Options{Use: datadir.Move}), open(t, path, datadir.Options{Use: datadir.Move})
	if err := one.OnlyMover(); err != nil {
		t.Fatal(err)
	}
	if err := two.OnlyMover(); !errors.Is(err, datadir.ErrMoving) {
		t.Errorf("beside another: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(two.OnlyMover(), server.Store.KV.Read(t.Context(), func(storage.KVReader) error { return nil })); err != nil {
		t.Error(err)
	}
}

// The administrator of the machine would leave files that the server's user cannot write.
func TestDatabaseOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs the administrator's rights")
	}
	dir := t.TempDir()
	d, err := datadir.Open(t.Context(), dir, datadir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, datadir.Database), 12345, 12345); err != nil {
		t.Skip(err)
	}
	if _, err := datadir.Open(t.Context(), dir, datadir.Options{}); !errors.Is(err, datadir.ErrOwner) || !strings.Contains(err.Error(), "sudo -u '#12345'") {
		t.Error(err)
	}
}

// A backup gets the lines of the did:plc directory that are whole, and the secrets that it is given.
func TestFiles(t *testing.T) {
	d := open(t, t.TempDir(), datadir.Options{})
	for text, want := range map[string]string{"": "", "line\nhalf a li": "line\n", "half": "", "line\n": "line\n"} {
		if err := os.WriteFile(filepath.Join(d.Path, datadir.PLC), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := d.Files([]byte("secret"))(t.Context())
		if err != nil || len(files) != 2 || string(files[datadir.PLC]) != want || string(files[datadir.Secrets]) != "secret" {
			t.Errorf("%q: %q, %v", text, files, err)
		}
	}
	if err := os.Remove(filepath.Join(d.Path, datadir.PLC)); err != nil {
		t.Fatal(err)
	}
	if files, err := d.Files(nil)(t.Context()); err != nil || len(files) != 1 {
		t.Errorf("no directory: %q, %v", files, err)
	}
}

// What to do about blobs that are not there is said with their folder.
func TestExplain(t *testing.T) {
	d := open(t, t.TempDir(), datadir.Options{})
	if err := d.Explain(check.ErrNoBlobs); !errors.Is(err, check.ErrNoBlobs) || !strings.Contains(err.Error(), d.Blobs) {
		t.Error(err)
	}
	if err := d.Explain(fs.ErrNotExist); err != fs.ErrNotExist {
		t.Error(err)
	}
}
