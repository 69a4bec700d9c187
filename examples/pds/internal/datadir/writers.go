package datadir

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// dirWriter writes a backup to a directory.
type dirWriter struct {
	root    string
	touched map[string]bool // directories with new entries
}

func (w *dirWriter) path(name string) string { return filepath.Join(w.root, filepath.FromSlash(name)) }

// begin leaves a mark, so that what an interruption leaves is known as a backup's.
func (w *dirWriter) begin() error {
	if _, err := os.Stat(w.path(manifestName)); err == nil {
		return nil
	}
	return writeSynced(w.path(manifestNext), nil)
}

func (w *dirWriter) has(name string, size int64) bool {
	info, err := os.Lstat(w.path(name))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

func (w *dirWriter) copy(name, from string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	to := w.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	part := filepath.Join(w.root, "next.blob")
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err == nil {
		err = os.Rename(part, to)
	}
	if err != nil {
		os.Remove(part)
		return err
	}
	if w.touched == nil {
		w.touched = make(map[string]bool)
	}
	w.touched[filepath.Dir(to)] = true
	return nil
}

func (w *dirWriter) put(name string, data []byte) error { return writeSynced(w.path(name), data) }

// finish: until the database has its name, the older backup is the one that counts;
// from then on, this one is, by its manifest's other name.
func (w *dirWriter) finish(database string, manifest []byte) error {
	for dir := range w.touched {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := syncFile(database); err != nil {
		return err
	}
	if err := writeSynced(w.path(manifestNext), manifest); err != nil {
		return err
	}
	if err := os.Rename(database, w.path(Database)); err != nil {
		return err
	}
	if err := syncDir(w.root); err != nil {
		return err
	}
	if err := os.Rename(w.path(manifestNext), w.path(manifestName)); err != nil {
		return err
	}
	return syncDir(w.root)
}

func (w *dirWriter) prune(keep map[string]bool) error {
	return filepath.WalkDir(w.path(Blobs), func(file string, e fs.DirEntry, err error) error {
		if isMissing(err) {
			return nil
		} else if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.root, file)
		if err != nil || keep[filepath.ToSlash(rel)] {
			return err
		}
		return os.Remove(file)
	})
}

// writeSynced writes a file so that a crash leaves the old one or the new one.
func writeSynced(file string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "next-*") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func syncFile(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes a directory's entries durable, where the system can do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	d.Sync()
	return d.Close()
}

// tarWriter writes a backup as a tar file.
type tarWriter struct{ w *tar.Writer }

func newTarWriter(out io.Writer) *tarWriter { return &tarWriter{tar.NewWriter(out)} }

func (w *tarWriter) begin() error           { return nil }
func (w *tarWriter) has(string, int64) bool { return false }

func (w *tarWriter) copy(name, from string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := w.header(name, info.Size(), info.ModTime()); err != nil {
		return err
	}
	_, err = io.CopyN(w.w, in, info.Size())
	return err
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

func (w *tarWriter) finish(database string, manifest []byte) error {
	info, err := os.Stat(database)
	if err != nil {
		return err
	}
	if err := w.copy(Database, database, info); err != nil {
		return err
	}
	return w.put(manifestName, manifest)
}

func (w *tarWriter) prune(map[string]bool) error { return nil }
func (w *tarWriter) close() error                { return w.w.Close() }
