//go:build linux

package stream_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pdskit/pdskit/xrpc/stream"
)

// processor is how much processor time this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkJSONFanOut is how much processor time an event takes until 1 or 1,000 subscribers with the
// same options have it: an event of one record of 1 KB, read from storage/memory, encoded (and
// compressed with a dictionary), and copied through pipes in memory to readers that count frames and
// are in the same figure. If it were encoded for each of them, 1,000 would take 1,000 times as much
// as one. Encode is the part that is done once.
//
// Last table (2 cores of a virtual machine on which others were running,
// `go test -run '^$' -bench JSONFanOut -benchtime 1000x ./xrpc/stream`):
//
//	                          1 subscriber   1,000 subscribers                      ratio
//	v1                      67 µs an event    1,294 µs an event   1.3 µs a message   19
//	v1?compress=true        67                1,224               1.2                18
//	v2                      67                1,869               1.9                28
//	v2?zstdDictionary=…     60                1,542               1.5                26
func BenchmarkJSONFanOut(b *testing.B) {
	d := compressor(b)
	for _, form := range []string{"/v1", "/v1?compress=true", "/v2", "/v2?zstdDictionary=32768"} {
		for _, subscribers := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/%d", form[1:], subscribers), func(b *testing.B) { jsonFanOut(b, d, form, subscribers) })
		}
	}
}

func jsonFanOut(b *testing.B, d stream.Compressor, form string, subscribers int) {
	l := newRelayLog(b)
	l.out.MaxPerNetwork = -1
	srv := servePipes(b, both(l, d))
	var delivered atomic.Int64
	wake := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for range subscribers {
		s := srv.frames(b, form)
		defer s.conn.Close()
		wg.Go(func() {
			n := 0
			if err := s.count(func() bool {
				if delivered.Add(1)%int64(subscribers) == 0 {
					select {
					case wake <- struct{}{}:
					default:
					}
				}
				n++
				return n < b.N
			}); err != nil {
				b.Error(err)
			}
		})
	}
	for len(l.out.Subscriptions()) < subscribers {
		runtime.Gosched()
	}
	b.ResetTimer()
	start := processor()
	for i := range b.N {
		for delivered.Load() < int64(i+1-64)*int64(subscribers) { // 64 events are on their way
			<-wake
		}
		l.add(post(i, 1000))
	}
	wg.Wait()
	b.StopTimer()
	used := processor() - start
	b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N), "cpu-µs/event")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*subscribers), "cpu-ns/message")
	b.ReportMetric(0, "ns/op")
}
