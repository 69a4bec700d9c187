package car

import (
	"io"

	"github.com/pdskit/pdskit/internal/tempfile"
)

// TempFile is a temporary file, on disk or wherever a platform has room that is not memory.
//
// One file is used by one call at a time, different ones by several at once. Bytes are written once,
// from the start to the end, mostly 256 KiB at a time, and may be read in between and in any order.
// Truncate is called with the size 0 only; writing then starts at the beginning. Only bytes that were
// written are read. So an implementation may keep the end of a file in memory until it is long enough
// to be stored.
//
// Close removes the file. It is called once for every file that was opened, whatever failed before.
// Files that a dead process has left are useless: an implementation removes them when it starts.
//
// An error that matches syscall.ENOSPC means that there is no room; callers go on without the file if
// they can.
type TempFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Close() error
}

// Temp opens a temporary file. It is told how many bytes will be written to it at most; 0: that is
// not known. It is called by several goroutines at once.
type Temp func(most int64) (TempFile, error)

// TempDir returns a Temp of files in a folder (empty: the system's for temporary files). They have
// mode 0600 and, where the system allows it, no name, so that a crash leaves none. On WebAssembly,
// where there may be no files, those of an empty path are in memory, of 16 MiB at most.
func TempDir(path string) Temp {
	return func(int64) (TempFile, error) {
		if tempfile.Absent && path == "" {
			return tempfile.NewMemory(tempfile.MemoryLimit), nil
		}
		f, err := tempfile.Create(path, "pdskit-car-*")
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}
