package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

// TestEventsRestart reads what was written, not what is there, from every position.
func TestEventsRestart(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		a := did(1)
		_, err := w.host.Create(ctx, a, repo.Batch{})
		w.ok(err)
		w.apply(a, repo.Batch{Writes: []repo.Write{w.put(notes, "one", "first"), w.put(likes, "two", "y")}})
		w.apply(a, repo.Batch{Writes: []repo.Write{w.put(notes, "one", "second"), {Action: repo.Delete, Collection: likes, RKey: "two"}}})
		w.apply(a, repo.Batch{Events: []storage.Event{w.host.IdentityEvent(a, "a.example.com"), w.host.AccountEvent(a, "takendown")}})
		w.reimport(a, repo.Import{}, w.put(notes, "one", "third"))
		want := []string{
			"#commit",
			"#commit create com.example.note/one=first create com.example.like/two=y",
			"#commit update com.example.note/one=second delete com.example.like/two",
			"#identity", "#account", "#sync",
		}
		seqs := []int64{0}
		for start := range want {
			var got []string
			for ev, err := range follow.Events(ctx, drained{store.Events}, seqs[start]) {
				if errors.Is(err, errIdle) {
					break
				}
				w.ok(err)
				line := ev.Message.Kind()
				for _, op := range ev.Ops {
					line += fmt.Sprintf(" %s %s", op.Action, op.Path())
					if op.Record != nil {
						v, err := op.Value()
						w.ok(err)
						line += fmt.Sprint("=", v["text"])
					}
				}
				if got = append(got, line); start == 0 {
					seqs = append(seqs, ev.Seq)
				}
			}
			if diff := cmp.Diff(want[start:], got); diff != "" {
				t.Fatalf("from position %d (-want +got):\n%s", start, diff)
			}
		}
	})
}

func TestPositions(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		_, err := w.host.Create(ctx, did(1), repo.Batch{})
		w.ok(err)
		x := newIndex(t)
		w.ok(x.run(store, 10)) // filled; its position is not yet in the log
		filled := x.position
		w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "first")}})
		w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "second")}})
		w.ok(store.Events.Trim(ctx, w.tick(0)))
		oldest, newest, err := store.Events.Bounds(ctx)
		w.ok(err)
		fails := func(what string, err error) {
			t.Helper()
			var gap *follow.PositionError
			if !errors.Is(err, follow.ErrPosition) || errors.As(err, &gap) && (gap.Oldest != oldest || gap.Newest != newest) {
				t.Errorf("%s: error %v", what, err)
			}
		}
		first := func(after int64) error {
			for _, err := range follow.Events(ctx, drained{store.Events}, after) {
				return err
			}
			return nil
		}
		fails("the start of a log that was trimmed", first(0))
		fails("a position ahead of the log", first(newest+1))
		if err := first(newest); !errors.Is(err, errIdle) {
			t.Errorf("the present position: %v", err)
		}
		for _, position := range []string{filled, "1", "x", "1 x", fmt.Sprint(newest + 5), fmt.Sprint(newest, " did:web:0.example x"), "-1"} {
			x.position = position
			fails("position "+position, x.run(store, 10))
		}
		x = newIndex(t)
		w.ok(x.run(store, 10))
		x.compare(store, "begun again")
	})
}

// TestTrimWhileFollowing: what is trimmed between two pages is noticed.
func TestTrimWhileFollowing(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		w := newWorld(t, store)
		_, err := w.host.Create(ctx, did(1), repo.Batch{})
		w.ok(err)
		for i := range 300 {
			w.apply(did(1), repo.Batch{Events: []storage.Event{w.host.IdentityEvent(did(1), "")}, KV: []storage.KVWrite{{Key: "x", Value: fmt.Append(nil, i)}}})
		}
		n := 0
		for _, err := range follow.Events(ctx, drained{store.Events}, 0) {
			if err != nil {
				if !errors.Is(err, follow.ErrPosition) || n == 0 || n >= 300 {
					t.Errorf("after %d events: %v", n, err)
				}
				return
			}
			if n++; n == 1 {
				w.ok(store.Events.Trim(ctx, w.tick(0)))
			}
		}
		t.Error("the events have ended")
	})
}

