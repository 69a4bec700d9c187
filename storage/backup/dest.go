package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// Names in a backup's directory.
const (
	generationsName = "generations"
	backupLock      = "backup.lock"
	lockName        = "lock" // in folders that are in use
	nextName        = "next"
	goneName        = "gone-" // begins the names of generations that are being removed
	partName        = "next.blob"
)

// generation is one of a backup's generations.
type generation struct {
	dir     string
	root    bool // its blobs lie beside it, and nothing else does: a backup of an earlier version, or an unpacked tar file
	created time.Time
	m       *Manifest // nil if it cannot be read: then nobody knows what belongs to it
}

// generations returns those of a directory, the newest first: the one with the newest event, and of
// several with the same one the last that was made. Both numbers only grow, whatever the clock said
// when a backup was made. Those that cannot be read are the last.
func (n names) generations(dest string) (list []generation, err error) {
	entries, err := os.ReadDir(filepath.Join(dest, generationsName))
	if err != nil && !isMissing(err) {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == nextName || strings.HasPrefix(e.Name(), goneName) {
			continue
		}
		g := generation{dir: filepath.Join(dest, generationsName, e.Name())}
		if g.m, err = parseManifest(filepath.Join(g.dir, manifestName)); err == nil {
			g.created = g.m.Created
		} else if info, err := e.Info(); err == nil {
			g.created = info.ModTime()
		}
		list = append(list, g)
	}
	if info, err := os.Stat(filepath.Join(dest, n.database)); err == nil {
		g := generation{dir: dest, root: true, created: info.ModTime()}
		if name, err := n.currentManifest(dest); err == nil {
			if g.m, err = parseManifest(filepath.Join(dest, name)); err != nil {
				return nil, err
			}
			g.created = g.m.Created
		}
		list = append(list, g)
	} else if !isMissing(err) {
		return nil, err
	}
	newest := func(g generation) (event int64, number int) {
		if g.m == nil {
			return -1, 0
		}
		return g.m.Newest, g.m.Number
	}
	slices.SortFunc(list, func(a, b generation) int {
		eventA, numberA := newest(a)
		eventB, numberB := newest(b)
		return cmp.Or(cmp.Compare(eventB, eventA), cmp.Compare(numberB, numberA), b.created.Compare(a.created), cmp.Compare(len(b.dir), len(a.dir)), strings.Compare(b.dir, a.dir))
	})
	return list, nil
}

// badMark begins the lines of a list that name blobs to which records refer, but of which there is
// no good copy.
const badMark = "!"

// blobs calls fn with the names of the files of a generation's blobs, and whether they were good.
// It reports false if they are not known.
func (g generation) blobs(fn func(name string, good bool) error) (known bool, err error) {
	if g.m == nil || g.root {
		return false, nil
	}
	want, ok := g.m.Files[listName]
	if !ok {
		return false, nil
	}
	file := filepath.Join(g.dir, listName)
	if size, digest, err := digestFile(file); err != nil || size != want.Size || digest != want.SHA256 {
		return false, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, bad := strings.CutPrefix(lines.Text(), badMark)
		if err := fn(name, !bad); err != nil {
			return true, err
		}
	}
	return true, lines.Err()
}

// dirWriter writes a generation to a backup's directory.
type dirWriter struct {
	names
	root    string
	lock    *os.File
	fast    bool
	older   []generation
	touched map[string]bool // directories with new entries
	killed  bool            // a backup before, whose entries may be in memory only
}

// openDest makes a directory ready for another generation, and keeps others out of it.
func openDest(n names, src Source, dest string) (_ *dirWriter, err error) {
	if err := n.checkDest(src, dest); err != nil {
		return nil, err
	}
	if err := durablefile.MkdirAll(filepath.Join(dest, generationsName)); err != nil {
		return nil, err
	}
	w := &dirWriter{names: n, root: dest, touched: make(map[string]bool)}
	if w.lock, err = filelock.Try(filepath.Join(dest, backupLock), filelock.Exclusive); errors.Is(err, filelock.ErrLocked) {
		return nil, ErrBusy
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.lock.Close()
		}
	}()
	if err := w.clean(); err != nil {
		return nil, err
	}
	if w.older, err = n.generations(dest); err != nil {
		return nil, err
	}
	if err := durablefile.MkdirAll(filepath.Join(w.folder(), "staged")); err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.dir(), 0o700); err != nil && !(w.killed && errors.Is(err, fs.ErrExist)) {
		return nil, err
	}
	return w, nil
}

