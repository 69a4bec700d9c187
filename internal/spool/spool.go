// Package spool joins a fast producer to a slow consumer. The writer of a [Pipe] does not wait for
// its reader: unread data is held in memory up to a limit, and beyond it in a temporary file. So a
// database snapshot can be closed when it has been read, however slow the download is.
//
// A [Dir] bounds the size of all files together. If there is no room, or a file cannot be created
// or written, the writer waits for the reader, for a bounded time. Written data is never lost.
package spool

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrReaderGone is what Write returns after CloseRead.
var ErrReaderGone = errors.New("spool: the reader has gone")

const chunkSize = 64 << 10

// chunks are buffers of chunkSize for the next pipe.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// A Pipe is a first-in-first-out byte stream for one writer and one reader,
// each in a goroutine of its own.
type Pipe struct {
	opt Options

	mu     sync.Mutex
	ready  sync.Cond // signalled when the reader has something to look at
	room   sync.Cond // signalled when the reader has taken all that is in the file
	chunks [][]byte  // older than everything in the file
	held   int       // bytes in chunks
	file   Storage
	size   int64 // bytes written to the file
	off    int64 // bytes read from the file
	err    error // set by CloseWrite; io.EOF for a normal end
	gone   bool  // set by CloseRead
	broken error // of the file, to which nothing is written any more
}

// Options are how bytes are spooled.
type Options struct {
	// Dir is where the file is.
	Dir *Dir
	// Memory is how many bytes are held in memory.
	Memory int
	// Hold, if not nil, is asked before n more bytes are put into the file, and told with a
	// negative number when they are gone. An error means that there is no room.
	Hold func(n int64) error
	// Patience is how long a writer for which there is no room waits for the reader, in all.
	Patience time.Duration
	// Wait makes the writer wait instead of using files, for Patience each time that there are more
	// than Memory bytes, so that a reader may take as long as it goes on reading.
	Wait bool
	// Park, if not nil, is called by a writer that begins to wait for the reader, and what it
	// returns before the writer goes on, so that it holds nothing meanwhile that others need.
	Park func() (unpark func() error)
}

// New returns a pipe.
func New(opt Options) *Pipe {
	p := &Pipe{opt: opt}
	p.ready.L, p.room.L = &p.mu, &p.mu
	return p
}

// Write takes all of b. It waits for the reader only if there is no room for more, and fails with
// ErrFull if it has waited for too long.
func (p *Pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0, ErrReaderGone
	}
	if p.size > p.off || p.held+len(b) > p.opt.Memory {
		return p.writeFile(b)
	}
	return p.writeMemory(b)
}

func (p *Pipe) writeMemory(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		last := len(p.chunks) - 1
		if last < 0 || len(p.chunks[last]) == cap(p.chunks[last]) {
			p.chunks = append(p.chunks, chunks.Get().(*[chunkSize]byte)[:0])
			last++
		}
		c := p.chunks[last]
		n := min(len(rest), cap(c)-len(c))
		p.chunks[last] = append(c, rest[:n]...)
		p.held += n
		rest = rest[n:]
	}
	p.ready.Signal()
	return len(b), nil
}

func (p *Pipe) writeFile(b []byte) (int, error) {
	if p.opt.Wait || p.broken != nil || !p.take(int64(len(b))) {
		return p.handOver(b)
	}
	var n int
	var err error
	if p.file == nil {
		p.file, err = p.opt.Dir.Open(0)
	}
	if err == nil {
		n, err = p.file.WriteAt(b, p.size)
	}
	if err != nil { // what the file has before p.size is still good
		p.broken = err
		p.give(int64(len(b)))
		return p.handOver(b)
	}
	p.size += int64(n)
	p.ready.Signal()
	return n, nil
}

// full reports whether n more bytes have to wait for the reader.
func (p *Pipe) full(n int) bool {
	if p.opt.Wait && p.held+n <= p.opt.Memory {
		return false
	}
	return p.size > p.off || p.held > 0
}

// handOver waits until the reader has taken everything, or enough if there are no files, and then
// gives it b in memory.
func (p *Pipe) handOver(b []byte) (n int, err error) {
	if p.full(len(b)) {
		if p.opt.Park != nil {
			unpark := p.opt.Park()
			defer func() {
				p.mu.Unlock() // the reader goes on meanwhile
				defer p.mu.Lock()
				if failed := unpark(); err == nil {
					err = failed
				}
			}()
		}
		p.await(len(b))
	}
	switch {
	case p.gone:
		return 0, ErrReaderGone
	case p.full(len(b)):
		return 0, errors.Join(ErrFull, p.broken)
	}
	return p.writeMemory(b)
}

// await waits until there is room for n more bytes, the reader has gone, or the writer has waited
// for too long.
func (p *Pipe) await(n int) {
	begin, late := time.Now(), false
	timer := time.AfterFunc(p.opt.Patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.room.Signal()
	})
	defer timer.Stop()
	for !late && !p.gone && p.full(n) {
		p.room.Wait()
	}
	if !p.opt.Wait {
		p.opt.Patience -= time.Since(begin)
	}
}

