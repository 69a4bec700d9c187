package stream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// Subscribers that begin with the past, each at another event, and then read nothing cost little
// more than their connections.
func TestStalledBackfillsShareMemory(t *testing.T) {
	const subscribers = 100
	for _, size := range []int{2_000, 400_000} {
		log := newLog(0)
		log.add(60_000_000/size, size)
		o := &Outbox{Events: log, MaxPerNetwork: -1}
		url := serveHTTP(t, o)
		before := heap()
		for i := range subscribers {
			c := dialRaw(t, fmt.Sprintf("%s/?cursor=%d", url, int64(i)*log.newest/subscribers))
			c.(*net.TCPConn).SetReadBuffer(4096)
		}
		testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == subscribers })
		// Until nothing moves.
		for last := -1; ; time.Sleep(200 * time.Millisecond) {
			ever, open := log.reads()
			if ever == last && open == 0 {
				break
			}
			last = ever
		}
		used := heap() - before
		t.Logf("events of %d bytes: %d KiB for each subscriber", size, used/subscribers>>10)
		if used > int64(pagesBytes)+40<<20+subscribers*150<<10 {
			t.Errorf("events of %d bytes: %d MiB", size, used>>20)
		}
		o.Close()
	}
}

// Subscribers at the same position read each page once.
func TestBackfillsShareReads(t *testing.T) {
	log := newLog(0)
	log.add(3000, 1000)
	o := &Outbox{Events: log}
	defer o.Close()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			cursor := int64(2 * (i % 5))
			check(t, "events", len(take(t, o, &cursor, 3000-i%5)), 3000-i%5)
		})
	}
	wg.Wait()
	if ever, _ := log.reads(); ever > 150 {
		t.Errorf("%d reads", ever)
	}
}

// However readers, pages and writers interleave, each subscriber sees every event once, in order.
func TestPagesLoseNothing(t *testing.T) {
	log := newLog(0)
	log.add(2000, 1000)
	o := &Outbox{Events: log, Window: 50_000}
	defer o.Close()
	const total = 4000
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			at := int64(2 * i)
			for at < 2*total {
				for b, err := range o.Subscribe(t.Context(), &at) {
					if err == ErrConsumerTooSlow {
						break // and it comes back
					} else if err != nil {
						t.Error(err)
						return
					}
					n := number(t, b)
					if n != at+2 {
						t.Errorf("%d after %d", n, at)
						return
					}
					if at = n; n == 2*total {
						break
					}
				}
			}
		})
	}
	for range (total - 2000) / 20 {
		log.add(20, 1000)
		runtime.Gosched()
	}
	wg.Wait()
}

// A page is kept for a bounded time, so that what is deleted is not sent for long.
func TestPagesAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog(0)
		log.add(1000, 1000)
		f := &feed{events: log, encode: frameItem}
		first := func() int64 {
			items, _, err := f.pastPages.after(t.Context(), 0, f.page)
			if err != nil {
				t.Fatal(err)
			}
			return items[0].seq
		}
		check(t, "first", first(), int64(2))
		log.forget(2)
		check(t, "from the page", first(), int64(2))
		time.Sleep(pagesAge + time.Second)
		check(t, "after it was deleted", first(), int64(4))
		if len(f.pastPages.kept) != 1 || f.pastPages.size > pageBytes+2000 {
			t.Error(len(f.pastPages.kept), f.pastPages.size)
		}
		for at := int64(0); at < 1500; at += 10 {
			f.pastPages.after(t.Context(), at, f.page)
		}
		synctest.Wait()
		if f.pastPages.size > pagesBytes {
			t.Error(f.pastPages.size)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := f.pastPages.after(ctx, 1990, f.page); err != context.Canceled {
			t.Error(err)
		}
	})
}

