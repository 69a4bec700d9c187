// Package sqlitevfs is how the SQLite backends open files: with a checksum on
// every page, without mapping files to memory, and with one call in place of two for each page that is
// written to a -wal file.
//
// Checksums are those of the driver (its port of SQLite's checksum VFS). A page
// that does not match gives sqlite3.IOERR_DATA when it is read. For a file with checksums the
// driver takes the memory mapping away after SQLite was told that there is one, and a checkpoint
// beside another connection then calls it: with v0.36.0 that is a nil dereference. So files are opened
// here through a file system that never offers a mapping.
package sqlitevfs

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
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

// EnableChecksums makes an empty database, before anything else is done to it, keep
// a checksum on every page.
func EnableChecksums(c *sqlite3.Conn) error { return c.EnableChecksums("main") }

// Corrupt reports whether an error of SQLite says that a file is damaged.
func Corrupt(err error) bool {
	return errors.Is(err, sqlite3.CORRUPT) || errors.Is(err, sqlite3.NOTADB) || errors.Is(err, sqlite3.IOERR_DATA) || errors.Is(err, sqlite3.IOERR_SHORT_READ)
}

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

// file is a database without a memory mapping.
type file struct{ File }

func (fs fileSystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := fs.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return f, flags, err
	}
	if of, ok := f.(File); ok {
		switch {
		case flags&vfs.OPEN_MAIN_DB != 0:
			f = file{of}
		case flags&vfs.OPEN_WAL != 0:
			f = &walFile{File: of}
		}
	}
	return f, flags, nil
}

// DeviceCharacteristics leaves out batches of atomic writes (F2FS), which would need
// methods that file does not have.
func (f file) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.File.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}

// Unwrap returns the driver's file.
func (f file) Unwrap() vfs.File { return f.File }
