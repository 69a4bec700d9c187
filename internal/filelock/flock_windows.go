package filelock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// Works reports whether files are locked at all.
const Works = true

// lockedByte is the offset of the one byte that is locked. Locks are mandatory here, so it lies
// where no file has anything: what a file holds can be read and written by others.
const lockedByte = 1 << 62

// openFile opens a file so that others may rename and remove it meanwhile, as on other systems.
func openFile(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

func flock(f *os.File, kind Kind, wait bool) error {
	var flags uint32
	if kind == Exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if !wait {
		flags |= windows.LOCKFILE_FAIL_IMMEDIATELY
	}
	at := &windows.Overlapped{Offset: lockedByte & (1<<32 - 1), OffsetHigh: lockedByte >> 32}
	switch err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at); {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return ErrLocked
	case err != nil:
		return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return nil
}
