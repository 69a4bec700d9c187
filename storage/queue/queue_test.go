package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/queue"
)

// world is what outlives processes.
type world struct {
	testing.TB
	store storage.Store
	clock time.Time
	ctx   context.Context
}

func newWorld(tb testing.TB) *world {
	w := &world{TB: tb, clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ctx: context.Background()}
	w.store = memory.New(memory.Config{Now: w.now})
	return w
}

// now is the clock of the store and the queues.
func (w *world) now() time.Time { return w.clock }

func (w *world) config() queue.Config {
	return queue.Config{
		KV: w.store.KV, Name: "test", Lease: 10 * time.Second, Attempts: 3, Now: w.now,
		Backoff: func(n int) time.Duration { return time.Duration(n) * time.Minute },
	}
}

func (w *world) open() *queue.Queue { return w.openAs(w.config()) }

func (w *world) openAs(cfg queue.Config) *queue.Queue {
	w.Helper()
	q, err := queue.New(cfg)
	w.ok(err)
	return q
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) fails(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("error %v, not %v", err, want)
	}
}

func (w *world) send(q *queue.Queue, messages ...queue.Message) []string {
	w.Helper()
	ids, err := q.Send(w.ctx, messages...)
	w.ok(err)
	return ids
}

func body(text string) queue.Message         { return queue.Message{Body: []byte(text)} }
func keyed(text, key string) queue.Message   { return queue.Message{Body: []byte(text), Key: key} }
func (w *world) wait(d time.Duration) *world { w.clock = w.clock.Add(d); return w }

// receive leases jobs whose bodies must be these.
func (w *world) receive(q *queue.Queue, want ...string) (jobs []*queue.Job) {
	w.Helper()
	return w.receiveN(q, 100, want...)
}

// receiveN is receive for n jobs at most.
func (w *world) receiveN(q *queue.Queue, n int, want ...string) (jobs []*queue.Job) {
	w.Helper()
	jobs, err := q.Receive(w.ctx, n)
	w.ok(err)
	var got []string
	for _, j := range jobs {
		got = append(got, string(j.Body))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.Fatalf("received %q, not %q", got, want)
	}
	return jobs
}

// finish notes a result, which must be taken.
func (w *world) finish(q *queue.Queue, job *queue.Job, result error) {
	w.Helper()
	errs, err := q.Finish(w.ctx, queue.Result{Job: job, Err: result})
	w.ok(err)
	w.ok(errs[0])
}

// empty sees to it that nothing is left of jobs.
func (w *world) empty() {
	w.Helper()
	w.ok(w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(w.ctx, storage.Prefix("queue/")) {
			if err != nil {
				return err
			}
			if !strings.HasPrefix(pair.Key, "queue/test/i/") && pair.Key != "queue/test/cursor" {
				w.Errorf("left: %s = %s", pair.Key, pair.Value)
			}
		}
		return nil
	}))
}

var errWork = errors.New("work failed")

func TestConfig(t *testing.T) {
	kv := memory.New(memory.Config{}).KV
	for _, cfg := range []queue.Config{
		{}, {KV: kv}, {Name: "x"}, {KV: kv, Name: "a/b"}, {KV: kv, Name: strings.Repeat("x", 65)}, {KV: kv, Name: "x", Lease: -1}, {KV: kv, Name: "x", Attempts: -1},
	} {
		if _, err := queue.New(cfg); err == nil {
			t.Errorf("made with %+v", cfg)
		}
	}
}

func lawJobs(w *world) {
	q := w.open()
	w.receive(q)
	long := strings.Repeat("long", 100_000)
	ids := w.send(q, body("a"), body(long), body(""))
	if len(ids) != 3 || ids[0] >= ids[1] || ids[1] >= ids[2] {
		w.Errorf("IDs %q", ids)
	}
	jobs := w.receive(q, "a", long, "")
	if j := jobs[0]; j.ID != ids[0] || j.Attempt != 1 || !j.Enqueued.Equal(w.clock) || !j.Until.Equal(w.clock.Add(10*time.Second)) || j.LastError != "" {
		w.Errorf("%+v", j)
	}
	w.receive(q)
	for _, j := range jobs {
		w.finish(q, j, nil)
		errs, err := q.Finish(w.ctx, queue.Result{Job: j})
		w.ok(err)
		w.fails(errs[0], queue.ErrLeaseLost)
	}
	w.wait(time.Hour).receive(q)
	w.empty()
}

