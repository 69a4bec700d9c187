package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/storagetest"
)

const (
	alice = syntax.DID("did:web:alice.example")
	bob   = syntax.DID("did:web:bob.example")
)

// repository makes a repository whose content is of no interest.
func (w *world) repository(did syntax.DID) {
	w.Helper()
	block := []byte("commit of " + did)
	head := storage.Head{Commit: dag.Sum(dag.CBOR, block), Data: dag.Sum(dag.CBOR, []byte("tree")), Rev: "3jzfcijpj2z2a"}
	_, err := w.store.Repos.Apply(w.ctx, did, &storage.Change{Head: head, Commit: block})
	w.ok(err)
}

// commit makes an atomic change with jobs, or with none.
func commit(ctx context.Context, o queue.Outbox, did syntax.DID, messages ...queue.Message) error {
	head, err := o.Store.Repos.Head(ctx, did)
	if err != nil {
		return err
	}
	c := &storage.Change{Prev: head, Head: head, Events: []storage.Event{{DID: did, Kind: "#identity", Time: time.Now(), Payload: []byte{0xa0}}}}
	for _, m := range messages {
		write, err := o.Write(m)
		if err != nil {
			return err
		}
		c.KV = append(c.KV, write)
	}
	_, err = o.Store.Repos.Apply(ctx, did, c)
	return err
}

// outboxEmpty sees to it that no account has jobs left.
func (w *world) outboxEmpty() {
	w.Helper()
	for _, did := range []syntax.DID{alice, bob} {
		w.ok(w.store.Repos.View(w.ctx, did, func(r storage.Reader) error {
			for pair, err := range r.Keys(w.ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				w.Errorf("left: %s", pair.Key)
			}
			return nil
		}))
	}
}

func lawOutbox(w *world) {
	w.repository(alice)
	w.repository(bob)
	q := w.open()
	o := queue.Outbox{Store: w.store, Queue: q}
	w.ok(commit(w.ctx, o, alice, keyed("a", "k"), keyed("b", "k"), queue.Message{Body: []byte("later"), Delay: time.Minute}))
	w.receive(q) // not forwarded yet
	w.ok(o.Forward(w.ctx, alice))
	w.ok(o.Forward(w.ctx, alice))
	w.ok(o.Forward(w.ctx, "did:web:nobody.example"))
	w.outboxEmpty()
	w.finish(q, w.receive(q, "a")[0], nil)
	w.finish(q, w.receive(q, "b")[0], nil)
	w.finish(q, w.wait(time.Minute).receive(q, "later")[0], nil)
	if _, err := o.Write(queue.Message{ID: "a/b"}); err == nil {
		w.Error("a wrong ID was taken")
	}
	// A change that fails has no jobs.
	head, err := w.store.Repos.Head(w.ctx, alice)
	w.ok(err)
	write, err := o.Write(body("never"))
	w.ok(err)
	_, err = w.store.Repos.Apply(w.ctx, alice, &storage.Change{Prev: head, Head: head, KV: []storage.KVWrite{write}, Checks: []storage.KVCheck{{Key: "x", Value: []byte("y")}}})
	w.fails(err, storage.ErrConflict)
	w.ok(o.Forward(w.ctx, alice))
	w.receive(q)
	// More than fit into one transaction.
	var many []queue.Message
	for i := range 250 {
		many = append(many, body(fmt.Sprint(i)))
	}
	w.ok(commit(w.ctx, o, bob, many...))
	w.ok(o.Forward(w.ctx, bob))
	for n := 0; n < 250; {
		jobs, err := q.Receive(w.ctx, 100)
		w.ok(err)
		if len(jobs) == 0 {
			w.Fatalf("%d jobs of 250", n)
		}
		for _, j := range jobs {
			if string(j.Body) != fmt.Sprint(n) {
				w.Fatalf("job %s, not %d", j.Body, n)
			}
			n++
			w.finish(q, j, nil)
		}
	}
	w.outboxEmpty()
	w.empty()
}

// Run finds what was committed while nobody ran it, and what is committed while it runs; also after a
// part of the log that it has not seen was deleted.
func TestOutboxRun(t *testing.T) {
	w := newWorld(t)
	w.repository(alice)
	w.repository(bob)
	q := w.live(time.Minute)
	o := queue.Outbox{Store: w.store, Queue: q}
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(w.ctx)
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		return func() {
			t.Helper()
			cancel()
			w.fails(<-done, context.Canceled)
		}
	}
	next := func(want string) {
		t.Helper()
		var jobs []*queue.Job
		testenv.Until(w, "job "+want, func() bool {
			var err error
			jobs, err = q.Receive(w.ctx, 1)
			w.ok(err)
			return len(jobs) == 1
		})
		if string(jobs[0].Body) != want {
			t.Errorf("job %s, not %s", jobs[0].Body, want)
		}
		w.finish(q, jobs[0], nil)
	}
	w.ok(commit(w.ctx, o, alice, body("before")))
	stop := run()
	next("before")
	w.ok(commit(w.ctx, o, bob, body("while it runs")))
	next("while it runs")
	stop()
	w.ok(commit(w.ctx, o, bob, body("after")))
	w.ok(commit(w.ctx, o, alice))
	stop = run()
	next("after")
	stop()
	w.ok(commit(w.ctx, o, alice, body("in the part that is deleted")))
	w.ok(w.store.Events.Trim(w.ctx, time.Now().Add(time.Hour)))
	stop = run()
	next("in the part that is deleted")
	stop()
	w.outboxEmpty()
	w.empty()
}

// damaged is repositories of which one is damaged.
type damaged struct {
	storage.Repos
	did syntax.DID
}

