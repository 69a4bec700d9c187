package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/filelock"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
	"github.com/pdskit/pdskit/xrpc/oauth/client/clienttest"
)

// store is all three.
type store interface {
	client.SessionStore
	client.StateStore
	client.Locker
}

func TestStores(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (one, other store){
		"Memory": func(t *testing.T) (one, other store) { m := &client.Memory{}; return m, m },
		"Stored": func(t *testing.T) (one, other store) {
			kv := memory.New(memory.Config{}).KV
			return &client.Stored{KV: kv}, &client.Stored{KV: kv}
		},
		"Stored in SQLite": func(t *testing.T) (one, other store) {
			testenv.NotOnJS(t, "SQLite has no files")
			db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), sqlite.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			kv := db.Store().KV
			return &client.Stored{KV: kv, Prefix: "a/"}, &client.Stored{KV: kv, Prefix: "a/"}
		},
		"Files": func(t *testing.T) (one, other store) {
			dir := filepath.Join(t.TempDir(), "sessions")
			f := &client.Files{Dir: dir}
			if !filelock.Works {
				return f, f
			}
			return f, &client.Files{Dir: dir}
		},
	} {
		t.Run(name, func(t *testing.T) {
			clienttest.Sessions(t, func(t *testing.T) (one, other client.SessionStore) { return open(t) })
			clienttest.States(t, func(t *testing.T) (one, other client.StateStore) { return open(t) })
			clienttest.Locks(t, func(t *testing.T) (one, other client.Locker) { return open(t) })
		})
	}
}

// A holder of a lease that has crashed keeps nobody out for longer than the ttl.
func TestLeaseEnds(t *testing.T) {
	kv := memory.New(memory.Config{}).KV
	one, other := &client.Stored{KV: kv}, &client.Stored{KV: kv}
	late, err := one.Lock(t.Context(), "a", 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := other.Lock(t.Context(), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	late() // it does not have the lock any more
	held, err := one.Lock(t.Context(), "b", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	held()
	ctx, cancel := contextFor(t, 50*time.Millisecond)
	defer cancel()
	if _, err := one.Lock(ctx, "a", time.Minute); err == nil {
		t.Error("two have the lease")
	}
	unlock()
}

// Logins that nobody finishes do not fill the memory.
func TestMemoryBound(t *testing.T) {
	m := &client.Memory{MaxLogins: 10}
	for i := range 100 {
		if err := m.Put(t.Context(), string(rune('a'+i)), []byte("x"), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			m.Take(t.Context(), string(rune('a'+i)))
		}
	}
	n := 0
	for i := range 100 {
		if _, err := m.Take(t.Context(), string(rune('a'+i))); err == nil {
			n++
		}
	}
	if n == 0 || n > 10 {
		t.Errorf("%d logins are kept", n)
	}
}

// A file that is locked may be one that its holder has just removed: that lock is worth nothing.
func TestFilesLock(t *testing.T) {
	if !filelock.Works {
		t.Skip("no locks here")
	}
	dir := t.TempDir()
	var inside atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		f := &client.Files{Dir: dir}
		wg.Go(func() {
			for range 400 {
				unlock, err := f.Lock(t.Context(), "a", time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				runtime.Gosched()
				inside.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// Who waits for a lock of this process, or of another one, waits no longer than the context.
func TestFilesLockIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	f := &client.Files{Dir: dir}
	unlock, err := f.Lock(t.Context(), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waiting := []*client.Files{f}
	if filelock.Works {
		waiting = append(waiting, &client.Files{Dir: dir})
	}
	for _, f := range waiting {
		if again, err := f.Lock(ctx, "a", time.Minute); again != nil || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	unlock()
	for _, f := range waiting {
		unlock, err := f.Lock(t.Context(), "a", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
}
