//go:build unix

package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Only the owner can read what is kept, whatever the umask: the database, its -wal and -shm files,
// blobs, and copies.
func TestModesOfFiles(t *testing.T) {
	for _, mask := range []int{0, 0o002, 0o022, 0o077} {
		testenv.Umask(t, mask)
		dir := t.TempDir()
		path := filepath.Join(dir, "sub", "test.sqlite")
		db, err := Open(ctx, path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		setKey(t, db, "key", strings.Repeat("value", 100_000))
		if _, err := db.Store().Blobs.Stage(ctx, syntax.DID("did:web:alice.example"), "text/plain", strings.NewReader("a blob"), storage.BlobLimits{}); err != nil {
			t.Fatal(err)
		}
		if err := db.Backup(ctx, filepath.Join(dir, "copy")); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			if info, err := os.Stat(path + suffix); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v", suffix, err)
			}
		}
		if n := testenv.Private(t, dir); n != 6 { // the database and its two, the copy, the blob and its lock
			t.Errorf("%d files, want 6", n)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Files that an earlier version left open to others, also those of a process that was killed, are
// closed to them.
func TestModesOfOlderFiles(t *testing.T) {
	testenv.Umask(t, 0o022)
	dir := t.TempDir()
	path := filepath.Join(dir, "test.sqlite")
	db, err := Open(ctx, path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	setKey(t, db, "key", "value")
	killed := filepath.Join(dir, "killed.sqlite")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		text, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(killed+suffix, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(ctx, killed, Config{}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	setKey(t, db, "another", "value")
	testenv.Private(t, dir)

	// A file beside it that is none of SQLite's is not followed.
	target := filepath.Join(dir, "target")
	if err := errors.Join(os.WriteFile(target, nil, 0o644), os.Chmod(target, 0o644), os.Symlink(target, path+"-wal")); err != nil {
		t.Fatal(err)
	}
	if bad, err := Open(ctx, path, Config{}); err == nil {
		bad.Close()
	}
	if info, err := os.Stat(target); err != nil || info.Mode() != fs.FileMode(0o644) || info.Size() != 0 {
		t.Errorf("the target of a link has mode %v; %v", info.Mode(), err)
	}
}
