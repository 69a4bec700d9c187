package tempfile

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

// A file in memory is what one on disk is, whatever is done to it.
func TestMemoryIsAFile(t *testing.T) {
	disk, err := Create(t.TempDir(), "*")
	if err != nil {
		t.Fatal(err)
	}
	const limit = 5 * memoryChunk / 2
	m := NewMemory(limit)
	rng := rand.New(rand.NewPCG(1, 2))
	size := int64(0)
	for range 3000 {
		n := rng.IntN(memoryChunk * 3 / 2)
		off := rng.Int64N(limit + memoryChunk)
		switch b := make([]byte, n); rng.IntN(8) {
		case 0:
			to := rng.Int64N(size + 1)
			if err := errors.Join(disk.Truncate(to), m.Truncate(to)); err != nil {
				t.Fatal(err)
			}
			size = to
		case 1, 2, 3:
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			got, err := m.WriteAt(b, off)
			if off+int64(n) > limit {
				if got != 0 || !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("%d bytes beyond the limit: %v", got, err)
				}
				continue
			}
			if err != nil || got != n {
				t.Fatal(got, err)
			}
			if _, err := disk.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				size = max(size, off+int64(n))
			}
		default:
			want := make([]byte, n)
			wantN, wantErr := disk.ReadAt(want, off)
			gotN, gotErr := m.ReadAt(b, off)
			if gotN != wantN || gotErr != wantErr || !bytes.Equal(b, want) {
				t.Fatalf("read %d at %d of %d: got %d, %v; want %d, %v", n, off, size, gotN, gotErr, wantN, wantErr)
			}
		}
	}
	for what, err := range map[string]error{
		"longer": m.Truncate(size + 1), "less than nothing": m.Truncate(-1),
		"write before the start": errOf(m.WriteAt([]byte{1}, -1)), "read before the start": errOf(m.ReadAt(make([]byte, 1), -1)),
	} {
		if !errors.Is(err, os.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(m.Close(), disk.Close()); err != nil {
		t.Error(err)
	}
	if n, err := m.ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}

func errOf(_ int, err error) error { return err }

func TestFilesAreGone(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir, "x-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Error(left, err)
	}
	if _, err := Create(dir+"/none", "x-*"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
