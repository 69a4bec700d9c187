package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// laws hold on every backend.
var laws = map[string]func(*world){
	"Jobs":          lawJobs,
	"Retries":       lawRetries,
	"Delays":        lawDelays,
	"Leases":        lawLeases,
	"Poison":        lawPoison,
	"OrderPerKey":   lawOrderPerKey,
	"IDs":           lawIDs,
	"Pause":         lawPause,
	"SendTx":        lawSendTx,
	"Observe":       lawObserve,
	"Outbox":        lawOutbox,
	"Announce":      lawAnnounce,
	"Entries":       lawEntries,
	"Limit":         lawLimit,
	"PerKey":        lawPerKey,
	"Room":          lawRoom,
	"PausedIsQuiet": lawPausedIsQuiet,
	"Take":          lawTake,
	"Released":      lawReleased,
}

// TestLaws holds all backends to the laws. What a backend's Now is, expiry follows.
func TestLaws(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			for _, name := range slices.Sorted(maps.Keys(laws)) {
				t.Run(name, func(t *testing.T) {
					w := newWorld(t)
					if b.open != nil {
						w.store = b.open(t, w.now)
					}
					laws[name](w)
				})
			}
		})
	}
}

// No more jobs are leased at a time than Limit says, by all consumers together; leases that have ended
// do not count.
func lawLimit(w *world) {
	cfg := w.config()
	cfg.Limit = 3
	q, other := w.openAs(cfg), w.openAs(cfg)
	for i := range 8 {
		w.send(q, body(fmt.Sprint(i)))
	}
	jobs := append(w.receiveN(q, 2, "0", "1"), w.receive(other, "2")...)
	w.receive(q)
	w.finish(q, jobs[0], nil)
	w.finish(q, jobs[1], errWork) // waits for its back-off: it is not leased
	jobs = append(jobs[2:], w.receive(q, "3", "4")...)
	w.receive(other)
	w.wait(6 * time.Second)
	lost, err := q.Extend(w.ctx, jobs[1:]...)
	if w.ok(err); len(lost) > 0 {
		w.Errorf("lost %d", len(lost))
	}
	w.wait(6*time.Second).receive(other, "5") // the lease of 2 has ended, which is due after this one
	w.receive(other)
	_, err = q.Finish(w.ctx, queue.Result{Job: jobs[1], Err: queue.Dead(errWork)}, queue.Result{Job: jobs[2], Err: queue.ErrReleased})
	w.ok(err)
	// With another limit, or none, what was counted is forgotten with its job.
	free := w.open()
	for _, j := range w.receive(free, "6", "7", "2", "4") {
		w.finish(free, j, nil)
	}
	for _, j := range w.wait(time.Hour).receive(free, "5", "1") {
		w.finish(free, j, nil)
	}
	_, err = q.Purge(w.ctx, w.clock.Add(time.Hour))
	w.ok(err)
	w.empty()
}

// Several jobs of a key are leased at a time, begun in their order.
func lawPerKey(w *world) {
	cfg := w.config()
	cfg.PerKey = 2
	q, other := w.openAs(cfg), w.openAs(cfg)
	for i := range 6 {
		w.send(q, keyed(fmt.Sprint("a", i), "a"))
	}
	w.send(q, keyed("b0", "b"))
	jobs := w.receive(q, "a0", "a1", "b0")
	w.receive(other)
	w.finish(q, jobs[1], nil)
	a2 := w.receive(other, "a2")[0]
	w.finish(q, jobs[0], errWork) // keeps its place
	w.receive(other)
	w.finish(other, a2, queue.Dead(errWork))
	a3 := w.receive(other, "a3")[0]
	w.finish(q, jobs[2], nil)
	w.finish(other, a3, nil)
	// A larger number lets more of them come when one has ended.
	cfg.PerKey = 3
	wide := w.openAs(cfg)
	a4 := w.receive(wide, "a4")[0]
	w.finish(wide, a4, nil)
	w.finish(wide, w.receive(wide, "a5")[0], nil)
	w.finish(wide, w.wait(time.Minute).receive(wide, "a0")[0], nil)
	w.ok(wide.Requeue(w.ctx, a2.ID))
	w.finish(wide, w.receive(wide, "a2")[0], nil)
	w.empty()
}

// A queue that is full takes no more, until there is room again; what a change sends is the caller's
// to bound.
func lawRoom(w *world) {
	cfg := w.config()
	cfg.Room = 3
	q := w.openAs(cfg)
	w.send(q, body("a"), body("b"))
	_, err := q.Send(w.ctx, body("c"), body("d"))
	w.fails(err, queue.ErrNoRoom)
	w.send(q, body("c"))
	_, err = q.Send(w.ctx, body("d"))
	w.fails(err, queue.ErrNoRoom)
	w.fails(w.openAs(cfg).HasRoom(w.ctx, 1), queue.ErrNoRoom) // another process counts
	for _, j := range w.receive(q, "a", "b", "c") {
		w.finish(q, j, nil)
	}
	w.ok(w.openAs(cfg).HasRoom(w.ctx, 3))
	w.empty()
}

