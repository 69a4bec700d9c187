//go:build !js

package stream_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// A peer that does not answer pings is gone; one that does stays.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRelayLog(t)
		l.out.Ping = time.Second
		srv := servePipes(t, l.out)
		silent := srv.raw(t, "/", "")
		defer silent.Close()
		go io.Copy(io.Discard, silent)
		alive := srv.websocket(t, "/")
		defer alive.CloseNow()
		got := make(chan error, 1)
		go func() {
			_, _, err := alive.Read(t.Context())
			got <- err
		}()
		subscribers := func(want int) {
			t.Helper()
			if synctest.Wait(); l.out.Subscribers() != want {
				t.Errorf("%d subscribers, want %d", l.out.Subscribers(), want)
			}
		}
		subscribers(2)
		time.Sleep(1500 * time.Millisecond)
		subscribers(2) // it has as long again to answer
		time.Sleep(time.Second)
		subscribers(1)
		time.Sleep(time.Hour)
		subscribers(1)
		l.add(post(1, 10))
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// keepsConn keeps the connection that a handler takes over.
type keepsConn struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (k *keepsConn) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(k.ResponseWriter).Hijack()
	k.conn = c
	return c, rw, err
}

// A server that is silent, and does not answer, is given up; one that answers is not; and the
// time that the consumer takes for a frame does not count.
func TestConsumerIdle(t *testing.T) {
	frame := func(seq int) []byte {
		b := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 2), "t"), "#test")
		b = cbor.AppendInt(cbor.AppendText(b, "op"), 1)
		return cbor.AppendInt(cbor.AppendText(cbor.AppendMap(b, 1), "seq"), int64(seq))
	}
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		srv := servePipes(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w := &keepsConn{ResponseWriter: rw}
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.CloseNow()
			if calls++; calls == 1 {
				io.Copy(io.Discard, w.conn) // silent
				return
			}
			ctx := c.CloseRead(t.Context())            // answers
			time.Sleep(5*time.Minute + 10*time.Second) // between pings: their answer would wait behind the second frame, as a pipe holds nothing
			c.Write(ctx, websocket.MessageBinary, frame(1))
			c.Write(ctx, websocket.MessageBinary, frame(2))
			time.Sleep(5 * time.Minute)
			c.Write(ctx, websocket.MessageBinary, stream.ErrFutureCursor.Encode())
			<-ctx.Done()
		}))
		var lost []time.Duration
		begin := time.Now()
		c := &stream.Consumer{URL: "ws://x/", HTTP: srv.client(), Idle: time.Minute, MaxDelay: time.Second, Retry: func(error) error {
			lost = append(lost, time.Since(begin))
			return nil
		}}
		var seqs []int64
		for f, err := range c.Frames(t.Context()) {
			if err != nil {
				if !errors.Is(err, stream.ErrFutureCursor) {
					t.Error(err)
				}
				break
			}
			if seqs = append(seqs, f.Seq); f.Seq == 1 {
				time.Sleep(3 * time.Minute)
			}
		}
		if !slices.Equal(seqs, []int64{1, 2}) || !slices.Equal(lost, []time.Duration{time.Minute}) {
			t.Errorf("frames %v, connections lost after %v", seqs, lost)
		}
	})
}
