// Package temptest has temporary files for tests: they count, fail on demand, and check that they
// are used as car.TempFile promises.
package temptest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/tempfile"
)

// ErrFault is the error of a call that was to fail.
var ErrFault = errors.New("temptest: fault injected")

// Temps makes files. It is safe for concurrent use. Its fields must not change while it is used.
type Temps struct {
	// FailAt is the number of the call that fails, of all files together, those that open one among
	// them; from that one on, if Broken is set. 0: none.
	FailAt int
	Broken bool
	// Err is what it fails with. Nil: ErrFault.
	Err error

	mu     sync.Mutex
	calls  int
	opened int
	open   int
	bytes  int64 // now
	peak   int64
	wrong  []string
}

// File is a file in memory.
type File struct {
	t      *Temps
	m      *tempfile.Memory
	most   int64
	size   int64
	busy   bool
	closed bool
}

// call counts a call and reports whether it fails.
func (t *Temps) call() error {
	t.calls++
	if t.FailAt > 0 && (t.calls == t.FailAt || t.Broken && t.calls > t.FailAt) {
		if t.Err != nil {
			return t.Err
		}
		return ErrFault
	}
	return nil
}

func (t *Temps) misuse(format string, args ...any) {
	t.wrong = append(t.wrong, fmt.Sprintf(format, args...))
}

// Open makes a file of at most so many bytes; 0: any number.
func (t *Temps) Open(most int64) (*File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if most < 0 {
		t.misuse("a file of %d bytes", most)
	}
	if err := t.call(); err != nil {
		return nil, err
	}
	t.opened++
	t.open++
	return &File{t: t, m: tempfile.NewMemory(1 << 30), most: most}, nil
}

// Calls returns how many calls there were, and Opened how many files.
func (t *Temps) Calls() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

// Opened returns how many files there were.
func (t *Temps) Opened() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened
}

// Peak returns how many bytes there were in all files at the most.
func (t *Temps) Peak() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peak
}

// Check fails a test if a file was not closed, or not used as promised.
func (t *Temps) Check(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != 0 || t.bytes != 0 {
		tb.Errorf("call %d failed: %d of %d temporary files were not closed, %d bytes", t.FailAt, t.open, t.opened, t.bytes)
	}
	for _, wrong := range t.wrong {
		tb.Errorf("call %d failed: temporary file: %s", t.FailAt, wrong)
	}
}

// begin begins a call.
func (f *File) begin() error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	switch {
	case f.closed:
		f.t.misuse("used after Close")
	case f.busy:
		f.t.misuse("two calls at once")
	}
	f.busy = true
	return f.t.call()
}

func (f *File) end() {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	f.busy = false
}

// grow sets how long the file is.
func (f *File) grow(size int64) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.most > 0 && size > f.most {
		f.t.misuse("%d bytes, which were to be at most %d", size, f.most)
	}
	f.t.bytes += size - f.size
	f.t.peak = max(f.t.peak, f.t.bytes)
	f.size = size
}

// WriteAt appends to the file. If it fails, it has written the first half.
func (f *File) WriteAt(b []byte, off int64) (int, error) {
	defer f.end()
	err := f.begin()
	if off != f.size {
		f.t.mu.Lock()
		f.t.misuse("written at %d of %d", off, f.size)
		f.t.mu.Unlock()
	}
	if err != nil {
		b = b[:len(b)/2]
	}
	n, full := f.m.WriteAt(b, off)
	f.grow(off + int64(n))
	return n, errors.Join(err, full)
}

// ReadAt reads what was written.
func (f *File) ReadAt(b []byte, off int64) (int, error) {
	defer f.end()
	if err := f.begin(); err != nil {
		return 0, err
	}
	return f.m.ReadAt(b, off)
}

// Truncate empties the file.
func (f *File) Truncate(size int64) error {
	defer f.end()
	err := f.begin()
	if size != 0 {
		f.t.mu.Lock()
		f.t.misuse("truncated to %d", size)
		f.t.mu.Unlock()
	}
	if err == nil {
		err = f.m.Truncate(size)
		f.grow(size)
	}
	return err
}

// Close removes the file, even if it fails.
func (f *File) Close() error {
	defer f.end()
	err := f.begin()
	f.grow(0)
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	f.closed = true
	f.t.open--
	return errors.Join(err, f.m.Close())
}
