// Package durablefile writes files atomically and durably. Whenever the process or the machine
// stops, a file has its old or its new content. Once a function has returned nil, it has the new
// one permanently.
//
// It does what a file system needs for that, in this order: write a temporary file in the same
// directory, flush it, rename it, flush the directory. A process may die before the last of these.
// So a function that finds its work done flushes the directory all the same, and [Read] does so
// before anything relies on a file.
package durablefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// Watch is told of each file and directory that was flushed, for tests that simulate a power
// failure.
var Watch atomic.Pointer[func(path string)]

func flushed(path string, err error) error {
	if watch := Watch.Load(); watch != nil && err == nil {
		(*watch)(path)
	}
	return err
}

// Write replaces a file by one with the given content and mode 0600.
func Write(path string, content []byte) error {
	return WriteFunc(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// WriteFunc replaces a file by what fn writes, with mode 0600. If fn fails, the file stays as it
// is.
func WriteFunc(path string, fn func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	if err := errors.Join(fn(f), SyncFile(f), f.Close()); err != nil {
		return err
	}
	return Rename(f.Name(), path)
}

// Read reads a file that Write made, and that must not be lost from now on. Where the directory
// cannot be read, as that of another user, it is not flushed.
func Read(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return content, syncAbove(path)
}

// Rename gives a file that was flushed its name. The names are those of one file system.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// Remove removes a file for good. A missing one is no error, nor is a missing directory.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := SyncDir(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// MkdirAll makes a directory of mode 0700, and those above it that are not there, to last.
func MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return syncAbove(dir)
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) { // by somebody else meanwhile, or a file
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
			return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
	} else if err != nil {
		return err
	}
	return syncAbove(dir)
}

// syncAbove flushes the directory that something is in, unless it is one that cannot be read.
func syncAbove(path string) error {
	if err := SyncDir(filepath.Dir(path)); !errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// SyncFile flushes an open file.
func SyncFile(f *os.File) error { return flushed(f.Name(), f.Sync()) }

// Sync flushes a file that was written and closed.
func Sync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(SyncFile(f), f.Close())
}

// SyncDir makes the entries of a directory durable: files that were made, renamed or removed.
// Systems and file systems that cannot flush a directory do so by themselves, or not at all; there
// it does nothing.
func SyncDir(dir string) error { return SyncDirBy(dir, (*os.File).Sync) }

// SyncDirBy is SyncDir with another way to flush the open directory, which a test may let fail.
func SyncDirBy(dir string, sync func(*os.File) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = flushed(dir, sync(d))
	if !dirsSync || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
