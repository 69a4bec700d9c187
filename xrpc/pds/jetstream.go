package pds

import (
	"net/http"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Jetstream configures the JSON views of the event stream, which work as Jetstream does: version 1
// at /subscribe, and version 2 by the methods network.bsky.jetstream.subscribeEvents,
// getZstdDictionary and planSnapshot.
type Jetstream struct {
	// On turns both on. Without it, the other fields have no effect.
	On bool
	// First and Second compress messages for subscribers of version 1 and 2 that request it: see
	// package dictionary. Nil: no compression. The official Go client of version 1 requests
	// compression by default, and can read the frames of dictionary.Plain.
	First, Second stream.Compressor
}

// subscribePath is where version 1 is.
const subscribePath = "/subscribe"

// openJetstream registers the views of the event stream.
func (s *Server) openJetstream() {
	j := s.cfg.Jetstream
	if !j.On {
		return
	}
	s.Mux.Handle("GET "+subscribePath, &stream.JSONView{Outbox: s.Outbox, Zstd: j.First})
	v := &stream.EventsView{Outbox: s.Outbox, Zstd: j.Second}
	s.Methods.Handle(
		xrpc.Route{NSID: stream.SubscribeEventsNSID, Handler: xrpc.Subscription(v)},
		xrpc.Route{NSID: stream.GetZstdDictionaryNSID, Handler: xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
			v.ServeDictionary(w, r.Request)
			return nil
		})},
		xrpc.Route{NSID: stream.PlanSnapshotNSID, Handler: xrpc.RawProcedure(func(w http.ResponseWriter, r *xrpc.Request) error {
			v.ServePlan(w, r.Request)
			return nil
		})},
	)
}

// class gives requests their bounds. Subscriptions have their own.
func (s *Server) class(m *limit.Methods) func(r *http.Request) *limit.Class {
	if !s.cfg.Jetstream.On {
		return m.Class
	}
	m.Set(stream.SubscribeEventsNSID, &m.Stream)
	return func(r *http.Request) *limit.Class {
		if r.URL.Path == subscribePath {
			return &m.Stream
		}
		return m.Class(r)
	}
}
