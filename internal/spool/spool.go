// Package spool joins a fast producer to a slow consumer. A Pipe never makes
// its writer wait for its reader: what the reader has not taken yet is held in
// memory up to a limit, and beyond it in a temporary file. So a database
// snapshot can be closed when it has been read, however slow the download is.
package spool

import (
	"errors"
	"io"
	"os"
	"sync"
)

// ErrReaderGone is what Write returns after CloseRead.
var ErrReaderGone = errors.New("spool: the reader has gone")

const chunkSize = 64 << 10

// A Pipe is a first-in-first-out byte stream for one writer and one reader,
// each in a goroutine of its own.
type Pipe struct {
	dir   string
	limit int

	mu     sync.Mutex
	ready  sync.Cond // signalled when the reader has something to look at
	chunks [][]byte  // older than everything in the file
	held   int       // bytes in chunks
	file   *os.File
	size   int64 // bytes written to the file
	off    int64 // bytes read from the file
	err    error // set by CloseWrite; io.EOF for a normal end
	gone   bool  // set by CloseRead
}

// New returns a pipe that holds up to limit bytes in memory and the rest in a
// temporary file in dir (empty: the system's).
func New(dir string, limit int) *Pipe {
	p := &Pipe{dir: dir, limit: limit}
	p.ready.L = &p.mu
	return p
}

// Write takes all of b without waiting for the reader.
func (p *Pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0, ErrReaderGone
	}
	if p.size > p.off || p.held+len(b) > p.limit {
		return p.writeFile(b)
	}
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
	if p.file == nil {
		f, err := os.CreateTemp(p.dir, "pdskit-spool-*")
		if err != nil {
			return 0, err
		}
		// The name is removed at once where the system allows it; CloseRead
		// removes it where it does not.
		_ = os.Remove(f.Name())
		p.file = f
	}
	n, err := p.file.WriteAt(b, p.size)
	p.size += int64(n)
	p.ready.Signal()
	return n, err
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
			return n, nil
		case p.size > p.off:
			n := int(min(int64(len(b)), p.size-p.off))
			n, err := p.file.ReadAt(b[:n], p.off)
			p.off += int64(n)
			if p.off == p.size { // back to memory; the file is used again from its start
				p.size, p.off = 0, 0
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
	if p.file != nil {
		name := p.file.Name()
		p.file.Close()
		_ = os.Remove(name)
		p.file, p.size, p.off = nil, 0, 0
	}
}

// Copy runs produce with a writer that never waits, and copies what it writes
// to w meanwhile and after it has returned. It returns the error of produce,
// else that of writing to w.
func Copy(w io.Writer, dir string, limit int, produce func(io.Writer) error) error {
	p := New(dir, limit)
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
