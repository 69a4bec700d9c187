package durable_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
	"github.com/pdskit/pdskit/storage/memory"
)

var errFault = errors.New("fault")

// faulty is a directory whose calls fail before or after they take effect.
type faulty struct {
	durable.Directory
	before, after func(call string) error
}

func ask[T any](f faulty, call string, do func() (T, error)) (v T, err error) {
	if err := f.before(call); err != nil {
		return v, err
	}
	if v, err = do(); err == nil {
		err = f.after(call)
	}
	return v, err
}

func (f faulty) Entry(ctx context.Context, did syntax.DID) (head storage.Head, number uint64, err error) {
	_, err = ask(f, "Entry", func() (int, error) {
		head, number, err = f.Directory.Entry(ctx, did)
		return 0, err
	})
	return head, number, err
}

func (f faulty) Deliver(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return ask(f, "Deliver", func() (int64, error) { return f.Directory.Deliver(ctx, did, c) })
}

func (f faulty) Remove(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	return ask(f, "Remove", func() (int64, error) { return f.Directory.Remove(ctx, did, events) })
}

func (f faulty) Announce(ctx context.Context, did syntax.DID, at time.Time) error {
	_, err := ask(f, "Announce", func() (int, error) { return 0, f.Directory.Announce(ctx, did, at) })
	return err
}

// story makes changes of an account, deletes it and makes it again, and does again what has failed
// without effect. restart is called after each failure, and returns the store to go on with.
func story(t *testing.T, s storage.Store, restart func() storage.Store) storage.Store {
	t.Helper()
	ctx := t.Context()
	do := func(what string, call func() error, done func() bool) {
		t.Helper()
		for try := 0; ; try++ {
			err := call()
			if err == nil {
				return
			}
			if !errors.Is(err, errFault) || try > 10 {
				t.Fatalf("%s: %v", what, err)
			}
			s = restart()
			if done() {
				return
			}
		}
	}
	head := func() storage.Head {
		for {
			h, err := s.Repos.Head(ctx, changes.Alice)
			if errors.Is(err, errFault) {
				s = restart()
				continue
			}
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				t.Fatal(err)
			}
			return h
		}
	}
	grow := func(from, to int) {
		for n := from; n <= to; n++ {
			c := changes.Nth(changes.Alice, n, durable.SetAlarm(time.Now().Add(time.Duration(n)*time.Hour)))
			do(fmt.Sprint("change ", n), func() error {
				_, err := s.Repos.Apply(ctx, changes.Alice, c)
				return err
			}, func() bool { return head() == changes.Head(n) })
		}
	}
	grow(1, 3)
	do("delete", func() error {
		_, err := s.Repos.Delete(ctx, changes.Alice, []storage.Event{{DID: changes.Alice, Kind: "#account", Payload: []byte("gone")}})
		return err
	}, func() bool { return head() == storage.Head{} })
	grow(1, 2)
	return s
}

// told checks what is left of a story: records, keys and log agree.
func told(t *testing.T, s storage.Store) {
	t.Helper()
	changes.WantHead(t, s, changes.Alice, 2)
	want := []string{"gone", fmt.Sprint(changes.Alice, 1), fmt.Sprint(changes.Alice, 2)}
	if got := changes.Events(t, s, changes.Alice); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if err := s.Repos.View(t.Context(), changes.Alice, func(r storage.Reader) error {
		rec, err := r.Record(t.Context(), "com.example.note/a")
		if string(rec.Data) != "record 2" {
			t.Errorf("record %q", rec.Data)
		}
		at, err2 := durable.Alarm(t.Context(), r)
		if at.IsZero() {
			t.Error("the alarm is gone")
		}
		return errors.Join(err, err2)
	}); err != nil {
		t.Error(err)
	}
}

// nth returns a function that fails at its nth call, and whether it has.
func nth(n int) (fault func(string) error, reached func() bool) {
	calls := 0
	return func(string) error {
		if calls++; calls == n {
			return errFault
		}
		return nil
	}, func() bool { return calls >= n }
}

