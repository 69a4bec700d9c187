package lease_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/lease"
	"github.com/pdskit/pdskit/storage/memory"
)

const term = 10 * time.Second

// link is a process's way to the store: it can be slow, and be cut.
type link struct {
	storage.KV
	mu   sync.Mutex
	slow time.Duration // at most, before and after each call
	cut  bool
}

var errCut = errors.New("the store cannot be reached")

func (l *link) wait(ctx context.Context) error {
	l.mu.Lock()
	slow, cut := l.slow, l.cut
	l.mu.Unlock()
	if slow > 0 {
		if err := sleep.For(ctx, rand.N(slow)); err != nil {
			return err
		}
	}
	if cut {
		return errCut
	}
	return ctx.Err()
}

func (l *link) set(slow time.Duration, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow, l.cut = slow, cut
}

func (l *link) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	return errors.Join(l.KV.Read(ctx, fn), l.wait(ctx))
}

// Write may have taken effect when it returns an error.
func (l *link) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if err := l.wait(ctx); err != nil {
		return err
	}
	if err := l.KV.Write(ctx, fn); err != nil {
		return err
	}
	return l.wait(ctx)
}

func newLease(t *testing.T, kv storage.KV, holder string) *lease.Lease {
	t.Helper()
	l, err := lease.New(lease.Config{KV: kv, Name: "work", Holder: holder, Term: term})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// belief is a time for which a process has held the lease.
type belief struct {
	token      int64
	begin, end time.Time
}

// Five processes with a store that is slow, and now and then out of reach for each of them: no two
// of them hold the lease at a time, and tokens rise.
func TestTwoNeverBelieve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		kv := memory.New(memory.Config{}).KV
		var mu sync.Mutex
		var all []belief
		var done sync.WaitGroup
		for i := range 5 {
			path := &link{KV: kv, slow: time.Second}
			l := newLease(t, path, fmt.Sprint("node", i))
			done.Go(func() {
				for ctx.Err() == nil {
					err := l.Run(ctx, func(ctx context.Context, h *lease.Held) error {
						b := belief{token: h.Token(), begin: time.Now()}
						select {
						case <-ctx.Done():
						case <-time.After(rand.N(5 * time.Minute)): // drained
						}
						b.end = time.Now()
						mu.Lock()
						all = append(all, b)
						mu.Unlock()
						return nil
					})
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
			done.Go(func() {
				for ctx.Err() == nil {
					path.set([]time.Duration{0, time.Second, 4 * term}[rand.N(3)], rand.N(3) == 0)
					time.Sleep(rand.N(6 * term))
				}
			})
		}
		done.Wait()
		slices.SortFunc(all, func(a, b belief) int { return a.begin.Compare(b.begin) })
		for i := range all[1:] {
			if a, b := all[i], all[i+1]; a.token >= b.token || a.end.After(b.begin) {
				t.Errorf("token %d until %s, token %d from %s", a.token, a.end, b.token, b.begin)
			}
		}
		if len(all) < 20 {
			t.Errorf("the lease was held %d times only", len(all))
		}
	})
}

// A process that dies, or is cut off, is replaced after a term and a bit; its own belief ends
// before.
func TestHolderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := memory.New(memory.Config{}).KV
		path := &link{KV: kv}
		begun, ended, next := make(chan time.Time, 1), make(chan time.Time, 1), make(chan time.Time, 1)
		go newLease(t, path, "one").Run(t.Context(), func(ctx context.Context, h *lease.Held) error {
			begun <- time.Now()
			<-ctx.Done()
			if h.Token() > 1 { // the test ends
				return nil
			}
			if h.Valid() || !errors.Is(context.Cause(ctx), lease.ErrLost) {
				t.Error("the end is not a loss", context.Cause(ctx))
			}
			ended <- time.Now()
			return ctx.Err()
		})
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		two := newLease(t, kv, "two")
		over := make(chan error)
		go func() {
			over <- two.Run(ctx, func(ctx context.Context, h *lease.Held) error {
				next <- time.Now()
				<-ctx.Done()
				return nil
			})
		}()
		time.Sleep(5 * term) // it is renewed
		select {
		case <-next:
			t.Fatal("the lease was taken from a process that holds it")
		default:
		}
		path.set(0, true)
		cut := time.Now()
		a, b := (<-ended).Sub(cut), (<-next).Sub(cut)
		if a > term || b < a || b > 2*term {
			t.Errorf("the holder ended after %s, the next one began after %s", a, b)
		}
		if who, token, err := two.Holder(ctx); err != nil || who != "two" || token != 2 {
			t.Error(who, token, err)
		}
		// A lease that is given back is free at once.
		path.set(0, false)
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
		given := time.Now()
		if now := <-begun; now.Sub(given) > term/2 {
			t.Errorf("the next one began after %s", now.Sub(given))
		}
	})
}

