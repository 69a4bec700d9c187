//go:build !js

package stream_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// writer appends events of one account to a log.
type writer struct {
	store storage.Store
	did   syntax.DID
	head  storage.Head
}

func newWriter(t testing.TB, s storage.Store, id int) *writer {
	t.Helper()
	block := cbor.AppendMap(nil, 0)
	c := dag.Sum(dag.CBOR, block)
	w := &writer{s, syntax.DID(fmt.Sprintf("did:web:w%d.example", id)), storage.Head{Commit: c, Data: c, Rev: "3jzfcijpj2z2a"}}
	if _, err := s.Repos.Apply(context.Background(), w.did, &storage.Change{Head: w.head, Commit: block}); err != nil {
		t.Fatal(err)
	}
	return w
}

// write appends an event with size bytes of ballast.
func (w *writer) write(kind string, size int) error {
	b := cbor.AppendMap(nil, 1)
	b = cbor.AppendText(b, "blocks")
	b = cbor.AppendBytes(b, make([]byte, size))
	_, err := w.store.Repos.Apply(context.Background(), w.did, &storage.Change{Prev: w.head, Head: w.head, Events: []storage.Event{
		{DID: w.did, Kind: kind, Time: time.Now(), Payload: b},
	}})
	return err
}

// session is what a subscriber saw over one connection.
type session struct {
	cursor      int64 // -1: none
	first, last int64
	n           int
}

// subscriber comes and goes, stalls, and resumes, until it has seen the event #end.
type subscriber struct {
	rng      *rand.Rand
	connect  func(ctx context.Context, cursor *int64) iter.Seq2[[]byte, error]
	oldest   int64         // the first event
	newest   *atomic.Int64 // the last one that anybody has seen
	over     *atomic.Bool  // the next event, or the last one, is #end
	last     int64
	sessions []session
	tooSlow  int
}

