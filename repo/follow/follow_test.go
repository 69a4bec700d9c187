package follow_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// TestHistories writes random histories and feeds indexes that are broken off and start again at
// any step, begin late, or fall behind a log that is trimmed.
func TestHistories(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		rng := rand.New(rand.NewPCG(7, 8))
		w := newWorld(t, store)
		early, late, lazy := newIndex(t), newIndex(t), newIndex(t)
		there := map[int]bool{}
		gaps := 0
		write := func(i int) (list []repo.Write) {
			seen := map[string]bool{}
			for range 1 + rng.IntN(4) {
				collection, rkey := []syntax.NSID{notes, likes}[rng.IntN(2)], fmt.Sprint(rng.IntN(8))
				if seen[string(collection)+rkey] {
					continue
				}
				seen[string(collection)+rkey] = true
				if _, err := w.host.Record(ctx, did(i), collection, syntax.RecordKey(rkey)); err == nil && rng.IntN(3) == 0 {
					list = append(list, repo.Write{Action: repo.Delete, Collection: collection, RKey: syntax.RecordKey(rkey)})
				} else {
					list = append(list, w.put(collection, rkey, fmt.Sprint("text ", rng.IntN(5))))
				}
			}
			return list
		}
		catchUp := func(x *index, most int) {
			err := x.run(store, most)
			var gap *follow.PositionError
			if errors.As(err, &gap) {
				gaps++
				*x = *newIndex(t)
				err = x.run(store, most)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for step := range 300 {
			i := rng.IntN(6)
			what := rng.IntN(20)
			switch {
			case !there[i]:
				_, err := w.host.Create(ctx, did(i), repo.Batch{Writes: []repo.Write{w.put(notes, "first", "x")}, Silent: what < 5})
				w.ok(err)
				there[i] = true
				if what < 5 {
					w.setStatus(did(i), "deactivated")
				}
			case what < 11:
				w.apply(did(i), repo.Batch{Writes: write(i), Sync: what == 0})
			case what == 11: // silent, and announced later
				w.setStatus(did(i), "deactivated")
				w.apply(did(i), repo.Batch{Writes: write(i), Silent: true})
				w.setStatus(did(i), "")
				w.apply(did(i), repo.Batch{Sync: true, Writes: write(i)})
			case what == 12:
				w.reimport(did(i), repo.Import{Rewind: true}, write(i)...)
			case what == 13:
				w.delete(did(i))
				there[i] = false
			case what == 14:
				w.apply(did(i), repo.Batch{Events: []storage.Event{w.host.IdentityEvent(did(i), "a.example.com")}})
			case what == 15:
				w.setStatus(did(i), []string{"", "takendown"}[rng.IntN(2)])
			case what == 16 && step%3 == 0:
				w.ok(store.Events.Trim(ctx, w.tick(-30*time.Millisecond)))
				w.tick(30 * time.Millisecond)
			}
			catchUp(early, rng.IntN(4))
			if step > 150 {
				catchUp(late, rng.IntN(6))
			}
			if step%80 == 79 {
				catchUp(lazy, 1000)
				lazy.compare(store, fmt.Sprint("the lazy index after step ", step))
			}
			if step%20 == 0 {
				catchUp(early, 1000)
				early.compare(store, fmt.Sprint("after step ", step))
			}
		}
		catchUp(early, 1000)
		early.compare(store, "at the end")
		catchUp(late, 1000)
		late.compare(store, "at the end, begun late")
		if gaps == 0 || early.resets == 0 {
			t.Errorf("%d positions were too old, %d resets", gaps, early.resets)
		}
	})
}

