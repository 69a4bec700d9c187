//go:build !js

package stream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// benchSize is about that of the event of one post.
const benchSize = 1400

// rawSubscriber reads WebSocket frames with as little work as there can be, and counts them.
type rawSubscriber struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(b testing.TB, url, query string) *rawSubscriber {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", query)
	r := bufio.NewReaderSize(c, 16<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		if line == "\r\n" {
			return &rawSubscriber{c, r}
		}
	}
}

// count reads frames until there are no more, or read returns false.
func (s *rawSubscriber) count(read func() bool) error {
	for {
		h, err := s.r.Peek(4)
		if err != nil {
			return err
		}
		n := 2 + int(h[1])
		if h[1] == 126 {
			n = 4 + int(h[2])<<8 + int(h[3])
		}
		if _, err := s.r.Discard(n); err != nil {
			return err
		}
		if !read() {
			return nil
		}
	}
}

// BenchmarkFanOut is how fast events in storage/memory reach 1,000 subscribers over WebSocket
// connections of the same machine, whose readers run on the same processors and only count. Each
// has every event delivered to all before the next is written, so that there is a system call for
// each frame; Burst lets 64 be on their way. Stalled is Burst with 100 more subscribers that read
// nothing; MB/stalled is the memory that each of them costs.
//
// Last table (2 cores of a virtual machine,
// `go test -run '^$' -bench FanOut -benchtime 2000x -count 3 ./xrpc/stream`):
//
//	FanOut/Each      52,065 frames/s   (a loaded machine)
//	FanOut/Burst    661,169 frames/s
//	FanOut/Stalled  523,140 frames/s, 0.22 MB for each subscriber that stalls
func BenchmarkFanOut(b *testing.B) {
	b.Run("Each", func(b *testing.B) { fanOut(b, 1, 0) })
	b.Run("Burst", func(b *testing.B) { fanOut(b, 64, 0) })
	b.Run("Stalled", func(b *testing.B) { fanOut(b, 64, 100) })
}

func fanOut(b *testing.B, ahead, stalled int) {
	const subscribers = 1000
	store := memory.New(memory.Config{})
	o := &stream.Outbox{MaxPerNetwork: -1, Events: store.Events}
	srv := httptest.NewServer(o)
	defer srv.Close()
	defer o.Close()
	w := newWriter(b, store, 0)
	before := heap()
	for range stalled {
		defer dial(b, srv.URL, "").conn.Close()
	}
	var delivered atomic.Int64
	wake := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for range subscribers {
		s := dial(b, srv.URL, "")
		defer s.conn.Close()
		wg.Go(func() {
			n := 0
			err := s.count(func() bool {
				if delivered.Add(1)%subscribers == 0 {
					select {
					case wake <- struct{}{}:
					default:
					}
				}
				n++
				return n < b.N
			})
			if err != nil {
				b.Error(err)
			}
		})
	}
	for o.Subscribers() < subscribers+stalled {
		runtime.Gosched()
	}
	b.ResetTimer()
	for i := range b.N {
		for delivered.Load() < int64(i+1-ahead)*subscribers {
			<-wake
		}
		if err := w.write("#commit", benchSize); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)*subscribers/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(0, "ns/op")
	if stalled > 0 {
		b.ReportMetric(float64(heap()-before)/float64(stalled)/1e6, "MB/stalled")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkReplay is how fast one subscriber over a WebSocket connection reads a backlog.
//
// Last table (2 cores of a virtual machine,
// `go test -run '^$' -bench Replay -benchtime 5x -count 3 ./xrpc/stream`):
//
//	Replay/Memory   301,597 events/s   (a loaded machine)
//	Replay/SQLite   140,057 events/s
func BenchmarkReplay(b *testing.B) {
	const backlog = 50_000
	replay := func(b *testing.B, store storage.Store) {
		o := &stream.Outbox{MaxPerNetwork: -1, Events: store.Events}
		srv := httptest.NewServer(o)
		defer srv.Close()
		defer o.Close()
		w := newWriter(b, store, 0)
		var wg sync.WaitGroup
		for range 64 { // writers share transactions
			wg.Go(func() {
				for range backlog / 64 {
					if err := w.write("#commit", benchSize); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ResetTimer()
		for range b.N {
			s := dial(b, srv.URL, "?cursor=0")
			n := 0
			if err := s.count(func() bool { n++; return n < backlog/64*64 }); err != nil && err != io.EOF {
				b.Fatal(err)
			}
			s.conn.Close()
		}
		b.ReportMetric(float64(b.N)*backlog/b.Elapsed().Seconds(), "events/s")
		b.ReportMetric(0, "ns/op")
	}
	b.Run("Memory", func(b *testing.B) { replay(b, memory.New(memory.Config{})) })
	b.Run("SQLite", func(b *testing.B) {
		db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "db"), sqlite.Config{Relaxed: true})
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		replay(b, db.Store())
	})
}
