// Package sqlitevfs opens files for the SQLite backends: with a checksum on every page, without
// memory mapping, with one call instead of two for each page written to a -wal file, and readable
// only by their owner.
//
// # Checksums
//
// Checksums are those of the driver (its port of SQLite's checksum VFS). Reading a page with a
// wrong checksum gives sqlite3.IOERR_DATA. The driver computes and verifies checksums for an open
// file only once it has seen the file's header, which says that pages have room for one. Pages
// written before that get none, and count as damaged from then on. So a file gets its header before
// anything else opens it: see [Create].
//
// For a file with checksums the driver disables the memory mapping after SQLite was told that there
// is one. A checkpoint beside another connection then calls it: with v0.36.0 that is a nil
// dereference. So files are opened here through a file system that never offers a mapping.
//
// # Modes
//
// Databases and their -wal, -shm and -journal files have mode 0600, whatever the umask. Files of an
// earlier version with other modes get this mode when they are opened.
package sqlitevfs

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/pdskit/pdskit/internal/diskfull"
)

const name = "pdskit"

// register makes the file system known to the driver, which keeps a table of them.
var register = sync.OnceFunc(func() {
	vfs.Register(name, fileSystem{vfs.Find("").(vfs.VFSFilename)})
})

// Name returns the name of the file system.
func Name() string {
	register()
	return name
}

// URI returns the name under which a file is opened or attached.
func URI(path string) string {
	register()
	path = filepath.ToSlash(path)
	if filepath.VolumeName(path) != "" && !strings.HasPrefix(path, "/") {
		path = "/" + path // file:/C:/…
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?vfs=" + name
}

// exclusive is the parameter of names that ExclusiveURI returns.
const exclusive = "exclusive"

// ExclusiveURI is URI for connections in SQLite's exclusive locking mode, which have no -shm file.
func ExclusiveURI(path string) string { return URI(path) + "&" + exclusive + "=1" }

// Create makes an empty database whose pages have checksums, in a new or empty file. Nobody else
// may have the file open. If it fails, the file may be there.
func Create(path string) error {
	c, err := sqlite3.Open(URI(path))
	if err != nil {
		return err
	}
	if err = c.EnableChecksums("main"); err == nil {
		err = c.Exec("PRAGMA user_version=0") // writes the header
	}
	return errors.Join(err, c.Close())
}

// Corrupt reports whether an error of SQLite says that a file is damaged.
func Corrupt(err error) bool {
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.IOERR_DATA) || errors.Is(err, sqlite3.IOERR_SHORT_READ)
}

// Full reports whether an error of SQLite says that the disk is full.
func Full(err error) bool { return errors.Is(err, sqlite3.FULL) || diskfull.Is(err) }

type fileSystem struct{ vfs.VFSFilename }

// File is what the driver's files can do, but for memory mapping.
type File interface {
	vfs.FileSharedMemory
	vfs.FileLockState
	vfs.FileHasMoved
	vfs.FileSizeHint
	vfs.FilePersistWAL
	vfs.FilePowersafeOverwrite
}

// plainFile is a file whose errors say when the disk is full; of those of the driver, only some do.
type plainFile struct{ File }

func (f plainFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, systemError(err)
}

func (f plainFile) Truncate(size int64) error     { return systemError(f.File.Truncate(size)) }
func (f plainFile) Sync(flags vfs.SyncFlag) error { return systemError(f.File.Sync(flags)) }
func (f plainFile) SizeHint(size int64) error     { return systemError(f.File.SizeHint(size)) }

func systemError(err error) error {
	if diskfull.Is(err) {
		return vfs.SystemError(err, sqlite3.FULL)
	}
	return err
}

// file is a database without a memory mapping.
type file struct{ plainFile }

func (fs fileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	path := name.String()
	if path != "" && flags&vfs.OPEN_READWRITE != 0 {
		makePrivate(path, flags&vfs.OPEN_CREATE != 0 && flags&vfs.OPEN_EXCLUSIVE == 0)
	}
	f, flags, err := fs.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return f, flags, systemError(err)
	}
	of, ok := f.(File)
	switch {
	case !ok:
		return f, flags, nil
	case flags&vfs.OPEN_MAIN_DB != 0:
		return file{plainFile{of}}, flags, nil
	case flags&vfs.OPEN_WAL != 0:
		if name.URIParameter(exclusive) == "" {
			// SQLite maps the -shm file next. Its lock on the database keeps others from deleting
			// the file meanwhile.
			makePrivate(name.Database()+"-shm", true)
		}
		return &walFile{File: plainFile{of}}, flags, nil
	}
	return plainFile{of}, flags, nil
}

// makePrivate makes sure that only its owner may read a file: it makes the file, if that is wanted,
// since the driver would leave its mode to the umask. Failing is left to the driver, which opens
// the file next.
func makePrivate(path string, create bool) {
	if create {
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err == nil {
			f.Close()
			return
		}
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&^0o600 != 0 {
		_ = os.Chmod(path, info.Mode().Perm()&0o600) // not if it is another user's
	}
}

// DeviceCharacteristics leaves out batches of atomic writes (F2FS), which would need
// methods that file does not have.
func (f file) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.File.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}

// Unwrap returns the driver's file.
func (f file) Unwrap() vfs.File { return f.File }