// TestFeedWhileOthersWrite fills and follows while accounts are written, made and deleted.
func TestFeedWhileOthersWrite(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		for i := range 4 {
			_, err := w.host.Create(ctx, did(i), repo.Batch{Writes: []repo.Write{w.put(notes, "first", "x")}})
			w.ok(err)
		}
		var writers sync.WaitGroup
		for i := range 8 {
			writers.Go(func() {
				if i >= 4 {
					if _, err := w.host.Create(ctx, did(i), repo.Batch{}); err != nil {
						t.Error(err)
					}
				}
				for n := range 20 {
					_, err := w.host.Apply(ctx, did(i), repo.Batch{Writes: []repo.Write{w.put(notes, fmt.Sprint(n%5), fmt.Sprint(n))}})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		fed := make(chan error, 1)
		x := newIndex(t)
		last := did(9)
		go func() {
			for s, err := range x.feed(store).Steps(ctx) {
				if err == nil {
					err = x.apply(s)
				}
				if err != nil || s.DID == last {
					fed <- err
					return
				}
			}
		}()
		writers.Wait()
		_, err := w.host.Create(ctx, last, repo.Batch{})
		w.ok(err)
		w.ok(<-fed)
		x.compare(store, "after all")
	})
}

// TestDeletedAccount: the events of an account that was deleted are gone, but for the last.
func TestDeletedAccount(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		x := newIndex(t)
		for i := range 2 {
			_, err := w.host.Create(ctx, did(i), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x")}})
			w.ok(err)
		}
		w.ok(x.run(store, 10))
		w.apply(did(0), repo.Batch{Writes: []repo.Write{w.put(notes, "two", "x")}})
		w.ok(x.run(store, 1)) // with a step that is begun, and then cannot be read again
		w.apply(did(0), repo.Batch{Writes: []repo.Write{w.put(notes, "three", "x")}})
		w.delete(did(0))
		w.ok(x.run(store, 10))
		x.compare(store, "after one was deleted")
		if len(x.rows) != 1 || len(x.revs) != 1 {
			t.Errorf("the index has %v of %v", x.rows, x.revs)
		}
		var kinds []string
		for ev, err := range follow.Events(ctx, drained{store.Events}, 0) {
			if err != nil {
				break
			}
			kinds = append(kinds, fmt.Sprint(ev.DID, ev.Message.Kind()))
		}
		if diff := cmp.Diff([]string{"did:web:1.example#commit", "did:web:0.example#account"}, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestLoopMayUseTheStore: what the loop does with the store, while a snapshot is read, does not
// block.
func TestLoopMayUseTheStore(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		_, err := w.host.Create(ctx, did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x")}})
		w.ok(err)
		x := newIndex(t)
		store.Events = drained{store.Events}
		n := 0
		for s, err := range x.feed(store).Steps(ctx) {
			if errors.Is(err, errIdle) {
				break
			}
			w.ok(err)
			if n++; n < 5 {
				w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", fmt.Sprint(n))}})
			}
			w.ok(x.apply(s))
		}
		x.compare(store, "at the end")
		if n != 5 || x.resets != 1 {
			t.Errorf("%d steps, %d of them resets", n, x.resets)
		}
		for s, err := range x.feed(store).Steps(ctx) {
			if !errors.Is(err, errIdle) {
				t.Errorf("an index that has all gets %+v, %v", s, err)
			}
			break
		}
	})
}

// TestNotTwice: what a snapshot had, later events do not say again.
func TestNotTwice(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		for i := range 2 {
			_, err := w.host.Create(ctx, did(i), repo.Batch{})
			w.ok(err)
		}
		x := newIndex(t)
		store.Events = drained{store.Events}
		var got []string
		for s, err := range x.feed(store).Steps(ctx) {
			if errors.Is(err, errIdle) {
				break
			}
			w.ok(err)
			if len(got) == 0 {
				w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x")}})
			}
			n := 0
			for range s.Ops {
				n++
			}
			got = append(got, fmt.Sprint(s.DID, s.Reset, n))
			w.ok(x.apply(s))
		}
		if diff := cmp.Diff([]string{"did:web:0.exampletrue 0", "did:web:1.exampletrue 1", "did:web:1.examplefalse 0"}, got); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}

// TestRewind: an account that was written by a clock that was ahead goes back, and the index with
// it.
func TestRewind(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		_, err := w.host.Create(ctx, did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x")}})
		w.ok(err)
		x := newIndex(t)
		w.ok(x.run(store, 10))
		const year = 365 * 24 * time.Hour
		w.tick(year)
		w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "two", "x")}})
		w.ok(x.run(store, 10))
		ahead := x.revs[did(1)]
		w.tick(-year)
		w.reimport(did(1), repo.Import{Rewind: true})
		w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "three", "x")}})
		w.ok(x.run(store, 10))
		x.compare(store, "after the repair")
		if x.revs[did(1)] >= ahead || len(x.rows) != 3 {
			t.Errorf("revision %s after %s, rows %v", x.revs[did(1)], ahead, x.rows)
		}
	})
}

func TestCollections(t *testing.T) {
	w := newWorld(t, memory.New(memory.Config{}))
	_, err := w.host.Create(ctx, did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x"), w.put(likes, "one", "x"), w.put("com.example.notes", "one", "x")}})
	w.ok(err)
	x := newIndex(t)
	feed := x.feed(w.store)
	feed.Collections = []syntax.NSID{likes, notes, likes}
	feed.Store.Events = drained{w.store.Events}
	var got []string
	n := 0
	for s, err := range feed.Steps(ctx) {
		if errors.Is(err, errIdle) {
			break
		}
		w.ok(err)
		for op, err := range s.Ops {
			w.ok(err)
			got = append(got, fmt.Sprint(s.Reset, op.Path()))
		}
		w.ok(x.apply(s))
		if n++; n == 1 {
			w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "two", "x"), w.put("com.example.notes", "two", "x")}})
		}
	}
	if diff := cmp.Diff([]string{"truecom.example.like/one", "truecom.example.note/one", "falsecom.example.note/two"}, got); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func TestErrorsOfTheCaller(t *testing.T) {
	w := newWorld(t, memory.New(memory.Config{}))
	_, err := w.host.Create(ctx, did(1), repo.Batch{})
	w.ok(err)
	w.apply(did(1), repo.Batch{Events: []storage.Event{w.host.IdentityEvent(did(1), "")}, KV: []storage.KVWrite{{Key: "x", Value: []byte("x")}}})
	broken := errors.New("broken")
	for name, change := range map[string]func(*follow.Feed){
		"Position": func(f *follow.Feed) { f.Position = func(context.Context) (string, error) { return "", broken } },
		"Status": func(f *follow.Feed) {
			f.Status = func(context.Context, storage.Reader) (string, error) { return "", broken }
		},
		"Revision": func(f *follow.Feed) {
			oldest, _, _ := w.store.Events.Bounds(ctx)
			f.Position = func(context.Context) (string, error) { return fmt.Sprint(oldest), nil }
			f.Revision = func(context.Context, syntax.DID) (syntax.TID, error) { return "", broken }
		},
	} {
		feed := newIndex(t).feed(w.store)
		change(&feed)
		for _, err := range feed.Steps(ctx) {
			if !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			break
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range newIndex(t).feed(w.store).Steps(ended) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
	}
	for _, feed := range []follow.Feed{{}, {Store: w.store}, {Store: w.store, Position: func(context.Context) (string, error) { return "", nil }}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a feed without its fields does not panic")
				}
			}()
			feed.Steps(ctx)
		}()
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no log does not panic")
			}
		}()
		follow.Events(ctx, nil, 0)
	}()
}