// checkDest makes sure that nothing but a backup is written to: not other files, nor the server's
// own.
func (n names) checkDest(src Source, dest string) error {
	if inside(dest, src.Blobs) {
		return fmt.Errorf("%w: %s", ErrItself, dest)
	}
	for _, part := range []string{"", n.blobs, n.blobs + "/blobs", n.blobs + "/staged", generationsName} {
		for _, own := range []string{src.Dir, src.Blobs, filepath.Join(src.Blobs, "blobs"), filepath.Join(src.Blobs, "staged")} {
			if (src.Blobs != "" || own == src.Dir) && same(filepath.Join(dest, part), own) {
				return fmt.Errorf("%w: %s", ErrItself, dest)
			}
		}
	}
	entries, err := os.ReadDir(dest)
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	backup, other := false, ""
	for _, e := range entries {
		switch name := e.Name(); {
		case name == manifestName, name == manifestNext, name == generationsName && e.IsDir():
			backup = true
		case name == "lost+found", name == backupLock, n.belongs(name), name == n.blobs, n.oldLeftover(name):
		default:
			other = name
		}
	}
	switch {
	case other != "":
		return fmt.Errorf("%w: %s has %s in it", ErrNotBackup, dest, other)
	case !backup && len(entries) > 0 && !(len(entries) == 1 && entries[0].Name() == "lost+found"):
		return fmt.Errorf("%w: %s", ErrNotBackup, dest)
	}
	return nil
}

