package queue_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// live is a queue with the real clock.
func (w *world) live(lease time.Duration) *queue.Queue {
	cfg := w.config()
	cfg.Now, cfg.Lease, cfg.Poll = time.Now, lease, 20*time.Millisecond
	cfg.Backoff = func(int) time.Duration { return time.Millisecond }
	return w.openAs(cfg)
}

// consume runs a consumer, and returns what stops it.
func (w *world) consume(q *queue.Queue, c queue.Consumer) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- q.Consume(ctx, c) }()
	return func() {
		w.Helper()
		cancel()
		w.ok(<-done)
	}
}

// Several consumers, with failures, do every job, those with one key in their order and one at a time.
func TestConsume(t *testing.T) {
	w := newWorld(t)
	w.store = sqliteStore(t)
	q, other := w.live(2*time.Second), w.live(2*time.Second)
	const jobs = 300
	var mu sync.Mutex
	times, last, busy := map[string]int{}, map[string]string{}, map[string]bool{}
	handle := func(ctx context.Context, j *queue.Job) error {
		text := string(j.Body)
		mu.Lock()
		if j.Key != "" {
			if busy[j.Key] {
				t.Errorf("two jobs of key %s at a time", j.Key)
			}
			if text < last[j.Key] {
				t.Errorf("job %s after %s", text, last[j.Key])
			}
			busy[j.Key], last[j.Key] = true, text
		}
		times[text]++
		n := times[text]
		mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		mu.Lock()
		busy[j.Key] = false
		mu.Unlock()
		if n == 1 && strings.HasSuffix(text, "7") {
			panic("the first time")
		}
		if n < 3 && strings.HasSuffix(text, "3") {
			return errWork
		}
		return nil
	}
	stop := w.consume(q, queue.Consumer{Handle: handle, Concurrency: 4})
	stopOther := w.consume(other, queue.Consumer{Handle: handle, Concurrency: 3})
	for i := range jobs {
		m := body(fmt.Sprintf("%04d", i))
		if i%2 == 0 || i%7 == 0 {
			m.Key = fmt.Sprint(i % 5)
		}
		w.send(q, m)
	}
	testenv.Until(w, "all jobs", func() bool {
		st, err := q.Stats(w.ctx)
		w.ok(err)
		return st == queue.Stats{}
	})
	stop()
	stopOther()
	for i := range jobs {
		text := fmt.Sprintf("%04d", i)
		want := map[byte]int{'7': 2, '3': 3}[text[3]]
		if got := times[text]; got != max(want, 1) {
			t.Errorf("job %s was done %d times", text, got)
		}
	}
	w.empty()
}

// A job that takes longer than a lease is done once.
func TestLongJobs(t *testing.T) { synctest.Test(t, longJobs) } // leases end on time, however busy the machine is

func longJobs(t *testing.T) {
	w := newWorld(t)
	w.clock = time.Now()
	q, other := w.live(150*time.Millisecond), w.live(150*time.Millisecond)
	var times, done atomic.Int64
	handle := func(ctx context.Context, j *queue.Job) error {
		times.Add(1)
		time.Sleep(700 * time.Millisecond)
		done.Add(1)
		return ctx.Err()
	}
	stop := w.consume(q, queue.Consumer{Handle: handle})
	stopOther := w.consume(other, queue.Consumer{Handle: handle})
	w.send(q, body("a"), body("b"), body("c"))
	testenv.Until(w, "all jobs", func() bool { return done.Load() == 3 })
	stop()
	stopOther()
	if times.Load() != 3 {
		t.Errorf("3 jobs were done %d times", times.Load())
	}
	w.empty()
}

// The store does not answer for longer than a lease: another process takes the job, and the first one
// is told.
func TestLostLease(t *testing.T) { synctest.Test(t, lostLease) } // leases end on time, however busy the machine is

