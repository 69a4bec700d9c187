package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage"
)

// Database is a database that can be copied while it is used; *sqlite.DB implements it. A copy is
// one file.
type Database interface {
	// Backup writes a copy of the database at one moment to a new file, while others read and
	// write. The copy is on disk when it returns nil.
	Backup(ctx context.Context, file string) error
	// OpenCopy opens a copy, and the blobs in a folder, as a store that can be written to. It also
	// returns a function that closes it. The open copy may use further files, but once it is
	// closed, the file alone is the database.
	OpenCopy(ctx context.Context, file, blobs string) (storage.Store, func() error, error)
	// VerifyCopy checks a copy that is not open. If it is damaged, the error is storage.ErrCorrupt.
	VerifyCopy(ctx context.Context, file string) error
}

// Source is what to back up. Database, Store, and Blobs or Elsewhere are required.
type Source struct {
	Database Database
	Store    storage.Store
	// Blobs is the folder of the blobs, of package blobfs.
	Blobs string
	// Elsewhere replaces Blobs if the blobs are not in a folder: it names their place, such as
	// "bucket pds-blobs". The backup then has no blobs, only this name: see
	// Manifest.BlobsElsewhere. Keep the blobs by other means as long as the backup.
	Elsewhere string
	// CopyBlobs includes blobs that are Elsewhere: the promoted ones of Store.Blobs. One blob at a
	// time needs space in Dir.
	CopyBlobs bool
	// Dir is the server's data directory. Tar files need space for a copy of the database there.
	// Empty: the current directory.
	Dir string
	// Own are the names of further files in Dir that a tar file must not replace, besides those of
	// the Layout.
	Own []string
}

// validate panics if what is needed is missing.
func (s Source) validate() {
	switch {
	case s.Database == nil:
		panic("backup: Source.Database is missing: it copies the database, as *sqlite.DB does")
	case s.Store.Repos == nil:
		panic("backup: Source.Store.Repos is missing: it says which blobs there should be")
	case s.Blobs == "" && s.Elsewhere == "":
		panic("backup: Source.Blobs is missing: the folder of the blobs, as it was given to blobfs.Open")
	}
}

// Layout has the names of the files of a backup, and of the directory that it is restored to.
type Layout struct {
	// Database is the name of the database file. Empty: "pds.sqlite".
	Database string
	// Blobs is the name of the folder of blobs. Empty: that of the database with ".blobs".
	Blobs string
	// Others are the names of the files that Backup.Files may return. A backup with other files is
	// not restored.
	Others []string
}

// names are the names of a Layout, none of them empty.
type names struct {
	database, blobs string
	others          []string
}

func (l Layout) names() names {
	if l.Database == "" {
		l.Database = "pds.sqlite"
	}
	if l.Blobs == "" {
		l.Blobs = l.Database + ".blobs"
	}
	return names{l.Database, l.Blobs, l.Others}
}

// isMissing reports whether an error says that a file is not there.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// removeStale removes what processes that were killed have left in a directory, under names that begin
// so: a running one has a lock on its file, or on the file inside in its folder. Where there are no
// locks, nobody knows whether a process still uses a file.
func removeStale(dir, begins, inside string) error {
	if !filelock.Works {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), begins)
		if !ok || strings.Trim(number, "0123456789") != "" {
			continue
		}
		name := filepath.Join(dir, e.Name())
		if _, err := os.Lstat(filepath.Join(name, inside)); err != nil { // somebody else's
			continue
		}
		f, err := filelock.Try(filepath.Join(name, inside), filelock.Exclusive)
		if err != nil { // in use, or something else
			continue
		}
		if err := errors.Join(os.RemoveAll(name), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
