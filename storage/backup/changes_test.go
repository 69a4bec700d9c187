package backup_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
)

// changing calls fn before the header of a blob is written to a tar file, with its name.
type changing struct{ fn func(name string) }

func (c changing) Write(p []byte) (int, error) {
	if _, name, ok := strings.Cut(string(p), "path="+nameBlobs+"/"); ok {
		name, _, _ = strings.Cut(name, "\n")
		c.fn(name)
	}
	return len(p), nil
}

// The file of a blob that is damaged while it is sent, after it was found good, makes the backup fail:
// it would count, and could not be restored. One that is deleted then is in the backup.
func TestBlobThatChangesWhileItIsCopied(t *testing.T) {
	encrypt, decrypt := encryption(t)
	for name, change := range map[string]func(file string) error{
		"deleted": os.Remove,
		"cut off": func(file string) error { return os.Truncate(file, 10) },
		"emptied": func(file string) error { return os.Truncate(file, 0) },
		"other bytes": func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("other"), 3)
			return errors.Join(err, f.Close())
		},
	} {
		for kind, e := range map[string]*backup.Encryption{"tar": nil, "plain": nil, "encrypted": encrypt} {
			w := open(t, filepath.Join(t.TempDir(), "data"), options{})
			w.seed(t, 0, 1, seed.Seed{Blobs: 2})
			s, changed := &store{}, 0
			var mu sync.Mutex // blobs are encrypted at once
			now := func(blob string) {
				mu.Lock()
				defer mu.Unlock()
				if changed++; changed == 1 {
					if err := change(filepath.Join(w.Blobs, filepath.FromSlash(blob))); err != nil {
						t.Error(err)
					}
				}
			}
			s.setFault(func(_ int, op, object string) error {
				if _, blob, ok := strings.Cut(object, "/blobs/"); ok && op == "put" && kind == "plain" {
					now("blobs/" + blob)
				}
				return nil
			})
			if e != nil {
				e = &backup.Encryption{ID: e.ID, Writer: func(out io.Writer) (io.WriteCloser, error) {
					files := blobFiles(t, w.Blobs)
					for _, file := range files {
						rel, _ := filepath.Rel(w.Blobs, file)
						now(filepath.ToSlash(rel))
					}
					return encrypt.Writer(out)
				}}
			}
			var err error
			if kind == "tar" {
				_, err = backup.Backup{Layout: layout}.ToTar(t.Context(), w.Source, changing{now})
			} else {
				_, err = w.remote(t, backup.Backup{Encryption: e}, s)
			}
			if changed == 0 || (name == "deleted") != (err == nil) || err != nil && !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("%s, %s: %v (%d blobs)", name, kind, err, changed)
			}
			if kind == "tar" {
				continue
			}
			s.setFault(nil)
			m, err := w.remote(t, backup.Backup{Encryption: e}, s) // the next one says so
			if err != nil || name != "deleted" && m.Lost != 1 {
				t.Errorf("%s, %s: the next backup: %+v, %v", name, kind, m, err)
			}
			var in func(io.Reader) (io.Reader, error)
			if e != nil {
				in = decrypt
			}
			if _, err := fromRemote(t, backup.Restore{Decrypt: in}, s, ""); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
		}
	}
}
