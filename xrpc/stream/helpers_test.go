package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// fakeLog is an event log that fails on demand.
type fakeLog struct {
	mu       sync.Mutex
	events   []storage.Event
	trimmed  int64
	newest   int64
	changed  chan struct{}
	fault    error // of Since
	openEver int   // calls of Since
	open     int   // calls of Since that have not returned
}

func newLog(n int) *fakeLog {
	l := &fakeLog{changed: make(chan struct{})}
	l.add(n, 0)
	return l
}

var errFault = errors.New("fault injected")

// add appends events with numbers two apart, and size bytes of ballast.
func (l *fakeLog) add(n, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		l.newest += 2
		b := cbor.AppendMap(nil, 1)
		b = cbor.AppendText(b, "x")
		b = cbor.AppendBytes(b, make([]byte, size))
		l.events = append(l.events, storage.Event{
			Seq: l.newest, DID: syntax.DID(fmt.Sprintf("did:web:%d.example", l.newest%7)), Kind: "#test", Time: time.UnixMilli(l.newest), Payload: b,
		})
	}
	l.wake()
}

// wake tells those who wait. The caller holds the lock.
func (l *fakeLog) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// forget drops the event with a number, as if its account had been deleted.
func (l *fakeLog) forget(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(l.events, func(e storage.Event) bool { return e.Seq == seq })
}

// break_ makes reading fail.
func (l *fakeLog) setFault(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

func (l *fakeLog) reads() (ever, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.openEver, l.open
}

func (l *fakeLog) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		l.mu.Lock()
		list, fault := l.events[:len(l.events):len(l.events)], l.fault
		l.openEver++
		l.open++
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			l.open--
			l.mu.Unlock()
		}()
		for _, e := range list {
			if err := ctx.Err(); err != nil {
				yield(storage.Event{}, err)
				return
			}
			if e.Seq > seq && !yield(e, nil) {
				return
			}
		}
		if fault != nil {
			yield(storage.Event{}, fault)
		}
	}
}

func (l *fakeLog) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trimmed + 1, l.newest, ctx.Err()
}

func (l *fakeLog) Wait(ctx context.Context, seq int64) error {
	for {
		l.mu.Lock()
		changed, n, fault := l.changed, len(l.events), l.fault
		found := n > 0 && l.events[n-1].Seq > seq
		l.mu.Unlock()
		if found || fault != nil {
			return fault
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *fakeLog) Trim(context.Context, time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.trimmed = nil, l.newest
	return nil
}

// trimTo drops the events up to a number.
func (l *fakeLog) trimTo(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(slices.Clone(l.events), func(e storage.Event) bool { return e.Seq <= seq })
	l.trimmed = seq
}

// take reads n frames of a subscription and returns their numbers; an #info frame is -1.
func take(t testing.TB, o *Outbox, cursor *int64, n int) (list []int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if n == 0 {
		return nil
	}
	for b, err := range o.Subscribe(ctx, cursor) {
		if err != nil {
			t.Fatalf("after %d: %v", list, err)
		}
		if list = append(list, number(t, b)); len(list) == n {
			break
		}
	}
	return list
}

// number is that of an encoded frame.
func number(t testing.TB, b []byte) int64 {
	t.Helper()
	f, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if f.Kind == "#info" {
		return -1
	}
	return f.Seq
}

// evens lists the even numbers from first to last.
func evens(first, last int64) (list []int64) {
	for ; first <= last; first += 2 {
		list = append(list, first)
	}
	return list
}

func check(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// serveHTTP starts a server and returns its address.
func serveHTTP(t testing.TB, h http.Handler) string {
	needsWebSockets(t)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}
