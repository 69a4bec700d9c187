package spool

import (
	"bufio"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/pdskit/pdskit/internal/tempfile"
)

// ErrFull: there is no more room for spooled bytes.
var ErrFull = errors.New("spool: no room for temporary files")

// pattern is that of the names of files.
const pattern = "pdskit-spool-*"

// Dir is where spooled bytes wait: a folder, or what Make has, with a bound on the bytes of all its
// files. Files of a folder have mode 0600 and, where the system allows it, no name, so that a crash
// leaves none. Set the fields before use. It is safe for concurrent use.
type Dir struct {
	// Path is the folder. It is made when it is needed. Empty: the system's for temporary files, or
	// memory on WebAssembly, where there may be no files: see Memory.
	Path string
	// Make, if not nil, makes files in the place of Path.
	Make func(most int64) (Storage, error)
	// Limit bounds the bytes of all files. 0: no bound.
	Limit int64

	mu   sync.Mutex
	used int64
}

// Clean removes files that a process has left which was killed at the wrong moment, or whose system
// does not let open files be removed.
func (d *Dir) Clean() error {
	if d.Path == "" || d.Make != nil {
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

// Open makes a file whose bytes do not count: see Hold. It is told how many bytes will be written
// at most; 0: that is not known. Errors of the file are *FileError.
func (d *Dir) Open(most int64) (Storage, error) {
	s, err := d.open(most)
	if err != nil {
		return nil, &FileError{err}
	}
	return file{s}, nil
}

func (d *Dir) open(most int64) (Storage, error) {
	switch {
	case d.Make != nil:
		return d.Make(most)
	case d.Memory():
		if most == 0 || d.Limit > 0 && most > d.Limit {
			most = d.Limit
		}
		if most == 0 {
			most = math.MaxInt64
		}
		return tempfile.NewMemory(most), nil
	case d.Path != "":
		if err := os.MkdirAll(d.Path, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := tempfile.Create(d.Path, pattern)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Memory reports whether files are in memory, as the platform has no others.
func (d *Dir) Memory() bool { return tempfile.Absent && d.Path == "" && d.Make == nil }

// Storage is a temporary file: see car.TempFile.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Close() error
}

// FileError is an error of a temporary file.
type FileError struct{ Err error }

func (e *FileError) Error() string { return "temporary file: " + e.Err.Error() }

// Unwrap returns the error of the file.
func (e *FileError) Unwrap() error { return e.Err }

// file gives the errors of a temporary file their type.
type file struct{ s Storage }

func fileError(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &FileError{err}
}

func (f file) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.s.ReadAt(b, off)
	return n, fileError(err)
}

func (f file) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.s.WriteAt(b, off)
	return n, fileError(err)
}

func (f file) Truncate(size int64) error { return fileError(f.s.Truncate(size)) }
func (f file) Close() error              { return fileError(f.s.Close()) }

// File is a temporary file whose bytes count towards the bound of a Dir. It is for one goroutine.
type File struct {
	s    Storage
	dir  *Dir
	size int64
}

// Create makes a file, of at most so many bytes; 0: that is not known. Close removes it.
func (d *Dir) Create(most int64) (*File, error) {
	s, err := d.Open(most)
	if err != nil {
		return nil, err
	}
	return &File{s: s, dir: d}, nil
}

// Write appends to the file. It fails with ErrFull if there is no more room.
func (f *File) Write(b []byte) (int, error) {
	if !f.dir.take(f.size, int64(len(b))) {
		return 0, ErrFull
	}
	n, err := f.s.WriteAt(b, f.size)
	f.dir.give(int64(len(b) - n))
	f.size += int64(n)
	return n, err
}

// ReadFrom appends all that there is to read, in pieces of fileChunk.
func (f *File) ReadFrom(r io.Reader) (int64, error) {
	w := bufio.NewWriterSize(onlyWriter{f}, fileChunk)
	n, err := w.ReadFrom(r)
	return n, errors.Join(err, w.Flush())
}

const fileChunk = 256 << 10

// Reader returns a reader of what is in the file, from its start.
func (f *File) Reader() *io.SectionReader { return io.NewSectionReader(f.s, 0, f.size) }

// Close closes and removes the file.
func (f *File) Close() error {
	f.dir.give(f.size)
	f.size = 0
	return f.s.Close()
}

// onlyWriter hides ReadFrom, whose buffer would not be ours.
type onlyWriter struct{ io.Writer }