// networkServer serves an outbox to clients whose address is in the header X-From.
func networkServer(t *testing.T, h http.Handler, privileged string) string {
	limits := &limit.Limiter{Privileged: func(a netip.Addr) bool { return a.String() == privileged }}
	inner := limits.Handler(h)
	return serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = r.Header.Get("X-From")
		r.URL.Path = "/xrpc/com.atproto.sync.subscribeRepos"
		inner.ServeHTTP(w, r)
	}))
}

func dialFrom(t *testing.T, url, from string) (*websocket.Conn, int) {
	t.Helper()
	c, resp, err := dialWith(t, url, http.Header{"X-From": {from}})
	if err != nil {
		if resp == nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { c.CloseNow() })
	return c, 101
}

// One network cannot take all places, nor can several take those of newcomers, or a crowd those of
// relays.
func TestOneNetworkTakesAllSubscriptions(t *testing.T) {
	log := newLog(1)
	o := &Outbox{Events: log, MaxSubscribers: 64, MaxPerNetwork: 30}
	defer o.Close()
	url := networkServer(t, o, "198.51.100.7")
	count := func(n int, from func(i int) string) (in int, last int) {
		for i := range n {
			c, status := dialFrom(t, url, from(i))
			if c != nil {
				in++
			} else {
				last = status
			}
		}
		return in, last
	}
	same := func(from string) func(int) string { return func(int) string { return from } }
	in, status := count(40, same("192.0.2.1:1"))
	check(t, "of one address", []int{in, status}, []int{30, 429})
	in, status = count(40, func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i) })
	check(t, "of one /64", []int{in, status}, []int{24, 503}) // 64, less 8 and 2
	in, status = count(20, func(i int) string { return fmt.Sprintf("203.0.113.%d:1", i) })
	check(t, "of others", []int{in, status}, []int{8, 503})
	relay, _ := dialFrom(t, url, "198.51.100.7:1")
	if relay == nil {
		t.Fatal("the relay is refused")
	}
	testenv.Until(t, "subscriptions", func() bool { return o.Subscribers() == 63 })
	log.add(1, 0)
	check(t, "the relay", numbers(t, relay, 1), []int64{4})
}

// Messages of subscribers, and the filters that they ask for, take a bounded amount of memory.
func TestFiltersOfSubscribersAreBounded(t *testing.T) {
	o := &Outbox{Events: newLog(1)}
	defer o.Close()
	v := &JSONView{Outbox: o}
	url := serveHTTP(t, v)
	var dids []string
	for i := range maxWantedDIDs {
		dids = append(dids, fmt.Sprintf(`"did:web:%030d.example.com"`, i))
	}
	update := []byte(`{"type":"options_update","payload":{"wantedDids":[` + strings.Join(dids, ",") + `]}}`)
	o.init()
	v.init()
	var full atomic.Int64
	for range 20 {
		c := connect(t, url)
		// Twice: one filter takes the place of the other.
		for range 2 {
			c.Write(t.Context(), websocket.MessageText, update)
		}
		go func() {
			if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
				full.Add(1)
			}
		}()
	}
	testenv.Until(t, "somebody is refused", func() bool { return full.Load() > 5 })
	if used := o.conns.filters.Used(); used > filterBytesPerNetwork || used < filterBytesPerNetwork/2 {
		t.Fatalf("%d bytes", used)
	}
}

func TestFilterMemoryIsGivenBack(t *testing.T) {
	b := &limit.Budget{Total: 1000}
	f, err := newFilter(filterOptions{DIDs: []string{"did:web:a.example", "did:web:b.example"}, Collections: []string{"com.example.a", "com.example.*"}})
	if err != nil {
		t.Fatal(err)
	}
	o := &filterOf{budget: b}
	for range 10 {
		if err := o.set(f); err != nil {
			t.Fatal(err)
		}
	}
	if b.Used() != f.size() || o.current.Load() != f {
		t.Error(b.Used())
	}
	o.end()
	if err := o.set(f); err == nil || b.Used() != 0 {
		t.Error(err, b.Used())
	}
}