// take makes room for n more bytes in the file, and reports whether there is any.
func (p *Pipe) take(n int64) bool {
	if !p.opt.Dir.take(p.size, n) {
		return false
	}
	if p.opt.Hold != nil && p.opt.Hold(n) != nil {
		p.opt.Dir.give(n)
		return false
	}
	return true
}

// give gives room back.
func (p *Pipe) give(n int64) {
	if n == 0 {
		return
	}
	p.opt.Dir.give(n)
	if p.opt.Hold != nil {
		p.opt.Hold(-n)
	}
}

// CloseWrite ends the stream. The reader gets err, or io.EOF if it is nil,
// after it has read what was written.
func (p *Pipe) CloseWrite(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		err = io.EOF
	}
	if p.err == nil {
		p.err = err
	}
	p.ready.Signal()
}

// Read waits for data.
func (p *Pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case len(b) == 0:
			return 0, nil
		case len(p.chunks) > 0:
			n := copy(b, p.chunks[0])
			if n == len(p.chunks[0]) {
				p.chunks = p.chunks[1:]
			} else {
				p.chunks[0] = p.chunks[0][n:]
			}
			p.took(n)
			return n, nil
		case p.size > p.off:
			b = b[:min(int64(len(b)), p.size-p.off)]
			n, err := p.file.ReadAt(b, p.off)
			if n == len(b) {
				err = nil // the end of the file is none of the stream
			}
			p.off += int64(n)
			if p.off == p.size { // back to memory; the file is used again from its start
				if p.broken == nil {
					p.broken = p.file.Truncate(0)
				}
				p.give(p.size)
				p.size, p.off = 0, 0
				p.room.Signal()
			}
			return n, err
		case p.err != nil:
			return 0, p.err
		}
		p.ready.Wait()
	}
}

// WriteTo implements io.WriterTo: it waits for data until the end, and writes it to w. What is in
// memory is not copied.
func (p *Pipe) WriteTo(w io.Writer) (n int64, err error) {
	var spare *[chunkSize]byte // for what is in the file
	for {
		chunk, ok := p.chunk()
		if !ok {
			if spare == nil {
				spare = chunks.Get().(*[chunkSize]byte)
				defer chunks.Put(spare)
			}
			size, err := p.Read(spare[:])
			if err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
			chunk = spare[:size]
		}
		size, err := w.Write(chunk)
		if n += int64(size); err != nil {
			return n, err
		}
		if ok && cap(chunk) == chunkSize {
			chunks.Put((*[chunkSize]byte)(chunk[:chunkSize]))
		}
	}
}

// chunk waits for data and takes the first chunk, if there is one in memory.
func (p *Pipe) chunk() (c []byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.chunks) == 0 && p.size == p.off && p.err == nil {
		p.ready.Wait()
	}
	if len(p.chunks) == 0 {
		return nil, false
	}
	c, p.chunks = p.chunks[0], p.chunks[1:]
	p.took(len(c))
	return c, true
}

// took says that the reader has taken n bytes that were in memory.
func (p *Pipe) took(n int) {
	p.held -= n
	if p.size == p.off && (p.held == 0 || p.opt.Wait) {
		p.room.Signal()
	}
}

// CloseRead tells the writer to stop and frees what is held.
func (p *Pipe) CloseRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.chunks, p.held = nil, 0
	p.room.Signal()
	if p.file != nil {
		_ = p.file.Close()
		p.give(p.size)
		p.file, p.size, p.off = nil, 0, 0
	}
}

// What Copy sends begins to be sent when there are so many bytes of it, or so long after the start.
// Something shorter is sent when it is complete, without a goroutine of its own.
const (
	copyBytes = 256 << 10
	copyTime  = 10 * time.Millisecond
)

// Copy runs produce with a writer that does not wait for w, and copies what it writes
// to w meanwhile and after it has returned. It returns the error of produce,
// else that of writing to w. If produce fails early, nothing may have been written to w.
func Copy(w io.Writer, opt Options, produce func(io.Writer) error) error {
	c := copier{Pipe: New(opt), w: w, done: make(chan struct{})}
	timer := time.AfterFunc(copyTime, c.start)
	err := produce(&c)
	c.CloseWrite(err)
	timer.Stop()
	if !c.begun.Swap(true) { // all of it is in memory
		if err == nil {
			c.copy()
		}
		c.CloseRead()
	} else {
		<-c.done
	}
	if err != nil && !errors.Is(err, ErrReaderGone) {
		return err
	}
	return c.err
}

// copier copies a pipe to w in a goroutine, once that has begun.
type copier struct {
	*Pipe
	w       io.Writer
	written int
	begun   atomic.Bool
	done    chan struct{}
	err     error
}

func (c *copier) start() {
	if c.begun.Swap(true) {
		return
	}
	go func() {
		defer close(c.done)
		c.copy()
		c.CloseRead()
	}()
}

func (c *copier) copy() { _, c.err = c.WriteTo(c.w) }

// Write lets the copying begin before there is more than may be held.
func (c *copier) Write(b []byte) (int, error) {
	if c.written += len(b); c.written > min(copyBytes, c.opt.Memory) {
		c.start()
	}
	return c.Pipe.Write(b)
}
