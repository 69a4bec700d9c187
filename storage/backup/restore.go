package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage/blobfs"
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

// moveUp moves all that is in a directory to another one: the database last, so that there is none
// that is not complete. If it fails, nothing has moved.
func (n names) moveUp(dir, parent string) (err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int {
		switch {
		case a.Name() == b.Name():
			return 0
		case a.Name() == n.database:
			return 1
		case b.Name() == n.database:
			return -1
		}
		return 0
	})
	for i, e := range entries {
		if e.Name() == n.database { // after a power failure, too, it is not there without the others
			err = durablefile.SyncDir(parent)
		}
		if err == nil {
			err = os.Rename(filepath.Join(dir, e.Name()), filepath.Join(parent, e.Name()))
		}
		if err != nil {
			for _, moved := range entries[:i] {
				err = errors.Join(err, os.RemoveAll(filepath.Join(parent, moved.Name())))
			}
			return err
		}
	}
	return durablefile.SyncDir(parent)
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

// read reads a backup in whichever form it is.
func (r Restore) read(from string, stdin io.Reader, write writeFunc) error {
	if from == "-" {
		return r.readTar(stdin, write)
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return r.readDir(from, write)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	return errors.Join(r.readTar(f, write), f.Close())
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

// readTar reads a tar file, which may be encrypted, to its end.
func (r Restore) readTar(in io.Reader, write writeFunc) error {
	if r.Decrypt == nil {
		return readTar(in, write)
	}
	plain, err := r.Decrypt(in)
	if err != nil {
		return err
	}
	plain = decrypted{plain}
	if err := readTar(plain, write); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, plain)
	return err
}

// decrypted is a decrypted file: what cannot be decrypted is a bad backup.
type decrypted struct{ r io.Reader }

func (d decrypted) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	return n, err
}

func readTar(in io.Reader, write writeFunc) error {
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBadBackup, err)
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || isSparse(h):
			return fmt.Errorf("%w: %.200q is not a file", ErrBadBackup, h.Name)
		}
		if err := write(strings.TrimPrefix(h.Name, "./"), r); err != nil {
			return err
		}
	}
}

// isSparse reports whether a file has more bytes than the tar file has of it.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// readDir reads the files of the newest generation of a backup's directory, or of the generation
// whose folder it is.
func (r Restore) readDir(from string, write writeFunc) error {
	n := r.Layout.names()
	g := generation{dir: filepath.Clean(from)}
	root := filepath.Dir(filepath.Dir(g.dir))
	if _, err := os.Stat(filepath.Join(from, listName)); err != nil {
		root = from
		list, err := n.generations(from)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("%w: there is none in %s", ErrBadBackup, from)
		}
		if g = list[0]; g.root && len(list) == 1 {
			return n.readRoot(from, write)
		}
		for _, other := range list {
			if other.m == nil { // it may be the newest
				return fmt.Errorf("%w: the manifest of %s cannot be read; to restore another generation, name its folder", ErrBadBackup, other.dir)
			}
		}
		if g.root {
			return n.readRoot(from, write)
		}
	}
	done, err := lockBackup(root)
	if err != nil {
		return err
	}
	defer done()
	if g.m, err = parseManifest(filepath.Join(g.dir, manifestName)); err != nil {
		return err
	}
	file := func(name, path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%w: %q is not a file", ErrBadBackup, name)
		}
		if err == nil {
			err = write(name, f)
		}
		return errors.Join(err, f.Close())
	}
	names := slices.Sorted(maps.Keys(g.m.Files))
	for _, name := range append(names, manifestName) {
		if !n.belongs(name) || strings.Contains(name, "/") {
			return fmt.Errorf("%w: the manifest names %.200q", ErrBadBackup, name)
		}
		if err := file(name, filepath.Join(g.dir, name)); isMissing(err) {
			return fmt.Errorf("%w: %w", ErrBadBackup, err)
		} else if err != nil {
			return err
		}
	}
	known, err := g.blobs(func(name string, good bool) error {
		if !good {
			return nil
		}
		if _, ok := blobfs.FileCID(name); !ok {
			return fmt.Errorf("%w: %s names %.200q", ErrBadBackup, listName, name)
		}
		err := file(path.Join(n.blobs, name), filepath.Join(root, n.blobs, filepath.FromSlash(name)))
		if isMissing(err) && r.Incomplete {
			return nil
		} else if isMissing(err) {
			return fmt.Errorf("%w: it has lost a blob: %w", ErrBadBackup, err)
		}
		return err
	})
	if err == nil && !known {
		err = fmt.Errorf("%w: %s was changed, or is not there", ErrBadBackup, listName)
	}
	return err
}

