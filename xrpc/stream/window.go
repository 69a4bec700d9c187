package stream

import (
	"sort"
	"sync"
)

// encoded is a frame ready to be sent.
type encoded struct {
	seq   int64
	bytes []byte
}

// window holds the newest frames: all those with a number greater than start,
// up to end. The pump adds to it, and subscribers read.
type window struct {
	mu      sync.Mutex
	start   int64
	end     int64
	frames  []encoded
	size    int
	err     error         // why the pump stopped
	changed chan struct{} // closed and replaced with every change
}

// reset empties the window at a position.
func (w *window) reset(at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.start, w.end, w.frames, w.size, w.err = at, at, nil, 0, nil
	w.signal()
}

// signal wakes those who wait. The caller holds the lock.
func (w *window) signal() {
	if w.changed != nil {
		close(w.changed)
	}
	w.changed = make(chan struct{})
}

// add appends frames, lets go of the oldest beyond limit bytes, and moves the
// end to at least end.
func (w *window) add(frames []encoded, end int64, limit int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range frames {
		w.frames = append(w.frames, f)
		w.size += len(f.bytes)
		w.end = f.seq
	}
	w.end = max(w.end, end)
	drop := 0
	for w.size > limit && drop < len(w.frames)-1 {
		w.size -= len(w.frames[drop].bytes)
		w.start = w.frames[drop].seq
		drop++
	}
	// Subscribers may be reading the slice, so it is not shifted; append makes a new
	// one when its end is reached.
	w.frames = w.frames[drop:]
	w.signal()
}

// fail ends the window: who waits gets the error.
func (w *window) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	w.signal()
}

// after returns the frames after a position, if the window covers it, and
// otherwise where it starts. changed is closed when there is more.
func (w *window) after(seq int64) (frames []encoded, covered bool, start int64, changed <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if seq < w.start {
		return nil, false, w.start, w.changed, w.err
	}
	i := sort.Search(len(w.frames), func(i int) bool { return w.frames[i].seq > seq })
	return w.frames[i:len(w.frames):len(w.frames)], true, w.start, w.changed, w.err
}
