package car

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/varint"
)

// ReadAhead lets up to workers goroutines check the next blocks while the caller processes the
// current one. The caller must call end when it stops reading.
//
// The reader then reads ahead by at most workers+3 batches of 64 KiB, or about 1 MiB if blocks are
// larger. It still reads in the caller's goroutine, so it does not use the underlying reader
// between calls. That suits files and memory. With a connection, the caller would wait for a whole
// batch although its block has already arrived. Blocks, their order and errors are the same as
// without ReadAhead.
//
// sound, if not nil, is a further check of the caller's for blocks. It is called on any of the
// goroutines, with some of the blocks: see [Reader.Sound].
func (c *Reader) ReadAhead(workers int, sound func(block []byte) bool) (end func()) {
	if workers <= 0 || c.ahead != nil {
		return func() {}
	}
	c.ahead = &ahead{workers: workers, sound: sound, front: new(batch), off: c.off}
	return c.ahead.end
}

// Sound reports whether the last returned block has passed the check of [Reader.ReadAhead]. If not,
// the block has failed the check or was not checked, and the caller must check it.
func (c *Reader) Sound() bool { return c.ahead != nil && c.ahead.known&isSound != 0 }

const (
	batchBlocks = 512
	// keptBytes is the largest buffer that is used again.
	keptBytes = 4 * bufferBytes
	// aheadBytes is how many bytes in the queue are enough.
	aheadBytes = 1 << 20
	// share is how many blocks the reader keeps for itself when it comes to one that is not checked.
	share = 8
)

// ahead is what a reader has read before it was asked for.
//
//	     front            queue
//	┌──────────┬────┐ ┌─────────┬─────┐ ┌──────────────┐
//	│ returned │    │ │ checked │     │ │              │
//	└──────────┴────┘ └─────────┴─────┘ └──────────────┘
//	           ▲                ▲       ▲
//	         reader          worker    worker
//
// Nobody waits for anybody. The reader checks a block itself if no worker has come to it, and one
// with a fault once more: so errors are those of the reader, in the order of the file.
type ahead struct {
	workers int
	running sync.WaitGroup
	sound   func([]byte) bool
	front   *batch   // whose blocks are being returned
	at      int      // of the next of them
	queue   []*batch // what comes after it
	queued  int      // bytes of the queue
	free    *batch   // to be used again
	off     int64    // behind the last block that was returned
	known   uint32   // of that block
	all     bool     // nothing comes after the queue
}

// batch is some blocks, one after the other.
type batch struct {
	buf    []byte
	blocks []aheadBlock
	err    error                      // what came after the blocks, if not nil
	known  [batchBlocks]atomic.Uint32 // what a worker has found of each block
	taken  atomic.Int32               // the blocks before this one are the reader's
	done   atomic.Bool                // no worker has it any more
}

// aheadBlock is a block of a batch.
type aheadBlock struct {
	from, to int   // of CID and bytes, in the buffer
	off      int64 // behind it, in the file
}

// What is known of a block.
const (
	isHashed = 1 << iota // its bytes match its CID
	isSound
)

func (b *batch) block(i int) (id, data []byte) {
	x := &b.blocks[i]
	at := x.from + dag.CIDLen
	return b.buf[x.from:at:at], b.buf[at:x.to:x.to]
}

// fill reads a batch: the blocks that the reader's buffer has as a whole, but at least one. The
// batch takes the buffer, and the reader goes on with another.
func (a *ahead) fill(c *Reader) *batch {
	b := a.free
	if a.free = nil; b == nil {
		b = &batch{buf: make([]byte, bufferBytes)}
	}
	for len(b.blocks) == 0 || len(b.blocks) < batchBlocks && c.hasFrame() {
		id, data, err := c.frame()
		if err != nil {
			b.err, a.all = err, true
			break
		}
		b.blocks = append(b.blocks, aheadBlock{c.at - len(id) - len(data), c.at, c.off})
	}
	rest := c.buf[c.at:c.to]
	room := b.buf
	if len(room) < len(rest) {
		room = make([]byte, len(rest))
	}
	b.buf, c.buf = c.buf, room
	c.at, c.to = 0, copy(room, rest)
	return b
}

// hasFrame reports whether the next block can be read without a change of the buffer.
func (c *Reader) hasFrame() bool {
	rest := c.buf[c.at:c.to]
	n, size, err := varint.Decode(rest)
	return err == nil && len(rest) >= varint.MaxLen && n <= uint64(len(rest)-size)
}

// reset empties a batch that no worker has.
func (b *batch) reset() {
	for i := range b.blocks {
		b.known[i].Store(0)
	}
	b.blocks, b.err = b.blocks[:0], nil
	b.taken.Store(0)
	b.done.Store(false)
}

// check checks those blocks of a batch that the reader has not taken.
func (b *batch) check(sound func([]byte) bool) {
	defer b.done.Store(true)
	for i := 0; ; i++ {
		if i = max(i, int(b.taken.Load())); i >= len(b.blocks) {
			return
		}
		id, data := b.block(i)
		if checkHash(id, data) != nil {
			return // the reader will end here
		}
		known := uint32(isHashed)
		if sound != nil && sound(data) {
			known |= isSound
		}
		b.known[i].Store(known)
	}
}

// advance makes the next batch the front one.
func (a *ahead) advance(c *Reader) {
	if a.front.done.Load() && len(a.front.buf) <= keptBytes {
		a.front.reset()
		a.free = a.front
	}
	for !a.all && (len(a.queue) == 0 || len(a.queue) <= a.workers+2 && a.queued < aheadBytes) {
		b := a.fill(c)
		a.queue = append(a.queue, b)
		a.queued += len(b.buf)
		if len(a.queue) > 1 {
			a.running.Go(func() { b.check(a.sound) })
		} else {
			b.done.Store(true) // it is the reader's
		}
	}
	a.front, a.at = a.queue[0], 0
	a.queue = append(a.queue[:0], a.queue[1:]...)
	a.queued -= len(a.front.buf)
}

// next is next of a Reader.
func (a *ahead) next(c *Reader) (id, data []byte, err error) {
	for a.at == len(a.front.blocks) {
		if a.front.err != nil {
			return nil, nil, a.front.err
		}
		a.advance(c)
	}
	b, i := a.front, a.at
	id, data = b.block(i)
	if a.known = b.known[i].Load(); a.known == 0 {
		if int(b.taken.Load()) <= i {
			b.taken.Store(int32(i + share))
		}
		if err := checkHash(id, data); err != nil {
			return id, nil, err
		}
	}
	a.at++
	a.off = b.blocks[i].off
	return id, data, nil
}

// end ends the workers.
func (a *ahead) end() {
	for _, b := range append(a.queue, a.front) {
		b.taken.Store(math.MaxInt32)
	}
	a.running.Wait()
}