// Consumers of a queue that is paused, or has all the leases that it may have, look as seldom as those of
// an empty one.
func lawPausedIsQuiet(w *world) {
	var reads atomic.Int64
	cfg := w.config()
	cfg.Poll, cfg.Limit = time.Hour, 1
	cfg.KV = storagetest.Faults{Before: func(string) error { reads.Add(1); return nil }}.Wrap(w.store).KV
	q, sure := w.openAs(cfg), w.open()
	w.send(sure, body("a"), body("b"))
	w.ok(sure.Pause(w.ctx))
	quiet := func() {
		w.Helper()
		reads.Store(0)
		jobs, err := q.Take(w.ctx, 1, 50*time.Millisecond)
		if w.ok(err); len(jobs) > 0 || reads.Load() > 8 {
			w.Errorf("%d jobs, %d calls of the store", len(jobs), reads.Load())
		}
	}
	quiet()
	w.ok(sure.Resume(w.ctx))
	a := w.receiveN(q, 1, "a")[0]
	quiet()
	w.finish(q, a, nil)
	w.finish(q, w.receive(q, "b")[0], nil)
	w.empty()
}

// Take waits for a job, and no longer than it may.
func lawTake(w *world) {
	q := w.open()
	jobs, err := q.Take(w.ctx, 1, time.Millisecond)
	if w.ok(err); len(jobs) > 0 {
		w.Errorf("%d jobs of none", len(jobs))
	}
	got := make(chan string)
	go func() {
		jobs, err := q.Take(w.ctx, 1, time.Minute)
		if err != nil || len(jobs) != 1 {
			got <- fmt.Sprint(len(jobs), err)
			return
		}
		_, err = q.Finish(w.ctx, queue.Result{Job: jobs[0]})
		got <- fmt.Sprint(string(jobs[0].Body), err)
	}()
	w.send(q, body("a"))
	if text := <-got; text != "a<nil>" {
		w.Error(text)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if _, err := q.Take(ctx, 1, time.Minute); !errors.Is(err, context.Canceled) {
		w.Error(err)
	}
	// An answer is bounded, whatever jobs there are.
	big := strings.Repeat("x", 1<<20)
	for range 7 {
		w.send(q, body(big))
	}
	for _, n := range []int{4, 3} {
		jobs, err := q.Receive(w.ctx, 100)
		if w.ok(err); len(jobs) != n {
			w.Errorf("%d jobs of a megabyte, not %d", len(jobs), n)
		}
		for _, j := range jobs {
			w.finish(q, j, nil)
		}
	}
	w.empty()
}

// A job that was given back is leased again at once, and the attempt does not count. Who knows only the
// ID of a job cannot end it.
func lawReleased(w *world) {
	q := w.open()
	w.send(q, body("a"))
	for range 5 {
		j := w.receive(q, "a")[0]
		if j.Attempt != 1 {
			w.Errorf("attempt %d", j.Attempt)
		}
		w.finish(q, j, queue.ErrReleased)
		for _, lease := range []string{"", j.Lease, "x"} {
			errs, err := q.Finish(w.ctx, queue.Result{Job: &queue.Job{ID: j.ID, Lease: lease}})
			w.ok(err)
			w.fails(errs[0], queue.ErrLeaseLost)
		}
	}
	j := w.receive(q, "a")[0]
	w.finish(q, &queue.Job{ID: j.ID, Lease: j.Lease}, nil)
	w.empty()
}

// An operator sees all jobs, makes one due at once, and drops one, whatever its state.
func lawEntries(w *world) {
	q := w.open()
	ids := w.send(q, body("leased"), keyed("a1", "a"), keyed("a2", "a"), queue.Message{Body: []byte("later"), Delay: time.Hour}, body("dead"))
	jobs := w.receive(q, "leased", "a1", "dead")
	w.finish(q, jobs[1], errWork)
	w.finish(q, jobs[2], queue.Dead(errWork))
	var got []string
	for e, err := range q.Entries(w.ctx) {
		w.ok(err)
		got = append(got, fmt.Sprintf("%s %s %d %s %s", e.Body, e.State, e.Attempts, e.Key, e.Error))
		if e.ID != ids[len(got)-1] || !e.Enqueued.Equal(w.clock) || e.Due.Before(w.clock) {
			w.Errorf("%+v", e)
		}
	}
	want := []string{"leased leased 1  ", "a1 waiting 1 a work failed", "a2 waiting 0 a ", "later waiting 0  ", "dead dead 1  work failed"}
	if !slices.Equal(got, want) {
		w.Errorf("%q", got)
	}
	w.fails(q.Hurry(w.ctx, ids[0]), storage.ErrNotFound)
	w.fails(q.Hurry(w.ctx, "none"), storage.ErrNotFound)
	w.ok(q.Hurry(w.ctx, ids[2])) // not before the first one of its key
	w.receive(q)
	w.ok(q.Hurry(w.ctx, ids[1]))
	w.ok(q.Hurry(w.ctx, ids[4]))
	w.fails(q.Rewrite(w.ctx, "none", nil), storage.ErrNotFound)
	for _, text := range []string{strings.Repeat("long", 1000), "a1"} {
		w.ok(q.Rewrite(w.ctx, ids[1], []byte(text)))
	}
	again := w.wait(time.Millisecond).receive(q, "a1", "dead")
	w.ok(q.Drop(w.ctx, ids[1]))
	errs, err := q.Finish(w.ctx, queue.Result{Job: again[0]})
	w.ok(err)
	w.fails(errs[0], queue.ErrLeaseLost)
	w.finish(q, w.receive(q, "a2")[0], queue.Dead(errWork))
	for _, id := range append(ids, "none") {
		w.ok(q.Drop(w.ctx, id))
	}
	w.wait(2 * time.Hour).receive(q)
	w.empty()
}
