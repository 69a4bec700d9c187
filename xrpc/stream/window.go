package stream

import (
	"sort"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// item is an event as its subscribers get it. It is shared by all and never changed.
type item struct {
	seq      int64
	did      syntax.DID
	messages []message
	end      int64 // bytes of its window's items up to it; the window sets it when it is added
}

// message is what goes over the wire at a time.
type message struct {
	seq        int64       // of a JSON view: the message's own
	kind       kinds       // of a JSON view
	collection syntax.NSID // empty: of no one
	bytes      []byte
	packed     *packed // nil: nobody is sent it compressed
}

// packed is the compressed form of a message. The first subscriber who needs it makes it, for all.
type packed struct {
	once  sync.Once
	bytes []byte
}

// pack returns the message as c compresses it.
func (m *message) pack(c Compressor) []byte {
	m.packed.once.Do(func() { m.packed.bytes = c.AppendFrame(nil, m.bytes) })
	return m.packed.bytes
}

// size is how much memory an item counts for, in bytes.
func (i *item) size() int {
	n := 128 // for the rest
	for _, m := range i.messages {
		n += len(m.bytes) + 96
		if m.packed != nil {
			n += len(m.bytes) + packedOverhead
		}
	}
	return n
}

// window holds the newest items: all those with a number greater than start,
// up to end. A pump adds to it, and subscribers read.
type window struct {
	// mu guards all. No other lock is taken while it is held.
	mu      sync.Mutex
	start   int64
	ring    []*item // its length is a power of two
	first   int     // index in the ring
	n       int
	size    int
	total   int64         // bytes of all items that were ever added
	err     error         // why the pump stopped
	changed chan struct{} // closed and replaced with every change
	// forgotten has the accounts that were forgotten since the pump began to read, and below which
	// number: it may have read their events before.
	forgotten map[syntax.DID]int64
}

func newWindow(start int64) *window {
	return &window{start: start, ring: make([]*item, 64), changed: make(chan struct{})}
}

// at returns the ith item.
func (w *window) at(i int) **item { return &w.ring[(w.first+i)&(len(w.ring)-1)] }

// add appends items and lets go of the oldest beyond limit bytes.
func (w *window) add(items []*item, limit int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, it := range items {
		if it.seq < w.forgotten[it.did] {
			continue
		}
		if w.n == len(w.ring) {
			ring := make([]*item, 2*len(w.ring))
			for i := range w.n {
				ring[i] = *w.at(i)
			}
			w.ring, w.first = ring, 0
		}
		*w.at(w.n) = it
		w.n++
		w.size += it.size()
		w.total += int64(it.size())
		it.end = w.total
		for w.size > limit && w.n > 1 {
			old := w.at(0)
			w.start = (*old).seq
			w.size -= (*old).size()
			*old = nil
			w.first++
			w.n--
		}
	}
	w.signal()
}

// reads says that what is added from now on is read from now on.
func (w *window) reads() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten = nil
}

// forget drops the items of an account with numbers below before.
func (w *window) forget(did syntax.DID, before int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.forgotten == nil {
		w.forgotten = make(map[syntax.DID]int64)
	}
	w.forgotten[did] = max(before, w.forgotten[did])
	kept := 0
	for i := range w.n {
		it := *w.at(i)
		if it.did == did && it.seq < before {
			w.size -= it.size()
			continue
		}
		*w.at(kept) = it
		kept++
	}
	for i := kept; i < w.n; i++ {
		*w.at(i) = nil
	}
	w.n = kept
}

// fail ends the window: who reads it gets the error.
func (w *window) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.signal()
	}
}

// failed reports whether the window has ended.
func (w *window) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil
}

// signal wakes those who wait. The caller holds the lock.
func (w *window) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// wireSize bounds how many bytes an item is on the wire.
func (i *item) wireSize() int {
	n := 0
	for _, m := range i.messages {
		n += len(m.bytes) + frameHeader
		if m.packed != nil {
			n += packedOverhead
		}
	}
	return n
}

// view is what a reader finds in a window.
type view struct {
	covered bool            // whether the window holds all items after the reader's position
	more    bool            // whether it holds any
	start   int64           // the first position that it covers
	changed <-chan struct{} // closed when there is more
}

// viewAfter says what there is after a position.
func (w *window) viewAfter(seq int64) (v view, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return v, w.err
	}
	more := w.n > 0 && (*w.at(w.n - 1)).seq > seq
	return view{covered: seq >= w.start, more: more, start: w.start, changed: w.changed}, nil
}

// after returns items after a position, at most so many and, unless one alone is larger, so many
// bytes; none if the window does not cover the position.
func (w *window) after(seq int64, most, maxBytes int) (items []*item, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if seq < w.start || w.n == 0 || (*w.at(w.n - 1)).seq <= seq {
		return nil, nil
	}
	from := w.n - 1 // the most frequent case: one that is new
	if from > 0 && (*w.at(from - 1)).seq > seq {
		from = sort.Search(w.n, func(i int) bool { return (*w.at(i)).seq > seq })
	}
	to, size := from, 0
	for ; to < w.n && to-from < most; to++ {
		if size += (*w.at(to)).size(); size > maxBytes && to > from {
			break
		}
	}
	items = make([]*item, to-from)
	for i := range items {
		items[i] = *w.at(from + i)
	}
	return items, nil
}
