package relay_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// TestFloodOfUnknownKinds: messages that are about no account count for the rate, and cannot name
// what metrics are kept by.
func TestFloodOfUnknownKinds(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		var mu sync.Mutex
		kinds := make(map[string]int)
		r := w.relay("", func(r *relay.Relay) {
			r.Limits = relay.Limits{Rate: 10, Burst: 20}
			r.Observe = func(o relay.Observation) {
				mu.Lock()
				defer mu.Unlock()
				kinds[o.Kind]++
			}
		})
		for i := range 500 {
			h.sayRaw(a.did, fmt.Sprint("#kind", i), cbor.AppendMap(nil, 0))
		}
		r.follow(h)
		w.pass(time.Second)
		if info, _ := r.Host(w.ctx, h.name); info.Messages > 40 {
			t.Errorf("%d messages were read in a second", info.Messages)
		}
		w.pass(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(kinds) != 1 || kinds[""] != 500 {
			t.Errorf("%d kinds were told", len(kinds))
		}
	})
}

// TestErrorTextOfHosts: what a host ends its stream with is kept for operators, but not at any length.
func TestErrorTextOfHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.net.Handle("pds.example", http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			c, err := websocket.Accept(rw, req, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			e := stream.Error{Name: "Odd", Message: strings.Repeat("x", 1<<20)}
			c.Write(req.Context(), websocket.MessageBinary, e.Encode())
			c.Read(req.Context())
		}))
		r := w.relay("")
		w.must(r.AddHost(w.ctx, "pds.example"))
		w.settle()
		info, err := r.Host(w.ctx, "pds.example")
		if w.must(err); !strings.Contains(info.Error, "Odd") || len(info.Error) > 2000 {
			t.Errorf("%d bytes: %.100s", len(info.Error), info.Error)
		}
	})
}

// TestLargeFramesOfManyHosts: hosts that begin with large frames and do not end them cost no more
// memory than is there for them, and hold up no one's small messages.
func TestLargeFramesOfManyHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		const hosts, size, chunk = 8, 4 << 20, 64 << 10
		body := cbor.AppendText(cbor.AppendInt(cbor.AppendText(cbor.AppendMap(nil, 2), "seq"), 1), "data")
		body = cbor.AppendText(body, strings.Repeat("x", size))
		frame := stream.Frame{Kind: "#large", Payload: body}.Encode()
		var taken atomic.Int64
		end := make(chan struct{})
		r := w.relay("", func(r *relay.Relay) { r.Memory = 64 << 20 }) // two places for large frames
		for i := range hosts {
			name := fmt.Sprintf("pds%d.example", i)
			w.net.Handle(name, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				c, err := websocket.Accept(rw, req, nil)
				if err != nil {
					return
				}
				defer c.CloseNow()
				out, err := c.Writer(req.Context(), websocket.MessageBinary)
				for rest := frame; err == nil && len(rest) > 0; {
					if len(rest) <= chunk {
						<-end
					}
					n := min(chunk, len(rest))
					_, err = out.Write(rest[:n])
					taken.Add(int64(n))
					rest = rest[n:]
				}
				out.Close()
				c.Read(req.Context())
			}))
			w.must(r.AddHost(w.ctx, name))
		}
		quiet := w.host("quiet.example")
		a := quiet.account("alice")
		r.follow(quiet)
		quiet.post(a)
		w.pass(30 * time.Second)
		r.wantHead(a)
		if n := taken.Load(); n < size || n > 2*size+hosts*4*chunk {
			t.Errorf("%d bytes were read of large frames", n)
		}
		close(end)
		w.pass(10 * time.Minute)
		for i := range hosts {
			if info, _ := r.Host(w.ctx, fmt.Sprintf("pds%d.example", i)); info.Rules[relay.RuleKind] != 1 {
				t.Errorf("%+v", info)
			}
		}
	})
}

// TestScarceMemory: when messages that wait for an identity fill half of the memory, they are given up,
// and the account is repaired.
func TestScarceMemory(t *testing.T) {
	inWorld(t, func(w *world) {
		h := w.host("pds.example")
		a := h.account("alice")
		r := w.relay("", func(r *relay.Relay) { r.Memory = 32 << 10 })
		w.dir.unavailable(a.did, true)
		r.follow(h)
		for range 40 {
			h.post(a)
		}
		w.pass(10 * time.Minute) // HoldFor is an hour
		if info, _ := r.Host(w.ctx, h.name); info.Waiting > 16<<10 || info.Rules[relay.RuleRepaired] == 0 {
			t.Errorf("%+v", info)
		}
		w.dir.unavailable(a.did, false)
		w.pass(2 * time.Hour)
		r.wantHead(a)
	})
}
