//go:build linux

package cloudflare_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/internal/workerd"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// subscribe opens a subscription; a negative cursor is none.
func subscribe(tb testing.TB, s *workerd.Server, cursor int64) *websocket.Conn {
	tb.Helper()
	address := "ws" + strings.TrimPrefix(s.URL, "http") + "/xrpc/com.atproto.sync.subscribeRepos"
	if cursor >= 0 {
		address += fmt.Sprint("?cursor=", cursor)
	}
	c, _, err := websocket.Dial(tb.Context(), address, nil)
	if err != nil {
		tb.Fatalf("subscribe: %v\n%s", err, s.Log())
	}
	c.SetReadLimit(10 << 20)
	tb.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// next reads a frame.
func next(tb testing.TB, c *websocket.Conn) (stream.Frame, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		return stream.Frame{}, err
	}
	return stream.Decode(b)
}

// take reads frames, whose numbers it returns, until it has n or the stream ends.
func take(tb testing.TB, c *websocket.Conn, n int) (seqs []int64, err error) {
	tb.Helper()
	for len(seqs) < n {
		f, err := next(tb, c)
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, f.Seq)
	}
	return seqs, nil
}

// logged are the numbers of the events in the log.
func logged(tb testing.TB, s *workerd.Server) (seqs []int64) {
	tb.Helper()
	return loggedAt(tb, s, "")
}

func loggedAt(tb testing.TB, s *workerd.Server, query string) (seqs []int64) {
	tb.Helper()
	if err := json.Unmarshal([]byte(get(tb, s, "/test/events"+query)), &seqs); err != nil {
		tb.Fatal(err)
	}
	return seqs
}

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		tb.Errorf("%s: %.500s, want %.500s", what, g, w)
	}
}

// createRecord makes a record, and returns the status of the answer.
func createRecord(tb testing.TB, s *workerd.Server, header ...string) (status int) {
	tb.Helper()
	return createRecordAt(tb, s, "", header...)
}

func createRecordAt(tb testing.TB, s *workerd.Server, query string, header ...string) (status int) {
	tb.Helper()
	const body = `{"repo":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","collection":"com.example.note","validate":false,"record":{"$type":"com.example.note","text":"Hello"}}`
	r, err := http.NewRequest("POST", s.URL+"/xrpc/com.atproto.repo.createRecord"+query, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := workerd.Client.Do(r)
	if err != nil {
		tb.Fatalf("createRecord: %v\n%s", err, s.Log())
	}
	resp.Body.Close()
	return resp.StatusCode
}

// Everybody gets every event once, in order: from the start, from a number, and live.
func TestSockets(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	live := subscribe(t, s, -1)
	for range 5 {
		same(t, "createRecord", createRecord(t, s), 200)
	}
	all := logged(t, s)
	first := subscribe(t, s, 0)
	from := subscribe(t, s, all[3])
	for range 3 {
		same(t, "createRecord", createRecord(t, s), 200)
	}
	all = logged(t, s)
	for what, c := range map[string]struct {
		conn *websocket.Conn
		want []int64
	}{"from the start": {first, all}, "from a number": {from, all[4:]}, "live": {live, all[len(all)-8:]}} {
		got, err := take(t, c.conn, len(c.want))
		same(t, what, got, c.want)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := next(t, subscribe(t, s, all[len(all)-1]+1))
	if !errors.Is(err, stream.ErrFutureCursor) {
		t.Errorf("a cursor in the future: %v", err)
	}
	if r, body := do(t, s, "GET", "/xrpc/com.atproto.sync.subscribeRepos", nil); r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("without an upgrade: %s %s", r.Status, body)
	}
	get(t, s, "/test/trim")
	old := subscribe(t, s, 0)
	if f, err := next(t, old); err != nil || f.Kind != "#info" {
		t.Errorf("a cursor before what is kept: %+v, %v", f, err)
	}
	_ = live.Close(websocket.StatusNormalClosure, "")
	_ = from.CloseNow()
	testenv.Until(t, "sockets are closed", func() bool { return strings.TrimSpace(get(t, s, "/test/sockets")) == "2" })
}

// The past comes in pages, and a reader that reads gets all of it, in several connections if it is long.
func TestBackfill(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"RATE": "4000000", "UNREAD": "3000000"})
	get(t, s, "/test/create")
	for range 12 {
		get(t, s, "/test/fill?n=10&size=50000")
	}
	all := logged(t, s)
	var got []int64
	for connections := 1; len(got) < len(all); connections++ {
		cursor := int64(0)
		if len(got) > 0 {
			cursor = got[len(got)-1]
		}
		more, err := take(t, subscribe(t, s, cursor), len(all)-len(got))
		got = append(got, more...)
		if err != nil && (!errors.Is(err, stream.ErrConsumerTooSlow) || connections > 4 || len(more) == 0) {
			t.Fatalf("after %d of %d events: %v", len(got), len(all), err)
		}
	}
	same(t, "events", got, all)
}

