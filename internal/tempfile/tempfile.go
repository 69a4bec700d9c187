// Package tempfile makes temporary files: files of the operating system, without a name if
// possible, or files in memory on platforms without files.
package tempfile

import (
	"fmt"
	"io"
	"os"

	"sync"
	"syscall"

	"github.com/pdskit/pdskit/internal/platform"
)

// Absent is set for platforms that may have no files: WebAssembly. Temporary files are made there
// only in a folder that was named.
const Absent = platform.Wasm

// MemoryLimit bounds a file that is in memory because there are no others, in bytes.
const MemoryLimit = 16 << 20

// File is a temporary file of the operating system, of mode 0600. A crash leaves none, but where
// open files cannot be removed.
type File struct{ *os.File }

// Create makes a file in a folder (empty: the system's for temporary files), with a name after a
// pattern: see os.CreateTemp.
func Create(dir, pattern string) (File, error) {
	f, err := os.CreateTemp(dir, pattern) // of mode 0600
	if err != nil {
		return File{}, err
	}
	_ = os.Remove(f.Name()) // where the system allows it; else Close does
	return File{f}, nil
}

// Close closes and removes the file.
func (f File) Close() error {
	err := f.File.Close()
	_ = os.Remove(f.Name())
	return err
}

// Memory is a file in memory. It is safe for concurrent use.
type Memory struct {
	limit  int64
	mu     sync.Mutex
	chunks [][]byte // all of memoryChunk bytes
	size   int64
}

const memoryChunk = 64 << 10

// NewMemory returns a file of at most limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// WriteAt implements io.WriterAt. Beyond the limit it writes nothing, and fails with an error that
// matches ENOSPC, as a full disk does.
func (m *Memory) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := off + int64(len(b))
	if off < 0 || end < off {
		return 0, fmt.Errorf("tempfile: write at %d: %w", off, os.ErrInvalid)
	}
	if end > m.limit {
		return 0, fmt.Errorf("tempfile: more than %d bytes in memory: %w", m.limit, syscall.ENOSPC)
	}
	for len(b) > 0 && int64(len(m.chunks))*memoryChunk < end {
		m.chunks = append(m.chunks, make([]byte, memoryChunk))
	}
	if len(b) > 0 {
		m.size = max(m.size, end)
	}
	n := 0
	for n < len(b) {
		at := off + int64(n)
		n += copy(m.chunks[at/memoryChunk][at%memoryChunk:], b[n:])
	}
	return n, nil
}

// ReadAt implements io.ReaderAt.
func (m *Memory) ReadAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off < 0 {
		return 0, fmt.Errorf("tempfile: read at %d: %w", off, os.ErrInvalid)
	}
	n := 0
	for n < len(b) && off+int64(n) < m.size {
		at := off + int64(n)
		most := min(int64(len(b)-n), m.size-at)
		n += copy(b[n:n+int(most)], m.chunks[at/memoryChunk][at%memoryChunk:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Truncate makes the file shorter, and frees memory.
func (m *Memory) Truncate(size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size < 0 || size > m.size {
		return fmt.Errorf("tempfile: truncate %d bytes to %d: %w", m.size, size, os.ErrInvalid)
	}
	keep := (size + memoryChunk - 1) / memoryChunk
	clear(m.chunks[keep:])
	m.chunks = m.chunks[:keep]
	if rest := size % memoryChunk; rest > 0 {
		clear(m.chunks[keep-1][rest:])
	}
	m.size = size
	return nil
}

// Close frees the memory.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chunks, m.size, m.limit = nil, 0, 0
	return nil
}
