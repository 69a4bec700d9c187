package stream

import (
	"context"
	"errors"
	"fmt"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// scripted is a server that treats each connection by its next step.
type scripted struct {
	steps   []func(c *websocket.Conn, r *http.Request)
	calls   atomic.Int32
	cursors chan string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.cursors <- r.URL.Query().Get("cursor")
	step := s.steps[min(int(s.calls.Add(1)), len(s.steps))-1]
	if step == nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	step(c, r)
}

// numbered is a frame with a number.
func numbered(seq int) []byte {
	return join(object("t", "#test", "op", 1), object("seq", seq))
}

// send sends frames and closes the connection without ceremony.
func send(frames ...[]byte) func(*websocket.Conn, *http.Request) {
	return func(c *websocket.Conn, r *http.Request) {
		for _, f := range frames {
			c.Write(r.Context(), websocket.MessageBinary, f)
		}
	}
}

// consume follows a stream to its end.
func consume(ctx context.Context, c *Consumer) (seqs []int64, end error) {
	for f, err := range c.Frames(ctx) {
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, f.Seq)
	}
	return seqs, nil
}

func TestConsumer(t *testing.T) {
	future, slow := ErrFutureCursor.Encode(), ErrConsumerTooSlow.Encode()
	info := infoFrame(OutdatedCursor, "").Encode()
	unknown := join(object("t", "#x", "op", 7), object("seq", 99))
	text := func(c *websocket.Conn, r *http.Request) {
		c.Write(r.Context(), websocket.MessageText, []byte("hello"))
	}
	at := func(n int64) *int64 { return &n }
	for what, tc := range map[string]struct {
		cursor  *int64
		steps   []func(*websocket.Conn, *http.Request)
		seqs    []int64
		cursors []string
		err     error
	}{
		"live": {nil, []func(*websocket.Conn, *http.Request){send(numbered(5), numbered(7), future)},
			[]int64{5, 7}, []string{""}, ErrFutureCursor},
		"from a cursor": {at(3), []func(*websocket.Conn, *http.Request){send(numbered(5), future)},
			[]int64{5}, []string{"3"}, ErrFutureCursor},
		"resumes": {at(0), []func(*websocket.Conn, *http.Request){send(numbered(5), numbered(6)), nil, send(), send(numbered(8)), send(future)},
			[]int64{5, 6, 8}, []string{"0", "6", "6", "6", "8"}, ErrFutureCursor},
		"resumes without a cursor": {nil, []func(*websocket.Conn, *http.Request){nil, send(numbered(5)), send(numbered(6), future)},
			[]int64{5, 6}, []string{"", "", "5"}, ErrFutureCursor},
		"too slow": {nil, []func(*websocket.Conn, *http.Request){send(numbered(5), slow), send(numbered(6), future)},
			[]int64{5, 6}, []string{"", "5"}, ErrFutureCursor},
		"frames without a number": {at(4), []func(*websocket.Conn, *http.Request){send(info, numbered(5)), send(info, future)},
			[]int64{0, 5, 0}, []string{"4", "5"}, ErrFutureCursor},
		"frames of unknown operations": {at(4), []func(*websocket.Conn, *http.Request){send(unknown, numbered(5), unknown, future)},
			[]int64{5}, []string{"4"}, ErrFutureCursor},
		"a server that counts from the cursor": {at(4), []func(*websocket.Conn, *http.Request){send(numbered(4), numbered(5)), send(numbered(5), numbered(6), future)},
			[]int64{5, 6}, []string{"4", "5"}, ErrFutureCursor},
		"a number twice":      {at(4), []func(*websocket.Conn, *http.Request){send(numbered(5), numbered(5))}, []int64{5}, []string{"4"}, ErrSequence},
		"numbers that shrink": {nil, []func(*websocket.Conn, *http.Request){send(numbered(5), numbered(4))}, []int64{5}, []string{""}, ErrSequence},
		"a new beginning":     {at(100), []func(*websocket.Conn, *http.Request){send(numbered(1))}, nil, []string{"100"}, ErrSequence},
		"a malformed frame":   {nil, []func(*websocket.Conn, *http.Request){send(numbered(5), []byte{0xff})}, []int64{5}, []string{""}, ErrFrame},
		"text":                {nil, []func(*websocket.Conn, *http.Request){text}, nil, []string{""}, ErrFrame},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := &scripted{steps: tc.steps, cursors: make(chan string, 100)}
			c := &Consumer{URL: serveHTTP(t, s), Cursor: tc.cursor, MaxDelay: time.Millisecond}
			seqs, err := consume(t.Context(), c)
			if !errors.Is(err, tc.err) {
				t.Error(err)
			}
			check(t, "numbers", seqs, tc.seqs)
			close(s.cursors)
			var cursors []string
			for x := range s.cursors {
				cursors = append(cursors, x)
			}
			check(t, "cursors", cursors, tc.cursors)
		})
	}
}

