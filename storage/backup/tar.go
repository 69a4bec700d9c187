package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// Encryption encrypts tar files and objects while they are written. For decryption see
// Restore.Decrypt.
type Encryption struct {
	// ID identifies those who can decrypt, for example the names of the recipients. If it changes,
	// a backup to a Remote stores all blobs again. Tar files do not use it.
	ID string
	// Begins is the beginning of every encrypted file. ToTarFile replaces no other files.
	Begins string
	// Writer returns a writer that encrypts to out. It is closed when the backup is complete.
	// Output that was not closed must not decrypt to its end.
	Writer func(out io.Writer) (io.WriteCloser, error)
}

// ToTar writes a backup as a tar file. It needs space for a copy of the database in the directory
// of the source.
func (b Backup) ToTar(ctx context.Context, src Source, out io.Writer) (_ *Manifest, err error) {
	src.validate()
	temp, used, err := tempIn(src.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp), used.Close()) }()
	closeEncrypted := func() error { return nil }
	if b.Encryption != nil {
		encrypted, err := b.Encryption.Writer(out)
		if err != nil {
			return nil, err
		}
		out, closeEncrypted = encrypted, encrypted.Close
	}
	w := &tarWriter{b.Layout.names(), tar.NewWriter(out), temp}
	m, err := b.run(ctx, src, w)
	if err != nil {
		return nil, err
	}
	if err := w.w.Close(); err != nil {
		return nil, err
	}
	return m, closeEncrypted()
}

// ToTarFile writes a backup as a tar file named dest, and returns its name. It replaces an older
// backup, with one exception: if the server has lost blobs, which the older backup may have, the
// time is added to the new file's name. A file with the name is always a complete backup.
func (b Backup) ToTarFile(ctx context.Context, src Source, dest string) (m *Manifest, at string, err error) {
	src.validate()
	begins := ""
	if b.Encryption != nil {
		begins = b.Encryption.Begins
	}
	older, err := b.Layout.names().checkTarFile(src, dest, begins)
	if err != nil {
		return nil, "", err
	}
	if err := removeStale(filepath.Dir(dest), filepath.Base(dest)+".part-", ""); err != nil {
		return nil, "", err
	}
	part, err := os.CreateTemp(filepath.Dir(dest), filepath.Base(dest)+".part-*") // of mode 0600
	if err != nil {
		return nil, "", err
	}
	defer os.Remove(part.Name()) // fails after the rename
	used, err := filelock.Try(part.Name(), filelock.Exclusive)
	if err != nil {
		return nil, "", errors.Join(err, part.Close())
	}
	defer used.Close()
	m, err = b.ToTar(ctx, src, part)
	if err = errors.Join(err, part.Sync(), part.Close()); err != nil {
		return nil, "", err
	}
	at = dest
	for n := 0; older && m.Lost > 0; n++ {
		at = dest + m.Created.Format(".20060102T150405Z")
		if n > 0 {
			at += fmt.Sprint("-", n+1)
		}
		if _, err := os.Lstat(at); isMissing(err) {
			break
		}
	}
	return m, at, durablefile.Rename(part.Name(), at)
}

// checkTarFile makes sure that nothing but a backup is overwritten, and reports whether there is
// one. If begins is not empty, one that begins so is taken for one.
func (n names) checkTarFile(src Source, dest, begins string) (older bool, err error) {
	dir, name := filepath.Dir(dest), filepath.Base(dest)
	if same(dir, src.Dir) && (strings.HasPrefix(name, n.database) || slices.Contains(slices.Concat(src.Own, n.others), name)) || inside(dir, src.Blobs) {
		return false, fmt.Errorf("%w: %s", ErrItself, dest)
	}
	info, err := os.Stat(dest)
	if isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%w: %s is no file", ErrNotBackup, dest)
	}
	f, err := os.Open(dest)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if start := make([]byte, len(begins)); begins != "" && info.Size() > 0 {
		if _, err := io.ReadFull(f, start); err == nil && string(start) == begins {
			return true, nil
		}
		return false, fmt.Errorf("%w: %s is another file", ErrNotBackup, dest)
	}
	switch h, err := tar.NewReader(f).Next(); {
	case err == io.EOF: // it is empty
		return false, nil
	case err == nil && n.belongs(strings.TrimPrefix(h.Name, "./")):
		return true, nil
	}
	return false, fmt.Errorf("%w: %s is another file", ErrNotBackup, dest)
}

// tarWriter writes a generation as a tar file.
type tarWriter struct {
	names
	w    *tar.Writer
	temp string // a folder
}

func (w *tarWriter) dir() string    { return w.temp }
func (w *tarWriter) folder() string { return filepath.Join(w.temp, w.blobs) } // there are none

func (w *tarWriter) previous() *Manifest { return nil }

func (w *tarWriter) has(context.Context, string) (int64, bool, error) { return 0, false, nil }

// copyBlob reads a blob before it copies it: what has been written stays.
func (w *tarWriter) copyBlob(ctx context.Context, name, from string) (size int64, err error) {
	c, _ := blobfs.FileCID(name)
	blob, err := blobfs.CheckFile(ctx, from, c)
	if err != nil {
		return 0, &sourceError{err}
	}
	in, err := os.Open(from)
	if err != nil {
		return 0, &sourceError{err}
	}
	defer in.Close()
	return w.copy(path.Join(w.blobs, name), in, newChecked(in, blob))
}

// copy copies what a reader says of a file.
func (w *tarWriter) copy(name string, file *os.File, in io.Reader) (size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if err := w.header(name, info.Size(), info.ModTime()); err != nil {
		return 0, err
	}
	return io.CopyN(w.w, in, info.Size())
}

func (w *tarWriter) put(name string, data []byte) error {
	if err := w.header(name, int64(len(data)), time.Now()); err != nil {
		return err
	}
	_, err := w.w.Write(data)
	return err
}

func (w *tarWriter) header(name string, size int64, t time.Time) error {
	return w.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: t, Format: tar.FormatPAX})
}

func (w *tarWriter) finish(m *Manifest, _ []string) error {
	database, err := os.Open(filepath.Join(w.temp, w.database))
	if err != nil {
		return err
	}
	defer database.Close()
	if _, err := w.copy(w.database, database, database); err != nil {
		return err
	}
	manifest, err := m.encode()
	if err != nil {
		return err
	}
	return w.put(manifestName, manifest)
}
