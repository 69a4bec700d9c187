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

// A renewal that did not get to its end leaves nothing that keeps others out.
func TestRemoteRenewalFails(t *testing.T) {
	for _, op := range []string{"delete", "put"} {
		synctest.Test(t, func(t *testing.T) {
			s, n := &store{}, 0
			s.fault = func(_ int, asked, name string) error {
				if asked != op || !strings.HasPrefix(name, "p/lock/") {
					return nil
				}
				if n++; op == "put" && n == 2 { // it is stored, but nobody hears of it
					_ = s.Memory.Put(t.Context(), name, strings.NewReader("\n"), 1)
				}
				if op == "put" && n == 2 || op == "delete" && n == 1 {
					return outage{}
				}
				return nil
			}
			b := backup.Backup{Layout: layout, Files: func(context.Context) (map[string][]byte, error) {
				time.Sleep(3 * time.Minute)
				return nil, nil
			}}
			if _, err := b.ToRemote(t.Context(), newMemory(t), backup.Remote{Bucket: s, Prefix: "p"}); err != nil {
				t.Error(err)
			}
			if names := s.names(t, "p/lock/"); n < 2 || len(names) > 0 {
				t.Errorf("%s: %d requests, and %q is left", op, n, names)
			}
		})
	}
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

// A backup whose lock another one took is no backup, and removes nothing: the clock of the other
// machine is ahead, or its directory is a copy of this one's.
func TestRemoteLockTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, copied := range map[string]bool{"clocks that differ": false, "a copied directory": true} {
			for _, whole := range []bool{false, true} {
				s, one, two := &store{}, newMemory(t), newMemory(t)
				to := backup.Remote{Bucket: s}
				b := backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 1}}}
				if _, err := b.ToRemote(t.Context(), one, to); err != nil {
					t.Fatal(err)
				}
				before := s.names(t, "generations/")
				first := b
				first.Files = func(ctx context.Context) (map[string][]byte, error) {
					if copied {
						holder, err := os.ReadFile(filepath.Join(one.Dir, "backup.lock"))
						if err == nil {
							err = os.WriteFile(filepath.Join(two.Dir, "backup.lock"), holder, 0o600)
						}
						if err != nil {
							t.Fatal(err)
						}
					} else if err := s.Memory.Delete(ctx, s.names(t, "lock/")...); err != nil { // it looked old
						t.Fatal(err)
					}
					second, taken := b, false
					time.Sleep(time.Second)
					second.Keep = backup.Keep{{Count: 2}}
					if !whole {
						s.setFault(func(_ int, op, name string) error {
							if op == "put" && strings.HasSuffix(name, "pds.sqlite") {
								taken = true
							}
							if taken { // from here on it does nothing: its lock stays
								return ended{}
							}
							return nil
						})
					}
					_, err := second.ToRemote(ctx, two, to)
					s.setFault(nil)
					if whole && err != nil {
						t.Errorf("%s: the other backup: %v", name, err)
					}
					time.Sleep(5 * time.Minute) // it may be renewed
					return nil, nil
				}
				if _, err := first.ToRemote(t.Context(), one, to); !errors.Is(err, backup.ErrBusy) {
					t.Errorf("%s, whole %v: %v", name, whole, err)
				}
				for _, name := range before {
					if len(s.names(t, name)) != 1 {
						t.Errorf("%s is gone", name)
					}
				}
				dest := filepath.Join(t.TempDir(), "restored")
				if _, err := (backup.Restore{Layout: layout}).FromRemote(t.Context(), to, dest); err != nil {
					t.Errorf("%s, whole %v: %v", name, whole, err)
				}
			}
		}
	})
}

// What another backup has stored while this one was under way is not removed, whatever the locks
// said.
func TestRemoteForeignGeneration(t *testing.T) {
	s := &store{}
	w := newMemory(t)
	b := backup.Backup{Layout: layout}
	to := backup.Remote{Bucket: s}
	if _, err := b.ToRemote(t.Context(), w, to); err != nil {
		t.Fatal(err)
	}
	before := s.names(t, "generations/")
	foreign := map[string]string{
		"generations/20260101T000000Z-aaaaaaaa/backup.json":                                  string(hostileManifest(nil, nil)),
		"blobs-plain/staged/" + strings.Repeat("ab", 32) + ".bafkreihdwdcefgh4dqkjv67uzcmw7": "x",
	}
	s.setFault(func(_ int, op, name string) error {
		if op != "put" || !strings.HasSuffix(name, "/backup.json") {
			return nil
		}
		for name, content := range foreign {
			if err := s.Memory.Put(t.Context(), name, strings.NewReader(content), -1); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := b.ToRemote(t.Context(), w, to); !errors.Is(err, backup.ErrBusy) {
		t.Error(err)
	}
	for name := range foreign {
		before = append(before, name)
	}
	for _, name := range before {
		if len(s.names(t, name)) != 1 {
			t.Errorf("%s is gone", name)
		}
	}
}