// A frame that was not dealt with comes again.
func TestConsumerStops(t *testing.T) {
	log := newLog(10)
	o := &Outbox{Events: log}
	defer o.Close()
	zero := int64(0)
	c := &Consumer{URL: strings.Replace(serveHTTP(t, o), "http", "ws", 1) + "/?x=y", Cursor: &zero}
	for want := range int64(5) {
		for f, err := range c.Frames(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if f.Seq == 2*want+4 {
				break
			}
		}
		check(t, "cursor", *c.Cursor, 2*want+2)
	}
	testenv.Until(t, "connections close", func() bool { return o.Subscribers() == 0 })
}

func TestConsumerRetry(t *testing.T) {
	s := &scripted{steps: []func(*websocket.Conn, *http.Request){nil}, cursors: make(chan string, 100)}
	var told []error
	enough := errors.New("enough")
	c := &Consumer{URL: serveHTTP(t, s), MaxDelay: time.Millisecond, Retry: func(err error) error {
		if told = append(told, err); len(told) == 3 {
			return enough
		}
		return nil
	}}
	if _, err := consume(t.Context(), c); err != enough || !strings.Contains(told[0].Error(), "502") {
		t.Errorf("%v: %v", err, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c = &Consumer{URL: c.URL, Retry: func(error) error { cancel(); return nil }}
	if _, err := consume(ctx, c); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, url := range []string{"::", "ftp://x.example", ""} {
		c = &Consumer{URL: url, Retry: func(err error) error { return fmt.Errorf("no: %w", err) }}
		if _, err := consume(t.Context(), c); err == nil {
			t.Errorf("%q: no error", url)
		}
	}
}

func TestConsumerContext(t *testing.T) {
	s := &scripted{cursors: make(chan string, 100), steps: []func(*websocket.Conn, *http.Request){func(c *websocket.Conn, r *http.Request) {
		c.Write(r.Context(), websocket.MessageBinary, numbered(1))
		c.Read(r.Context())
	}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &Consumer{URL: serveHTTP(t, s)}
	var end error
	for _, err := range c.Frames(ctx) {
		end = err
		cancel()
	}
	if !errors.Is(end, context.Canceled) {
		t.Error(end)
	}
}

func TestConsumerBoundsFrames(t *testing.T) {
	s := &scripted{cursors: make(chan string, 100), steps: []func(*websocket.Conn, *http.Request){send(numbered(1), make([]byte, 2000)), send(ErrFutureCursor.Encode())}}
	tooBig := false
	c := &Consumer{URL: serveHTTP(t, s), MaxFrame: 1000, MaxDelay: time.Millisecond, Retry: func(err error) error {
		tooBig = errors.Is(err, websocket.ErrMessageTooBig)
		return nil
	}}
	if _, err := consume(t.Context(), c); !errors.Is(err, ErrFutureCursor) || !tooBig {
		t.Errorf("%v, too big: %v", err, tooBig)
	}
}

// A URL that leads nowhere ends the stream; it is not tried again for ever.
func TestConsumersWithoutAURL(t *testing.T) {
	for _, url := range []string{"", "pds.example.com", "ftp://pds.example.com", "https://", "/xrpc/com.atproto.sync.subscribeRepos", "https://%zz"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for _, err := range (&Consumer{URL: url}).Frames(ctx) {
			if err == nil || ctx.Err() != nil {
				t.Errorf("%q: %v", url, err)
			}
		}
		cancel()
	}
}

func TestOutboxesWithoutALog(t *testing.T) {
	for name, use := range map[string]func(){
		"an Outbox":                    func() { (&Outbox{}).Subscribers() },
		"a JSONView":                   func() { (&JSONView{}).Subscribers() },
		"a JSONView of such an Outbox": func() { (&JSONView{Outbox: &Outbox{}}).Subscribers() },
	} {
		func() {
			defer func() {
				if v, ok := recover().(string); !ok || !strings.Contains(v, "is missing") {
					t.Errorf("%s: %v", name, v)
				}
			}()
			use()
		}()
	}
}

// What a Follower remembers of an account does not depend on how long the other side makes its
// name.
func TestStatesOfLongNames(t *testing.T) {
	s := memoryStates{}
	a, b := syntax.DID("did:web:"+strings.Repeat("a", 2000)), syntax.DID("did:web:"+strings.Repeat("a", 2001))
	for i, did := range []syntax.DID{a, b} {
		if err := s.SetState(t.Context(), did, commit.State{Rev: syntax.NewTID(time.Unix(int64(i), 0), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	x, _ := s.State(t.Context(), a)
	y, _ := s.State(t.Context(), b)
	if x == y || x.Rev == "" || len(s) != 2 {
		t.Errorf("%v, %v", x, y)
	}
	for key := range s {
		if len(key) != 32 {
			t.Errorf("a key of %d bytes", len(key))
		}
	}
}

func TestPrefixesOfAnyLength(t *testing.T) {
	f, err := newFilter(filterOptions{Collections: []string{strings.Repeat("a", 100_000) + ".*"}})
	if err != nil || f.size() > 1000 || f.message(&message{collection: "com.example.note"}) {
		t.Errorf("a prefix of 100,000 bytes: %+v, %v", f, err)
	}
	if _, err := newFilter(filterOptions{Collections: []string{"app.*", "app.bsky.feed.*"}}); err != nil {
		t.Error(err)
	}
}

// Large frames are read when there is room, and it is told when they are no longer needed.
func TestLargeFrames(t *testing.T) {
	large := func(seq, size int) []byte {
		return join(object("t", "#test", "op", 1), object("seq", seq, "data", strings.Repeat("x", size)))
	}
	s := &scripted{cursors: make(chan string, 10), steps: []func(*websocket.Conn, *http.Request){
		send(large(1, 100), large(2, 3*LargeFrame), large(3, 100), large(4, 2*LargeFrame), large(5, 1<<20)),
	}}
	url := serveHTTP(t, s)
	asked, now := 0, 0
	c := Consumer{URL: url, Cursor: new(int64), MaxFrame: 512 << 10, Retry: func(err error) error { return err },
		Large: func(context.Context) (func(), error) {
			asked++
			now++
			return func() { now-- }, nil
		}}
	for f, err := range c.Frames(t.Context()) {
		if err != nil {
			if !errors.Is(err, ErrFrameSize) {
				t.Errorf("it ends with %v", err)
			}
			break
		}
		if want := 1 - int(f.Seq)%2; now != want {
			t.Errorf("frame %d: %d places, want %d", f.Seq, now, want)
		}
	}
	if asked != 3 || now != 0 || *c.Cursor != 4 {
		t.Errorf("asked %d times, %d places are taken, cursor %d", asked, now, *c.Cursor)
	}
	full := errors.New("full")
	c = Consumer{URL: url, Cursor: new(int64), Large: func(context.Context) (func(), error) { return nil, full }, Retry: func(err error) error { return err }}
	if seqs, err := consume(t.Context(), &c); len(seqs) != 1 || !errors.Is(err, full) {
		t.Errorf("%v, %v", seqs, err)
	}
}
