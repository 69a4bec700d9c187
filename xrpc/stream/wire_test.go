package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipe returns a wire and what is at its other end.
func pipe(t *testing.T, timeout time.Duration) (*wire, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return &wire{Conn: a, timeout: timeout}, b
}

// What goes in comes out, corked or not.
func TestWire(t *testing.T) {
	for seed := range uint64(20) {
		w, far := pipe(t, time.Minute)
		var want bytes.Buffer
		got := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(far)
			got <- b
		}()
		rng := rand.New(rand.NewPCG(seed, 1))
		for range 100 {
			switch rng.IntN(4) {
			case 0:
				w.cork()
			case 1:
				if err := w.uncork(); err != nil {
					t.Fatal(err)
				}
			default:
				b := bytes.Repeat([]byte{byte(rng.Int())}, rng.IntN(1+1<<rng.IntN(18)))
				want.Write(b)
				if n, err := w.Write(b); n != len(b) || err != nil {
					t.Fatal(n, err)
				}
			}
		}
		w.uncork()
		if w.buf != nil {
			t.Error("a buffer is kept")
		}
		w.Close()
		if b := <-got; !bytes.Equal(b, want.Bytes()) {
			t.Errorf("seed %d: %d bytes came out of %d", seed, len(b), want.Len())
		}
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(p []byte) (int, error)      { c.writes++; return len(p), nil }
func (c *countingConn) SetWriteDeadline(time.Time) error { return nil }

func TestWireCollects(t *testing.T) {
	c := &countingConn{}
	w := &wire{Conn: c, timeout: time.Minute}
	w.cork()
	for range 60 {
		w.Write(make([]byte, 500))
	}
	check(t, "writes while corked", c.writes, 0)
	w.uncork()
	check(t, "writes after", c.writes, 1)
	w.Write([]byte("x"))
	check(t, "writes of one", c.writes, 2)
	w.uncork()
	check(t, "writes of nothing", c.writes, 2)
	w.cork()
	w.Write(make([]byte, 1000))
	w.Write(make([]byte, 200_000))
	w.Write(make([]byte, 1000))
	check(t, "writes of a large one", c.writes, 2+1+7)
	w.uncork()
	check(t, "writes of the rest", c.writes, 11)
}

func TestWireTimeout(t *testing.T) {
	w, far := pipe(t, 100*time.Millisecond)
	go io.CopyN(io.Discard, far, 100_000) // then it stalls
	_, err := w.Write(make([]byte, 200_000))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if _, again := w.Write([]byte("x")); !errors.Is(again, err) {
		t.Error(again)
	}
	w.cork()
	if _, again := w.Write([]byte("x")); !errors.Is(again, err) {
		t.Error(again)
	}
	if again := w.uncork(); !errors.Is(again, err) {
		t.Error(again)
	}
}

// A slow reader has the whole time for each piece.
func TestWireSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, far := pipe(t, 400*time.Millisecond)
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, wirePiece)
			for {
				time.Sleep(300 * time.Millisecond)
				if _, err := io.ReadFull(far, b); err != nil {
					return
				}
			}
		}()
		if _, err := w.Write(make([]byte, 12*wirePiece)); err != nil {
			t.Error(err)
		}
		w.Close()
		<-done
	})
}

func TestWireHurry(t *testing.T) {
	w, _ := pipe(t, time.Minute)
	done := make(chan error)
	go func() {
		_, err := w.Write([]byte("x"))
		done <- err
	}()
	time.AfterFunc(10*time.Millisecond, w.shortenDeadline)
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
