// Package faultvfs makes system calls of SQLite through package sqlitevfs fail, for tests of data
// in SQLite.
package faultvfs

import (
	"errors"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
)

// Faults decides which calls fail.
type Faults struct {
	fault  atomic.Pointer[func() error]
	synced atomic.Pointer[func(path string)]
}

// Install puts itself between SQLite and the file system, for files that are
// opened from now on until the process ends.
func Install() *Faults {
	f := &Faults{}
	name := sqlitevfs.Name()
	vfs.Register(name, fileSystem{vfs.Find(name).(vfs.VFSFilename), f})
	return f
}

// Set makes fault be asked before each call that changes a file: that makes it, writes to it, cuts
// it off, flushes it or deletes it. Its error is that of the call; syscall.ENOSPC means a full
// disk. Nil: all is well. fault may be called concurrently.
func (f *Faults) Set(fault func() error) {
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
}

// Watch makes synced be told of each file, and of each directory, that is to be flushed, for tests
// that simulate a power failure. Meanwhile the system is not asked to flush files, which takes
// long. Nil: it is again. synced may be called concurrently.
func (f *Faults) Watch(synced func(path string)) {
	if synced == nil {
		f.synced.Store(nil)
		return
	}
	f.synced.Store(&synced)
}

func (f *Faults) tell(path string) {
	if synced := f.synced.Load(); synced != nil {
		(*synced)(path)
	}
}

func (f *Faults) ask() error {
	fault := f.fault.Load()
	if fault == nil {
		return nil
	}
	err := (*fault)()
	if errors.Is(err, syscall.ENOSPC) {
		return vfs.SystemError(err, sqlite3.FULL)
	}
	return err
}

type fileSystem struct {
	vfs.VFSFilename
	faults *Faults
}

func (fs fileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if flags&vfs.OPEN_CREATE != 0 {
		if there, err := fs.Access(name.String(), vfs.ACCESS_EXISTS); err != nil || !there {
			if err := fs.faults.ask(); err != nil {
				return nil, flags, err
			}
		}
	}
	f, flags, err := fs.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return f, flags, err
	}
	// As the driver does: SQLite relies on the name of a journal only after its first flush.
	journal := flags&vfs.OPEN_CREATE != 0 && flags&(vfs.OPEN_MAIN_JOURNAL|vfs.OPEN_SUPER_JOURNAL|vfs.OPEN_WAL) != 0
	return &file{f.(sqlitevfs.File), fs.faults, name.String(), journal}, flags, nil
}

func (fs fileSystem) Delete(name string, syncDir bool) error {
	if err := fs.faults.ask(); err != nil {
		return err
	}
	err := fs.VFSFilename.Delete(name, syncDir)
	if err == nil && syncDir {
		fs.faults.tell(filepath.Dir(name))
	}
	return err
}

type file struct {
	sqlitevfs.File
	faults  *Faults
	path    string
	syncDir bool // with the next flush
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.faults.ask(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *file) Truncate(size int64) error {
	if err := f.faults.ask(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Sync(flags vfs.SyncFlag) error {
	if err := f.faults.ask(); err != nil {
		return err
	}
	if f.faults.synced.Load() == nil || f.path == "" {
		return f.File.Sync(flags)
	}
	// A -wal file writes what it holds back when it is asked for its size.
	_, err := f.File.Size()
	if err == nil {
		f.faults.tell(f.path)
		if f.syncDir {
			f.syncDir = false
			f.faults.tell(filepath.Dir(f.path))
		}
	}
	return err
}

func (f *file) SizeHint(size int64) error {
	if err := f.faults.ask(); err != nil {
		return err
	}
	return f.File.SizeHint(size)
}

func (f *file) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.File.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}
