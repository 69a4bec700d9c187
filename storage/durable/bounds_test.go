package durable_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/durabletest"
	"github.com/pdskit/pdskit/storage/durable/internal/changes"
	"github.com/pdskit/pdskit/storage/memory"
)

// onWatched runs a test on a DB and on a Solo whose transactions are watched.
func onWatched(t *testing.T, test func(t *testing.T, w *durabletest.Watch, s storage.Store, left func() int)) {
	left := func(t *testing.T, m *durable.Memory, did syntax.DID) func() int {
		return func() (n int) {
			m.Kill()
			o, err := m.Open(t.Context(), did, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Scan(durable.Scan{MaxValue: durable.KeysOnly}, func(string, []byte) bool { n++; return true }); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Run("DB", func(t *testing.T) {
		w, m := &durabletest.Watch{TB: t}, new(durable.Memory)
		shared := memory.New(memory.Config{})
		db, err := durable.New(t.Context(), durable.Config{Shared: w.Store(shared), Objects: w.Objects(m), Now: w.Now})
		if err != nil {
			t.Fatal(err)
		}
		test(t, w, db.Store(), left(t, m, changes.Alice))
	})
	t.Run("Solo", func(t *testing.T) {
		w, m := &durabletest.Watch{TB: t}, new(durable.Memory)
		s, err := durable.OpenSolo(t.Context(), func(ctx context.Context) (durable.Object, error) {
			o, err := m.Open(ctx, "solo", true)
			return w.Object(o), err
		}, durable.SoloConfig{Now: w.Now})
		if err != nil {
			t.Fatal(err)
		}
		test(t, w, s.Store(), left(t, m, "solo"))
	})
}

// replaceWatched replaces alice's records by a stream that must not be asked in a transaction.
func replaceWatched(t *testing.T, w *durabletest.Watch, s storage.Store, from, to, n, size int) {
	t.Helper()
	c := changes.Nth(changes.Alice, to)
	c.Records, c.Prev = nil, storage.Head{}
	if from > 0 {
		c.Prev = changes.Head(from)
	}
	blob := dag.Sum(dag.Raw, []byte("blob"))
	data := make([]byte, size)
	_, err := s.Repos.Replace(w.Context(t.Context()), changes.Alice, func(yield func(storage.RecordChange, error) bool) {
		for i := range n {
			w.Outside("the stream of Replace")
			copy(data, fmt.Append(nil, "record ", i))
			r := storage.RecordChange{Path: fmt.Sprintf("com.example.note/%06d", i), CID: dag.Sum(dag.CBOR, data), Data: data}
			r.Blobs = append(r.Blobs, blob)
			if !yield(r, nil) {
				return
			}
		}
	}, func() (*storage.Change, error) {
		w.Outside("final")
		return c, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTransactionsAreBounded: however much an account has, no transaction that replaces or deletes it
// writes or deletes more than some thousands of rows and some megabytes; and it waits for nothing.
func TestTransactionsAreBounded(t *testing.T) {
	const maxRows, maxBytes = 7000, 9 << 20
	onWatched(t, func(t *testing.T, w *durabletest.Watch, s storage.Store, left func() int) {
		ctx := w.Context(t.Context())
		bounded := func(when string) {
			t.Helper()
			if rows, size := w.Max(); rows > maxRows || size > maxBytes {
				t.Errorf("%s: a transaction of %d rows and %d bytes", when, rows, size)
			}
		}
		replaceWatched(t, w, s, 0, 1, 15_000, 20)
		bounded("many records")
		replaceWatched(t, w, s, 1, 2, 30, 1_000_000)
		bounded("large records in the place of many")
		replaceWatched(t, w, s, 2, 3, 1, 20)
		bounded("one in the place of large ones")
		n := 3
		for range 60 { // keys and events
			n++
			c := changes.Nth(changes.Alice, n)
			for i := range 200 {
				c.KV = append(c.KV, storage.KVWrite{Key: fmt.Sprintf("key%d/%d", n, i), Value: []byte("value")})
				if i < 100 {
					c.Events = append(c.Events, c.Events[0])
				}
			}
			if _, err := s.Repos.Apply(ctx, changes.Alice, c); err != nil {
				t.Fatal(err)
			}
		}
		bounded("keys")
		gone := []storage.Event{{DID: changes.Alice, Kind: "#account", Payload: []byte("gone")}}
		if _, err := s.Repos.Delete(ctx, changes.Alice, gone); err != nil {
			t.Fatal(err)
		}
		bounded("deleted")
		if got := changes.Events(t, s, changes.Alice); len(got) != 1 {
			t.Errorf("%d events of a deleted account", len(got))
		}
		if n := left(); n > 3 { // of a Solo: one event in two rows, and the log's row
			t.Errorf("%d rows are left of a deleted account", n)
		}
	})
}

// A watch that notices nothing would be none.
func TestWatchNotices(t *testing.T) {
	r := &recorder{TB: t}
	w := &durabletest.Watch{TB: r}
	o, err := new(durable.Memory).Open(t.Context(), "a", true)
	if err != nil {
		t.Fatal(err)
	}
	o = w.Object(o)
	ctx := w.Context(t.Context())
	s := w.Store(memory.New(memory.Config{}))
	all := []func(){
		func() { _ = ctx.Err() },
		func() { <-w.Context(canceled()).Done() },
		func() { _ = ctx.Value("key") },
		func() { w.Now() },
		func() { _, _ = s.Repos.Head(t.Context(), "a") },
		func() { _, _, _ = s.Events.Bounds(t.Context()) },
		func() { _ = s.KV.Write(t.Context(), func(storage.KVTx) error { return nil }) },
		func() { _, _ = w.Objects(new(durable.Memory)).Open(t.Context(), "a", true) },
	}
	for i, call := range all {
		call()
		if r.n != i {
			t.Errorf("call %d is reported outside of a transaction", i)
		}
		if err := o.Transact(func() error { call(); return nil }); err != nil {
			t.Fatal(err)
		}
		if r.n != i+1 {
			t.Errorf("call %d is not reported", i)
		}
		r.n = i + 1
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// recorder counts errors.
type recorder struct {
	testing.TB
	n int
}

func (r *recorder) Errorf(string, ...any) { r.n++ }

// Trim reads what it deletes, and not all of a log.
func TestSoloTrimOfALongLog(t *testing.T) {
	const pages = 5
	scans := 0
	m := &durable.Memory{Fault: func(call string) error {
		if call == "Scan" {
			scans++
		}
		return nil
	}}
	// It is not watched: to watch a deletion is to scan what is deleted.
	s, err := durable.OpenSolo(t.Context(), func(ctx context.Context) (durable.Object, error) { return m.Open(ctx, "solo", true) }, durable.SoloConfig{})
	if err != nil {
		t.Fatal(err)
	}
	store := s.Store()
	at := func(i int) time.Time { return time.UnixMilli(int64(i)).UTC() }
	for i := range pages {
		list := make([]storage.Event, 2000)
		for j := range list {
			list[j] = storage.Event{DID: "did:web:a", Kind: "#account", Time: at(2000*i + j), Payload: []byte("p")}
		}
		if _, err := store.Repos.Apply(t.Context(), "did:web:a", &storage.Change{Events: list}); err != nil {
			t.Fatal(err)
		}
	}
	trim := func(before, left int) int {
		t.Helper()
		scans = 0
		if err := store.Events.Trim(t.Context(), at(before)); err != nil {
			t.Fatal(err)
		}
		n, scanned := 0, scans
		for _, err := range store.Events.Since(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != left {
			t.Errorf("%d events are left, want %d", n, left)
		}
		return scanned
	}
	none, some := trim(0, 2000*pages), trim(3, 2000*pages-3)
	if none > 2 || some > 3 {
		t.Errorf("%d and %d scans of a log of %d pages", none, some, pages)
	}
	trim(5001, 2000*pages-5001)
	trim(2000*pages, 0)
}
