package queue_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage/queue"
)

// benchQueue is a queue with some jobs that wait for good.
func benchQueue(b *testing.B, where string, waiting int) (*world, *queue.Queue) {
	w := newWorld(b)
	for _, backend := range backends {
		if backend.name == where && backend.open != nil {
			w.store = backend.open(b, time.Now)
		}
	}
	q, err := queue.New(queue.Config{KV: w.store.KV, Name: "test"})
	w.ok(err)
	list := make([]queue.Message, 1000)
	for i := range list {
		list[i] = queue.Message{Body: []byte("waits"), Delay: 1000 * time.Hour}
	}
	for n := 0; n < waiting; n += len(list) {
		w.send(q, list...)
	}
	return w, q
}

// The size of messages, and how many one Send has.
const (
	benchBody  = 200
	benchBatch = 100
)

// BenchmarkQueue sends jobs and does them, at the same time, with a handler that does nothing. The
// names have how many other jobs wait; PDSKIT_WAITING=1000000 adds a million.
//
//	PDSKIT_WAITING=1000000 go test -run '^$' -bench . -benchtime 20000x ./storage/queue
//
// Two cores, a quiet machine:
//
//	sqlite/waiting=0          12620 jobs/s
//	sqlite/waiting=10000      12202 jobs/s
//	sqlite/waiting=1000000    13877 jobs/s
func BenchmarkQueue(b *testing.B) {
	waiting := []int{0, 10_000}
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_WAITING")); err == nil {
		waiting = append(waiting, n)
	}
	type setting struct {
		where   string
		waiting int
	}
	var settings []setting
	for _, where := range []string{"memory", "sqlite", "postgres"} {
		for _, n := range waiting {
			settings = append(settings, setting{where, n})
		}
	}
	for _, s := range settings {
		b.Run(fmt.Sprintf("%s/waiting=%d", s.where, s.waiting), func(b *testing.B) {
			w, q := benchQueue(b, s.where, s.waiting)
			var done atomic.Int64
			all := make(chan struct{})
			b.ResetTimer()
			ctx, cancel := context.WithCancel(w.ctx)
			go func() {
				<-all
				cancel()
			}()
			go func() {
				for sent := 0; sent < b.N; sent += benchBatch {
					list := make([]queue.Message, min(benchBatch, b.N-sent))
					for i := range list {
						list[i].Body = make([]byte, benchBody)
					}
					if _, err := q.Send(w.ctx, list...); err != nil {
						b.Error(err)
					}
				}
			}()
			w.ok(q.Consume(ctx, queue.Consumer{Handle: func(context.Context, *queue.Job) error {
				if done.Add(1) == int64(b.N) {
					close(all)
				}
				return nil
			}}))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// BenchmarkSendOne is a Send of one job, which waits for a flush of its own.
func BenchmarkSendOne(b *testing.B) {
	for _, where := range []string{"sqlite", "postgres"} {
		b.Run(where, func(b *testing.B) {
			w, q := benchQueue(b, where, 0)
			for b.Loop() {
				w.send(q, queue.Message{Body: make([]byte, benchBody)})
			}
		})
	}
}
