package backup_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/memory"
)

// gobs is another engine: a store in memory, of which a copy has the keys of the host.
type gobs struct{ storage.Store }

func (g gobs) Backup(ctx context.Context, file string) error {
	pairs := map[string][]byte{}
	err := g.KV.Read(ctx, func(r storage.KVReader) error {
		for p, err := range r.Keys(ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			pairs[p.Key] = p.Value
		}
		return nil
	})
	var b bytes.Buffer
	return errors.Join(err, gob.NewEncoder(&b).Encode(pairs), os.WriteFile(file, b.Bytes(), 0o600))
}

func (gobs) read(file string) (pairs map[string][]byte, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&pairs); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return pairs, nil
}

func (g gobs) VerifyCopy(_ context.Context, file string) error {
	_, err := g.read(file)
	return err
}

func (g gobs) OpenCopy(ctx context.Context, file, _ string) (storage.Store, func() error, error) {
	pairs, err := g.read(file)
	s := memory.New(memory.Config{})
	if err == nil {
		err = s.KV.Write(ctx, func(tx storage.KVTx) error {
			for k, v := range pairs {
				if err := tx.Set(ctx, k, v, time.Time{}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s, func() error { return nil }, err
}

// broken is an engine whose copies are damaged.
type broken struct{ gobs }

func (b broken) Backup(ctx context.Context, file string) error {
	return os.WriteFile(file, []byte("damaged"), 0o600)
}

// Any engine that can copy its database has backups.
func TestAnotherEngine(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	g := gobs{memory.New(memory.Config{})}
	set := func(value string) {
		t.Helper()
		if err := g.KV.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "key", []byte(value), time.Time{}) }); err != nil {
			t.Fatal(err)
		}
	}
	dest := filepath.Join(root, "backup")
	src := backup.Source{Database: g, Store: g.Store, Blobs: filepath.Join(root, "blobs"), Dir: root}
	b := backup.Backup{Layout: backup.Layout{Database: "db.gob"}, Keep: backup.Keep{{Count: 2}}}
	b.Verify = func(ctx context.Context, copied storage.Store) error {
		return copied.KV.Read(ctx, func(r storage.KVReader) error {
			_, err := r.Get(ctx, "key")
			return err
		})
	}
	for _, value := range []string{"one", "two"} {
		set(value)
		if _, err := b.ToDir(ctx, src, dest); err != nil {
			t.Fatal(err)
		}
	}
	src.Database = broken{g}
	if _, err := b.ToDir(ctx, src, dest); !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "the copy is not good") {
		t.Errorf("a damaged copy: %v", err)
	}
	for n, dir := range append([]string{dest}, generationsOf(t, dest)...) {
		to := filepath.Join(root, fmt.Sprint("restored", n))
		if _, err := (backup.Restore{Layout: b.Layout}).From(ctx, dir, nil, to); err != nil {
			t.Fatal(err)
		}
		pairs, err := g.read(filepath.Join(to, "db.gob"))
		if want := []string{"two", "one", "two"}[n]; err != nil || string(pairs["key"]) != want {
			t.Errorf("%s: %q, %v, want %s", dir, pairs, err, want)
		}
	}
}

// Blobs that are in a bucket are not in the backup, which says where they are; that none is there is no
// loss.
func TestBlobsElsewhere(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	g := gobs{memory.New(memory.Config{})}
	src := backup.Source{Database: g, Store: g.Store, Elsewhere: "the bucket b", Dir: t.TempDir()}
	b := backup.Backup{Layout: backup.Layout{Database: "db.gob"}}
	dest, tar := filepath.Join(root, "backup"), filepath.Join(root, "backup.tar")
	for range 2 {
		m, err := b.ToDir(ctx, src, dest)
		if err != nil || m.BlobsElsewhere != "the bucket b" || m.Blobs+m.Missing+m.Lost != 0 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if _, _, err := b.ToTarFile(ctx, src, tar); err != nil {
		t.Fatal(err)
	}
	for i, from := range []string{dest, tar} {
		m, err := backup.Restore{Layout: b.Layout}.From(ctx, from, nil, filepath.Join(root, fmt.Sprint("restored", i)))
		if err != nil || m.BlobsElsewhere != "the bucket b" {
			t.Errorf("%s: %+v, %v", from, m, err)
		}
	}
}