func (d damaged) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if did == d.did {
		return fmt.Errorf("%w: %s", storage.ErrCorrupt, did)
	}
	return d.Repos.View(ctx, did, fn)
}

// brief is a log at whose end Run ends.
type brief struct{ storage.Events }

var errEnd = errors.New("the end of the log")

func (brief) Wait(context.Context, int64) error { return errEnd }

// An account that is damaged keeps no other one's jobs; its own come when it is good again.
func TestOutboxBesideDamage(t *testing.T) {
	w := newWorld(t)
	w.repository(alice)
	w.repository(bob)
	q := w.open()
	o := queue.Outbox{Store: w.store, Queue: q}
	var failed []syntax.DID
	run := func(did syntax.DID) {
		t.Helper()
		store := w.store
		store.Repos, store.Events = damaged{w.store.Repos, did}, brief{w.store.Events}
		beside := queue.Outbox{Store: store, Queue: q, Failed: func(did syntax.DID, err error) {
			w.fails(err, storage.ErrCorrupt)
			failed = append(failed, did)
		}}
		w.fails(beside.Run(w.ctx), errEnd)
	}
	for _, text := range []string{"all accounts", "the log"} {
		w.ok(commit(w.ctx, o, bob, body("bob: "+text)))
		w.ok(commit(w.ctx, o, alice, body("alice: "+text)))
		run(bob)
		w.finish(q, w.receive(q, "alice: "+text)[0], nil)
	}
	if len(failed) != 2 || failed[0] != bob || failed[1] != bob {
		t.Errorf("damaged: %v", failed)
	}
	w.ok(commit(w.ctx, o, bob))
	run("")
	for _, job := range w.receive(q, "bob: all accounts", "bob: the log") {
		w.finish(q, job, nil)
	}
	w.outboxEmpty()
	w.empty()
}

// TestOutboxKill kills a process before and after every call of the store, between commits with jobs and
// their arrival: jobs are there if the commit is, once.
func TestOutboxKill(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			w := newWorld(t)
			w.repository(alice)
			w.repository(bob)
			d := &storagetest.Death{At: at, After: after}
			store := d.Faults().Wrap(w.store)
			cfg := w.config()
			cfg.KV = store.KV
			o := queue.Outbox{Store: store, Queue: w.openAs(cfg)}
			sure, maybe := map[string]bool{}, map[string]bool{}
			step := func(did syntax.DID, texts ...string) {
				var list []queue.Message
				for _, text := range texts {
					list = append(list, body(text))
				}
				err := commit(w.ctx, o, did, list...)
				for _, text := range texts {
					maybe[text] = true
					sure[text] = err == nil
				}
				_ = o.Forward(w.ctx, did)
			}
			step(alice, "a1", "a2")
			step(bob, "b1")
			step(alice, "a3")

			q := w.open()
			o = queue.Outbox{Store: w.store, Queue: q}
			ctx, cancel := context.WithCancel(w.ctx)
			done := make(chan error, 1)
			go func() { done <- o.Run(ctx) }()
			_, newest, err := w.store.Events.Bounds(w.ctx)
			w.ok(err)
			testenv.Until(w, "the position", func() bool {
				seq := ""
				err := w.store.KV.Read(w.ctx, func(r storage.KVReader) error {
					b, err := r.Get(w.ctx, "queue/test/cursor")
					seq = string(b)
					return err
				})
				if !errors.Is(err, storage.ErrNotFound) {
					w.ok(err)
				}
				return seq == fmt.Sprint(newest)
			})
			cancel()
			w.fails(<-done, context.Canceled)
			seen := map[string]int{}
			jobs, err := q.Receive(w.ctx, 100)
			w.ok(err)
			for _, j := range jobs {
				seen[string(j.Body)]++
				w.finish(q, j, nil)
			}
			for text := range maybe {
				if sure[text] && seen[text] != 1 || seen[text] > 1 {
					t.Errorf("job %s is there %d times", text, seen[text])
				}
			}
			if seen["a1"] != seen["a2"] {
				t.Error("a commit has half of its jobs")
			}
			w.outboxEmpty()
			w.empty()
			if t.Failed() {
				t.Fatalf("killed at call %d, after it: %v", at, after)
			}
			if !d.Died() {
				if at < 30 {
					t.Errorf("only %d calls", at)
				}
				break
			}
		}
	}
}

// A change without an event is announced. Its jobs are moved at its end, or, where the process died, by
// Recover, even if the change comes later than that; the note does not stay for good.
func lawAnnounce(w *world) {
	w.repository(alice)
	w.repository(bob)
	q := w.open()
	o := queue.Outbox{Store: w.store, Queue: q}
	done, err := o.Announce(w.ctx, alice)
	w.ok(err)
	w.ok(commit(w.ctx, o, alice, body("a")))
	w.receive(q)
	w.ok(done(w.ctx))
	w.finish(q, w.receive(q, "a")[0], nil)
	w.empty()

	_, err = o.Announce(w.ctx, alice) // and dies
	w.ok(err)
	w.ok(commit(w.ctx, o, alice, body("b")))
	w.ok(o.Recover(w.ctx, time.Minute))
	w.receive(q) // it is under way, for all that is known
	w.wait(2 * time.Minute)
	w.ok(o.Recover(w.ctx, time.Minute))
	w.finish(q, w.receive(q, "b")[0], nil)
	w.ok(commit(w.ctx, o, alice, body("late")))
	w.ok(o.Recover(w.ctx, time.Minute))
	w.finish(q, w.receive(q, "late")[0], nil)
	w.wait(2 * time.Hour)
	w.ok(o.Recover(w.ctx, time.Minute))
	w.outboxEmpty()
	w.empty()
}
