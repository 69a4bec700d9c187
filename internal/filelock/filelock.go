// Package filelock locks files against other processes, and against other users of them in this
// process. The system releases the locks when a process ends, even by a crash.
//
// Locks are flock(2) on Unix and LockFileEx on Windows. On systems with neither, files are opened
// but not locked: [Works] reports that.
package filelock

import (
	"errors"
	"os"
)

// ErrLocked: somebody else has the lock.
var ErrLocked = errors.New("filelock: locked")

// Kind is what a lock allows others.
type Kind int

// A shared lock allows others a shared one. An exclusive one allows nothing.
const (
	Shared Kind = iota
	Exclusive
)

// Try opens a file, which is made with mode 0600 if there is none, and locks it until it is closed.
// If somebody else's lock does not allow that, the error is ErrLocked.
func Try(path string, kind Kind) (*os.File, error) { return open(path, kind, false) }

// Wait is Try, but waits until the lock is free.
func Wait(path string, kind Kind) (*os.File, error) { return open(path, kind, true) }

func open(path string, kind Kind, wait bool) (*os.File, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err := flock(f, kind, wait); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