// Readers that read nothing are closed before much is queued for them; others do not notice.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"RATE": "8000000", "UNREAD": "1500000", "TOTAL": "4000000", "SOCKETS": "20"})
	get(t, s, "/test/create")
	for range 4 {
		get(t, s, "/test/fill?n=10&size=50000")
	}
	live := subscribe(t, s, -1)
	for range 10 {
		deaf(t, s)
	}
	// Both bounds are passed: all together have too much, and each in the end.
	testenv.Until(t, "all are closed but one", func() bool {
		return strings.TrimSpace(get(t, s, "/test/sockets")) == "1"
	})
	same(t, "createRecord", createRecord(t, s), 200)
	got, err := take(t, live, 1)
	same(t, "events of the one that reads", got, logged(t, s)[5:])
	if err != nil {
		t.Error(err)
	}
}

// deaf subscribes from the start and reads nothing but the answer's first bytes.
func deaf(tb testing.TB, s *workerd.Server) {
	tb.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(c, "GET /xrpc/com.atproto.sync.subscribeRepos?cursor=0 HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", u.Host)
	status := make([]byte, 12)
	if _, err := c.Read(status); err != nil || string(status) != "HTTP/1.1 101" {
		tb.Fatalf("%q, %v", status, err)
	}
}

// More subscribers than there is room for are refused.
func TestTooManySubscribers(t *testing.T) {
	t.Parallel()
	s := startWorker(t, map[string]string{"SOCKETS": "3"})
	get(t, s, "/test/create")
	for range 3 {
		subscribe(t, s, -1)
	}
	_, r, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(s.URL, "http")+"/xrpc/com.atproto.sync.subscribeRepos", nil)
	if err == nil || r == nil || r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the fourth: %v, %v", r, err)
	}
}

// An object that nobody uses is evicted, its sockets stay open, and frames go on where they stopped.
func TestEviction(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	live, early := subscribe(t, s, -1), subscribe(t, s, 0)
	same(t, "createRecord", createRecord(t, s), 200)
	all := logged(t, s)
	_, err1 := take(t, live, 1)
	_, err2 := take(t, early, len(all))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	before := program(t, s, "one")
	idle := 11 * time.Second // workerd evicts after ten, and nothing says that it has
	for deadline := time.Now().Add(2 * time.Minute); ; idle += 5 * time.Second {
		time.Sleep(idle)
		same(t, "createRecord", createRecord(t, s), 200)
		if program(t, s, "one") != before {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the object is not evicted")
		}
	}
	all = logged(t, s)
	for _, c := range []*websocket.Conn{live, early} {
		last := int64(0)
		for last != all[len(all)-1] {
			f, err := next(t, c)
			if err != nil {
				t.Fatalf("after the eviction: %v\n%s", err, s.Log())
			}
			last = f.Seq
		}
	}
	same(t, "sockets", strings.TrimSpace(get(t, s, "/test/sockets")), "2")
}

// An alarm goes off while nobody asks for anything, also after the object was evicted or killed.
func TestAlarm(t *testing.T) {
	t.Parallel()
	s := startWorker(t, nil)
	get(t, s, "/test/create")
	get(t, s, "/test/alarm?ms=300")
	before := program(t, s, "one")
	testenv.Until(t, "the alarm", func() bool { return strings.Contains(get(t, s, "/test/alarms"), "did:plc:") })
	same(t, "program", program(t, s, "one"), before)
	get(t, s, "/test/alarm?ms=1500")
	s.Restart(t)
	testenv.Until(t, "the alarm of a program that was killed", func() bool { return strings.Contains(get(t, s, "/test/alarms"), "did:plc:") })
}
