package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// writeRandom writes n random bytes in pieces of random length and returns their digest.
func writeRandom(t *testing.T, w io.Writer, n int, seed uint64) [32]byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	h := sha256.New()
	for n > 0 {
		b := make([]byte, min(n, 1+rng.IntN(200_000)))
		for i := 0; i < len(b); i += 8 {
			b[i] = byte(rng.Uint32())
		}
		h.Write(b)
		if _, err := w.Write(b); err != nil {
			t.Error(err)
			return [32]byte{}
		}
		n -= len(b)
	}
	return [32]byte(h.Sum(nil))
}

func TestOrderAcrossMemoryAndFile(t *testing.T) {
	for seed := range uint64(8) {
		const size = 3 << 20
		var out bytes.Buffer
		var want [32]byte
		err := Copy(&out, t.TempDir(), 300_000, func(w io.Writer) error {
			want = writeRandom(t, w, size, seed)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if out.Len() != size || sha256.Sum256(out.Bytes()) != want {
			t.Fatalf("seed %d: the bytes changed on the way", seed)
		}
	}
}

// The writer ends although nobody reads: what it wrote waits in the file.
func TestWriterNeverWaits(t *testing.T) {
	dir := t.TempDir()
	p := New(dir, 1000)
	want := writeRandom(t, p, 5<<20, 1)
	p.CloseWrite(nil)
	h := sha256.New()
	if _, err := io.Copy(h, p); err != nil {
		t.Fatal(err)
	}
	if [32]byte(h.Sum(nil)) != want {
		t.Fatal("the bytes changed on the way")
	}
	p.CloseRead()
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("files left behind: %v", left)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestErrorsOfBothEnds(t *testing.T) {
	boom := errors.New("boom")
	if err := Copy(io.Discard, "", 10, func(io.Writer) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("producer's error: got %v", err)
	}
	err := Copy(failingWriter{boom}, t.TempDir(), 10, func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 100)); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, boom) {
		t.Errorf("consumer's error: got %v", err)
	}
}
