package stream

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// stallingLog is a log whose Since waits for resume when it has yielded all.
type stallingLog struct {
	*fakeLog
	resume chan struct{}
}

func (l *stallingLog) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		for e, err := range l.fakeLog.Since(ctx, seq) {
			if !yield(e, err) {
				return
			}
		}
		select {
		case <-l.resume:
		case <-ctx.Done():
		}
	}
}

// TestForgetWhileRead: events that are deleted when the log has just been read are not sent, and those
// that come later are.
func TestForgetWhileRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &stallingLog{newLog(0), make(chan struct{})}
		o := &Outbox{Events: log}
		var got []int64
		go func() {
			for b, err := range o.Subscribe(t.Context(), nil) {
				if err != nil {
					return
				}
				f, err := Decode(b)
				if err != nil {
					t.Error(err)
				}
				got = append(got, f.Seq)
			}
		}()
		synctest.Wait()
		log.add(2, 0)
		synctest.Wait()
		log.forget(2)
		o.Forget("did:web:2.example", 10)
		log.resume <- struct{}{}
		synctest.Wait()
		log.add(6, 0) // up to 16, which is of the same account
		synctest.Wait()
		log.resume <- struct{}{}
		synctest.Wait()
		if want := []int64{4, 6, 8, 10, 12, 14, 16}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		o.Close()
	})
}

// TestForgetWindow: what says that an account is deleted stays, and so does what comes after it.
func TestForgetWindow(t *testing.T) {
	w := newWindow(0)
	const a, b = syntax.DID("did:web:a.example"), syntax.DID("did:web:b.example")
	w.add([]*item{{seq: 1, did: a}, {seq: 2, did: b}, {seq: 3, did: a}, {seq: 4, did: a}}, 1<<20)
	w.forget(a, 3)
	w.add([]*item{{seq: 5, did: a}}, 1<<20)
	items, err := w.after(0, 10, 1<<20)
	var got []int64
	for _, it := range items {
		got = append(got, it.seq)
	}
	if want := []int64{2, 3, 4, 5}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// TestForgetPages: a page that is being read when an account is forgotten is not kept, and nobody who
// comes later is given it.
func TestForgetPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pages
		gate, loads := make(chan struct{}), int64(0)
		load := func(context.Context, int64) (*page, error) {
			loads++
			it := &item{seq: loads}
			<-gate
			return &page{end: 10, items: []*item{it}, more: true}, nil
		}
		read := func(want int64) {
			if items, _, err := p.after(t.Context(), 0, load); err != nil || items[0].seq != want {
				t.Errorf("%v, %v; want page %d", items, err, want)
			}
		}
		go read(1)
		synctest.Wait()
		p.clear()
		go read(2)
		synctest.Wait()
		close(gate)
		synctest.Wait()
		read(2)
		if len(p.kept) != 1 || len(p.reads) != 0 {
			t.Errorf("%d pages are kept, and %d read", len(p.kept), len(p.reads))
		}
	})
}

// TestWatchBeforeConnection: a connection that takes longer to open than it may be silent is not asked
// for signs of life.
func TestWatchBeforeConnection(t *testing.T) {
	for range 1000 {
		ended := make(chan struct{})
		w := newWatch(time.Nanosecond, func() { close(ended) })
		<-ended
		runtime.Gosched()
		w.stop()
	}
}