func lostLease(t *testing.T) {
	w := newWorld(t)
	w.clock = time.Now()
	var down atomic.Bool
	cfg := w.config()
	cfg.Now, cfg.Lease, cfg.Poll = time.Now, 200*time.Millisecond, 20*time.Millisecond
	cfg.KV = storagetest.Faults{Before: func(string) error {
		if down.Load() {
			return errKilled
		}
		return nil
	}}.Wrap(w.store).KV
	q, other := w.openAs(cfg), w.live(time.Minute)
	cause := make(chan error, 1)
	var failed atomic.Int64
	stop := w.consume(q, queue.Consumer{Failed: func(error) { failed.Add(1) }, Handle: func(ctx context.Context, j *queue.Job) error {
		down.Store(true)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}})
	w.send(other, body("a"))
	testenv.Until(w, "the outage", func() bool { return down.Load() })
	var job []*queue.Job
	testenv.Until(w, "the end of the lease", func() bool {
		var err error
		job, err = other.Receive(w.ctx, 1)
		w.ok(err)
		return len(job) == 1
	})
	down.Store(false)
	w.fails(<-cause, queue.ErrLeaseLost)
	stop()
	if failed.Load() == 0 {
		t.Error("the outage was not reported")
	}
	w.finish(other, job[0], nil)
	w.empty()
}

// When the context ends, what is being done is finished, and what was only leased is given back at
// once.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	q := w.live(time.Minute)
	begun, release := make(chan string, 10), make(chan struct{})
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() {
		done <- q.Consume(ctx, queue.Consumer{Concurrency: 1, Handle: func(ctx context.Context, j *queue.Job) error {
			begun <- string(j.Body)
			<-release
			return ctx.Err()
		}})
	}()
	w.send(q, body("a"), body("b"), body("c"))
	<-begun
	cancel()
	close(release)
	w.ok(<-done)
	jobs, err := q.Receive(w.ctx, 10)
	w.ok(err)
	if len(jobs) != 2 || jobs[0].Attempt != 1 {
		t.Errorf("%d jobs were given back", len(jobs))
	}
	for _, j := range jobs {
		w.finish(q, j, nil)
	}
	w.empty()

	// A handler that goes on for too long is cut off.
	w.send(q, body("d"))
	ctx, cancel = context.WithCancel(w.ctx)
	go func() {
		done <- q.Consume(ctx, queue.Consumer{Drain: 30 * time.Millisecond, Handle: func(ctx context.Context, j *queue.Job) error {
			begun <- string(j.Body)
			<-ctx.Done()
			return ctx.Err()
		}})
	}()
	for <-begun != "d" {
	}
	cancel()
	w.ok(<-done)
	jobs, err = q.Receive(w.ctx, 10)
	w.ok(err)
	if len(jobs) != 1 || jobs[0].Attempt != 1 {
		t.Fatalf("%d jobs were given back", len(jobs))
	}
	w.finish(q, jobs[0], nil)
	w.empty()
}

func TestTimeout(t *testing.T) {
	w := newWorld(t)
	q := w.live(time.Minute)
	errs := make(chan error, 10)
	stop := w.consume(q, queue.Consumer{Timeout: 20 * time.Millisecond, Handle: func(ctx context.Context, j *queue.Job) error {
		<-ctx.Done()
		errs <- ctx.Err()
		return queue.Dead(ctx.Err())
	}})
	w.send(q, body("a"))
	w.fails(<-errs, context.DeadlineExceeded)
	stop()
	n, err := q.Purge(w.ctx, time.Now().Add(time.Hour))
	if w.ok(err); n != 1 {
		t.Errorf("%d dead", n)
	}
	if err := q.Consume(w.ctx, queue.Consumer{}); err == nil {
		t.Error("a consumer without a handler")
	}
	w.empty()
}

// The store fails now and then; every job is done all the same.
func TestConsumeWithFaults(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	cfg := w.config()
	cfg.Now, cfg.Lease, cfg.Poll, cfg.Attempts = time.Now, 100*time.Millisecond, 5*time.Millisecond, 100
	fault := func(method string) error {
		if strings.HasPrefix(method, "KV.") && n.Add(1)%7 == 0 {
			return errKilled
		}
		return nil
	}
	cfg.KV = storagetest.Faults{Before: fault, After: fault}.Wrap(w.store).KV
	q, sure := w.openAs(cfg), w.live(time.Minute)
	var mu sync.Mutex
	done := map[string]bool{}
	stop := w.consume(q, queue.Consumer{Handle: func(ctx context.Context, j *queue.Job) error {
		mu.Lock()
		defer mu.Unlock()
		done[string(j.Body)] = true
		return nil
	}})
	for i := range 200 {
		m := body(fmt.Sprint(i))
		m.Key = fmt.Sprint(i % 3)
		w.send(sure, m)
	}
	testenv.Until(w, "all jobs", func() bool {
		st, err := sure.Stats(w.ctx)
		w.ok(err)
		return st == queue.Stats{}
	})
	stop()
	if len(done) != 200 {
		t.Errorf("%d jobs were done", len(done))
	}
	w.empty()
}
