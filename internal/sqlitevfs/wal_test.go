package sqlitevfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ncruces/go-sqlite3/vfs"
)

// memFile is a file in memory that counts writes, and fails when it is told to.
type memFile struct {
	File
	b      []byte
	writes int
	err    error
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	m.writes++
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memFile) Truncate(size int64) error {
	m.b = m.b[:min(int(size), len(m.b))]
	return nil
}
func (m *memFile) Sync(vfs.SyncFlag) error { return m.err }
func (m *memFile) Size() (int64, error)    { return int64(len(m.b)), nil }
func (m *memFile) Close() error            { return nil }

// Whatever is done, in whatever order, a file holds what it would without the wrapper; but for a
// header at its end that has no page yet.
func TestWALFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	const page = 64
	for range 300 {
		plain, inner := &memFile{}, &memFile{}
		f := &walFile{File: inner}
		write := func(p []byte, off int64) {
			n, err := f.WriteAt(p, off)
			if n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			plain.WriteAt(p, off)
		}
		write(random(32), 0)
		end := int64(32)
		for range 40 {
			switch rng.IntN(8) {
			case 0: // a header is written anew
				if end > 32 {
					at := 32 + (frameHeader+page)*rng.Int64N((end-32)/(frameHeader+page))
					f.ReadAt(make([]byte, page), at+frameHeader)
					write(random(frameHeader), at)
				}
			case 1: // a page is
				if end > 32 {
					write(random(page), 32+frameHeader+(frameHeader+page)*rng.Int64N((end-32)/(frameHeader+page)))
				}
			case 2:
				if err := f.Sync(0); err != nil {
					t.Fatal(err)
				}
			case 3:
				if size, err := f.Size(); err != nil || size != int64(len(plain.b)) {
					t.Fatal(size, err)
				}
			case 4:
				if rng.IntN(5) == 0 { // the file starts anew
					end = 32
					write(random(32), 0)
				}
			default:
				write(random(frameHeader), end)
				if rng.IntN(10) == 0 { // something in between
					got, want := make([]byte, 10), make([]byte, 10)
					f.ReadAt(got, end)
					if plain.ReadAt(want, end); !bytes.Equal(got, want) {
						t.Fatal("a header that was written cannot be read")
					}
				}
				write(random(page), end+frameHeader)
				end += frameHeader + page
			}
			if !bytes.Equal(inner.b, plain.b) {
				t.Fatal("the file differs")
			}
		}
		write(random(frameHeader), end)
		if err := f.Close(); err != nil || !bytes.Equal(inner.b, plain.b) {
			t.Fatal("after Close, the file differs", err)
		}
	}
	inner := &memFile{}
	f := &walFile{File: inner}
	off := int64(32)
	f.WriteAt(random(32), 0)
	for range 10 {
		f.WriteAt(random(frameHeader), off)
		f.WriteAt(random(page), off+frameHeader)
		off += frameHeader + page
	}
	if inner.writes != 11 {
		t.Errorf("%d writes for 10 frames", inner.writes)
	}
	// A write that fails is an error of the page, or of what comes in its place.
	broken := errors.New("broken")
	for name, then := range map[string]func() error{
		"page":     func() error { _, err := f.WriteAt(random(page), off+frameHeader); return err },
		"other":    func() error { _, err := f.WriteAt(random(page), 40); return err },
		"read":     func() error { _, err := f.ReadAt(make([]byte, 4), 0); return err },
		"sync":     func() error { return f.Sync(0) },
		"size":     func() error { _, err := f.Size(); return err },
		"truncate": func() error { return f.Truncate(10) },
		"close":    f.Close,
	} {
		inner.err = nil
		f.end = off
		if _, err := f.WriteAt(random(frameHeader), off); err != nil {
			t.Fatal(err)
		}
		if inner.err = broken; !errors.Is(then(), broken) {
			t.Errorf("%s: no error", name)
		}
	}
}
