package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/tempfile"
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
		err := Copy(&out, Options{Dir: &Dir{Path: t.TempDir()}, Memory: 300_000}, func(w io.Writer) error {
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
	d := &Dir{Path: dir}
	p := New(Options{Dir: d, Memory: 1000})
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
	if d.Used() != 0 {
		t.Error("bytes are held after the end")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("files left behind: %v", left)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestErrorsOfBothEnds(t *testing.T) {
	boom := errors.New("boom")
	if err := Copy(io.Discard, Options{Dir: &Dir{}, Memory: 10}, func(io.Writer) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("producer's error: got %v", err)
	}
	err := Copy(failingWriter{boom}, Options{Dir: &Dir{Path: t.TempDir()}, Memory: 10}, func(w io.Writer) error {
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

// slowWriter takes its time for each part.
type slowWriter struct {
	bytes.Buffer
	each time.Duration
}

func (w *slowWriter) Write(b []byte) (int, error) {
	time.Sleep(w.each)
	return w.Buffer.Write(b)
}

// Where there is no room, the writer waits for a reader that is slow, and nothing is lost.
func TestFullSpoolMakesTheWriterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Dir{Path: t.TempDir(), Limit: 1 << 20}
		out := &slowWriter{each: time.Millisecond}
		var want [32]byte
		held := int64(0)
		hold := func(n int64) error {
			if held+n > 700_000 {
				return errors.New("too much")
			}
			held += n
			return nil
		}
		err := Copy(out, Options{Dir: d, Memory: 10_000, Hold: hold, Patience: time.Hour}, func(w io.Writer) error {
			want = writeRandom(t, w, 10<<20, 3)
			return nil
		})
		if err != nil || sha256.Sum256(out.Bytes()) != want {
			t.Fatalf("%v, %d bytes", err, out.Len())
		}
		if d.Used() != 0 || held != 0 {
			t.Error(d.Used(), held)
		}
	})
}

// A hundred downloads that nobody reads take no more than the bound, leave room for others, and
// end.
func TestUnreadSpoolsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Dir{Path: t.TempDir(), Limit: 8 << 20}
		begin := time.Now()
		var wg sync.WaitGroup
		var pipes []*Pipe
		for range 100 {
			p := New(Options{Dir: d, Memory: 1000, Patience: time.Minute})
			pipes = append(pipes, p)
			wg.Go(func() {
				for {
					if _, err := p.Write(make([]byte, 10_000)); err != nil {
						if !errors.Is(err, ErrFull) {
							t.Error(err)
						}
						p.CloseWrite(err)
						return
					}
				}
			})
		}
		synctest.Wait()
		if used := d.Used(); used > d.Limit || used < d.Limit/2 {
			t.Errorf("%d bytes", used)
		}
		var out bytes.Buffer // another one still has room
		err := Copy(&out, Options{Dir: d, Memory: 1000, Patience: time.Minute}, func(w io.Writer) error {
			_, err := w.Write(make([]byte, 20_000))
			return err
		})
		if err != nil || out.Len() != 20_000 {
			t.Error(err)
		}
		wg.Wait()
		if took := time.Since(begin); took != time.Minute {
			t.Error(took)
		}
		for _, p := range pipes {
			p.CloseRead()
		}
		if d.Used() != 0 {
			t.Error(d.Used())
		}
	})
}

func TestReaderThatGoesAwayEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Dir: &Dir{Path: t.TempDir(), Limit: 1}, Memory: 10, Patience: time.Hour})
		if _, err := p.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		go func() {
			synctest.Wait()
			p.CloseRead()
		}()
		begin := time.Now()
		if _, err := p.Write(make([]byte, 10)); !errors.Is(err, ErrReaderGone) || time.Since(begin) != 0 {
			t.Error(err, time.Since(begin))
		}
	})
}

func TestFileCountsAndIsRemoved(t *testing.T) {
	d := &Dir{Path: filepath.Join(t.TempDir(), "spool"), Limit: 1000}
	f, err := d.Create(0)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.s.(file).s.(tempfile.File).Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if n, err := io.Copy(f, bytes.NewReader(make([]byte, 400))); n != 400 || err != nil {
		t.Error(n, err)
	}
	if _, err := io.Copy(f, bytes.NewReader(make([]byte, 400))); !errors.Is(err, ErrFull) || d.Used() != 400 {
		t.Error(err, d.Used())
	}
	if err := f.Close(); err != nil || d.Used() != 0 {
		t.Error(err, d.Used())
	}
	// What a crash has left is removed at start; other files are not ours.
	for _, name := range []string{"pdskit-spool-123", "other"} {
		if err := os.WriteFile(filepath.Join(d.Path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Clean(); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(d.Path, "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "other" {
		t.Error(left, err)
	}
}

// Files of others count towards the bound like our own, and leave as much for others.
func TestHoldCountsFilesOfOthers(t *testing.T) {
	d := &Dir{Path: t.TempDir(), Limit: 1000}
	a, b := d.Hold(), d.Hold()
	for _, step := range []struct {
		hold func(int64) error
		n    int64
		want error
		used int64
	}{{a, 400, nil, 400}, {a, 200, ErrFull, 400}, {b, 300, nil, 700}, {b, 1, ErrFull, 700}, {a, -400, nil, 300}, {a, 350, nil, 650}, {b, -300, nil, 350}} {
		if err := step.hold(step.n); !errors.Is(err, step.want) || d.Used() != step.used {
			t.Errorf("%d: %v, %d in use", step.n, err, d.Used())
		}
	}
}
