package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/testenv"
)

// connect opens a WebSocket connection.
func connect(t testing.TB, url string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(10 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// next reads a frame.
func next(t testing.TB, c *websocket.Conn) (Frame, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	typ, b, err := c.Read(ctx)
	if err != nil {
		return Frame{}, err
	}
	if typ != websocket.MessageBinary {
		t.Fatal("a text message")
	}
	return Decode(b)
}

// numbers reads n frames, and of an #info frame, -1.
func numbers(t testing.TB, c *websocket.Conn, n int) (list []int64) {
	t.Helper()
	for range n {
		f, err := next(t, c)
		if err != nil {
			t.Fatalf("after %d: %v", list, err)
		}
		if f.Kind == "#info" {
			f.Seq = -1
		}
		list = append(list, f.Seq)
	}
	return list
}

func TestServeHTTP(t *testing.T) {
	log := newLog(10)
	log.trimTo(6)
	o := &Outbox{Events: log}
	defer o.Close()
	url := serveHTTP(t, o)
	check(t, "from the start", numbers(t, connect(t, url+"?cursor=0"), 8), []int64{-1, 8, 10, 12, 14, 16, 18, 20})
	check(t, "from a cursor", numbers(t, connect(t, url+"?cursor=17"), 2), []int64{18, 20})
	live := connect(t, url)
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 3 })
	log.add(100, 1000)
	log.add(1, 3_000_000) // larger than any buffer
	log.add(1, 0)
	check(t, "live", numbers(t, live, 102), evens(22, 224))

	c := connect(t, url+"?cursor=225")
	if _, err := next(t, c); !errors.Is(err, ErrFutureCursor) {
		t.Error(err)
	}
	if _, err := next(t, c); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Error(err)
	}
	for _, cursor := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		resp, err := http.Get(url + "?cursor=" + cursor)
		if err != nil {
			t.Fatal(err)
		}
		var env struct{ Error string }
		json.NewDecoder(resp.Body).Decode(&env)
		check(t, cursor, []any{resp.StatusCode, env.Error, resp.Header.Get("Content-Type")}, []any{400, "InvalidRequest", "application/json; charset=utf-8"})
	}
	if resp, err := http.Get(url); err != nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Error(resp, err)
	}
}

// What a peer sends is ignored; when it closes, it is gone.
func TestPeers(t *testing.T) {
	log := newLog(1)
	o := &Outbox{Events: log}
	defer o.Close()
	url := serveHTTP(t, o)
	c := connect(t, url)
	testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 1 })
	for range 100 {
		c.Write(t.Context(), websocket.MessageText, []byte("hello"))
		c.Write(t.Context(), websocket.MessageBinary, make([]byte, 20_000))
	}
	go c.Ping(t.Context()) // which is answered, in between
	log.add(1, 0)
	check(t, "live", numbers(t, c, 1), []int64{4})
	c.Close(websocket.StatusNormalClosure, "")
	testenv.Until(t, "it leaves", func() bool { return o.Subscribers() == 0 })

	c = connect(t, url)
	testenv.Until(t, "subscription", func() bool { return o.Subscribers() == 1 })
	c.CloseNow()
	testenv.Until(t, "it leaves", func() bool { return o.Subscribers() == 0 })

	// Endless messages are too much.
	c = connect(t, url)
	c.Write(t.Context(), websocket.MessageBinary, make([]byte, 1<<20))
	if _, err := next(t, c); err == nil {
		t.Error("a message of 1 MiB was accepted")
	}
	testenv.Until(t, "it leaves", func() bool { return o.Subscribers() == 0 })
}

func TestMaxSubscribers(t *testing.T) {
	o := &Outbox{Events: newLog(1), MaxSubscribers: 2}
	defer o.Close()
	url := serveHTTP(t, o)
	first := connect(t, url)
	connect(t, url)
	_, resp, err := websocket.Dial(t.Context(), url, nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatal(err)
	}
	first.CloseNow()
	testenv.Until(t, "there is room again", func() bool {
		c, _, err := websocket.Dial(t.Context(), url, nil)
		if err == nil {
			c.CloseNow()
		}
		return err == nil
	})
}

func TestCloseEndsConnections(t *testing.T) {
	log := newLog(5)
	o := &Outbox{Events: log}
	url := serveHTTP(t, o)
	c, silent := connect(t, url+"?cursor=0"), dialRaw(t, url)
	numbers(t, c, 5)
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 2 })
	ended := make(chan error)
	go func() {
		_, err := next(t, c)
		ended <- err
	}()
	o.Close()
	if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Error(err)
	}
	check(t, "subscribers", o.Subscribers(), 0)
	io.Copy(io.Discard, silent) // ends
	if _, resp, err := websocket.Dial(t.Context(), url, nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(err)
	}
}

// dialRaw opens a WebSocket connection that does nothing by itself.
func dialRaw(t testing.TB, url string) net.Conn {
	t.Helper()
	addr, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
	r := bufio.NewReaderSize(c, 1) // so that it reads no more than the header
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return c
		}
	}
}

// A subscriber that takes nothing costs the others nothing, and is gone after
// its time.
func TestStalledSubscriber(t *testing.T) {
	log := newLog(1)
	o := &Outbox{Events: log, WriteTimeout: 500 * time.Millisecond, Window: 64 << 20}
	defer o.Close()
	url := serveHTTP(t, o)
	for range 3 {
		dialRaw(t, url)              // stalls live
		dialRaw(t, url+"/?cursor=0") // stalls after the past
	}
	c := connect(t, url)
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 7 })
	for i := range int64(500) { // 20 MB: more than a socket's buffers hold
		log.add(1, 40_000)
		check(t, "live", numbers(t, c, 1), []int64{4 + 2*i})
	}
	testenv.Until(t, "the stalled ones are gone", func() bool { return o.Subscribers() == 1 })
	log.add(1, 0)
	check(t, "live", numbers(t, c, 1), []int64{1004})
}

// One that is slow, but takes something now and then, stays until it falls out of the window.
func TestSlowSubscriberIsTold(t *testing.T) {
	log := newLog(1)
	o := &Outbox{Events: log, Window: 1 << 20}
	defer o.Close()
	url := serveHTTP(t, o)
	c := connect(t, url)
	fast := connect(t, url)
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 2 })
	for i := range int64(500) {
		log.add(1, 40_000)
		check(t, "live", numbers(t, fast, 1), []int64{4 + 2*i})
	}
	last := int64(2)
	for {
		f, err := next(t, c)
		if err != nil {
			if !errors.Is(err, ErrConsumerTooSlow) {
				t.Errorf("after %d: %v", last, err)
			}
			break
		}
		if f.Seq != last+2 {
			t.Fatalf("%d after %d", f.Seq, last)
		}
		last = f.Seq
	}
	if last == 1002 {
		t.Error("it has seen everything")
	}
}