// A process that sleeps through its lease wakes up in the middle of a change: what it writes then
// fails, and does not disturb the one that has the lease now.
func TestLateWriteIsFencedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := memory.New(memory.Config{}).KV
		path := &link{KV: kv}
		held, woken := make(chan *lease.Held, 1), make(chan struct{})
		go newLease(t, path, "one").Run(t.Context(), func(_ context.Context, h *lease.Held) error {
			select {
			case held <- h:
				<-woken // it is paused, and sees nothing of its context
			default:
			}
			return nil
		})
		one := <-held
		write := func(h *lease.Held, value string) error {
			return kv.Write(t.Context(), func(tx storage.KVTx) error {
				if err := h.Check(t.Context(), tx); err != nil {
					return err
				}
				return tx.Set(t.Context(), "what", []byte(value), time.Time{})
			})
		}
		if err := write(one, "one"); err != nil {
			t.Fatal(err)
		}
		path.set(0, true)
		after := make(chan *lease.Held)
		go newLease(t, kv, "two").Run(t.Context(), func(ctx context.Context, h *lease.Held) error {
			after <- h
			<-ctx.Done()
			return nil
		})
		two := <-after
		if err := write(two, "two"); err != nil || one.Valid() || !two.Valid() {
			t.Error(err, one.Valid(), two.Valid())
		}
		if err := write(one, "late"); !errors.Is(err, lease.ErrLost) {
			t.Errorf("a late write: %v", err)
		}
		path.set(0, false)
		close(woken)
		time.Sleep(3 * term) // it gives back what is no longer its own
		if err := write(two, "two"); err != nil {
			t.Error(err)
		}
	})
}

// A function that fails gives the lease back, and ends Run.
func TestFunctionFails(t *testing.T) {
	kv, broken := memory.New(memory.Config{}).KV, errors.New("broken")
	l := newLease(t, kv, "one")
	for want := range int64(3) {
		if err := l.Run(t.Context(), func(_ context.Context, h *lease.Held) error {
			if h.Token() != want+1 {
				t.Errorf("token %d, want %d", h.Token(), want+1)
			}
			return broken
		}); err != broken {
			t.Error(err)
		}
	}
	if who, token, err := l.Holder(t.Context()); who != "" || token != 3 || err != nil {
		t.Error(who, token, err)
	}
}

func TestConfig(t *testing.T) {
	kv := memory.New(memory.Config{}).KV
	for _, cfg := range []lease.Config{
		{Name: "a", Holder: "b"}, {KV: kv, Holder: "b"}, {KV: kv, Name: "a"}, {KV: kv, Name: "a/b", Holder: "b"},
		{KV: kv, Name: "a", Holder: "b", Term: time.Millisecond}, {KV: kv, Name: "a", Holder: "b", Term: 2 * time.Hour},
	} {
		if _, err := lease.New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// A row that is none of ours stops the lease, and nothing else: it is an error, and is not replaced.
func TestRowOfAnotherVersion(t *testing.T) {
	ctx, kv := t.Context(), memory.New(memory.Config{}).KV
	for _, text := range []string{`{"version":2,"token":4}`, `{`, `{"version":1,"token":-1}`, `{"version":1,"term":99999999999}`} {
		if err := kv.Write(ctx, func(tx storage.KVTx) error { return tx.Set(ctx, "lease/work", []byte(text), time.Time{}) }); err != nil {
			t.Fatal(err)
		}
		if _, _, err := newLease(t, kv, "one").Holder(ctx); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
