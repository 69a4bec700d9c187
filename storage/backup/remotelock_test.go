package backup_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/memory"
)

// newMemory is a server without blobs, on another engine, in a directory of its own.
func newMemory(t testing.TB) backup.Source {
	t.Helper()
	dir := t.TempDir()
	g := gobs{memory.New(memory.Config{})}
	err := g.KV.Write(t.Context(), func(tx storage.KVTx) error {
		return tx.Set(t.Context(), "key", bytes.Repeat([]byte("value"), 1000), time.Time{})
	})
	if err != nil {
		t.Fatal(err)
	}
	return backup.Source{Database: g, Store: g.Store, Blobs: filepath.Join(dir, "blobs"), Dir: dir}
}

// Two backups at once: the second one is refused, wherever it runs.
func TestRemoteBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		to := backup.Remote{Bucket: s, Prefix: "p"}
		one, two := newMemory(t), newMemory(t)
		during := 0
		b := backup.Backup{Layout: layout, Files: func(ctx context.Context) (map[string][]byte, error) {
			during++
			for name, src := range map[string]backup.Source{"the same directory": one, "another": two} {
				if _, err := (backup.Backup{Layout: layout}).ToRemote(ctx, src, to); !errors.Is(err, backup.ErrBusy) {
					t.Errorf("from %s: %v", name, err)
				}
				time.Sleep(30 * time.Minute) // it is renewed
			}
			return nil, nil
		}}
		if _, err := b.ToRemote(t.Context(), one, to); err != nil || during != 1 {
			t.Fatal(err, during)
		}
		if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), two, to); err != nil {
			t.Fatal(err)
		}

		// One that was killed keeps others out for ten minutes, but not its own successor.
		s.fault = func(_ int, op, name string) error {
			if strings.HasSuffix(name, "pds.sqlite") || op == "delete" {
				return ended{}
			}
			return nil
		}
		if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), one, to); !errors.Is(err, ended{}) {
			t.Fatal(err)
		}
		s.fault = nil
		if len(s.names(t, "p/lock/")) != 1 {
			t.Fatal("no lock is left")
		}
		if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), two, to); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(11 * time.Minute)
		if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), two, to); err != nil {
			t.Errorf("later: %v", err)
		}
		if _, err := (backup.Backup{Layout: layout}).ToRemote(t.Context(), one, to); err != nil {
			t.Errorf("its successor: %v", err)
		}
	})
}

// A process that could not renew its lock, as one that was suspended, removes nothing.
func TestRemoteSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, src := &store{}, newMemory(t)
		to := backup.Remote{Bucket: s}
		b := backup.Backup{Layout: layout}
		for range 2 {
			if _, err := b.ToRemote(t.Context(), src, to); err != nil {
				t.Fatal(err)
			}
		}
		before := s.names(t, "generations/")
		b.Files = func(context.Context) (map[string][]byte, error) {
			s.setFault(func(_ int, op, name string) error {
				if strings.HasPrefix(name, "lock/") {
					return outage{}
				}
				return nil
			})
			time.Sleep(time.Hour)
			return nil, nil
		}
		if _, err := b.ToRemote(t.Context(), src, to); !errors.Is(err, backup.ErrBusy) {
			t.Error(err)
		}
		for _, name := range before {
			if got := s.names(t, name); len(got) != 1 {
				t.Errorf("%s is gone", name)
			}
		}
		if left, err := os.ReadDir(src.Dir); err != nil || len(left) != 1 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}
