package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pdskit/pdskit/internal/durablefile"
)

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
		return errors.Join(err, moveBack(from, to, made))
	}
	for dir := range touched {
		if err := durablefile.SyncDir(dir); err != nil {
			return err
		}
	}
	return os.RemoveAll(from)
}

// moveBack removes the first files that moveBlobs has made, and the folders that are empty then:
// there may be others by now.
func moveBack(from, to string, made int) error {
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
