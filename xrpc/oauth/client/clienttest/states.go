package clienttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// States tests a StateStore. The store must use the system's clock.
func States(t *testing.T, open func(t *testing.T) (one, other client.StateStore)) {
	run := func(name string, fn func(t *testing.T, one, other client.StateStore)) {
		t.Run(name, func(t *testing.T) {
			one, other := open(t)
			fn(t, one, other)
		})
	}
	missing := func(t *testing.T, s client.StateStore, key string) {
		t.Helper()
		if v, err := s.Take(t.Context(), key); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("Take(%s): %.20q, %v; want ErrNotFound", key, v, err)
		}
	}
	run("Once", func(t *testing.T, one, other client.StateStore) {
		ctx, later := t.Context(), time.Now().Add(time.Hour)
		missing(t, one, "a")
		value := bytes.Repeat([]byte{0, 1, 0xff, '\''}, 8<<10)
		for _, key := range []string{"a", "A", "a%"} {
			if err := one.Put(ctx, key, append(bytes.Clone(value), key...), later); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range []string{"a", "A", "a%"} {
			if v, err := other.Take(ctx, key); err != nil || !bytes.Equal(v, append(bytes.Clone(value), key...)) {
				t.Errorf("Take(%s): %d bytes, %v", key, len(v), err)
			}
			missing(t, other, key)
			missing(t, one, key)
		}
	})
	run("Expired", func(t *testing.T, one, other client.StateStore) {
		ctx := t.Context()
		for i := range 3 {
			if err := one.Put(ctx, fmt.Sprint("late", i), []byte("x"), time.Now().Add(-time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		if err := one.Put(ctx, "soon", []byte("x"), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		missing(t, other, "late0")
		if err := one.Put(ctx, "last", []byte("x"), time.Now().Add(-time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		missing(t, one, "last")
		missing(t, one, "late2")
		if v, err := other.Take(ctx, "soon"); string(v) != "x" || err != nil {
			t.Errorf("Take: %q, %v", v, err)
		}
	})
	run("Race", func(t *testing.T, one, other client.StateStore) {
		for i := range 10 {
			key := fmt.Sprint("key", i)
			if err := one.Put(t.Context(), key, []byte("x"), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			var got atomic.Int64
			for j := range 6 {
				s := []client.StateStore{one, other}[j%2]
				wg.Go(func() {
					switch _, err := s.Take(t.Context(), key); {
					case err == nil:
						got.Add(1)
					case !errors.Is(err, client.ErrNotFound):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if got.Load() != 1 {
				t.Fatalf("%d have taken one value", got.Load())
			}
		}
	})
}

// Locks tests a Locker.
func Locks(t *testing.T, open func(t *testing.T) (one, other client.Locker)) {
	const ttl = time.Minute
	lock := func(t *testing.T, l client.Locker, name string) func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		unlock, err := l.Lock(ctx, name, ttl)
		if err != nil {
			t.Fatalf("Lock(%.20q): %v", name, err)
		}
		return unlock
	}
	held := func(t *testing.T, l client.Locker, name string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if unlock, err := l.Lock(ctx, name, ttl); err == nil {
			unlock()
			t.Errorf("Lock(%.20q): two have it", name)
		}
	}
	run := func(name string, fn func(t *testing.T, one, other client.Locker)) {
		t.Run(name, func(t *testing.T) {
			one, other := open(t)
			fn(t, one, other)
		})
	}
	run("Exclusive", func(t *testing.T, one, other client.Locker) {
		unlock := lock(t, one, "a")
		held(t, one, "a")
		held(t, other, "a")
		free := lock(t, other, "A") // another name
		free()
		unlock()
		second := lock(t, other, "a")
		unlock() // once more: it is not his any longer
		held(t, one, "a")
		second()
		lock(t, one, "a")()
	})
	run("Names", func(t *testing.T, one, other client.Locker) {
		long := "session did:web:" + strings.Repeat("x", 2900)
		names := []string{long + "1", long + "2", "session did:web:example.com%3A80/ABC", "../../x", "a_c", "abc", "'"}
		var unlock []func()
		for _, n := range names {
			unlock = append(unlock, lock(t, one, n))
		}
		for i, n := range names {
			held(t, other, n)
			unlock[i]()
		}
	})
	run("Holder's context", func(t *testing.T, one, other client.Locker) {
		ctx, cancel := context.WithCancel(t.Context())
		unlock, err := one.Lock(ctx, "a", ttl)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		held(t, other, "a")
		unlock()
		lock(t, other, "a")()
	})
	run("Race", func(t *testing.T, one, other client.Locker) {
		var wg sync.WaitGroup
		var inside, times atomic.Int64
		for i := range 6 {
			l := []client.Locker{one, other}[i%2]
			wg.Go(func() {
				for range 5 {
					unlock, err := l.Lock(t.Context(), "a", ttl)
					if err != nil {
						t.Error(err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d have the lock", n)
					}
					time.Sleep(100 * time.Microsecond)
					inside.Add(-1)
					times.Add(1)
					unlock()
				}
			})
		}
		wg.Wait()
		if times.Load() != 30 {
			t.Errorf("%d times", times.Load())
		}
	})
}
