package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/statusphere/internal/index"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// live keeps open pages up to date, with server-sent events. The id of an event is the number of a
// row in the index's log of changes: a page that comes back says the last one that it has, and gets
// what it has missed.
//
// A page is nothing but a position. The newest events are in a window in memory, each encoded once;
// before that, they are read from the index. So there is no queue for each page that could grow. A
// page that takes nothing for a while is cut off, and comes back.
type live struct {
	index   *index.Index
	timeout time.Duration // for a page to take what it is sent

	mu     sync.Mutex
	window []event // ascending
	size   int     // bytes of the window
	before int64   // the number of the change before the window
	top    []byte  // the newest event about all statuses together
	tops   int     // counts these
	news   chan struct{}
	ended  bool
}

// event is an encoded event.
type event struct {
	id   int64
	text []byte
}

const (
	windowEvents = 500
	windowBytes  = 256 << 10
	readChanges  = 200              // at a time
	liveBeat     = 20 * time.Second // a quiet connection shows that it lives
	liveTimeout  = 10 * time.Second
	livePause    = 100 * time.Millisecond
)

func newLive(x *index.Index) *live {
	return &live{index: x, timeout: liveTimeout, news: make(chan struct{}), before: -1}
}

// run reads changes as they come.
func (l *live) run(ctx context.Context, log *slog.Logger) {
	defer l.end()
	for ctx.Err() == nil {
		wait := l.index.Wait()
		if err := l.read(ctx); err != nil && ctx.Err() == nil {
			log.Error("the changes could not be read", "error", err)
		}
		select {
		case <-wait:
		case <-time.After(liveBeat):
		case <-ctx.Done():
			return
		}
		select { // changes that come together are sent together
		case <-time.After(livePause):
		case <-ctx.Done():
		}
	}
}

// read adds the changes since the last one to the window.
func (l *live) read(ctx context.Context) error {
	l.mu.Lock()
	last := l.last()
	l.mu.Unlock()
	if last < 0 { // the first time
		p, err := l.index.Page(ctx, "")
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.before, last = p.Last, p.Last
		l.mu.Unlock()
	}
	var added []event
	for {
		list, ok, err := l.index.Changes(ctx, last, readChanges)
		if err != nil {
			return err
		}
		if !ok { // more at once than the index keeps
			p, err := l.index.Page(ctx, "")
			if err != nil {
				return err
			}
			l.mu.Lock()
			l.window, l.size, l.before = nil, 0, p.Last
			l.mu.Unlock()
			added, last = nil, p.Last
			continue
		}
		for _, c := range list {
			e, err := encode(c)
			if err != nil {
				return err
			}
			added, last = append(added, e), c.ID
		}
		if len(list) < readChanges {
			break
		}
	}
	top, people, err := l.index.Top(ctx)
	if err != nil {
		return err
	}
	text, err := encodeTop(top, people)
	if err != nil {
		return err
	}
	l.add(added, text)
	return nil
}

// add adds events to the window, and wakes the pages.
func (l *live) add(list []event, top []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range list {
		l.window = append(l.window, e)
		l.size += len(e.text)
	}
	drop := 0
	for l.size > windowBytes || len(l.window)-drop > windowEvents {
		l.size -= len(l.window[drop].text)
		l.before = l.window[drop].id
		drop++
	}
	l.window = append([]event(nil), l.window[drop:]...)
	if !bytes.Equal(top, l.top) {
		l.top = top
		l.tops++
	} else if len(list) == 0 {
		return
	}
	close(l.news)
	l.news = make(chan struct{})
}

// last is the number of the newest change that was read; negative: none was.
func (l *live) last() int64 {
	if n := len(l.window); n > 0 {
		return l.window[n-1].id
	}
	return l.before
}

// end ends all pages.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.news)
	l.news = make(chan struct{})
}

// next returns the events after a position, or a channel that is closed when there are some. behind
// says that they are not in the window.
func (l *live) next(after int64, tops int) (texts [][]byte, last int64, nowTops int, behind bool, wait <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil, after, tops, false, nil
	}
	if after < l.before {
		return nil, after, tops, true, nil
	}
	last = after
	for _, e := range l.window {
		if e.id > after {
			texts, last = append(texts, e.text), e.id
		}
	}
	if l.tops != tops && l.top != nil {
		texts = append(texts, l.top)
	}
	return texts, last, l.tops, false, l.news
}