func (s *subscriber) run(ctx context.Context) error {
	for {
		cursor := s.last
		switch s.rng.IntN(6) {
		case 0, 1:
			cursor = s.oldest - 1 + s.rng.Int64N(max(s.newest.Load()-s.oldest, 1))
		case 2:
			if !s.over.Load() {
				cursor = -1
			}
		}
		end, err := s.session(ctx, cursor)
		if end || err != nil {
			return err
		}
		if s.rng.IntN(2) == 0 {
			time.Sleep(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		}
	}
}

// session follows one connection. It returns true when it has seen the end.
func (s *subscriber) session(ctx context.Context, cursor int64) (end bool, err error) {
	got := session{cursor: cursor}
	defer func() {
		if got.n > 0 {
			s.last = got.last
			s.sessions = append(s.sessions, got)
		}
	}()
	from := &cursor
	if cursor < 0 { // it may have come after the end
		from = nil
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	most := 1 + s.rng.IntN(500)
	for b, err := range s.connect(ctx, from) {
		if errors.Is(err, stream.ErrConsumerTooSlow) {
			s.tooSlow++
			return false, nil
		}
		if from == nil && err != nil && ctx.Err() != nil {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		f, err := stream.Decode(b)
		if err != nil {
			return false, err
		}
		if f.Seq <= max(got.last, cursor) {
			return false, fmt.Errorf("number %d after %d", f.Seq, max(got.last, cursor))
		}
		if got.n == 0 {
			got.first = f.Seq
		}
		got.last = f.Seq
		got.n++
		for top := s.newest.Load(); f.Seq > top && !s.newest.CompareAndSwap(top, f.Seq); top = s.newest.Load() {
		}
		if f.Kind == "#end" {
			return true, nil
		}
		if got.n == most {
			return false, nil
		}
		if s.rng.IntN(300) == 0 {
			time.Sleep(time.Duration(s.rng.IntN(100)) * time.Millisecond) // stalls
		}
	}
	return false, nil
}

// overWebSocket subscribes over a connection.
func overWebSocket(url string) func(context.Context, *int64) iter.Seq2[[]byte, error] {
	return func(ctx context.Context, cursor *int64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			query := ""
			if cursor != nil {
				query = fmt.Sprintf("/?cursor=%d", *cursor)
			}
			c, _, err := websocket.Dial(ctx, url+query, nil)
			if err != nil {
				yield(nil, err)
				return
			}
			defer c.CloseNow()
			for {
				_, b, err := c.Read(ctx)
				if err == nil {
					var told *stream.Error
					if _, e := stream.Decode(b); errors.As(e, &told) {
						err = told
					}
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		}
	}
}

// Writers at full speed, while 200 subscribers come, go, stall, and resume from
// random cursors. Each sees every event after its cursor exactly once, in order.
func TestCutOverUnderLoad(t *testing.T) {
	t.Run("memory", func(t *testing.T) { cutOver(t, memory.New(memory.Config{}), 2000) })
	t.Run("sqlite", func(t *testing.T) {
		db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), sqlite.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		cutOver(t, db.Store(), 1000)
	})
}

func cutOver(t *testing.T, store storage.Store, events int) {
	const writers, subscribers = 4, 200
	if testenv.Race || testing.Short() { // the same in smaller
		events /= 4
	}
	o := &stream.Outbox{
		MaxPerNetwork: -1,
		Events:        store.Events, Window: 128 << 10, // 150 events or so
		Ping: time.Hour, WriteTimeout: time.Hour, // nobody is given up on a machine that is busy with other things
	}
	defer o.Close()
	srv := httptest.NewServer(o)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()

	var list []*writer
	for i := range writers {
		list = append(list, newWriter(t, store, i))
	}
	for _, w := range list {
		if err := w.write("#first", 10); err != nil {
			t.Fatal(err)
		}
	}
	var newest atomic.Int64
	var over atomic.Bool
	log := numbersOf(t, store)
	newest.Store(log[len(log)-1])

	var writing, reading sync.WaitGroup
	subs := make([]*subscriber, subscribers)
	for i := range subs {
		s := &subscriber{rng: rand.New(rand.NewPCG(uint64(i), 1)), connect: o.Subscribe, oldest: log[0], newest: &newest, over: &over}
		if i%2 == 0 {
			s.connect = overWebSocket(srv.URL)
		}
		subs[i] = s
		reading.Go(func() {
			if err := s.run(ctx); err != nil {
				t.Errorf("subscriber %d: %v", i, err)
			}
		})
	}
	for i, w := range list {
		writing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			for range events / writers {
				if err := w.write("#test", rng.IntN(1500)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	over.Store(true)
	if err := list[0].write("#end", 0); err != nil {
		t.Fatal(err)
	}
	reading.Wait()

	log = numbersOf(t, store)
	sessions, frames, tooSlow := 0, 0, 0
	for i, s := range subs {
		for _, got := range s.sessions {
			from, found := slices.BinarySearch(log, got.cursor)
			if found {
				from++
			}
			if got.cursor < 0 { // wherever it began
				from, _ = slices.BinarySearch(log, got.first)
			}
			to, found := slices.BinarySearch(log, got.last)
			if !found || log[from] != got.first || to+1-from != got.n {
				t.Errorf("subscriber %d saw %d events from %d to %d after %d; there are %d from %d on", i, got.n, got.first, got.last, got.cursor, to+1-from, log[from])
			}
			frames += got.n
		}
		sessions += len(s.sessions)
		tooSlow += s.tooSlow
	}
	t.Logf("%d events, %d subscribers, %d connections, %d frames, %d times too slow", len(log), subscribers, sessions, frames, tooSlow)
}

// numbersOf lists the numbers of all events.
func numbersOf(t *testing.T, store storage.Store) (list []int64) {
	t.Helper()
	for e, err := range store.Events.Since(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Seq)
	}
	return list
}
