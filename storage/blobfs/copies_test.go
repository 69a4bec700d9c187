package blobfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/storage"
)

// Files are found by their names, and a copy that is not the blob is not taken for one.
func TestCopiesOfFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	promoted, staged := stage(t, s, alice, strings.Repeat("promoted", 100)), stage(t, s, bob, "staged")
	if err := s.Promote(ctx, alice, promoted); err != nil {
		t.Fatal(err)
	}
	found := map[cid.Cid]string{}
	for _, file := range files(t, dir) {
		name, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := FileCID(filepath.ToSlash(name)); ok {
			found[c] = filepath.ToSlash(name)
		} else {
			t.Errorf("%s is no blob", name)
		}
	}
	if name, ok := FileName(alice, promoted); !ok || found[promoted] != name || !strings.HasPrefix(found[staged], "staged/") {
		t.Errorf("%v, want %s", found, name)
	}
	name := found[promoted]
	for _, bad := range []string{"", "blobs", "blobs/" + promoted.String(), name[6:], "x/" + name, name + "/x", name + "x", "staged/" + promoted.String(),
		strings.Replace(name, "blobs/", "blobs/../blobs/", 1), strings.Replace(name, "blobs/", "tmp/", 1), filepath.Dir(name) + "/.nfs0001", "blobs/zz" + name[8:],
		"staged/" + strings.Repeat("g", 64) + "." + promoted.String()} {
		if c, ok := FileCID(bad); ok {
			t.Errorf("%q is blob %s", bad, c)
		}
	}

	file := filepath.Join(dir, name)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int) []byte {
		b := append([]byte{}, good...)
		b[i] ^= 1
		return b
	}
	for what, c := range map[string]struct {
		text []byte
		stat error // of StatFile
	}{
		"empty":         {nil, storage.ErrCorrupt},
		"cut off":       {good[:len(good)-1], storage.ErrCorrupt},
		"begins later":  {good[1:], storage.ErrCorrupt},
		"its trailer":   {changed(len(good) - 12), storage.ErrCorrupt},
		"its last byte": {changed(len(good) - 1), storage.ErrCorrupt},
		"a byte":        {changed(7), nil},
	} {
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := StatFile(file, promoted); !errors.Is(err, c.stat) {
			t.Errorf("%s: StatFile: %v", what, err)
		}
		if _, err := CheckFile(ctx, file, promoted); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: CheckFile: %v", what, err)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := CheckFile(ctx, file, promoted); err != nil || info.Size != 800 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := CheckFile(ctx, file, staged); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := CheckFile(ctx, file+"x", promoted); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A full disk, or a user's share of it, is called so by every method that writes.
func TestFullDiskIsCalledSo(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT, &fs.PathError{Op: "write", Err: syscall.ENOSPC}} {
		s := open(t, t.TempDir(), Config{})
		c := stage(t, s, alice, "here")
		fault := func(string, string) error { return errno }
		s.rename = fault
		_, staging := s.Stage(ctx, alice, "text/plain", strings.NewReader("no room"), storage.BlobLimits{})
		for what, err := range map[string]error{"stage": staging, "promote": s.Promote(ctx, alice, c)} {
			if !errors.Is(err, storage.ErrFull) || !errors.Is(err, errno) || strings.Count(err.Error(), "the disk is full") != 1 {
				t.Errorf("%s, %v: %v", what, errno, err)
			}
		}
		s.rename = os.Rename
		if err := s.Promote(ctx, alice, c); err != nil {
			t.Error(err)
		}
	}
}
