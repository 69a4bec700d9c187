package blobfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/internal/durablefile"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// move renames a file and syncs the directory it is in after that, which is made
// if there is none.
func (s *Store) move(from, to string) error {
	dir := filepath.Dir(to)
	err := s.rename(from, to)
	// Another process may remove the empty folder once more meanwhile.
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < 3; try++ {
		if err = s.makeDir(dir); err != nil {
			return err
		}
		err = s.rename(from, to)
	}
	if err != nil {
		return err
	}
	return s.syncDir(dir)
}

// makeDir makes a directory, and those above it, to last.
func (s *Store) makeDir(dir string) error {
	if exists(dir) {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(parent)
}

// syncDir makes changes of a directory durable, where the system can.
func (s *Store) syncDir(dir string) error { return durablefile.SyncDirBy(dir, s.syncFile) }

// eachName calls fn with the names in a directory, in no particular order and
// with memory for some of them only. No directory is the same as an empty one.
func eachName(dir string, fn func(name string) error) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if err := fn(name); err != nil {
				return err
			}
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
