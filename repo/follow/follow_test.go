package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

const notes, likes = syntax.NSID("com.example.note"), syntax.NSID("com.example.like")

var ctx = context.Background()

// stores runs a test over each backend.
func stores(t *testing.T, fn func(t *testing.T, store storage.Store)) {
	t.Run("memory", func(t *testing.T) { fn(t, memory.New(memory.Config{})) })
	t.Run("sqlite", func(t *testing.T) {
		testenv.NotOnJS(t, "SQLite has no files")
		db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{Relaxed: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		fn(t, db.Store())
	})
	t.Run("durable", func(t *testing.T) {
		cfg := durable.Config{MaxOpen: 2}
		if runtime.GOOS == "js" { // where SQLite has no files
			cfg.Shared, cfg.Objects = memory.New(memory.Config{}), new(durable.Memory)
			db, err := durable.New(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			fn(t, db.Store())
			return
		}
		db, err := files.Open(ctx, t.TempDir(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		fn(t, db.Store())
	})
}

// world is a host, with a clock that the test moves.
type world struct {
	*testing.T
	store storage.Store
	host  *repo.Host
	key   *crypto.PrivateKey
	mu    sync.Mutex
	now   time.Time
}

func newWorld(t *testing.T, store storage.Store) *world {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: store, key: key, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.host = repo.NewHost(repo.Config{
		Store: store, TempDir: t.TempDir(),
		Now:    func() time.Time { return w.tick(time.Millisecond) },
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	return w
}

func (w *world) tick(d time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
	return w.now
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func did(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:%d.example", i)) }

func (w *world) record(collection syntax.NSID, text string) []byte {
	b, err := data.Encode(map[string]any{"$type": string(collection), "text": text})
	w.ok(err)
	return b
}

func (w *world) put(collection syntax.NSID, rkey, text string) repo.Write {
	return repo.Write{Action: repo.Put, Collection: collection, RKey: syntax.RecordKey(rkey), Record: w.record(collection, text)}
}

func (w *world) apply(did syntax.DID, b repo.Batch) {
	w.Helper()
	_, err := w.host.Apply(ctx, did, b)
	w.ok(err)
}

// statusKey is where accounts of the test have their status.
const statusKey = "status"

func status(ctx context.Context, r storage.Reader) (string, error) {
	b, err := r.Get(ctx, statusKey)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return string(b), err
}

// setStatus changes the status of an account, with its event.
func (w *world) setStatus(did syntax.DID, status string) {
	kv := storage.KVWrite{Key: statusKey}
	if status != "" {
		kv.Value = []byte(status)
	}
	w.apply(did, repo.Batch{KV: []storage.KVWrite{kv}, Events: []storage.Event{w.host.AccountEvent(did, status)}})
}

func (w *world) delete(did syntax.DID) {
	_, err := w.store.Repos.Delete(ctx, did, []storage.Event{w.host.AccountEvent(did, commit.Deleted)})
	w.ok(err)
}

// reimport replaces a repository with what another host has, where it was written too.
func (w *world) reimport(did syntax.DID, in repo.Import, extra ...repo.Write) {
	var file bytes.Buffer
	w.ok(w.host.Export(ctx, did, "", &file))
	other := newWorld(w.T, memory.New(memory.Config{}))
	other.now = w.now
	keys := []*crypto.PublicKey{w.key.PublicKey()}
	_, err := other.host.Import(ctx, did, &file, repo.Import{Keys: keys})
	w.ok(err)
	other.apply(did, repo.Batch{Writes: extra})
	file.Reset()
	w.ok(other.host.Export(ctx, did, "", &file))
	in.Keys, in.Sync = append(keys, other.key.PublicKey()), true
	_, err = w.host.Import(ctx, did, &file, in)
	w.ok(err)
}

// errIdle is what a drained log says instead of waiting.
var errIdle = errors.New("nothing more")

type drained struct{ storage.Events }

func (d drained) Wait(ctx context.Context, seq int64) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if d.Events.Wait(ctx, seq) == nil {
		return nil
	}
	return errIdle
}

// index is what a caller keeps: rows, revisions, statuses and the position, changed in
// transactions.
type index struct {
	t        *testing.T
	position string
	revs     map[syntax.DID]syntax.TID
	status   map[syntax.DID]string
	rows     map[string]string // DID, space, path → CID
	resets   int
}

func newIndex(t *testing.T) *index {
	return &index{t: t, revs: map[syntax.DID]syntax.TID{}, status: map[syntax.DID]string{}, rows: map[string]string{}}
}

func (x *index) feed(store storage.Store) follow.Feed {
	return follow.Feed{
		Store:    store,
		Position: func(context.Context) (string, error) { return x.position, nil },
		Revision: func(_ context.Context, did syntax.DID) (syntax.TID, error) { return x.revs[did], nil },
		Status:   status,
	}
}

// apply carries out a step and commits it. An operation that does not fit shows that a step came
// twice or that one is missing.
func (x *index) apply(s *follow.Step) error {
	rows := maps.Clone(x.rows)
	if s.Reset {
		x.resets++
		maps.DeleteFunc(rows, func(key, _ string) bool { return key[:len(s.DID)+1] == string(s.DID)+" " })
	}
	for op, err := range s.Ops {
		if err != nil {
			return err
		}
		key := string(s.DID) + " " + op.Path()
		if _, there := rows[key]; there != (op.Action != commit.Create) {
			return fmt.Errorf("step %s: %s of %s, which is there: %v", s.Position, op.Action, key, there)
		}
		if op.Action == commit.Delete {
			delete(rows, key)
			continue
		}
		value, err := op.Value()
		if err != nil || value["$type"] != string(op.Collection) || data.CID(op.Record) != op.CID {
			return fmt.Errorf("step %s: record of %s: %v, %v", s.Position, key, value, err)
		}
		rows[key] = op.CID.String()
	}
	x.rows, x.position, x.revs[s.DID] = rows, s.Position, s.Rev
	if s.Account != nil {
		x.status[s.DID] = s.Account.Status
	}
	if s.Rev == "" {
		delete(x.status, s.DID)
		delete(x.revs, s.DID)
	}
	return nil
}

// run feeds the index until it has caught up, or for most steps. The step after that is begun and
// not committed.
func (x *index) run(store storage.Store, most int) error {
	store.Events = drained{store.Events}
	n := 0
	for s, err := range x.feed(store).Steps(ctx) {
		if err != nil {
			if errors.Is(err, errIdle) {
				return nil
			}
			return err
		}
		if n++; n > most {
			for range s.Ops { // the process dies here
			}
			return nil
		}
		if err := x.apply(s); err != nil {
			return err
		}
	}
	return errors.New("the steps have ended without an error")
}

// compare holds the index against the store.
func (x *index) compare(store storage.Store, what string) {
	x.t.Helper()
	rows, revs, states := map[string]string{}, map[syntax.DID]syntax.TID{}, map[syntax.DID]string{}
	for info, err := range store.Repos.List(ctx, "") {
		if err != nil {
			x.t.Fatal(err)
		}
		revs[info.DID] = info.Head.Rev
		err := store.Repos.View(ctx, info.DID, func(r storage.Reader) (err error) {
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				rows[string(info.DID)+" "+rec.Path] = rec.CID.String()
			}
			if states[info.DID], err = status(ctx, r); states[info.DID] == "" {
				delete(states, info.DID)
			}
			return err
		})
		if err != nil {
			x.t.Fatal(err)
		}
	}
	got := maps.Clone(x.status)
	maps.DeleteFunc(got, func(_ syntax.DID, status string) bool { return status == "" })
	if diff := cmp.Diff(rows, x.rows) + cmp.Diff(states, got); diff != "" {
		x.t.Fatalf("%s: the index differs (-store +index):\n%s", what, diff)
	}
	for did, rev := range x.revs {
		if rev > revs[did] {
			x.t.Fatalf("%s: %s has revision %q in the index, %q in the store", what, did, rev, revs[did])
		}
	}
}

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
