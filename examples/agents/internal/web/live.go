package web

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/repo/follow"
)

// live keeps open pages up to date. There are two kinds of events: what came over the relay, whose
// id is its number in the relay's log, and the state of everything else, of which a page needs only
// the newest. A page that comes back says the last number that it has, and gets what it has missed.
//
// A page is a position in a window of the newest events, so nothing grows with slow pages.
type live struct {
	s *Server

	mu     sync.Mutex
	window []event
	before int64  // the number of the event before the window
	state  []byte // the newest
	states int    // counts them
	news   chan struct{}
	ended  bool
	pages  int
}

type event struct {
	id   int64
	text []byte
}

const (
	windowEvents = 300
	maxPages     = 50
	pause        = 150 * time.Millisecond // between two states
	beat         = 15 * time.Second
	patience     = 10 * time.Second // for a page to take what it is sent
	history      = 5 * time.Minute  // that a page shows of the time before it was opened
)

func newLive(s *Server) *live { return &live{s: s, news: make(chan struct{})} }

// run reads the relay's log and the state until the context ends.
func (l *live) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			l.read(ctx)
			sleep.For(ctx, pause)
		}
	})
	for ctx.Err() == nil {
		l.look(ctx)
		changed := l.s.cfg.Agents.Changed()
		sleep.For(ctx, pause)
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	running.Wait()
	l.mu.Lock()
	l.ended = true
	l.wake()
	l.mu.Unlock()
}

// wake wakes the pages. The caller holds mu.
func (l *live) wake() {
	close(l.news)
	l.news = make(chan struct{})
}

// read adds what comes over the relay to the window. Numbers in the log are not less than the time
// in microseconds, so the past minutes can be found by it.
func (l *live) read(ctx context.Context) {
	log := l.s.cfg.Host.Relay.Log()
	l.mu.Lock()
	after := l.before
	if n := len(l.window); n > 0 {
		after = l.window[n-1].id
	}
	l.mu.Unlock()
	if after == 0 {
		_, newest, err := log.Bounds(ctx)
		if err != nil {
			return
		}
		after = max(0, newest-history.Microseconds())
	}
	for e, err := range follow.Events(ctx, log, after) {
		if err != nil {
			return
		}
		doc, err := data.MarshalJSON(l.s.line(e))
		if err != nil {
			continue
		}
		l.mu.Lock()
		l.window = append(l.window, event{e.Seq, fmt.Appendf(nil, "id: %d\nevent: relay\ndata: %s\n\n", e.Seq, doc)})
		if drop := len(l.window) - windowEvents; drop > 0 {
			l.before = l.window[drop-1].id
			l.window = append([]event(nil), l.window[drop:]...)
		}
		l.wake()
		l.mu.Unlock()
	}
}

// look looks at the state, if a page is open.
func (l *live) look(ctx context.Context) {
	l.mu.Lock()
	open := l.pages > 0
	l.mu.Unlock()
	if !open {
		return
	}
	state, err := l.s.state(ctx)
	if err != nil {
		return
	}
	doc, err := data.MarshalJSON(state)
	if err != nil {
		return
	}
	text := fmt.Appendf(nil, "event: state\ndata: %s\n\n", doc)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !bytes.Equal(text, l.state) {
		l.state = text
		l.states++
		l.wake()
	}
}

// next returns what a page has not seen, and a channel that is closed when there is more.
func (l *live) next(after int64, states int) (texts [][]byte, last int64, now int, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, after, states, nil
	}
	last = after
	if after > 0 && after < l.before { // it was away for too long
		texts = append(texts, []byte("event: gap\ndata: {}\n\n"))
	}
	for _, e := range l.window {
		if e.id > after {
			texts, last = append(texts, e.text), e.id
		}
	}
	if l.states != states {
		texts = append(texts, l.state)
	}
	return texts, last, l.states, l.news
}

// enter counts a page.
func (l *live) enter(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pages+n > maxPages {
		return false
	}
	l.pages += n
	return true
}

// serve sends events to one page.
func (l *live) serve(w http.ResponseWriter, r *http.Request) {
	var after int64
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "Last-Event-ID is a number", http.StatusBadRequest)
			return
		}
		after = n
	}
	if !l.enter(1) {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer l.enter(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	send := func(texts ...[]byte) bool {
		if rc.SetWriteDeadline(time.Now().Add(patience)) != nil {
			return false
		}
		for _, text := range texts {
			if _, err := w.Write(text); err != nil {
				return false
			}
		}
		return rc.Flush() == nil
	}
	l.look(r.Context())
	if !send([]byte("retry: 700\n\n")) {
		return
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for states := -1; ; {
		texts, last, now, more := l.next(after, states)
		if more == nil || len(texts) > 0 && !send(texts...) {
			return
		}
		after, states = last, now
		select {
		case <-more:
		case <-tick.C:
			if !send([]byte(":\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
