//go:build !js

package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

// post is an event that creates a record of about size bytes.
func post(i, size int) storage.Event {
	r := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 2), "text"), strings.Repeat("x", size))
	r = cbor.AppendText(cbor.AppendText(r, "$type"), "com.example.note")
	blocks := car.Append(nil, []cid.Cid{cidOf(r)}, car.Block{CID: cidOf(r), Data: r})
	return evilCommit(alice, blocks, commit.Op{Action: commit.Create, Path: fmt.Sprint("com.example.note/", i), CID: cidOf(r)})
}

// both serves the views of both versions, with small windows.
func both(l *relayLog, d stream.Compressor) http.Handler {
	const window = 2 << 20
	mux := http.NewServeMux()
	mux.Handle("/v1", &stream.JSONView{Outbox: l.out, Window: window, Zstd: dictionary.Plain()})
	mux.Handle("/v2", &stream.EventsView{Outbox: l.out, Window: window, Zstd: d})
	return mux
}

// A thousand subscribers of the JSON views that read slowly or not at all cost a bounded amount of
// memory and the others nothing. Those that read nothing are cut off, those that are too slow are
// told so.
func TestAThousandSlowJSONSubscribers(t *testing.T) {
	d := compressor(t)
	forms := []string{"/v1", "/v1?compress=true", "/v2", "/v2?zstdDictionary=32768"}
	const events, eventSize = 1500, 10_000
	subscribers := 1000
	if testing.Short() {
		subscribers = 200
	}
	synctest.Test(t, func(t *testing.T) {
		l := newRelayLog(t)
		l.out.MaxPerNetwork = -1
		srv := servePipes(t, both(l, d))
		before := heap()
		var stalled, slow int
		var ended, told atomic.Int64
		for i := range subscribers {
			c := srv.raw(t, forms[i%len(forms)], "")
			if i%2 == 0 {
				stalled++
				defer c.Close()
				continue
			}
			slow++
			go func() { // 5 KB a second, where 1 MB is sent
				defer ended.Add(1)
				defer c.Close()
				b := make([]byte, 500)
				for text := ""; ; time.Sleep(100 * time.Millisecond) {
					n, err := c.Read(b)
					if text += string(b[:n]); strings.Contains(text, "ConsumerTooSlow") {
						told.Add(1)
						return
					}
					if err != nil {
						t.Errorf("it ends with %v after %.200q", err, text[max(0, len(text)-200):])
						return
					}
					text = text[max(0, len(text)-20):]
				}
			}()
		}
		var delivered [4]atomic.Int64
		for i, form := range forms {
			c := srv.websocket(t, form)
			defer c.CloseNow()
			go func() {
				for {
					if _, _, err := c.Read(context.Background()); err != nil {
						return
					}
					delivered[i].Add(1)
				}
			}()
		}
		synctest.Wait()
		for i := range events {
			l.add(post(i, eventSize))
			if i%10 == 9 {
				time.Sleep(100 * time.Millisecond) // until nothing moves any more
				for k := range delivered {
					if n := delivered[k].Load(); n != int64(i+1) {
						t.Fatalf("%s: %d of %d messages while others are slow", forms[k], n, i+1)
					}
				}
			}
		}
		used := heap() - before - events*eventSize // of the log itself
		t.Logf("%d stalled, %d slow: %d KiB each", stalled, slow, used/int64(subscribers)>>10)
		if used > 4*(2<<20)+int64(subscribers)*100<<10 {
			t.Errorf("%d MiB", used>>20)
		}
		time.Sleep(15 * time.Minute)
		if n := len(l.out.Subscriptions()); n != len(forms) || ended.Load() != int64(slow) {
			t.Errorf("%d subscribers are left, %d of %d slow ones have ended", n, ended.Load(), slow)
		}
		// Half of the slow ones read what is not compressed, and so can tell.
		if told.Load() < int64(slow)/4 {
			t.Errorf("%d were told that they are too slow", told.Load())
		}
		l.out.Close()
		synctest.Wait()
	})
}

// A subscriber of version 2 that falls behind what is kept gets everything up to there, in order, then
// ConsumerTooSlow as the last message, then the end.
func TestJ11TooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRelayLog(t)
		srv := servePipes(t, both(l, nil))
		slow, fast := srv.websocket(t, "/v2"), srv.websocket(t, "/v2")
		synctest.Wait()
		read := func(c *websocket.Conn) (m eventsMessage, err error) {
			typ, b, err := c.Read(t.Context())
			if err == nil && typ != websocket.MessageText {
				return m, errors.New("it is not text")
			} else if err == nil {
				err = json.Unmarshal(b, &m)
			}
			return m, err
		}
		const events = 500
		for i := range events {
			l.add(post(i, 20_000))
			if m, err := read(fast); err != nil || m.Payload["rkey"] != fmt.Sprint(i) {
				t.Fatal(m.short(), err)
			}
		}
		n := 0
		for ; ; n++ {
			m, err := read(slow)
			if err != nil {
				t.Fatal(err)
			}
			if m.Type == "error" {
				same(t, "the last message", m.Error, "ConsumerTooSlow")
				break
			}
			if m.Payload["rkey"] != fmt.Sprint(n) {
				t.Fatalf("%s, not %d", m.short(), n)
			}
		}
		if n == 0 || n == events {
			t.Errorf("told after %d messages", n)
		}
		if _, err := read(slow); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Error(err)
		}
		l.add(post(events, 10))
		if m, err := read(fast); err != nil || m.Payload["rkey"] != fmt.Sprint(events) {
			t.Error(m.short(), err)
		}
		fast.CloseNow()
		if _, err := read(fast); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		l.out.Close()
		synctest.Wait()
	})
}
