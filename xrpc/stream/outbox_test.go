package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage"
)

func TestSubscribe(t *testing.T) {
	log := newLog(10) // numbers 2 to 20
	log.trimTo(6)
	log.forget(12)
	o := &Outbox{Events: log}
	defer o.Close()
	at := func(n int64) *int64 { return &n }
	for what, tc := range map[string]struct {
		cursor *int64
		want   []int64
	}{
		"the last seen":                 {at(16), []int64{18, 20}},
		"in a gap":                      {at(15), []int64{16, 18, 20}},
		"the number of a deleted event": {at(12), []int64{14, 16, 18, 20}},
		"the newest of those trimmed":   {at(6), []int64{8, 10, 14, 16, 18, 20}},
		"just before what is trimmed":   {at(5), []int64{-1, 8, 10, 14, 16, 18, 20}},
		"from the start":                {at(0), []int64{-1, 8, 10, 14, 16, 18, 20}},
	} {
		check(t, what, take(t, o, tc.cursor, len(tc.want)), tc.want)
	}
	for _, cursor := range []int64{21, 1 << 60} {
		for _, err := range o.Subscribe(t.Context(), &cursor) {
			if !errors.Is(err, ErrFutureCursor) {
				t.Errorf("cursor %d: %v", cursor, err)
			}
		}
	}
	testenv.Until(t, "subscribers leave", func() bool { return o.Subscribers() == 0 })
}

// Without a cursor, and with the newest number, a stream begins with what comes next.
func TestSubscribeLive(t *testing.T) {
	log := newLog(10)
	o := &Outbox{Events: log}
	defer o.Close()
	newest := int64(20)
	for what, cursor := range map[string]*int64{"none": nil, "newest": &newest} {
		done := make(chan []int64)
		go func() { done <- take(t, o, cursor, 3) }()
		testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 1 })
		log.mu.Lock()
		first := log.newest + 2
		log.mu.Unlock()
		log.add(2, 0)
		log.add(1, 0)
		got := <-done
		check(t, what, got, evens(first, first+4))
		newest = first + 4
	}
}

// The frames of live subscribers are the same bytes.
func TestFramesAreShared(t *testing.T) {
	log := newLog(0)
	o := &Outbox{Events: log}
	defer o.Close()
	first := make(chan *byte, 2)
	for range 2 {
		go func() {
			for b := range o.Subscribe(t.Context(), nil) {
				first <- &b[0]
				return
			}
		}()
	}
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 2 })
	log.add(1, 0)
	if one, other := <-first, <-first; one != other {
		t.Error("encoded twice")
	}
}

func TestConsumerTooSlow(t *testing.T) {
	log := newLog(3)
	o := &Outbox{Events: log, Window: 10_000}
	defer o.Close()
	// Another subscriber keeps the window going.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fast := make(chan int64, 1000)
	go func() {
		for b, err := range o.Subscribe(ctx, nil) {
			if err != nil {
				return
			}
			fast <- number(t, b)
		}
	}()
	var got []int64
	var end error
	zero := int64(0)
	testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 1 })
	for b, err := range o.Subscribe(t.Context(), &zero) {
		if err != nil {
			end = err
			break
		}
		got = append(got, number(t, b))
		if len(got) == 4 { // it is live; now it stalls
			for range 200 {
				log.add(1, 1000)
				<-fast
			}
		}
		if len(got) == 3 {
			log.add(1, 0)
			<-fast
		}
	}
	// What it had been given before is all that it gets.
	if !errors.Is(end, ErrConsumerTooSlow) || len(got) > 4+batchItems {
		t.Errorf("%d frames, then %v", len(got), end)
	}
	// It comes back and misses nothing.
	last := got[len(got)-1]
	check(t, "after that", take(t, o, &last, int(408-last)/2), evens(last+2, 408))
}

// One that reads the past may be as slow as it likes.
func TestSlowBackfillIsNotTooSlow(t *testing.T) {
	log := newLog(0)
	log.add(2000, 1000)
	o := &Outbox{Events: log, Window: 10_000}
	defer o.Close()
	n := 0
	zero := int64(0)
	for b, err := range o.Subscribe(t.Context(), &zero) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; number(t, b) != int64(2*n) {
			t.Fatalf("frame %d has the number %d", n, number(t, b))
		}
		if n%100 == 0 && n < 2000 {
			log.add(50, 1000) // while it reads
		}
		if n == 2950 {
			break
		}
	}
}

// While a subscriber deals with the past, nothing of the log is held.
func TestBackfillHoldsNothing(t *testing.T) {
	log := newLog(0)
	log.add(3000, 1000)
	o := &Outbox{Events: log}
	defer o.Close()
	zero, n := int64(0), 0
	for _, err := range o.Subscribe(t.Context(), &zero) {
		if err != nil {
			t.Fatal(err)
		}
		if _, open := log.reads(); open > 0 {
			t.Fatal("the log is being read while a frame is dealt with")
		}
		if n++; n == 3000 {
			break
		}
	}
	if ever, _ := log.reads(); ever > 16 {
		t.Errorf("%d reads of the log for 3000 events", ever)
	}
}

