package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/internal/durablefile"
)

// Errors of Restore.
var (
	// ErrNotEmpty: the directory for the restore is not empty.
	ErrNotEmpty = errors.New("backup: the directory is not empty")
	// ErrBadBackup: a backup is incomplete or was changed.
	ErrBadBackup = errors.New("backup: bad backup")
)

// Restore has the options of a restore. The zero value works.
type Restore struct {
	// Layout has the names of files.
	Layout Layout
	// Incomplete restores a generation even if some of its blobs are missing.
	Incomplete bool
	// Blobs is the directory for the blobs; it must be empty. Empty: a folder in the data
	// directory.
	Blobs string
	// Verify, if not nil, checks what was restored to a directory before it gets its final name. It
	// may change files and add some. Without it, only the digests of the manifest and the number of
	// blobs are checked.
	Verify func(ctx context.Context, dir string, m *Manifest) error
	// Decrypt, if not nil, returns the decrypted content of a tar file, which need not be
	// encrypted: see Backup.Encryption. Its reader must fail if a file was changed or truncated.
	Decrypt func(in io.Reader) (io.Reader, error)
	// Progress, if not nil, is called with the number of files copied.
	Progress func(files int)
}

// From restores a directory that ToDir made, or a tar file that ToTar made ("-": stdin), into an
// empty data directory. Of a directory it takes the newest generation; to take another one, name
// its folder instead. If it fails, the directory is unchanged.
func (r Restore) From(ctx context.Context, from string, stdin io.Reader, dest string) (m *Manifest, err error) {
	return r.restore(ctx, dest, func(_ string, write writeFunc) error { return r.read(from, stdin, write) })
}

// writeFunc writes a file of a backup. It may be called concurrently.
type writeFunc func(name string, in io.Reader) error

// restore restores the files that a function reads, which gets the folder that they are written to.
func (r Restore) restore(ctx context.Context, dest string, read func(to string, write writeFunc) error) (m *Manifest, err error) {
	dest = filepath.Clean(dest)
	if err := removeStale(dest, restoring, lockName); err != nil {
		return nil, err
	}
	if err := r.mustBeEmpty(dest, ""); err != nil {
		return nil, err
	}
	temp, used, err := beside(dest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp), used.Close()) }()
	dir := filepath.Join(temp, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	n := r.Layout.names()
	blobs, err := r.copy(ctx, dir, read)
	if err != nil {
		return nil, err
	}
	if m, err = n.readManifest(dir); err != nil {
		return nil, err
	}
	if blobs < m.Blobs && !r.Incomplete { // an interrupted backup of an earlier version may have added some
		return nil, fmt.Errorf("%w: it has %d blobs, there were %d", ErrBadBackup, blobs, m.Blobs)
	}
	if err := r.verify(ctx, dir, m); err != nil {
		return nil, err
	}
	for _, name := range []string{manifestName, listName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !isMissing(err) {
			return nil, err
		}
	}
	if err := syncDirs(dir); err != nil {
		return nil, err
	}
	// A server may have been started meanwhile.
	if err := r.mustBeEmpty(dest, filepath.Base(temp)); err != nil {
		return nil, err
	}
	if r.Blobs != "" {
		if err := moveBlobs(ctx, filepath.Join(dir, n.blobs), r.Blobs); err != nil {
			return nil, err
		}
	}
	if filepath.Dir(temp) == dest {
		return m, n.moveUp(dir, dest)
	}
	return m, durablefile.Rename(dir, dest)
}

// syncDirs makes the names of all files below a folder last.
func syncDirs(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durablefile.SyncDir(path)
	})
}

// restoring begins the names of folders in which something is being restored.
const restoring = ".restore-"

// beside makes a directory that can take the place of dest: beside it, or, if dest is there
// already, in it. It may be a volume of its own, or its parent another user's.
func beside(dest string) (temp string, used *os.File, err error) {
	if _, err := os.Stat(dest); err == nil {
		return lockedTemp(dest, restoring)
	}
	if err := durablefile.MkdirAll(filepath.Dir(dest)); err != nil {
		return "", nil, err
	}
	return lockedTemp(filepath.Dir(dest), filepath.Base(dest)+restoring)
}

// mustBeEmpty makes sure that there is nothing where something is to be restored, but for a name.
func (r Restore) mustBeEmpty(dest, but string) error {
	if err := mustBeEmpty(dest, but); err != nil || r.Blobs == "" {
		return err
	}
	return mustBeEmpty(r.Blobs, but)
}

func mustBeEmpty(dir, but string) error {
	entries, err := os.ReadDir(dir)
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != but && e.Name() != "lost+found" { // which the system makes on every volume
			return fmt.Errorf("%w: %s", ErrNotEmpty, dir)
		}
	}
	return nil
}

// copy copies the files of a backup, and returns how many blobs there were.
func (r Restore) copy(ctx context.Context, to string, read func(to string, write writeFunc) error) (blobs int, err error) {
	root, err := os.OpenRoot(to) // nothing is written elsewhere, whatever names say
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var mu sync.Mutex
	names, n := r.Layout.names(), 0
	count := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if n++; r.Progress != nil {
			r.Progress(n)
		}
		if strings.HasPrefix(name, names.blobs+"/") {
			blobs++
		}
	}
	err = read(to, func(name string, in io.Reader) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !names.belongs(name) {
			return fmt.Errorf("%w: it has a file %.200q", ErrBadBackup, name)
		}
		count(name)
		return writeIn(root, name, in)
	})
	return blobs, err
}

// belongs reports whether a backup may have a file of that name.
func (n names) belongs(name string) bool {
	if slices.Contains(append([]string{n.database, manifestName, listName}, n.others...), name) {
		return true
	}
	rest, ok := strings.CutPrefix(name, n.blobs+"/")
	return ok && path.Clean(name) == name && !strings.ContainsAny(name, `\:`) &&
		(strings.HasPrefix(rest, "blobs/") || strings.HasPrefix(rest, "staged/"))
}

func writeIn(root *os.Root, name string, in io.Reader) error {
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: it has %.200q twice", ErrBadBackup, name)
	} else if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, durablefile.SyncFile(out), out.Close())
}

func parseManifest(file string) (*Manifest, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	return decodeManifest(text)
}

// readManifest checks a directory's files against its manifest.
func (n names) readManifest(dir string) (*Manifest, error) {
	m, err := parseManifest(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	if _, ok := m.Files[n.database]; !ok {
		return nil, fmt.Errorf("%w: no database", ErrBadBackup)
	}
	for name, want := range m.Files {
		if !n.belongs(name) {
			return nil, fmt.Errorf("%w: the manifest names %.200q", ErrBadBackup, name)
		}
		size, digest, err := digestFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadBackup, err)
		}
		if size != want.Size || digest != want.SHA256 {
			return nil, fmt.Errorf("%w: %s was changed", ErrBadBackup, name)
		}
	}
	return m, nil
}

func (r Restore) verify(ctx context.Context, dir string, m *Manifest) error {
	if r.Verify == nil {
		return nil
	}
	if err := r.Verify(ctx, dir, m); err != nil {
		return fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	return nil
}
