package car

import (
	"io"

	"github.com/pdskit/pdskit/internal/tempfile"
)

// TempFile is a temporary file, on disk or in other storage of a platform without files.
//
// Calls for one file do not overlap; different files are used concurrently. Bytes are written once,
// from the start to the end, mostly 256 KiB at a time. They may be read in between and in any
// order. Only written bytes are read. Truncate is called only with the size 0; writing then starts
// again at the beginning. So an implementation may keep the end of a file in memory until it is
// long enough to be stored.
//
// Close removes the file. It is called once for every opened file, also after errors. Files that a
// dead process left are useless: an implementation removes them when it starts.
//
// An error that matches syscall.ENOSPC means that there is no room. Callers then continue without
// the file if they can.
type TempFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Close() error
}

// Temp opens a temporary file. most is the maximum number of bytes that will be written to it; 0:
// unknown. It is called concurrently.
type Temp func(most int64) (TempFile, error)

// TempDir returns a Temp that makes files in a folder (empty: the system's for temporary files).
// They have mode 0600 and, if the system allows it, no name, so a crash leaves none. On
// WebAssembly, where there may be no files, an empty path means files in memory, of at most 16 MiB
// each.
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