func lawRetries(w *world) {
	q := w.open()
	w.send(q, body("a"))
	for n := 1; n <= 3; n++ {
		j := w.receive(q, "a")[0]
		if j.Attempt != n || n > 1 && j.LastError != "work failed" {
			w.Errorf("%+v", j)
		}
		w.finish(q, j, errWork)
		w.wait(time.Duration(n)*time.Minute - time.Second).receive(q)
		w.wait(time.Second)
	}
	w.wait(time.Hour).receive(q)
	var dead []queue.DeadJob
	for d, err := range q.DeadJobs(w.ctx) {
		w.ok(err)
		dead = append(dead, d)
	}
	if len(dead) != 1 || string(dead[0].Body) != "a" || dead[0].Attempts != 3 || dead[0].Error != "work failed" {
		w.Fatalf("dead: %+v", dead)
	}
	w.ok(q.Requeue(w.ctx, dead[0].ID))
	w.fails(q.Requeue(w.ctx, dead[0].ID), storage.ErrNotFound)
	w.fails(q.Requeue(w.ctx, "none"), storage.ErrNotFound)
	j := w.receive(q, "a")[0]
	if j.Attempt != 1 || j.LastError != "work failed" {
		w.Errorf("%+v", j)
	}
	w.finish(q, j, queue.After(errWork, 3*time.Hour))
	w.wait(2 * time.Hour).receive(q)
	w.finish(q, w.wait(time.Hour).receive(q, "a")[0], fmt.Errorf("hopeless: %w", queue.Dead(errWork)))
	for range 250 {
		w.finish(q, func() *queue.Job { w.send(q, body("b")); return w.receive(q, "b")[0] }(), queue.Dead(errWork))
	}
	n := 0
	for d, err := range q.DeadJobs(w.ctx) {
		w.ok(err)
		if n++; n == 5 {
			w.ok(q.Requeue(w.ctx, d.ID)) // in the loop
		}
	}
	if n != 251 {
		w.Errorf("%d dead jobs", n)
	}
	if n, err := q.Purge(w.ctx, w.clock); err != nil || n != 0 {
		w.Errorf("%d, %v", n, err)
	}
	if n, err := q.Purge(w.ctx, w.clock.Add(time.Second)); err != nil || n != 250 {
		w.Errorf("%d, %v", n, err)
	}
	w.finish(q, w.receive(q, "b")[0], nil)
	w.empty()
}

func lawDelays(w *world) {
	q := w.open()
	w.send(q, queue.Message{Body: []byte("later"), Delay: time.Hour}, body("now"), queue.Message{Body: []byte("soon"), Delay: time.Minute})
	w.finish(q, w.receive(q, "now")[0], nil)
	w.finish(q, w.wait(time.Minute).receive(q, "soon")[0], nil)
	st, err := q.Stats(w.ctx)
	if err != nil || st != (queue.Stats{Later: 1}) {
		w.Errorf("%+v, %v", st, err)
	}
	w.finish(q, w.wait(time.Hour).receive(q, "later")[0], nil)
	w.empty()
}

func lawLeases(w *world) {
	q, other := w.open(), w.open()
	w.send(q, body("a"), body("b"))
	jobs := w.receive(q, "a", "b")
	w.wait(6 * time.Second)
	lost, err := q.Extend(w.ctx, jobs[0])
	if w.ok(err); len(lost) > 0 || !jobs[0].Until.Equal(w.clock.Add(10*time.Second)) {
		w.Errorf("lost %v, until %s", lost, jobs[0].Until)
	}
	again := w.wait(6*time.Second).receive(other, "b") // its lease has ended
	if again[0].Attempt != 2 {
		w.Errorf("%+v", again[0])
	}
	lost, err = q.Extend(w.ctx, jobs...)
	if w.ok(err); len(lost) != 1 || lost[0] != jobs[1] {
		w.Errorf("lost %v", lost)
	}
	for _, result := range []error{nil, errWork} {
		errs, err := q.Finish(w.ctx, queue.Result{Job: jobs[1], Err: result})
		w.ok(err)
		w.fails(errs[0], queue.ErrLeaseLost)
	}
	// A lease that has ended still holds while nobody else has the job.
	w.wait(time.Minute)
	w.finish(q, jobs[0], nil)
	w.finish(other, again[0], nil)
	w.empty()
}

// A job that kills its consumers does so three times.
func lawPoison(w *world) {
	q := w.open()
	w.send(q, keyed("poison", "k"), keyed("next", "k"))
	for range 3 {
		w.receive(q, "poison")
		w.wait(11 * time.Second)
	}
	w.receive(q)
	w.finish(q, w.receive(q, "next")[0], nil)
	for d, err := range q.DeadJobs(w.ctx) {
		if w.ok(err); d.Error != "the lease ended" || d.Attempts != 3 {
			w.Errorf("%+v", d)
		}
	}
	n, err := q.Purge(w.ctx, w.clock.Add(time.Hour))
	if w.ok(err); n != 1 {
		w.Errorf("%d purged", n)
	}
	w.empty()
}

