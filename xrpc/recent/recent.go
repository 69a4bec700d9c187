// Package recent remembers the most recent warnings and errors of a server, for its operator.
//
// [Errors] wraps a log handler. It passes everything on, and remembers warnings and errors: the
// message, the error, the XRPC method and a few other attributes that are not personal data. A
// repetition increments a count. So memory is bounded, however many errors there are, and a flood
// of one kind does not displace others.
//
//	errs := &recent.Errors{}
//	log := slog.New(errs.Handler(slog.NewTextHandler(os.Stderr, nil)))
//	…
//	for _, e := range errs.List() { … }
//
// Error texts quote client input, so they are cleaned: quoted parts, DIDs, e-mail addresses,
// network addresses, unknown host names, and long random-looking strings are replaced by "…". The
// log itself keeps them.
package recent

import (
	"container/list"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Entry is a warning or error that has occurred once or several times.
type Entry struct {
	// First and Last are the times of its first and last remembered occurrence, and Count their
	// number.
	First, Last time.Time
	Count       int
	Level       slog.Level
	// Message is the log message, Method the XRPC method, and Error the cleaned text of the error.
	Message, Method, Error string
	// More has further attributes, for example "status=500 relay=https://relay.example.net".
	More string
}

// Errors remembers warnings and errors. The zero value works. It is safe for concurrent use. Do not
// change its fields after the first use.
type Errors struct {
	// Bytes bounds the memory. The newest entry is always kept. 0: 256 KiB.
	Bytes int
	// Level is the minimum level. The zero value keeps warnings and errors.
	Level slog.Leveler
	// Hosts are host names that texts may contain: those of relays, of the did:plc directory, of
	// the server itself. Names below them are removed, since they may be handles.
	Hosts []string

	mu    sync.Mutex
	order list.List // of *Entry, the newest first
	by    map[key]*list.Element
	size  int
}

// key tells entries apart.
type key struct {
	level                       slog.Level
	message, method, text, more string
}

func (e *Entry) key() key { return key{e.Level, e.Message, e.Method, e.Error, e.More} }

// size is about how many bytes an entry takes.
func (e *Entry) size() int {
	return 400 + 2*(len(e.Message)+len(e.Method)+len(e.Error)+len(e.More))
}

func (x *Errors) level() slog.Level {
	if x.Level == nil {
		return slog.LevelWarn
	}
	return x.Level.Level()
}

// add remembers an entry.
func (x *Errors) add(e Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at := x.by[e.key()]; at != nil {
		old := at.Value.(*Entry)
		old.Count++
		old.Last = e.Last
		x.order.MoveToFront(at)
		return
	}
	if x.by == nil {
		x.by = make(map[key]*list.Element)
	}
	x.by[e.key()] = x.order.PushFront(&e)
	x.size += e.size()
	most := x.Bytes
	if most == 0 {
		most = 256 << 10
	}
	for x.size > most && x.order.Len() > 1 {
		last := x.order.Back()
		old := x.order.Remove(last).(*Entry)
		delete(x.by, old.key())
		x.size -= old.size()
	}
}

// List returns the remembered entries, latest first.
func (x *Errors) List() []Entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]Entry, 0, x.order.Len())
	for at := x.order.Front(); at != nil; at = at.Next() {
		out = append(out, *at.Value.(*Entry))
	}
	return out
}

// Handler returns a handler that passes records on to next, and remembers warnings and errors even
// if next is not enabled for them.
func (x *Errors) Handler(next slog.Handler) slog.Handler { return &handler{errors: x, next: next} }

// handler is a slog.Handler. attrs are those of WithAttrs; grouped: further ones belong to a group.
type handler struct {
	errors  *Errors
	next    slog.Handler
	attrs   Entry
	grouped bool
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.errors.level() || h.next.Enabled(ctx, l)
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= h.errors.level() {
		e := h.attrs
		e.First, e.Last, e.Count, e.Level = r.Time, r.Time, 1, r.Level
		e.Message = clip(r.Message, maxMessage)
		if !h.grouped {
			r.Attrs(func(a slog.Attr) bool {
				h.errors.take(&e, a)
				return true
			})
		}
		h.errors.add(e)
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	if !h.grouped {
		for _, a := range attrs {
			h.errors.take(&c.attrs, a)
		}
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.next, c.grouped = h.next.WithGroup(name), true
	return &c
}

// Limits on stored texts, in bytes.
const (
	maxMessage = 200
	maxMethod  = 120
	maxError   = 400
	maxValue   = 120
	maxMore    = 400
	// maxRead bounds what is read of an error's text.
	maxRead = 4 << 10
)

// kept are the attributes that say nothing of a person.
var kept = map[string]bool{"status": true, "relay": true, "reason": true, "problem": true, "class": true, "kind": true, "action": true, "by": true, "ahead": true}

// take takes what may be kept of an attribute.
func (x *Errors) take(e *Entry, a slog.Attr) {
	switch {
	case a.Key == "method":
		e.Method = x.clean(clip(a.Value.Resolve().String(), maxMethod), true)
	case a.Key == "err":
		e.Error = clip(x.clean(clip(a.Value.Resolve().String(), maxRead), false), maxError)
	case kept[a.Key] && len(e.More) < maxMore:
		text := a.Key + "=" + x.clean(clip(a.Value.Resolve().String(), maxValue), false)
		e.More = strings.TrimSpace(clip(e.More+" "+text, maxMore))
	}
}

// clip shortens a text to so many bytes, on one line.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
