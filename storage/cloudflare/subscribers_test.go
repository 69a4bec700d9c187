package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// What a socket keeps is read as it was written, and nothing else is.
func FuzzNote(f *testing.F) {
	f.Add("1", "2 3 4 127.0.0.1/32")
	f.Add("0", "0 0 0 unknown")
	f.Add("-1", "2 3 4 x")
	f.Add("1", "99999999999999999999 3 4 x")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, id, note string) {
		sub, err := parseSubscriber(id, note)
		if err != nil {
			return
		}
		again, err := parseSubscriber(fmt.Sprint(sub.id), sub.note())
		if err != nil || !reflect.DeepEqual(again, sub) {
			t.Fatalf("%q %q: %+v, then %+v, %v", id, note, sub, again, err)
		}
	})
}

var now0 = time.Unix(1_800_000_000, 0)

func someSubscribers(cfg SocketsConfig, positions ...int64) *subscribers {
	cfg.defaults()
	s := &subscribers{cfg: cfg, byID: make(map[int64]*subscriber)}
	for i, p := range positions {
		s.add(&subscriber{position: p, since: now0, network: fmt.Sprint("n", i%3)})
	}
	return s
}

// Subscribers at the same event are served together, and each has a number of its own, also after
// others have left.
func TestGroups(t *testing.T) {
	s := someSubscribers(SocketsConfig{}, 5, 7, 5, 7, 9)
	s.remove(3)
	s.add(&subscriber{position: 9, live: true})
	groups, delay := s.due(now0)
	got := ""
	for _, g := range groups {
		got += fmt.Sprint(g.position, g.live)
		for _, sub := range g.members {
			got += fmt.Sprint(" ", sub.id)
		}
		got += ";"
	}
	if want := "5 false 1;7 false 2 4;9 false 5;9 true 6;"; got != want || delay != 0 {
		t.Errorf("%s after %v, want %s", got, delay, want)
	}
}

// A reader that is sent more than its rate waits, others do not.
func TestPacing(t *testing.T) {
	s := someSubscribers(SocketsConfig{Rate: 1000}, 1, 2)
	fast, slow := s.byID[1], s.byID[2]
	if most := pageFrames(1000); most != 250 {
		t.Errorf("pages of %d bytes", most)
	}
	now, sent := now0, 0
	for now.Before(now0.Add(10 * time.Second)) {
		groups, delay := s.due(now)
		for _, g := range groups {
			for _, sub := range g.members {
				if sub == slow {
					slow.sent(now, page{bytes: 250, last: slow.position + 1, more: true}, 1000)
					sent += 250
				}
			}
		}
		if delay <= 0 {
			delay = s.sooner(0, []*subscriber{slow}, now)
		}
		if delay < time.Millisecond {
			t.Fatalf("a delay of %v", delay)
		}
		now = now.Add(delay)
	}
	if sent < 9_500 || sent > 10_750 {
		t.Errorf("%d bytes in ten seconds", sent)
	}
	if fast.next.After(now0) {
		t.Error("another one has to wait")
	}
}

// Whoever may have most unread is closed: when it has too much, or when all have.
func TestTooSlow(t *testing.T) {
	s := someSubscribers(SocketsConfig{Unread: 1000, TotalUnread: 1500}, 1, 1, 1)
	send := func(id int64, n int) { s.byID[id].sent(now0, page{bytes: n, last: 2}, 1<<20) }
	send(1, 1000)
	send(2, 400)
	if sub := s.tooSlow(now0); sub != nil {
		t.Errorf("%d is too slow", sub.id)
	}
	send(2, 101)
	if sub := s.tooSlow(now0); sub == nil || sub.id != 1 {
		t.Errorf("all together have too much: %+v", sub)
	}
	s.remove(1)
	send(3, 1001)
	if sub := s.tooSlow(now0); sub == nil || sub.id != 3 {
		t.Errorf("one has too much: %+v", sub)
	}
	if sub := s.tooSlow(now0.Add(time.Second)); sub != nil {
		t.Errorf("a second later: %+v", sub)
	}
	s.remove(2)
	s.remove(3)
	if sub := s.tooSlow(now0); sub != nil {
		t.Errorf("nobody is there: %+v", sub)
	}
}

func TestRoom(t *testing.T) {
	s := someSubscribers(SocketsConfig{Max: 5, MaxPerNetwork: 2}, 1, 1, 1, 1)
	if s.room("n0") || !s.room("n1") || !s.room("new") {
		t.Error("room for a network that is full, or none for another one")
	}
	s.add(&subscriber{network: "n4"})
	if s.room("new") {
		t.Error("room beyond Max")
	}
}

// fakeLog is a log of events with the numbers 10, 20, …
type fakeLog struct {
	storage.Events
	oldest int64
	count  int64
	err    error
}

func (l fakeLog) Bounds(context.Context) (int64, int64, error) { return l.oldest, 10 * l.count, l.err }

func (l fakeLog) Since(_ context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		for n := seq/10 + 1; n <= l.count; n++ {
			if !yield(storage.Event{Seq: 10 * n, Kind: "#x", Payload: []byte{0xa0}}, l.err) || l.err != nil {
				return
			}
		}
	}
}

func TestReadPage(t *testing.T) {
	frame, err := stream.EncodeEvent(storage.Event{Seq: 10, Kind: "#x", Payload: []byte{0xa0}})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		log      fakeLog
		position int64
		live     bool
		most     int
		frames   int
		outdated bool
		last     int64
		more     bool
	}{
		"all":               {log: fakeLog{oldest: 1, count: 3}, most: 1000, frames: 3, last: 30},
		"one at least":      {log: fakeLog{oldest: 1, count: 3}, most: 1, frames: 1, last: 10, more: true},
		"no more":           {log: fakeLog{oldest: 1, count: 1}, most: 1, frames: 1, last: 10},
		"nothing":           {log: fakeLog{oldest: 1, count: 3}, position: 30, most: 1000, last: 30},
		"events are gone":   {log: fakeLog{oldest: 12, count: 3}, position: 10, most: 1000, frames: 2, outdated: true, last: 30},
		"it has seen these": {log: fakeLog{oldest: 12, count: 3}, position: 11, most: 1000, frames: 2, last: 30},
		"it is live":        {log: fakeLog{oldest: 31, count: 3}, position: 20, live: true, most: 1000, frames: 1, last: 30},
	} {
		p, err := readPage(t.Context(), c.log, c.position, c.live, c.most)
		want := c.frames * len(frame)
		if c.outdated {
			want += len(stream.OutdatedFrame())
		}
		if err != nil || p.last != c.last || p.more != c.more || p.bytes < want || p.bytes > want+c.frames {
			t.Errorf("%s: %d bytes up to %d, more: %v, %v", what, p.bytes, p.last, p.more, err)
		}
	}
	broken := errors.New("broken")
	for _, live := range []bool{true, false} {
		if _, err := readPage(t.Context(), fakeLog{oldest: 1, count: 1, err: broken}, 0, live, 10); !errors.Is(err, broken) {
			t.Errorf("live %v: %v", live, err)
		}
	}
}
