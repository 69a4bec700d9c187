package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/relay"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// Memory of connected hosts: PDSKIT_HOSTS=2000 go test -run=TestManyHosts -v ./xrpc/relay. The hosts are
// in the same process, on loopback, so their side of the connections counts too; it is measured before
// and taken off.
func TestManyHosts(t *testing.T) {
	testenv.NotOnJS(t, "it has no sockets")
	n, err := strconv.Atoi(os.Getenv("PDSKIT_HOSTS"))
	if err != nil {
		n = 50
	}
	if testing.Short() {
		t.Skip("it opens many connections")
	}
	store := memory.New(memory.Config{})
	outbox := &stream.Outbox{Events: store.Events, MaxPerNetwork: -1}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: outbox}
	go srv.Serve(l)
	defer srv.Close()
	defer outbox.Close()
	client := &http.Client{Transport: &http.Transport{DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}}}
	run := func(followers int, follow func()) uint64 {
		before := heap()
		follow()
		for deadline := time.Now().Add(60 * time.Second); outbox.Subscribers() < followers; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections", outbox.Subscribers())
			}
		}
		return heap() - before
	}
	// The other side, with followers that do nothing.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	bare := run(n, func() {
		for range n {
			wg.Go(func() {
				c := stream.Consumer{URL: "https://pds.test/xrpc/x", HTTP: client, Retry: func(err error) error { return err }}
				for range c.Frames(ctx) {
				}
			})
		}
	})
	cancel()
	wg.Wait()
	for outbox.Subscribers() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	r := &relay.Relay{Store: memory.New(memory.Config{}), Identity: newDirectory(), HTTP: client}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	all := run(n, func() {
		for i := range n {
			if err := r.AddHost(ctx, fmt.Sprintf("pds%d.test", i)); err != nil {
				t.Error(err)
			}
		}
	})
	t.Logf("%d hosts: %d KiB each, of which %d KiB are a connection with both of its sides", n, all/uint64(n)>>10, bare/uint64(n)>>10)
	if all/uint64(n) > 500<<10 {
		t.Errorf("%d KiB for a host", all/uint64(n)>>10)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// heap is how much memory is in use, with stacks.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// BenchmarkReplay is how many events a second ten consumers get together from a log, over loopback.
//
//	go test -run=- -bench=Replay -benchtime=1x -count 3 ./xrpc/relay
//
// Two cores, quiet: 196,577, 239,383 and 234,622 events/s.
func BenchmarkReplay(b *testing.B) {
	const events, consumers = 50_000, 10
	r := &relay.Relay{Store: memory.New(memory.Config{})}
	a := newAccount(b, "did:web:alice.example", "pds.test")
	a.write(b, somePosts(0, 100))
	e := a.write(b, somePosts(100, 1))
	payload := e.Payload()
	for i := range events {
		did := syntax.DID(fmt.Sprintf("did:web:a%d.example", i%1000))
		ev := storage.Event{DID: did, Kind: commit.KindCommit, Time: time.Now(), Payload: payload}
		if _, err := r.Store.Repos.Apply(b.Context(), did, &storage.Change{Events: []storage.Event{ev}}); err != nil {
			b.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: r.Outbox()}
	go srv.Serve(l)
	defer srv.Close()
	defer r.Outbox().Close()
	for b.Loop() {
		start := time.Now()
		var wg sync.WaitGroup
		for range consumers {
			wg.Go(func() {
				zero, n := int64(0), 0
				c := stream.Consumer{URL: "http://" + l.Addr().String(), Cursor: &zero, Retry: func(err error) error { return err }}
				for _, err := range c.Frames(b.Context()) {
					if err != nil {
						b.Error(err)
						return
					}
					if n++; n == events {
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(events*consumers/time.Since(start).Seconds(), "events/s")
	}
}
