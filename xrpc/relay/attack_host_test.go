package relay_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
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
