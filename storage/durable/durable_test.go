package durable

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var (
	ctx      = context.Background()
	errFault = errors.New("fault")
)

const alice, bob = changes.Alice, changes.Bob

func newDB(t testing.TB, cfg Config) *DB {
	t.Helper()
	if cfg.Shared.Repos == nil {
		cfg.Shared = memory.New(memory.Config{})
	}
	if cfg.Objects == nil {
		cfg.Objects = new(Memory)
	}
	db, err := New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

var (
	head       = changes.Head
	change     = changes.Nth
	events     = changes.Events
	wantEvents = changes.WantEvents
)

func apply(t testing.TB, db *DB, did syntax.DID, n int, kv ...storage.KVWrite) {
	t.Helper()
	changes.Apply(t, db.Store(), did, n, kv...)
}

func wantHead(t testing.TB, db *DB, did syntax.DID, n int) {
	t.Helper()
	changes.WantHead(t, db.Store(), did, n)
}

// Idle objects are closed, those used last are kept.
func TestHibernation(t *testing.T) {
	objects := new(Memory)
	db := newDB(t, Config{Objects: objects, MaxOpen: 3})
	for i := range 10 {
		apply(t, db, syntax.DID(fmt.Sprint("did:web:", i)), 1)
	}
	if st := db.Stats(); st.Open != 3 || st.Opened != 10 || st.Hibernated != 7 {
		t.Errorf("stats %+v", st)
	}
	for _, i := range []int{7, 8, 9} {
		wantHead(t, db, syntax.DID(fmt.Sprint("did:web:", i)), 1)
	}
	if st := db.Stats(); st.Opened != 10 {
		t.Errorf("objects that were used last were closed: %+v", st)
	}
	wantHead(t, db, "did:web:0", 1)
	if objects.open["did:web:7"] || !objects.open["did:web:8"] {
		t.Error("it was not the least recently used that was closed")
	}
	// Those in use stay open, even if they are more.
	var nest func(i int) error
	nest = func(i int) error {
		if i == 6 {
			if n := db.Stats().Open; n != 6 {
				t.Errorf("%d objects are open", n)
			}
			return nil
		}
		return db.Store().Repos.View(ctx, syntax.DID(fmt.Sprint("did:web:", i)), func(storage.Reader) error { return nest(i + 1) })
	}
	if err := nest(0); err != nil {
		t.Fatal(err)
	}
	if n := db.Stats().Open; n != 3 {
		t.Errorf("%d objects are open", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if len(objects.open) != 0 {
		t.Errorf("open after Close: %v", objects.open)
	}
	if _, err := db.Store().Repos.Head(ctx, "did:web:1"); !errors.Is(err, ErrClosed) {
		t.Errorf("Head after Close: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Objects that hold nothing are removed.
func TestEmptyObjectsAreRemoved(t *testing.T) {
	objects := new(Memory)
	db := newDB(t, Config{Objects: objects})
	s := db.Store()
	bad := change(alice, 1)
	bad.Checks = []storage.KVCheck{{Key: "a", Value: []byte("1")}}
	if _, err := s.Repos.Apply(ctx, alice, bad); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := s.Repos.Apply(ctx, alice, change(alice, 2)); !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	if len(objects.data) != 0 {
		t.Errorf("objects are left of steps that failed: %v", len(objects.data))
	}
	apply(t, db, alice, 1)
	if _, err := s.Repos.Delete(ctx, alice, nil); err != nil {
		t.Fatal(err)
	}
	if len(objects.data)+len(objects.open) != 0 {
		t.Errorf("an object is left of a deleted repository")
	}
	apply(t, db, alice, 1)
	wantEvents(t, s, alice, 1)
}

// Between the transaction in the object and the one in the shared store, nobody
// sees the step.
func TestOutputGate(t *testing.T) {
	reached, goOn := make(chan struct{}), make(chan struct{})
	shared := memory.New(memory.Config{})
	var once sync.Once
	db := newDB(t, Config{Shared: storagetest.Faults{Before: func(method string) error {
		if method == "Repos.Apply" {
			once.Do(func() {
				close(reached)
				<-goOn
			})
		}
		return nil
	}}.Wrap(shared)})
	s := db.Store()
	done := make(chan error, 1)
	go func() {
		_, err := s.Repos.Apply(ctx, alice, change(alice, 1))
		done <- err
	}()
	<-reached
	if n := len(events(t, s, alice)); n != 0 {
		t.Errorf("%d events are visible", n)
	}
	seen := make(chan error, 2)
	go func() {
		_, err := s.Repos.Head(ctx, alice)
		seen <- err
	}()
	go func() {
		seen <- s.Repos.View(ctx, alice, func(r storage.Reader) error {
			if n := len(events(t, s, alice)); n != 1 {
				return fmt.Errorf("the view began when %d events were visible", n)
			}
			return nil
		})
	}()
	select {
	case err := <-seen:
		t.Errorf("the gate is open: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	waiting, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Repos.Head(waiting, alice); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled caller waits at the gate: %v", err)
	}
	close(goOn)
	for range 2 {
		if err := <-seen; err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// If the shared store fails before or after it has taken the events, they are
// in the log once when the object is used again, and it is not used before.
func TestDeliveredOnce(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("after=%v,restart=%v", after, restart), func(t *testing.T) {
				broken := false
				fault := func(method string) error {
					if broken && (method == "Repos.Apply" || method == "Repos.Delete") {
						return errFault
					}
					return nil
				}
				f := storagetest.Faults{Before: fault}
				if after {
					f = storagetest.Faults{After: fault}
				}
				cfg := Config{Shared: f.Wrap(memory.New(memory.Config{})), Objects: new(Memory)}
				db := newDB(t, cfg)
				again := func() {
					t.Helper()
					broken = false
					if restart {
						cfg.Objects.(*Memory).Kill()
						db = newDB(t, cfg)
						if !after && db.Stats().Recovered != 1 {
							t.Errorf("recovered %d steps", db.Stats().Recovered)
						}
					}
				}
				apply(t, db, alice, 1)
				for n := 2; n < 5; n++ {
					broken = true
					if _, err := db.Store().Repos.Apply(ctx, alice, change(alice, n)); !errors.Is(err, errFault) {
						t.Fatalf("Apply: %v", err)
					}
					if !after {
						if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, errFault) {
							t.Errorf("Head while the step is not complete: %v", err)
						}
					}
					again()
					wantHead(t, db, alice, n)
					wantEvents(t, db.Store(), alice, n)
				}
				broken = true
				gone := storage.Event{DID: alice, Kind: "#account", Payload: []byte("gone")}
				if _, err := db.Store().Repos.Delete(ctx, alice, []storage.Event{gone}); !errors.Is(err, errFault) {
					t.Fatalf("Delete: %v", err)
				}
				again()
				if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("Head after Delete: %v", err)
				}
				if got := events(t, db.Store(), alice); !slices.Equal(got, []string{"gone"}) {
					t.Errorf("events after Delete: %q", got)
				}
				broken = true
				if _, err := db.Store().Repos.Apply(ctx, alice, change(alice, 1)); !errors.Is(err, errFault) {
					t.Fatalf("Apply: %v", err)
				}
				again()
				wantHead(t, db, alice, 1)
				if got := events(t, db.Store(), alice); !slices.Equal(got, []string{"gone", fmt.Sprint(alice, 1)}) {
					t.Errorf("events of the new repository: %q", got)
				}
				if marks := cfg.Objects.(*Memory).Marked(); len(marks) != 0 {
					t.Errorf("marks are left: %v", marks)
				}
			})
		}
	}
}

// Any call of object or shared store may fail, and the process may end at any
// time: steps are whole, and the log has each once.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 5))
		fault := func(string) error {
			if rng.IntN(30) == 0 {
				return errFault
			}
			return nil
		}
		objects, shared := new(Memory), memory.New(memory.Config{})
		faulty := Config{Shared: storagetest.Faults{Before: fault, After: fault}.Wrap(shared), Objects: objects, MaxOpen: 1}
		open := func(cfg Config) *DB {
			for {
				db, err := New(ctx, cfg)
				if err == nil {
					return db
				}
				if !errors.Is(err, errFault) {
					t.Fatal(err)
				}
			}
		}
		objects.Fault = fault
		db := open(faulty)
		steps := map[syntax.DID]int{}
		failed := 0
		for range 600 {
			did := []syntax.DID{alice, bob}[rng.IntN(2)]
			n := steps[did] + 1
			_, err := db.Store().Repos.Apply(ctx, did, change(did, n, storage.KVWrite{Key: "n", Value: fmt.Append(nil, n)}))
			if err != nil && !errors.Is(err, errFault) {
				t.Fatalf("seed %d: step %d of %s: %v", seed, n, did, err)
			}
			if rng.IntN(20) == 0 { // the process ends
				objects.Kill()
				db = open(faulty)
			}
			if err == nil {
				steps[did] = n
				continue
			}
			failed++
			// See what became of it.
			for {
				h, err := db.Store().Repos.Head(ctx, did)
				if err == nil && h == head(n) {
					steps[did] = n
				}
				if err == nil || errors.Is(err, storage.ErrNotFound) {
					break
				}
			}
		}
		if failed < 20 {
			t.Errorf("only %d steps failed", failed)
		}
		objects.Fault = nil
		objects.Kill()
		db = newDB(t, Config{Shared: shared, Objects: objects})
		for did, n := range steps {
			wantHead(t, db, did, n)
			wantEvents(t, db.Store(), did, n)
			if err := db.Store().Repos.View(ctx, did, func(r storage.Reader) error {
				v, err := r.Get(ctx, "n")
				rec, err2 := r.Record(ctx, "com.example.note/a")
				if string(v) != fmt.Sprint(n) || string(rec.Data) != fmt.Sprint("record ", n) {
					t.Errorf("seed %d: after step %d: key %q, record %q", seed, n, v, rec.Data)
				}
				return errors.Join(err, err2)
			}); err != nil {
				t.Error(err)
			}
		}
	}
}

// An object that was restored from an old copy must not go on from there.
func TestObjectOlderThanLog(t *testing.T) {
	objects := new(Memory)
	cfg := Config{Objects: objects, Shared: memory.New(memory.Config{})}
	db := newDB(t, cfg)
	apply(t, db, alice, 1)
	old := objects.data[alice]
	apply(t, db, alice, 2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	objects.data[alice] = old
	db = newDB(t, cfg)
	if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Head: %v", err)
	}
	if _, err := db.Store().Repos.Apply(ctx, alice, change(alice, 2)); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Apply: %v", err)
	}
	// So must not the object of another account.
	objects.data[bob] = old
	if _, err := db.Store().Repos.Head(ctx, bob); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Head of another's object: %v", err)
	}
}