// serveLive sends events to one page.
func (s *Server) serveLive(w http.ResponseWriter, r *http.Request) {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "for pages of this app", http.StatusForbidden)
		return
	}
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	after, err := strconv.ParseInt(text, 10, 64)
	if err != nil || after < 0 {
		http.Error(w, "after is the number of an event", http.StatusBadRequest)
		return
	}
	leave, err := s.pages.Enter(r.Context(), limit.From(r))
	if err != nil {
		refuse(w, r, err)
		return
	}
	defer leave()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy in front must not wait for more
	s.live.serve(r.Context(), http.NewResponseController(w), w, after)
}

// serve sends events until the page is closed, is too slow, or has to be read again.
func (l *live) serve(ctx context.Context, rc *http.ResponseController, w http.ResponseWriter, after int64) {
	send := func(texts ...[]byte) bool {
		if rc.SetWriteDeadline(time.Now().Add(l.timeout)) != nil {
			return false
		}
		for _, text := range texts {
			if _, err := w.Write(text); err != nil {
				return false
			}
		}
		return rc.Flush() == nil
	}
	_ = rc.SetReadDeadline(time.Time{}) // nothing more is read; it lasts as long as the page is open
	// The index says whether the position is one that it knows.
	if _, ok, err := l.index.Changes(ctx, after, 1); err != nil {
		return
	} else if !ok {
		send([]byte("event: reset\ndata: {}\n\n"))
		return
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	beat := time.NewTicker(liveBeat)
	defer beat.Stop()
	for tops := 0; ; {
		texts, last, now, behind, wait := l.next(after, tops)
		if behind {
			var ok bool
			if texts, last, ok = l.past(ctx, after); !ok {
				send([]byte("event: reset\ndata: {}\n\n"))
				return
			}
		} else if wait == nil {
			return // the server ends
		} else {
			tops = now
		}
		if len(texts) > 0 && !send(texts...) {
			return
		}
		if after = last; behind {
			continue
		}
		select {
		case <-wait:
		case <-beat.C:
			if !send([]byte(":\n\n")) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// past reads events that are not in the window any more.
func (l *live) past(ctx context.Context, after int64) (texts [][]byte, last int64, ok bool) {
	list, ok, err := l.index.Changes(ctx, after, readChanges)
	if err != nil || !ok || len(list) == 0 {
		return nil, 0, false
	}
	for _, c := range list {
		e, err := encode(c)
		if err != nil {
			return nil, 0, false
		}
		texts, last = append(texts, e.text), e.id
	}
	return texts, last, true
}

// refuse answers a request for which there is no place.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var full *limit.Error
	if !errors.As(err, &full) {
		full = new(limit.Error) // its client has gone
	}
	limit.WriteError(w, r, full)
}

// message is the data of an event.
type message struct {
	URI  string `json:"uri,omitempty"`
	DID  string `json:"did,omitempty"`
	Name string `json:"name,omitempty"`
	At   string `json:"handle,omitempty"`
	Text string `json:"status,omitempty"`
	Time string `json:"at,omitempty"`
}

// encode encodes a change. A status that is gone by now is told as such.
func encode(c index.Change) (event, error) {
	kind, m := c.Kind, message{URI: c.URI, DID: string(c.Person.DID)}
	switch {
	case kind == index.Renamed:
		m.Name, m.At = named(c.Person), at(c.Person)
	case kind == index.Shown && c.Post == nil:
		kind = index.Removed
	case kind == index.Shown:
		m.Name, m.At = named(c.Post.Person), at(c.Post.Person)
		m.Text, m.Time = c.Post.Text, c.Post.At.Format(time.RFC3339Nano)
	}
	doc, err := data.MarshalJSON(m)
	if err != nil {
		return event{}, err
	}
	return event{c.ID, fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", c.ID, kind, doc)}, nil
}

// encodeTop encodes the current statuses. The event has no id: a page always gets the newest.
func encodeTop(list []index.Top, people int64) ([]byte, error) {
	type top struct {
		Text  string `json:"status"`
		Count int64  `json:"count"`
	}
	m := struct {
		Top    []top `json:"top"`
		People int64 `json:"people"`
	}{People: people}
	for _, t := range list {
		m.Top = append(m.Top, top(t))
	}
	doc, err := data.MarshalJSON(m)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: top\ndata: %s\n\n", doc), nil
}
