package car

import (
	"errors"
	"sync/atomic"

	"github.com/pdskit/pdskit/internal/dag"
)

// ReadAhead makes a reader check blocks on up to workers goroutines besides the caller's, while the
// caller works on those before. It reads up to workers+1 batches of 128 KiB ahead, always in the
// caller's goroutine, so that nothing touches the underlying reader between calls. Order and errors
// are the same as without it. It suits files and memory: of a connection, it would wait for a batch
// where a block is there.
//
// check, if not nil, is called with the bytes of each block, on any of the goroutines: see
// [Reader.Checked]. ReadAhead is called before the first block is read. There is nothing to close.
func (c *Reader) ReadAhead(workers int, check func(block []byte) error) {
	if workers > 0 && c.ahead == nil && c.err == nil {
		c.ahead = &ahead{workers: workers, check: check, off: c.off, bytes: batchBytes}
	}
}

// errUnchecked says that a reader does not read ahead with a check.
var errUnchecked = errors.New("car: the block was not checked")

// Checked returns what the function of ReadAhead said of the block that was returned last. Without
// that function, it returns an error.
func (c *Reader) Checked() error {
	if c.ahead == nil || c.ahead.check == nil || c.ahead.front == nil || c.ahead.at == 0 {
		return errUnchecked
	}
	return c.ahead.front.blocks[c.ahead.at-1].checked
}

const (
	batchBytes  = 128 << 10
	batchBlocks = 1 << 10
	// keptBytes is the largest buffer that is used again.
	keptBytes = 4 * batchBytes
)

// ahead is what a reader has read before it was asked for.
type ahead struct {
	workers int
	check   func([]byte) error
	bytes   int      // of a batch
	front   *batch   // whose blocks are being returned
	at      int      // of the next of them
	queue   []*batch // that come after it, in order
	free    *batch   // to be used again
	off     int64    // behind the last block that was returned
	last    bool     // nothing comes after the queue
}

// A batch is some blocks, one after the other. Whoever claims it, a worker or the reader itself,
// checks them.
type batch struct {
	buf     []byte
	blocks  []aheadBlock
	end     error // what came after the blocks: an error, io.EOF, or nil
	claimed atomic.Bool
	done    chan struct{}
}

// aheadBlock is a block of a batch.
type aheadBlock struct {
	from, to int   // of CID and bytes, in the buffer
	off      int64 // behind it, in the file
	err      error // of its hash
	checked  error
}

// fill reads a batch.
func (a *ahead) fill(c *Reader) *batch {
	b := &batch{done: make(chan struct{})}
	if a.free != nil {
		// Only the room is used again: a goroutine that starts late may still hold the batch.
		b.buf, b.blocks = a.free.buf[:0], a.free.blocks[:0]
		a.free = nil
	}
	for len(b.buf) < a.bytes && len(b.blocks) < batchBlocks {
		id, data, err := c.frame()
		if err != nil {
			b.end = err
			a.last = true
			break
		}
		from := len(b.buf)
		b.buf = append(append(b.buf, id...), data...)
		b.blocks = append(b.blocks, aheadBlock{from: from, to: len(b.buf), off: c.off})
	}
	return b
}

// run checks a batch, unless somebody does.
func (b *batch) run(check func([]byte) error) {
	if !b.claimed.CompareAndSwap(false, true) {
		return
	}
	defer close(b.done)
	for i := range b.blocks {
		x := &b.blocks[i]
		id, data := b.buf[x.from:x.from+dag.CIDLen], b.buf[x.from+dag.CIDLen:x.to:x.to]
		if x.err = checkHash(id, data); x.err != nil {
			return // nobody asks for those that follow
		}
		if check != nil {
			x.checked = check(data)
		}
	}
}

// next returns a block and what was found out about it.
func (a *ahead) next(c *Reader) (id, data []byte, err error) {
	for a.front == nil || a.at == len(a.front.blocks) {
		if a.front != nil {
			if a.front.end != nil {
				return nil, nil, a.front.end
			}
			if cap(a.front.buf) <= keptBytes {
				a.free = a.front
			}
			a.front = nil
		}
		for !a.last && len(a.queue) <= a.workers {
			b := a.fill(c)
			a.queue = append(a.queue, b)
			if len(a.queue) > 1 { // the first is wanted now
				go b.run(a.check)
			}
		}
		a.front, a.at = a.queue[0], 0
		a.queue = append(a.queue[:0], a.queue[1:]...)
		a.front.run(a.check)
		<-a.front.done
	}
	x := &a.front.blocks[a.at]
	a.at++
	if x.err == nil {
		a.off = x.off
	}
	return a.front.buf[x.from : x.from+dag.CIDLen], a.front.buf[x.from+dag.CIDLen : x.to : x.to], x.err
}