// counting counts the events that are read from a log.
type counting struct {
	storage.Events
	n *int
}

func (c counting) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		for ev, err := range c.Events.Since(ctx, seq) {
			*c.n++
			if !yield(ev, err) {
				return
			}
		}
	}
}

// TestReadAhead: little is read ahead of the caller, be events many or large.
func TestReadAhead(t *testing.T) {
	w := newWorld(t, memory.New(memory.Config{}))
	_, err := w.host.Create(ctx, did(1), repo.Batch{})
	w.ok(err)
	large := strings.Repeat("x", 300_000)
	for i := range 20 {
		w.apply(did(1), repo.Batch{Writes: []repo.Write{w.put(notes, fmt.Sprint(i), large)}})
	}
	for range 1000 {
		w.apply(did(1), repo.Batch{Events: []storage.Event{w.host.IdentityEvent(did(1), "")}, KV: []storage.KVWrite{{Key: "x", Value: []byte("x")}}})
	}
	read, taken, most := 0, 0, 0
	for _, err := range follow.Events(ctx, counting{drained{w.store.Events}, &read}, 0) {
		if errors.Is(err, errIdle) {
			break
		}
		w.ok(err)
		if taken++; taken <= 20 && read-taken > 5 {
			t.Fatalf("%d large events are read ahead", read-taken)
		}
		most = max(most, read-taken)
	}
	if taken != 1021 || most > 130 {
		t.Errorf("%d events, at most %d read ahead", taken, most)
	}
}

// A log as another program may have written it.
type fixed struct {
	storage.Events
	list []storage.Event
}

func (f fixed) Since(_ context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		for _, ev := range f.list {
			if ev.Seq > seq && !yield(ev, nil) {
				return
			}
		}
	}
}

func (f fixed) Bounds(context.Context) (int64, int64, error) { return 1, math.MaxInt64, nil }

func (f fixed) Wait(context.Context, int64) error { return errIdle }

func TestHostileLog(t *testing.T) {
	w := newWorld(t, memory.New(memory.Config{}))
	_, err := w.host.Create(ctx, did(1), repo.Batch{Writes: []repo.Write{w.put(notes, "one", "x")}})
	w.ok(err)
	var good storage.Event
	for good, err = range w.store.Events.Since(ctx, 0) {
		w.ok(err)
	}
	message, err := commit.DecodeEvent(good.Payload)
	w.ok(err)
	with := func(change func(*commit.Event)) storage.Event {
		m := *message
		m.Ops = slices.Clone(m.Ops)
		change(&m)
		return storage.Event{Seq: 7, DID: good.DID, Kind: good.Kind, Payload: m.Payload()}
	}
	read := func(ev storage.Event) (n int, err error) {
		for _, err := range follow.Events(ctx, fixed{list: []storage.Event{ev}}, 0) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	for name, ev := range map[string]storage.Event{
		"a record that is not in the slice": with(func(m *commit.Event) { m.Ops[0].CID = data.CID([]byte{0xa0}) }),
		"a path that is none":               with(func(m *commit.Event) { m.Ops[0].Path = "x" }),
		"blocks that are no CAR":            with(func(m *commit.Event) { m.Blocks = []byte{1, 2, 3} }),
		"a block that is another":           with(func(m *commit.Event) { m.Blocks = append(bytes.Clone(m.Blocks[:len(m.Blocks)-1]), 0) }),
		"a payload that is no message":      {Seq: 7, Kind: commit.KindSync, Payload: []byte{0xa0}},
	} {
		if n, err := read(ev); n != 0 || !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %d events, %v", name, n, err)
		}
	}
	if n, err := read(storage.Event{Seq: 7, DID: did(1), Kind: "#later", Payload: []byte{0xa0}}); n != 1 || !errors.Is(err, errIdle) {
		t.Errorf("a kind of the future: %d events, %v", n, err)
	}
	if n, err := read(good); n != 1 || !errors.Is(err, errIdle) {
		t.Errorf("a good event: %d events, %v", n, err)
	}
}