// lockBackup keeps a backup from removing what is being read. On a medium that cannot be written,
// none is made.
func lockBackup(root string) (done func() error, err error) {
	if _, err := os.Stat(filepath.Join(root, backupLock)); err != nil {
		return func() error { return nil }, nil
	}
	f, err := filelock.Try(filepath.Join(root, backupLock), filelock.Shared)
	switch {
	case errors.Is(err, filelock.ErrLocked):
		return nil, ErrBusy
	case err != nil:
		return func() error { return nil }, nil
	}
	return f.Close, nil
}

// readRoot reads the files of a backup whose only generation lies beside its blobs. Those that
// opening it has added are left.
func (n names) readRoot(from string, write writeFunc) error {
	manifest, err := n.currentManifest(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		switch {
		case e.IsDir() && name == generationsName:
			return fs.SkipDir
		case e.IsDir():
			return nil
		case name == manifest:
			name = manifestName
		case name == manifestName || !n.belongs(name):
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%w: %q is not a file", ErrBadBackup, name)
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		return errors.Join(write(name, f), f.Close())
	})
}

// currentManifest returns which of the manifests in a backup's directory is that of
// its database: after an interruption there may be two.
func (n names) currentManifest(dir string) (string, error) {
	_, digest, err := digestFile(filepath.Join(dir, n.database))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	for _, name := range []string{manifestName, manifestNext} {
		m, err := parseManifest(filepath.Join(dir, name))
		if err == nil && m.Files[n.database].SHA256 == digest {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: the database in %s does not match its manifest", ErrBadBackup, dir)
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

// moveBlobs moves blobs to where they are to lie, perhaps on another disk.
func moveBlobs(ctx context.Context, from, to string) error {
	if _, err := os.Stat(from); isMissing(err) {
		return nil
	}
	if err := durablefile.MkdirAll(filepath.Dir(filepath.Clean(to))); err != nil {
		return err
	}
	os.Remove(to) // an empty directory
	if os.Rename(from, to) == nil {
		return durablefile.SyncDir(filepath.Dir(filepath.Clean(to)))
	}
	touched, made := make(map[string]bool), 0
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		dest := filepath.Join(to, rel)
		touched[filepath.Dir(dest)] = true
		if e.IsDir() {
			return os.MkdirAll(dest, 0o700)
		}
		in, err := os.Open(file)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(dest, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		made++
		_, err = io.Copy(out, in)
		return errors.Join(err, durablefile.SyncFile(out), out.Close())
	})
	if err != nil {
		return errors.Join(err, unmove(from, to, made))
	}
	for dir := range touched {
		if err := durablefile.SyncDir(dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(from)
}

// unmove removes the first files that moveBlobs has made, and the folders that are empty then: there
// may be others by now.
func unmove(from, to string, made int) error {
	var dirs []string
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		switch {
		case err != nil:
			return err
		case e.IsDir():
			dirs = append(dirs, filepath.Join(to, rel))
			return nil
		case made == 0:
			return fs.SkipAll
		}
		made--
		return os.Remove(filepath.Join(to, rel))
	})
	for _, dir := range slices.Backward(dirs) {
		os.Remove(dir) // unless there is something in it
	}
	return err
}