// same reports whether two names are of one directory.
func same(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// inside reports whether a name is, or would be, that of a folder or of something below it.
func inside(name, folder string) bool {
	name, err := filepath.Abs(name)
	if err != nil {
		return false
	}
	for !same(name, folder) {
		if resolved, err := filepath.EvalSymlinks(name); err == nil {
			name = resolved
		}
		parent := filepath.Dir(name)
		if parent == name {
			return false
		}
		name = parent
	}
	return true
}

// oldLeftover reports whether an interrupted backup of an earlier version leaves a file of that
// name, or looking at the backup does.
func (n names) oldLeftover(name string) bool {
	return name == lockName || strings.HasPrefix(name, "next") || strings.HasPrefix(name, "verify-") || strings.HasPrefix(name, n.database+"-")
}

// clean removes what interrupted backups have left: but for the folder of a generation, which says
// that there was one until another backup is complete.
func (w *dirWriter) clean() error {
	remove := func(dir string, leftover func(name string) bool) error {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if leftover(e.Name()) {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}
		return err
	}
	info, err := os.Stat(w.dir())
	switch {
	case err == nil && info.IsDir():
		w.killed = true
		err = remove(w.dir(), func(string) bool { return true })
	case isMissing(err):
		err = nil
	}
	if err == nil {
		err = remove(filepath.Dir(w.dir()), func(name string) bool { return strings.HasPrefix(name, goneName) })
	}
	if err == nil {
		err = remove(w.root, func(name string) bool { return strings.HasPrefix(name, "next") || strings.HasPrefix(name, "verify-") })
	}
	return err
}

func (w *dirWriter) dir() string    { return filepath.Join(w.root, generationsName, nextName) }
func (w *dirWriter) folder() string { return filepath.Join(w.root, w.blobs) }

func (w *dirWriter) blobPath(name string) string {
	return filepath.Join(w.folder(), filepath.FromSlash(name))
}

// close removes what was not finished, and lets others in. The folder of the generation stays if blobs
// that were copied may not last: so the next backup knows.
func (w *dirWriter) close() error {
	err := w.syncTouched()
	if err == nil && !w.killed {
		err = os.RemoveAll(w.dir())
	}
	return errors.Join(err, w.lock.Close())
}

// syncTouched makes new entries of directories last.
func (w *dirWriter) syncTouched() error {
	for dir := range w.touched {
		if err := durablefile.SyncDir(dir); err != nil {
			return err
		}
		delete(w.touched, dir)
	}
	return nil
}

func (w *dirWriter) previous() *Manifest {
	for _, g := range w.older {
		if g.m != nil {
			return g.m
		}
	}
	return nil
}

// has looks at the copy of a blob, and, unless it is to be fast, reads it.
func (w *dirWriter) has(ctx context.Context, name string) (size int64, ok bool, err error) {
	file := w.blobPath(name)
	info, err := os.Lstat(file)
	if isMissing(err) || err == nil && !info.Mode().IsRegular() {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	if w.killed {
		w.touch(filepath.Dir(file))
	}
	c, _ := blobfs.FileCID(name)
	if w.fast {
		_, err = blobfs.StatFile(file, c)
	} else {
		_, err = blobfs.CheckFile(ctx, file, c)
	}
	if err != nil && ctx.Err() == nil {
		return 0, false, nil // damaged, or it cannot be read
	}
	return info.Size(), true, err
}

func (w *dirWriter) copyBlob(ctx context.Context, name, from string) (size int64, err error) {
	c, _ := blobfs.FileCID(name)
	now, err := blobfs.StatFile(from, c)
	if err != nil {
		return 0, &sourceError{err}
	}
	to := w.blobPath(name)
	// The file on the server may be another one with the same bytes: uploaded again, as another
	// type.
	if then, err := blobfs.StatFile(to, c); err == nil && then == now {
		size, ok, err := w.has(ctx, name)
		if ok && !w.fast { // damage that leaves the end as it was
			if _, err := blobfs.CheckFile(ctx, from, c); err != nil && ctx.Err() == nil {
				return 0, &sourceError{err}
			}
			err = ctx.Err()
		}
		if ok || err != nil {
			return size, err
		}
	}
	if err := w.mkdir(filepath.Dir(to)); err != nil {
		return 0, err
	}
	if size, err = copyBlob(ctx, name, from, filepath.Join(w.root, partName), to); err == nil {
		w.touch(filepath.Dir(to))
	}
	return size, err
}

// touch notes that a folder of blobs has a new entry, or, after a backup that was killed, that it may
// have.
func (w *dirWriter) touch(dir string) {
	w.touched[dir] = true
	if w.killed && dir != w.folder() {
		w.touch(filepath.Dir(dir))
	}
}

// mkdir makes a folder of blobs and those above it.
func (w *dirWriter) mkdir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := w.mkdir(parent); err != nil {
		return err
	}
	w.touched[parent] = true
	return os.Mkdir(dir, 0o700)
}

func (w *dirWriter) put(name string, data []byte) error {
	return durablefile.Write(filepath.Join(w.dir(), name), data)
}

// finish gives the generation its name once everything that belongs to it is on disk.
func (w *dirWriter) finish(m *Manifest, list []string) error {
	if err := w.syncTouched(); err != nil {
		return err
	}
	slices.Sort(list)
	var text bytes.Buffer
	for _, name := range list {
		text.WriteString(name + "\n")
	}
	m.Files[listName] = fileOf(text.Bytes())
	m.Bytes += int64(text.Len())
	if err := w.put(listName, text.Bytes()); err != nil {
		return err
	}
	manifest, err := m.encode()
	if err != nil {
		return err
	}
	if err := w.put(manifestName, manifest); err != nil {
		return err
	}
	for _, err := range []error{durablefile.Sync(filepath.Join(w.dir(), w.database)), durablefile.SyncDir(w.dir()), durablefile.SyncDir(w.root), durablefile.SyncDir(w.folder())} {
		if err != nil {
			return err
		}
	}
	w.killed = false
	dir, err := w.name(m.Created)
	if err != nil {
		return err
	}
	return durablefile.Rename(w.dir(), dir)
}

// name returns the folder of a generation of that time. Of several made in one second, the later
// ones have greater numbers.
func (w *dirWriter) name(t time.Time) (string, error) {
	first := filepath.Join(w.root, generationsName, t.UTC().Format("20060102T150405Z"))
	others, err := os.ReadDir(filepath.Dir(first))
	last := 0
	for _, other := range others {
		if rest, ok := strings.CutPrefix(other.Name(), filepath.Base(first)); ok {
			n, _ := strconv.Atoi(strings.TrimPrefix(rest, "-"))
			last = max(last, n, 1)
		}
	}
	if err != nil || last == 0 {
		return first, err
	}
	return fmt.Sprintf("%s-%d", first, last+1), nil
}

// retain removes the generations that are not to be kept, and then the blobs that no other refers
// to.
func (w *dirWriter) retain(keep Keep) error {
	list, err := w.generations(w.root)
	if err != nil {
		return err
	}
	// What cannot be read is left for somebody to look at.
	var good []generation
	var times []time.Time
	complete := true
	for _, g := range list {
		if g.m == nil {
			complete = false
			continue
		}
		good, times = append(good, g), append(times, g.created)
	}
	used := make(map[nameKey]bool)
	for i, kept := range keep.choose(times) {
		if !kept && !w.isNew(good[i]) {
			if err := w.remove(good[i]); err != nil {
				return err
			}
			continue
		}
		known, err := good[i].blobs(func(name string, _ bool) error {
			used[keyOf(name)] = true
			return nil
		})
		if err != nil {
			return err
		}
		complete = complete && known
	}
	if !complete { // some generation may refer to any of them
		return nil
	}
	return w.prune(used)
}

// isNew reports whether a generation was not there when the directory was opened.
func (w *dirWriter) isNew(g generation) bool {
	return !slices.ContainsFunc(w.older, func(o generation) bool { return o.dir == g.dir })
}

// remove removes a generation so that none is there by halves.
func (w *dirWriter) remove(g generation) error {
	if g.root {
		for _, name := range append([]string{manifestName, manifestNext, w.database}, w.others...) {
			if err := os.Remove(filepath.Join(g.dir, name)); err != nil && !isMissing(err) {
				return err
			}
		}
		return nil
	}
	gone := filepath.Join(filepath.Dir(g.dir), goneName+filepath.Base(g.dir))
	if err := os.Rename(g.dir, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// prune deletes the blobs that no generation uses. Other files are left alone.
func (w *dirWriter) prune(used map[nameKey]bool) error {
	return filepath.WalkDir(w.folder(), func(file string, e fs.DirEntry, err error) error {
		if isMissing(err) {
			return nil
		} else if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.folder(), file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if _, ok := blobfs.FileCID(name); !ok || used[keyOf(name)] {
			return nil
		}
		return os.Remove(file)
	})
}
