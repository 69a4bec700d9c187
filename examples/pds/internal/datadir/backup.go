package datadir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// manifestName is the file with a backup's digests. While a backup replaces an
// older one, its manifest lies beside that one's, under another name.
const (
	manifestName = "backup.json"
	manifestNext = "backup.next.json"
)

// Manifest describes a backup.
type Manifest struct {
	Format  int       `json:"format"` // 1
	Created time.Time `json:"created"`
	Version string    `json:"version"` // of the server
	Host    string    `json:"host"`
	Newest  int64     `json:"newestEvent"`
	Blobs   int       `json:"blobs"` // promoted and staged
	// Missing is how many blobs records refer to that the server did not have, or that were
	// deleted, with their accounts or records, while the backup was made.
	Missing int             `json:"missingBlobs"`
	Bytes   int64           `json:"bytes"` // of everything
	Files   map[string]File `json:"files"` // all but blobs, which are named by their digests
}

// File is a file of a backup.
type File struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Backup is how a backup is made.
type Backup struct {
	// Version and Host are for the manifest.
	Version, Host string
	// Files are added as they are: the secrets.
	Files map[string][]byte
	// Verify checks the copy of the database before it counts, and returns how many
	// blobs are missing; Dir has no blobs if the backup is a tar file. Nil: it is not checked.
	Verify func(ctx context.Context, d *Dir) (missing int, err error)
	// Progress, if not nil, is told how many blobs have been looked at.
	Progress func(blobs int)
}

// ErrNotBackup: a directory has other files in it than a backup's.
var ErrNotBackup = errors.New("datadir: the directory is neither empty nor a backup")

// ToDir backs up into a directory of its own, which is made, or which has an older
// backup that this one replaces.
func (b Backup) ToDir(ctx context.Context, d *Dir, dest string) (*Manifest, error) {
	if err := checkDest(dest); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dest, 0o700); err != nil {
		return nil, err
	}
	w := &dirWriter{root: dest}
	return b.run(ctx, d, w, dest)
}

// checkDest makes sure that nothing but a backup is overwritten.
func checkDest(dest string) error {
	entries, err := os.ReadDir(dest)
	if isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case manifestName, manifestNext: // a backup, perhaps an interrupted one
			return nil
		}
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s", ErrNotBackup, dest)
	}
	return nil
}

// ToTar writes a backup as a tar file. It needs room for a copy of the database
// in the data directory.
func (b Backup) ToTar(ctx context.Context, d *Dir, out io.Writer) (*Manifest, error) {
	temp, err := os.MkdirTemp(d.Path, "backup-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	w := newTarWriter(out)
	m, err := b.run(ctx, d, w, temp)
	if err != nil {
		return nil, err
	}
	return m, w.close()
}

// writer is where a backup goes. Names have slashes.
type writer interface {
	// begin says that a backup is under way.
	begin() error
	// has reports whether a blob's file is there already.
	has(name string, size int64) bool
	// copy copies a file.
	copy(name, from string, info fs.FileInfo) error
	// put writes a file.
	put(name string, data []byte) error
	// finish puts the copy of the database and the manifest in their places.
	finish(database string, manifest []byte) error
	// prune deletes the blobs' files that keep does not name.
	prune(keep map[string]bool) error
}

func (b Backup) run(ctx context.Context, d *Dir, w writer, temp string) (*Manifest, error) {
	m := &Manifest{Format: 1, Created: time.Now().UTC().Truncate(time.Second), Version: b.Version, Host: b.Host, Files: make(map[string]File)}
	if err := w.begin(); err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	if err := b.blobs(ctx, d, w, m, seen); err != nil {
		return nil, err
	}
	// The copy lies under a name of its own until it has been checked.
	copied := filepath.Join(temp, "next.sqlite")
	if err := removeDatabase(copied); err != nil {
		return nil, err
	}
	if err := d.DB.Backup(ctx, copied); err != nil {
		return nil, fmt.Errorf("copy of the database: %w", err)
	}
	if err := b.blobs(ctx, d, w, m, seen); err != nil {
		return nil, err
	}
	if err := b.verify(ctx, copied, temp, m); err != nil {
		return nil, err
	}
	size, digest, err := digestFile(copied)
	if err != nil {
		return nil, err
	}
	m.Files[Database] = File{size, digest}
	m.Bytes += size
	files := make(map[string][]byte)
	plc, err := os.ReadFile(filepath.Join(d.Path, PLC))
	if err == nil {
		files[PLC] = wholeLines(plc)
	} else if !isMissing(err) {
		return nil, err
	}
	for name, data := range b.Files {
		files[name] = data
	}
	for name, data := range files {
		sum := sha256.Sum256(data)
		m.Files[name] = File{int64(len(data)), hex.EncodeToString(sum[:])}
		m.Bytes += int64(len(data))
		if err := w.put(name, data); err != nil {
			return nil, err
		}
	}
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return nil, err
	}
	if err := w.finish(copied, append(text, '\n')); err != nil {
		return nil, err
	}
	return m, w.prune(seen)
}

// wholeLines leaves out a line at the end that is being written.
func wholeLines(text []byte) []byte {
	return text[:strings.LastIndexByte(string(text), '\n')+1]
}

// verify opens the copy of the database with the blobs that are beside it.
func (b Backup) verify(ctx context.Context, copied, temp string, m *Manifest) (err error) {
	// It is opened as the data directory that it will be part of.
	dir, err := os.MkdirTemp(temp, "verify-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Rename(copied, filepath.Join(dir, Database)); err != nil {
		return err
	}
	d, err := Open(ctx, dir, Options{Blobs: filepath.Join(temp, Blobs)})
	if err != nil {
		return err
	}
	_, m.Newest, err = d.Store.Events.Bounds(ctx)
	if err == nil && b.Verify != nil {
		m.Missing, err = b.Verify(ctx, d)
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("the copy is not good: %w", err)
	}
	return os.Rename(filepath.Join(dir, Database), copied)
}

// blobs copies the blobs that are not there yet.
func (b Backup) blobs(ctx context.Context, d *Dir, w writer, m *Manifest, seen map[string]bool) error {
	for _, part := range []string{"blobs", "staged"} {
		err := filepath.WalkDir(filepath.Join(d.Blobs, part), func(file string, e fs.DirEntry, err error) error {
			switch {
			case isMissing(err): // deleted meanwhile, or there is no such folder
				return nil
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case e.IsDir():
				return nil
			}
			rel, err := filepath.Rel(d.Blobs, file)
			if err != nil {
				return err
			}
			name := path.Join(Blobs, filepath.ToSlash(rel))
			if seen[name] {
				return nil
			}
			info, err := e.Info()
			if err == nil && !w.has(name, info.Size()) {
				err = w.copy(name, file, info)
			}
			if isMissing(err) {
				return nil
			} else if err != nil {
				return err
			}
			seen[name] = true
			m.Blobs++
			m.Bytes += info.Size()
			if b.Progress != nil {
				b.Progress(m.Blobs)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func removeDatabase(file string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(file + suffix); err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

// digestFile returns a file's size and SHA-256.
func digestFile(file string) (size int64, digest string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