// A broken object that was in the middle of a step does not keep the others from
// being used.
func TestBrokenObjectThatWasMarked(t *testing.T) {
	objects := new(Memory)
	cfg := Config{Objects: objects, Shared: memory.New(memory.Config{})}
	db := newDB(t, cfg)
	apply(t, db, alice, 1)
	apply(t, db, bob, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	objects.data[alice] = objects.data[alice].Set(keyState, []byte("broken"))
	if err := errors.Join(objects.Mark(alice), objects.Mark("did:web:gone")); err != nil {
		t.Fatal(err)
	}
	db = newDB(t, cfg)
	wantHead(t, db, bob, 1)
	if _, err := db.Store().Repos.Head(ctx, alice); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("Head of the broken one: %v", err)
	}
}

// A function of the caller that panics leaves the object as it was, and usable.
func TestPanics(t *testing.T) {
	db := newDB(t, Config{})
	apply(t, db, alice, 1)
	s := db.Store()
	for name, call := range map[string]func(){
		"View": func() { _ = s.Repos.View(ctx, alice, func(storage.Reader) error { panic("view") }) },
		"stream": func() {
			_, _ = s.Repos.Replace(ctx, alice, func(yield func(storage.RecordChange, error) bool) {
				yield(storage.RecordChange{Path: "com.example.note/b", CID: head(1).Data, Data: []byte("x")}, nil)
				panic("stream")
			}, nil)
		},
		"final": func() {
			_, _ = s.Repos.Replace(ctx, alice, func(func(storage.RecordChange, error) bool) {}, func() (*storage.Change, error) { panic("final") })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic is lost", name)
				}
			}()
			call()
		}()
		wantHead(t, db, alice, 1)
	}
	apply(t, db, alice, 2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// Views stay as they are while steps go on; each sees the state of its beginning.
func TestManyViews(t *testing.T) {
	const paths = 40
	deepest := 5
	if testing.Short() {
		deepest = 4
	}
	db := newDB(t, Config{})
	s := db.Store()
	rng := rand.New(rand.NewPCG(9, 9))
	now := map[string]string{}
	step := 0
	next := func() {
		t.Helper()
		step++
		c := change(alice, step)
		c.Records = nil
		for i := range paths {
			path := fmt.Sprintf("com.example.note/%02d", i)
			switch rng.IntN(4) {
			case 0:
				data := fmt.Append(nil, path, step)
				c.Records = append(c.Records, storage.RecordChange{Path: path, CID: dag.Sum(dag.CBOR, data), Data: data})
				now[path] = string(data)
			case 1:
				if _, ok := now[path]; ok {
					c.Records = append(c.Records, storage.RecordChange{Path: path, CID: cid.Undef})
					delete(now, path)
				}
			}
		}
		if _, err := s.Repos.Apply(ctx, alice, c); err != nil {
			t.Fatal(err)
		}
	}
	next()
	var view func(depth int)
	view = func(depth int) {
		want := map[string]string{}
		for k, v := range now {
			want[k] = v
		}
		at := step
		if err := s.Repos.View(ctx, alice, func(r storage.Reader) error {
			for range 3 {
				next()
				if depth < deepest {
					view(depth + 1)
				}
				for _, reverse := range []bool{false, true} {
					var keys []string
					for rec, err := range r.Records(ctx, storage.Range{Reverse: reverse}) {
						if err != nil {
							return err
						}
						if want[rec.Path] != string(rec.Data) {
							t.Errorf("the view of step %d has %q at %s, want %q", at, rec.Data, rec.Path, want[rec.Path])
						}
						keys = append(keys, rec.Path)
						if rng.IntN(30) == 0 {
							next()
						}
					}
					if reverse {
						slices.Reverse(keys)
					}
					if len(keys) != len(want) || !slices.IsSorted(keys) {
						t.Errorf("the view of step %d has %d records, want %d (in order: %v)", at, len(keys), len(want), slices.IsSorted(keys))
					}
				}
			}
			if r.Head() != head(at) {
				t.Errorf("the view of step %d has another head", at)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	view(0)
}

func TestExpiredKeysAreDeleted(t *testing.T) {
	objects := new(Memory)
	now := time.Now()
	db := newDB(t, Config{Objects: objects, Now: func() time.Time { return now }})
	var kv []storage.KVWrite
	for i := range 10 {
		kv = append(kv, storage.KVWrite{Key: fmt.Sprint("k", i), Value: []byte("v"), Expires: now.Add(time.Duration(i+1) * time.Minute)})
	}
	apply(t, db, alice, 1, kv...)
	apply(t, db, alice, 2, storage.KVWrite{Key: "k9", Value: []byte("for good")}, storage.KVWrite{Key: "k8"})
	now = now.Add(time.Hour)
	apply(t, db, alice, 3, storage.KVWrite{Key: "other", Value: []byte("v")})
	var keys []string
	for key := range objects.data[alice].Range("", "", false) {
		if strings.HasPrefix(key, prefixKV) || strings.HasPrefix(key, prefixExpiry) {
			keys = append(keys, key)
		}
	}
	if !slices.Equal(keys, []string{"k/k9", "k/other"}) {
		t.Errorf("keys that are left: %q", keys)
	}
}
