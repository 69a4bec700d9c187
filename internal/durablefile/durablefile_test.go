package durablefile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/pdskit/pdskit/internal/durablefile"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// only fails if anything but the named files is in a directory.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(names) {
		t.Errorf("%d files, want %v", len(entries), names)
	}
	for i := range min(len(entries), len(names)) {
		if entries[i].Name() != names[i] {
			t.Errorf("file %s, want %s", entries[i].Name(), names[i])
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"one", "", "three"} {
		if err := durablefile.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	only(t, dir, "file")
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestFailedWrite: what fails half way leaves the old content, and nothing else.
func TestFailedWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durablefile.Write(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := durablefile.WriteFunc(path, func(w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if got := content(t, path); got != "old" {
		t.Errorf("%q", got)
	}
	only(t, dir, "file")
	if err := durablefile.Write(filepath.Join(dir, "absent", "file"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durablefile.Write(filepath.Join(dir, "folder"), nil); err == nil {
		t.Error("a folder was replaced by a file")
	}
	only(t, dir, "file", "folder")
}

// TestMkdirAll: the directory above each new one is flushed, in that order, and first the one above
// the last that is there: a process that died may have made it.
func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	var flushed []string
	watch := func(path string) { flushed = append(flushed, path) }
	durablefile.Watch.Store(&watch)
	defer durablefile.Watch.Store(nil)
	made := filepath.Join(dir, "one", "two", "three")
	if err := durablefile.MkdirAll(made + string(filepath.Separator)); err != nil {
		t.Fatal(err)
	}
	above := []string{filepath.Dir(dir), dir, filepath.Join(dir, "one"), filepath.Join(dir, "one", "two")}
	if !slices.Equal(flushed, above) {
		t.Errorf("flushed %q, want %q", flushed, above)
	}
	flushed = nil
	if err := durablefile.MkdirAll(made); err != nil || !slices.Equal(flushed, above[3:]) {
		t.Errorf("once more: %v, flushed %q, want %q", err, flushed, above[3:])
	}
	if err := durablefile.Write(filepath.Join(dir, "file"), nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", filepath.Join("file", "below")} {
		if err := durablefile.MkdirAll(filepath.Join(dir, name)); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%s: %v", name, err)
		}
	}
	only(t, dir, "file", "one")
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := durablefile.Remove(path); err != nil {
		t.Error(err)
	}
	if err := durablefile.Write(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(durablefile.Sync(path), durablefile.Remove(path)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := durablefile.Sync(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestFlushedAgain: what is there, or gone, already may have been left by a process that died before
// it had flushed the directory.
func TestFlushedAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	var flushed []string
	watch := func(path string) { flushed = append(flushed, path) }
	durablefile.Watch.Store(&watch)
	defer durablefile.Watch.Store(nil)
	if got, err := durablefile.Read(path); err != nil || string(got) != "content" || !slices.Equal(flushed, []string{dir}) {
		t.Errorf("read %q, %v, flushed %q", got, err, flushed)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	flushed = nil
	if err := durablefile.Remove(path); err != nil || !slices.Equal(flushed, []string{dir}) {
		t.Errorf("removed: %v, flushed %q", err, flushed)
	}
	flushed = nil
	if _, err := durablefile.Read(path); !errors.Is(err, os.ErrNotExist) || flushed != nil {
		t.Errorf("read what is not there: %v, flushed %q", err, flushed)
	}
	if err := durablefile.Remove(filepath.Join(dir, "absent", "file")); err != nil {
		t.Errorf("removed from no directory: %v", err)
	}
}

// TestSyncDirBy: a failure of the disk is an error. A file system that cannot flush directories is
// not.
func TestSyncDirBy(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	for _, c := range []struct{ sync, want error }{
		{nil, nil}, {syscall.EINVAL, nil}, {&os.PathError{Op: "sync", Path: dir, Err: syscall.EINVAL}, nil},
		{errors.ErrUnsupported, nil}, {syscall.ENOTSUP, nil}, {broken, broken}, {&os.PathError{Op: "sync", Path: dir, Err: syscall.EIO}, syscall.EIO},
	} {
		calls := 0
		err := durablefile.SyncDirBy(dir, func(f *os.File) error {
			calls++
			if f.Name() != dir {
				t.Errorf("%s, want %s", f.Name(), dir)
			}
			return c.sync
		})
		if runtime.GOOS == "windows" || runtime.GOOS == "js" {
			c.want = nil
		}
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || calls != 1 {
			t.Errorf("%v gives %v, want %v", c.sync, err, c.want)
		}
	}
	if err := durablefile.SyncDir(filepath.Join(dir, "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
