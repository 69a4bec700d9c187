package backup

import (
	"archive/tar"
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

	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage/blobfs"
)

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
