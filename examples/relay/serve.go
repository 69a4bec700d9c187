package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/examples/relay/internal/admin"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/stream"
	"github.com/pdskit/pdskit/xrpc/stream/dictionary"
)

// subscribePath is where version 1 of Jetstream is.
const subscribePath = "/subscribe"

// mountJetstream adds the streams in JSON.
func (s *server) mountJetstream(mux *http.ServeMux) error {
	if s.o.noJetstream {
		return nil
	}
	first, err := readDictionary("-jetstream-dictionary", s.o.dictionary)
	if err != nil {
		return err
	}
	second, err := readDictionary("-jetstream-v2-dictionary", s.o.dictionaryV2)
	if err != nil {
		return err
	}
	v1 := &stream.JSONView{Outbox: s.relay.Outbox(), Window: s.o.window << 20, Zstd: dictionary.Plain()}
	if first != nil {
		v1.Zstd = first
	}
	v2 := &stream.EventsView{Outbox: s.relay.Outbox(), Window: s.o.window << 20}
	if second != nil {
		v2.Zstd = second
	}
	mux.Handle("GET "+subscribePath, v1)
	s.methods.Handle(
		xrpc.Route{NSID: stream.SubscribeEventsNSID, Handler: xrpc.Subscription(v2)},
		xrpc.Route{NSID: stream.GetZstdDictionaryNSID, Handler: xrpc.RawQuery(func(w http.ResponseWriter, r *xrpc.Request, _ struct{}) error {
			v2.ServeDictionary(w, r.Request)
			return nil
		})},
		xrpc.Route{NSID: stream.PlanSnapshotNSID, Handler: xrpc.RawProcedure(func(w http.ResponseWriter, r *xrpc.Request) error {
			v2.ServePlan(w, r.Request)
			return nil
		})},
	)
	s.meters.views(v1, v2)
	return nil
}

// readDictionary reads a dictionary of a flag, if it names one.
func readDictionary(name, file string) (*dictionary.Dictionary, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d, err := dictionary.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// bounded bounds what clients may hold. A proxy in front, in a private network, says whose request
// it is.
func (s *server) bounded(mux *http.ServeMux) http.Handler {
	m := limit.NewMethods()
	m.Set(stream.SubscribeEventsNSID, &m.Stream)
	limits := &limit.Limiter{Class: func(r *http.Request) *limit.Class {
		switch r.URL.Path {
		case subscribePath:
			return &m.Stream
		case healthPath:
			return nil
		}
		return m.Class(r)
	}}
	return limit.PrivateNetworks().Handler(limits.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.route(mux, w, r)
	})))
}

// route answers requests. Methods do not go through the mux, which would redirect paths with two
// slashes.
func (s *server) route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	own := strings.HasPrefix(r.URL.Path, admin.Root) || r.URL.Path == "/metrics"
	switch {
	case r.URL.Path == healthPath:
		s.health.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/xrpc/"):
		s.methods.ServeHTTP(w, r)
	case r.Method == http.MethodOptions && !own:
		xrpc.CORS(w, r)
	default:
		mux.ServeHTTP(w, r)
	}
}

// home says what this is.
func (s *server) home(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "This is an AT Protocol relay, made with pdskit.\n\n"+
		"The firehose is at /xrpc/com.atproto.sync.subscribeRepos. A PDS asks to be followed by\n"+
		"/xrpc/com.atproto.sync.requestCrawl.\n")
	if !s.o.noJetstream {
		fmt.Fprint(w, "The stream in JSON is at /subscribe, as that of Jetstream.\n")
	}
}

// serve serves until the context ends, or what serves fails. Then the relay stops reading,
// consumers get what there is, and the cursors of hosts are saved.
func (s *server) serve(ctx context.Context, l, metrics net.Listener) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 3)
	var all sync.WaitGroup
	all.Go(func() {
		if err := s.relay.Run(running); err != nil && running.Err() == nil {
			failed <- err
		}
	})
	servers := []*http.Server{s.http(l, s.handler, &all, failed)}
	if metrics != nil {
		servers = append(servers, s.http(metrics, s.meters, &all, failed))
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	late, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	s.relay.Outbox().Close()
	for _, srv := range servers {
		if e := srv.Shutdown(late); e != nil {
			srv.Close()
		}
	}
	all.Wait()
	return err
}

// http serves on a listener.
func (s *server) http(l net.Listener, h http.Handler, all *sync.WaitGroup, failed chan<- error) *http.Server {
	srv := &http.Server{Handler: h, ReadTimeout: 30 * time.Second, WriteTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelInfo)}
	limit.Harden(srv)
	all.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	})
	return srv
}