func never(string) error { return nil }

// TestDirectoryFaults lets each call of the directory fail, before and after it takes effect, with the
// process going on and with a new one.
func TestDirectoryFaults(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			calls := 0
			for n := 1; ; n++ {
				fault, reached := nth(n)
				shared, objects := memory.New(memory.Config{}), new(durable.Memory)
				d := faulty{durable.NewDirectory(shared), fault, never}
				if after {
					d.before, d.after = never, fault
				}
				var db *durable.DB
				open := func() storage.Store {
					for {
						var err error
						if db, err = durable.New(t.Context(), durable.Config{Directory: d, Shared: shared, Objects: objects}); err == nil {
							return db.Store()
						} else if !errors.Is(err, errFault) {
							t.Fatal(err)
						}
					}
				}
				s := story(t, open(), func() storage.Store {
					if killed {
						objects.Kill()
						return open()
					}
					return db.Store()
				})
				if !reached() {
					break
				}
				told(t, s)
				if t.Failed() {
					t.Fatalf("call %d of the directory failed, after=%v, killed=%v", n, after, killed)
				}
				calls = n
			}
			if calls < 10 {
				t.Errorf("only %d calls", calls)
			}
		}
	}
}

// TestSoloFaults lets each call of the object fail, once or from then on until the process is killed.
func TestSoloFaults(t *testing.T) {
	for _, killed := range []bool{false, true} {
		calls := 0
		for n := 1; ; n++ {
			objects := new(durable.Memory)
			s := soloIn(t, objects, durable.SoloConfig{})
			fault, reached := nth(n)
			objects.Fault = fault
			store := story(t, s.Store(), func() storage.Store {
				if killed {
					objects.Kill()
					objects.Fault = nil
					s = soloIn(t, objects, durable.SoloConfig{})
				}
				return s.Store()
			})
			done := !reached()
			objects.Fault = nil
			if done {
				break
			}
			told(t, store)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = soloIn(t, objects, durable.SoloConfig{})
			told(t, s.Store())
			if t.Failed() {
				t.Fatalf("call %d of the object failed, killed=%v", n, killed)
			}
			calls = n
		}
		if calls < 100 {
			t.Errorf("only %d calls", calls)
		}
	}
}

// TestSoloRandomFaults: any call of the object may fail at any time, and the process end: changes are
// whole, and the log has each once.
func TestSoloRandomFaults(t *testing.T) {
	ctx := t.Context()
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 6))
		objects := new(durable.Memory)
		s := soloIn(t, objects, durable.SoloConfig{})
		fault := func(string) error {
			if rng.IntN(60) == 0 {
				return errFault
			}
			return nil
		}
		steps, failed := map[syntax.DID]int{}, 0
		for range 400 {
			did := []syntax.DID{changes.Alice, changes.Bob}[rng.IntN(2)]
			n := steps[did] + 1
			objects.Fault = fault
			_, err := s.Store().Repos.Apply(ctx, did, changes.Nth(did, n, storage.KVWrite{Key: "n", Value: fmt.Append(nil, n)}))
			if err != nil && !errors.Is(err, errFault) {
				t.Fatalf("seed %d: change %d of %s: %v", seed, n, did, err)
			}
			objects.Fault = nil
			if rng.IntN(20) == 0 {
				objects.Kill()
				s = soloIn(t, objects, durable.SoloConfig{})
			}
			if err != nil {
				failed++
				if h, err := s.Store().Repos.Head(ctx, did); err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Fatal(err)
				} else if h != changes.Head(n) {
					continue
				}
			}
			steps[did] = n
		}
		if failed < 10 {
			t.Errorf("only %d changes failed", failed)
		}
		for did, n := range steps {
			changes.WantHead(t, s.Store(), did, n)
			changes.WantEvents(t, s.Store(), did, n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
