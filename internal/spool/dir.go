package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// ErrFull: there is no more room for spooled bytes.
var ErrFull = errors.New("spool: no room for temporary files")

// pattern is that of the names of files.
const pattern = "pdskit-spool-*"

// Dir is where spooled bytes wait: a folder, with a bound on the bytes of all its files. Files have
// mode 0600 and, where the system allows it, no name, so that a crash leaves none. Set the fields
// before use. It is safe for concurrent use.
type Dir struct {
	// Path is the folder. It is made when it is needed. Empty: the system's for temporary files.
	Path string
	// Limit bounds the bytes of all files. 0: no bound.
	Limit int64

	mu   sync.Mutex
	used int64
}

// Clean removes files that a process has left which was killed at the wrong moment, or whose system
// does not let open files be removed.
func (d *Dir) Clean() error {
	if d.Path == "" {
		return nil // where others' files are too
	}
	names, err := filepath.Glob(filepath.Join(d.Path, pattern))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// Used returns how many bytes there are in all files.
func (d *Dir) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// take takes n bytes of the bound for a file that has size of them, and reports whether it could.
// None may have more than is left for others, so that a few large files leave room for many small
// ones.
func (d *Dir) take(size, n int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Limit > 0 && size+n > d.Limit-d.used-n {
		return false
	}
	d.used += n
	return true
}

func (d *Dir) give(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used -= n
}

// Hold returns a function that counts n more bytes of a temporary file of somebody else towards the
// bound, or gives them back with a negative n. It fails with ErrFull if there is no more room.
func (d *Dir) Hold() func(n int64) error {
	var mu sync.Mutex
	held := int64(0)
	return func(n int64) error {
		mu.Lock()
		defer mu.Unlock()
		if n < 0 {
			d.give(-n)
		} else if !d.take(held, n) {
			return ErrFull
		}
		held += n
		return nil
	}
}

// create makes a file.
func (d *Dir) create() (*os.File, error) {
	if d.Path != "" {
		if err := os.MkdirAll(d.Path, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.CreateTemp(d.Path, pattern) // of mode 0600
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // where the system allows it; else remove does
	return f, nil
}

// remove closes a file and removes it.
func remove(f *os.File) error {
	err := f.Close()
	_ = os.Remove(f.Name())
	return err
}

// File is a temporary file whose bytes count towards the bound of a Dir. Write appends to it.
type File struct {
	*os.File
	dir  *Dir
	size int64
}

// Create makes a file. Close removes it.
func (d *Dir) Create() (*File, error) {
	f, err := d.create()
	if err != nil {
		return nil, err
	}
	return &File{File: f, dir: d}, nil
}

// Write fails with ErrFull if there is no more room.
func (f *File) Write(b []byte) (int, error) {
	if !f.dir.take(f.size, int64(len(b))) {
		return 0, ErrFull
	}
	f.size += int64(len(b))
	return f.File.Write(b)
}

// ReadFrom hides that of the file, which would not count.
func (f *File) ReadFrom(r io.Reader) (int64, error) { return io.Copy(onlyWriter{f}, r) }

// Close closes and removes the file.
func (f *File) Close() error {
	f.dir.give(f.size)
	f.size = 0
	return remove(f.File)
}