// A fault of the log ends the subscriptions that it concerns, and no later ones.
func TestFaults(t *testing.T) {
	log := newLog(10)
	o := &Outbox{Events: log}
	defer o.Close()
	ends := make(chan error)
	subscribe := func(cursor *int64) {
		go func() {
			var end error
			for _, err := range o.Subscribe(t.Context(), cursor) {
				end = err
			}
			ends <- end
		}()
	}
	subscribe(nil)
	subscribe(nil)
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 2 })
	log.setFault(errFault)
	log.add(1, 0)
	for range 2 {
		if err := <-ends; !errors.Is(err, errFault) {
			t.Error(err)
		}
	}
	zero := int64(0)
	subscribe(&zero)
	if err := <-ends; !errors.Is(err, errFault) {
		t.Error(err)
	}
	log.setFault(nil)
	check(t, "after the fault", take(t, o, &zero, 11), evens(2, 22))

	log.mu.Lock()
	log.newest += 2
	log.events = append(log.events, storage.Event{Seq: log.newest, Kind: "#x", Payload: []byte{0x80}})
	log.mu.Unlock()
	subscribe(&zero)
	if err := <-ends; !errors.Is(err, storage.ErrCorrupt) {
		t.Error(err)
	}
	log.add(1, 0)
	at := int64(24)
	check(t, "after what cannot be read", take(t, o, &at, 1), []int64{26})
}

// A fault that hits some while others are stalled does not keep new ones out.
func TestNewSubscribersAfterFault(t *testing.T) {
	log := newLog(0)
	o := &Outbox{Events: log}
	defer o.Close()
	stalled, release := make(chan struct{}), make(chan struct{})
	go func() {
		for range o.Subscribe(t.Context(), nil) {
			close(stalled)
			<-release
			return
		}
	}()
	defer close(release)
	testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 1 })
	log.add(1, 0)
	<-stalled
	log.setFault(errFault)
	log.mu.Lock()
	log.wake()
	log.mu.Unlock()
	testenv.Until(t, "the fault", func() bool {
		o.frames.mu.Lock()
		defer o.frames.mu.Unlock()
		return o.frames.current.win.failed()
	})
	log.setFault(nil)
	done := make(chan []int64)
	go func() { done <- take(t, o, nil, 1) }()
	testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 2 })
	log.add(1, 0)
	check(t, "new subscriber", <-done, []int64{4})
}

func TestContextEnds(t *testing.T) {
	log := newLog(5)
	o := &Outbox{Events: log}
	defer o.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	zero, n := int64(0), 0
	var end error
	for _, err := range o.Subscribe(ctx, &zero) {
		if end = err; err != nil {
			break
		}
		if n++; n == 5 {
			time.AfterFunc(10*time.Millisecond, cancel)
		}
	}
	if !errors.Is(end, context.Canceled) || n != 5 {
		t.Errorf("%d frames, then %v", n, end)
	}
	for _, err := range o.Subscribe(ctx, &zero) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	check(t, "subscribers", o.Subscribers(), 0)
}

func TestClose(t *testing.T) {
	log := newLog(5)
	o := &Outbox{Events: log}
	zero, n := int64(0), 0
	var end error
	for _, err := range o.Subscribe(t.Context(), &zero) {
		if end = err; err != nil {
			break
		}
		if n++; n == 5 {
			go o.Close()
		}
	}
	if !errors.Is(end, ErrClosed) || n != 5 {
		t.Errorf("%d frames, then %v", n, end)
	}
	for _, err := range o.Subscribe(t.Context(), nil) {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
	o.Close()
	(&Outbox{Events: log}).Close()
}

// The pump runs only while somebody is subscribed.
func TestPumpStops(t *testing.T) {
	log := newLog(5)
	o := &Outbox{Events: log}
	defer o.Close()
	at := int64(8)
	for range 20 {
		take(t, o, &at, 1)
	}
	testenv.Until(t, "subscribers leave", func() bool { return o.Subscribers() == 0 })
	if o.frames.current != nil {
		t.Error("a window without readers")
	}
}

// The host is told when the last subscriber has left, not before, and not when it closes the outbox
// itself.
func TestEmpty(t *testing.T) {
	l := newLog(3)
	told := make(chan struct{}, 10)
	o := &Outbox{Events: l, Empty: func() { told <- struct{}{} }}
	subscribe := func() (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		seen, ended := make(chan struct{}, 3), make(chan struct{})
		go func() {
			defer close(ended)
			for _, err := range o.Subscribe(ctx, new(int64)) {
				if err == nil {
					seen <- struct{}{}
				}
			}
		}()
		<-seen
		return func() { cancel(); <-ended }
	}
	a, b := subscribe(), subscribe()
	a()
	c := subscribe()
	b()
	if len(told) != 0 {
		t.Error("told while there was a subscriber")
	}
	c()
	if len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
	subscribe()()
	if len(told) != 2 {
		t.Errorf("told %d times", len(told))
	}
	d := subscribe()
	o.Close()
	d()
	if len(told) != 2 {
		t.Error("told of the closing")
	}
}

// A server without an Outbox sends the same frames, from the log alone.
func TestFramesWithoutAnOutbox(t *testing.T) {
	log := newLog(20) // numbers 2 to 40
	log.trimTo(10)
	for _, cursor := range []int64{0, 8, 9, 10, 11, 40} {
		oldest, newest, err := log.Bounds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var want [][]byte
		if cursor+1 < oldest {
			want = append(want, OutdatedFrame())
		}
		for e, err := range log.Since(t.Context(), cursor) {
			if err != nil {
				t.Fatal(err)
			}
			frame, err := EncodeEvent(e)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, frame)
		}
		var got [][]byte
		if cursor < newest {
			for b, err := range (&Outbox{Events: log}).Subscribe(t.Context(), &cursor) {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, b); len(got) == len(want) {
					break
				}
			}
		}
		check(t, fmt.Sprint("the frames after ", cursor), got, want)
	}
	if f, err := Decode(OutdatedFrame()); err != nil || f.Kind != "#info" || !bytes.Contains(f.Payload, []byte(OutdatedCursor)) {
		t.Error(f, err)
	}
}
