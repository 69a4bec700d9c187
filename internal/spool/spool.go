// Package spool joins a fast producer to a slow consumer. A Pipe does not make its
// writer wait for its reader: what the reader has not taken yet is held in
// memory up to a limit, and beyond it in a temporary file. So a database
// snapshot can be closed when it has been read, however slow the download is.
//
// Files are bounded together: see Dir. Where there is no room, or a file cannot be made or written,
// the writer does wait for the reader, for a bounded time. What it wrote is never lost then.
package spool

import (
	"errors"
	"io"
	"sync"
	"time"
)

// ErrReaderGone is what Write returns after CloseRead.
var ErrReaderGone = errors.New("spool: the reader has gone")

const chunkSize = 64 << 10

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
			p.chunks = append(p.chunks, make([]byte, 0, chunkSize))
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
			p.held -= n
			if n == len(p.chunks[0]) {
				p.chunks = p.chunks[1:]
			} else {
				p.chunks[0] = p.chunks[0][n:]
			}
			if p.size == p.off && (p.held == 0 || p.opt.Wait) {
				p.room.Signal()
			}
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

// Copy runs produce with a writer that does not wait for w, and copies what it writes
// to w meanwhile and after it has returned. It returns the error of produce,
// else that of writing to w.
func Copy(w io.Writer, opt Options, produce func(io.Writer) error) error {
	p := New(opt)
	var copyErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, copyErr = io.CopyBuffer(onlyWriter{w}, onlyReader{p}, make([]byte, chunkSize))
		p.CloseRead()
	}()
	err := produce(p)
	p.CloseWrite(err)
	<-done
	if err != nil && !errors.Is(err, ErrReaderGone) {
		return err
	}
	return copyErr
}

// onlyWriter and onlyReader hide ReadFrom and WriteTo, whose buffers would not be ours.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
