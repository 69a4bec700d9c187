package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
)

// set overwrites a row.
func (w *world) set(key, value string) {
	w.Helper()
	w.ok(w.store.KV.Write(w.ctx, func(tx storage.KVTx) error {
		return tx.Set(w.ctx, key, []byte(value), time.Time{})
	}))
}

// Jobs of a change come to a queue that is full: they exist already, and so does what they tell of.
func TestForwardToFullQueue(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Room = 2
	q := w.openAs(cfg)
	o := queue.Outbox{Store: w.store, Queue: q}
	w.repository(alice)
	w.send(q, body("a"), body("b"))
	w.fails(q.HasRoom(w.ctx, 1), queue.ErrNoRoom)
	w.ok(commit(w.ctx, o, alice, body("of alice")))
	w.ok(o.Forward(w.ctx, alice))
	w.receive(q, "a", "b", "of alice")
}

// An account whose rows cannot be read does not keep Recover from those of others.
func TestRecoverPassesBrokenAccount(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	o := queue.Outbox{Store: w.store, Queue: q}
	w.repository(alice)
	w.repository(bob)
	_, err := o.Announce(w.ctx, alice)
	w.ok(err)
	_, err = o.Announce(w.wait(time.Second).ctx, bob)
	w.ok(err)
	head, err := w.store.Repos.Head(w.ctx, alice)
	w.ok(err)
	_, err = w.store.Repos.Apply(w.ctx, alice, &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{{Key: "outbox/test/x", Value: []byte("{")}}})
	w.ok(err)
	w.ok(commit(w.ctx, o, bob, body("of bob")))
	w.wait(time.Minute)
	w.fails(o.Recover(w.ctx, 0), storage.ErrCorrupt)
	w.receive(q, "of bob")
}

// A job that cannot be read is dead, and does not keep the others from being done.
func TestBrokenJob(t *testing.T) {
	for name, key := range map[string]string{"row": "queue/test/m/a", "body": "queue/test/b/a"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			q := w.open()
			w.send(q, queue.Message{ID: "a", Body: make([]byte, 5000)}, queue.Message{ID: "b", Body: []byte("b")})
			if name == "row" {
				w.set(key, `{"due":`)
			} else {
				w.ok(w.store.KV.Write(w.ctx, func(tx storage.KVTx) error { return tx.Delete(w.ctx, key) }))
			}
			jobs := w.receive(q, "b")
			w.finish(q, jobs[0], nil)
			n := 0
			for j, err := range q.DeadJobs(w.ctx) {
				w.ok(err)
				if n++; j.ID != "a" || j.Error == "" {
					t.Errorf("%+v", j)
				}
			}
			for e, err := range q.Entries(w.ctx) {
				w.ok(err)
				if e.State != queue.Buried {
					t.Errorf("%+v", e)
				}
			}
			if n != 1 {
				t.Errorf("%d jobs are dead", n)
			}
			if _, err := q.Purge(w.ctx, w.wait(time.Second).now()); err != nil {
				t.Error(err)
			}
			w.ok(q.Drop(w.ctx, "a"))
			w.empty()
		})
	}
}

// What is dead takes no more than a part of a queue.
func TestBury(t *testing.T) {
	w := newWorld(t)
	q := w.open()
	for range 250 {
		w.send(q, body("x"))
		for _, j := range w.receive(q, "x") {
			w.finish(q, j, queue.Dead(errors.New("no")))
		}
		w.wait(time.Millisecond)
	}
	for _, keep := range []int{300, 250, 100, 0} {
		if _, err := q.PurgeAllBut(w.ctx, keep); err != nil {
			t.Fatal(err)
		}
		st, err := q.Stats(w.ctx)
		w.ok(err)
		if st.Dead != min(keep, 250) {
			t.Errorf("%d are dead, not %d", st.Dead, keep)
		}
	}
	w.empty()
}

// A worker may say anything for the job that it had.
func TestResultOfNoJob(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	var lost []queue.Event
	cfg.Observe = func(e queue.Event) {
		if e.Kind == queue.Lost {
			lost = append(lost, e)
		}
	}
	q := w.openAs(cfg)
	w.send(q, body("a"))
	job := w.receive(q, "a")[0]
	for _, bad := range []*queue.Job{{ID: ""}, {ID: "a\x00"}, {ID: strings.Repeat("a", 1<<20)}, {ID: "../" + job.ID, Lease: job.Lease}, {ID: job.ID, Lease: "x"}} {
		errs, err := q.Finish(w.ctx, queue.Result{Job: bad})
		w.ok(err)
		w.fails(errs[0], queue.ErrLeaseLost)
		gone, err := q.Extend(w.ctx, bad)
		w.ok(err)
		if len(gone) != 1 {
			t.Errorf("%.20q is extended", bad.ID)
		}
	}
	for _, e := range lost {
		if e.Waited != 0 {
			t.Errorf("it waited for %s", e.Waited)
		}
	}
	w.finish(q, job, nil)
	w.empty()
}