func lawOrderPerKey(w *world) {
	q := w.open()
	w.send(q, keyed("a1", "a"), keyed("b1", "b/\x00"), body("x"), keyed("a2", "a"), keyed("b2", "b/\x00"), queue.Message{Body: []byte("a3"), Key: "a", Delay: time.Hour})
	w.send(q, keyed("a4", "a"))
	if st, _ := q.Stats(w.ctx); st.Due != 3 || st.Behind != 4 || !st.Oldest.Equal(w.clock) {
		w.Errorf("%+v", st)
	}
	jobs := w.receive(q, "a1", "b1", "x")
	if jobs[1].Key != "b/\x00" {
		w.Errorf("key %q", jobs[1].Key)
	}
	w.finish(q, jobs[0], errWork) // the others of its key wait with it
	w.finish(q, jobs[1], queue.Dead(errWork))
	w.finish(q, jobs[2], nil)
	w.finish(q, w.receive(q, "b2")[0], nil)
	w.receive(q)
	w.finish(q, w.wait(time.Minute).receive(q, "a1")[0], nil)
	w.finish(q, w.receive(q, "a2")[0], nil)
	w.receive(q) // a3 is not due, and a4 is behind it
	w.finish(q, w.wait(time.Hour).receive(q, "a3")[0], nil)
	w.finish(q, w.receive(q, "a4")[0], nil)
	_, err := q.Purge(w.ctx, w.clock.Add(time.Hour))
	w.ok(err)
	w.empty()
}

func lawIDs(w *world) {
	q := w.open()
	named := queue.Message{Body: []byte("a"), ID: "did:web:a:1"}
	if ids := w.send(q, named, named); ids[0] != named.ID || ids[1] != named.ID {
		w.Errorf("%q", ids)
	}
	w.send(q, named)
	j := w.receive(q, "a")[0]
	w.send(q, named)
	w.finish(q, j, nil)
	w.send(q, named)
	w.wait(23 * time.Hour).receive(q)
	w.send(q, named)
	w.wait(2 * time.Hour).receive(q)
	w.send(q, named)
	w.finish(q, w.receive(q, "a")[0], nil)
	w.empty()
	for _, m := range []queue.Message{
		{ID: "a/b"}, {ID: strings.Repeat("x", 129)}, {Key: strings.Repeat("x", 513)}, {Body: make([]byte, 1<<20+1)}, {Delay: -1}, {ID: "ä"},
	} {
		if _, err := q.Send(w.ctx, body("good"), m); err == nil {
			w.Errorf("sent %.100v", m)
		}
	}
	w.receive(q) // none of them, nor the good ones
	w.empty()
}

func lawPause(w *world) {
	q, other := w.open(), w.open()
	w.send(q, body("a"), body("b"))
	j, err := q.Receive(w.ctx, 1)
	w.ok(err)
	w.ok(other.Pause(w.ctx))
	w.receive(q)
	w.finish(q, j[0], nil)
	if st, err := q.Stats(w.ctx); err != nil || !st.Paused || st.Due != 1 {
		w.Errorf("%+v, %v", st, err)
	}
	w.ok(other.Resume(w.ctx))
	w.finish(q, w.receive(q, "b")[0], nil)
	w.empty()
}

// Two queues in one KV have nothing to do with each other; a transaction of the caller's sends jobs, or
// not.
func lawSendTx(w *world) {
	q := w.open()
	cfg := w.config()
	cfg.Name = "tes"
	other := w.openAs(cfg)
	abort := errors.New("abort")
	for _, result := range []error{abort, nil} {
		err := w.store.KV.Write(w.ctx, func(tx storage.KVTx) error {
			if err := tx.Set(w.ctx, "mine", []byte("1"), time.Time{}); err != nil {
				return err
			}
			if _, err := q.SendTx(w.ctx, tx, keyed("a", "k"), keyed("b", "k")); err != nil {
				return err
			}
			return result
		})
		w.fails(err, result)
		w.receive(other)
		if result != nil {
			w.receive(q)
		}
	}
	w.finish(q, w.receive(q, "a")[0], nil)
	w.finish(q, w.receive(q, "b")[0], nil)
	w.empty()
}

func lawObserve(w *world) {
	var seen []string
	cfg := w.config()
	cfg.Observe = func(e queue.Event) {
		seen = append(seen, fmt.Sprintf("%s %d %s", e.Kind, e.Attempt, e.Waited))
		if e.Queue != "test" || e.ID == "" {
			w.Errorf("%+v", e)
		}
	}
	q := w.openAs(cfg)
	w.send(q, body("a"))
	j := w.wait(time.Second).receive(q, "a")[0]
	w.finish(q, j, errWork)
	_, err := q.Finish(w.ctx, queue.Result{Job: j})
	w.ok(err)
	w.finish(q, w.wait(time.Minute).receive(q, "a")[0], nil)
	want := "sent 0 0s, leased 1 1s, retried 1 1s, lost 1 1s, leased 2 0s, done 2 1m1s"
	if got := strings.Join(seen, ", "); got != want {
		w.Errorf("%s, not %s", got, want)
	}
}
