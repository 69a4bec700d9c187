package queue_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/storagetest"
)

var errKilled = errors.New("killed")

// ledger is what a test knows of jobs, by their bodies.
type ledger struct {
	world
	sent  map[string]bool // Send returned nil
	tried map[string]bool // Send returned an error: the job may be there
	done  map[string]bool // Finish returned nil for its success
	dead  map[string]bool
	// ended are jobs with a key whose end is, or may be, noted.
	ended map[string]bool
	order []string // of the keys' jobs, as sent
}

func newLedger(w *world) *ledger {
	return &ledger{*w, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, nil}
}

func (l *ledger) send(q *queue.Queue, messages ...queue.Message) {
	_, err := q.Send(l.ctx, messages...)
	for _, m := range messages {
		if err == nil {
			l.sent[string(m.Body)] = true
		} else {
			l.tried[string(m.Body)] = true
		}
		if m.Key != "" {
			l.order = append(l.order, string(m.Body))
		}
	}
}

// begun checks a job that was leased.
func (l *ledger) begun(j *queue.Job) {
	text := string(j.Body)
	if !l.sent[text] && !l.tried[text] {
		l.Errorf("job %q was never sent", text)
	}
	if l.done[text] || l.dead[text] {
		l.Errorf("job %q is done again, after its end was noted", text)
	}
	if j.Key == "" {
		return
	}
	for _, before := range l.order {
		if before == text {
			return
		}
		if before[0] == text[0] && l.sent[before] && !l.ended[before] {
			l.Errorf("job %q is begun before %q has ended", text, before)
		}
	}
}

func (l *ledger) finish(q *queue.Queue, j *queue.Job, result error) {
	text := string(j.Body)
	errs, err := q.Finish(l.ctx, queue.Result{Job: j, Err: result})
	final := result == nil || errors.Is(result, errHopeless)
	if final && err != nil {
		l.ended[text] = true // it may be
	}
	if err != nil || errs[0] != nil || !final {
		return
	}
	l.ended[text] = true
	if result == nil {
		l.done[text] = true
	} else {
		l.dead[text] = true
	}
}

var errHopeless = errors.New("hopeless")

// drain does all jobs that are left, and sees to it that none was lost.
func (l *ledger) drain(q *queue.Queue) {
	l.Helper()
	for range 400 {
		l.clock = l.clock.Add(5 * time.Minute)
		jobs, err := q.Receive(l.ctx, 3)
		l.ok(err)
		for _, j := range jobs {
			l.begun(j)
			l.finish(q, j, nil)
		}
	}
	for d, err := range q.DeadJobs(l.ctx) {
		l.ok(err)
		l.dead[string(d.Body)] = true
	}
	for text := range l.sent {
		if !l.done[text] && !l.dead[text] && !l.ended[text] {
			l.Errorf("job %q was lost", text)
		}
	}
	_, err := q.Purge(l.ctx, l.clock.Add(time.Hour))
	l.ok(err)
	l.empty()
}

// script is what a process does until it is killed.
func (l *ledger) script(q *queue.Queue) {
	long := string(make([]byte, 3000))
	l.send(q, keyed("a1", "a"), keyed("b1", "b"), body("x1"))
	l.send(q, keyed("a2"+long, "a"), queue.Message{Body: []byte("x2"), Delay: time.Minute, ID: "id"})
	jobs, _ := q.Receive(l.ctx, 2)
	for _, j := range jobs {
		l.begun(j)
	}
	for i, j := range jobs {
		if i == 0 {
			_, _ = q.Extend(l.ctx, j)
		}
		l.finish(q, j, []error{nil, errWork}[i%2])
	}
	l.clock = l.clock.Add(2 * time.Minute)
	jobs, _ = q.Receive(l.ctx, 10)
	for i, j := range jobs {
		l.begun(j)
		l.finish(q, j, []error{queue.Dead(errHopeless), nil, queue.After(errWork, time.Second)}[i%3])
	}
	_, _ = q.Purge(l.ctx, l.clock.Add(time.Hour))
	l.send(q, keyed("a3", "a"))
	_ = q.Pause(l.ctx)
	_ = q.Resume(l.ctx)
}

// TestKill kills a process before and after every call of the KV.
func TestKill(t *testing.T) {
	for name, c := range map[string]struct {
		open  func(testing.TB) storage.Store
		every int
	}{"memory": {nil, 1}, "sqlite": {sqliteStore, 13}} {
		for _, after := range []bool{false, true} {
			calls := 0
			for at := 1; ; at += c.every {
				w := newWorld(t)
				if c.open != nil {
					w.store = c.open(t)
				}
				l := newLedger(w)
				d := &storagetest.Death{At: at, After: after}
				cfg := l.config()
				cfg.KV = d.Faults().Wrap(w.store).KV
				l.script(l.openAs(cfg))
				q := l.open()
				l.ok(q.Resume(l.ctx))
				l.clock = l.clock.Add(time.Hour)
				l.drain(q)
				if t.Failed() {
					t.Fatalf("%s, killed at call %d, after it: %v", name, at, after)
				}
				if !d.Died() {
					calls = at
					break
				}
			}
			if calls < 60 {
				t.Errorf("only %d calls", calls)
			}
		}
	}
}

// TestHistories makes random calls in several processes, some of which fail, with a clock that goes on
// at random.
func TestHistories(t *testing.T) {
	for seed := range uint64(40) {
		w := newWorld(t)
		if seed%20 == 19 {
			w.store = sqliteStore(t)
		}
		l := newLedger(w)
		rng := rand.New(rand.NewPCG(seed, 9))
		quiet := false
		fault := func(string) error {
			if !quiet && rng.IntN(80) == 0 {
				return errKilled
			}
			return nil
		}
		cfg := l.config()
		cfg.Attempts = 50
		cfg.KV = storagetest.Faults{Before: fault, After: fault}.Wrap(w.store).KV
		qs := []*queue.Queue{l.openAs(cfg), l.openAs(cfg)}
		held := map[*queue.Job]bool{}
		n := 0
		for range 300 {
			q := qs[rng.IntN(2)]
			switch rng.IntN(8) {
			case 0, 1:
				var list []queue.Message
				for range 1 + rng.IntN(3) {
					n++
					lane := string(rune('a' + rng.IntN(3)))
					m := keyed(fmt.Sprint(lane, n), lane)
					if rng.IntN(2) == 0 {
						m = body(fmt.Sprint("x", n))
					}
					m.Delay = time.Duration(rng.IntN(3)) * time.Second
					list = append(list, m)
				}
				l.send(q, list...)
			case 2, 3:
				jobs, err := q.Receive(l.ctx, 1+rng.IntN(5))
				if err == nil {
					for _, j := range jobs {
						l.begun(j)
						held[j] = true
					}
				}
			case 4, 5, 6:
				for j := range held {
					l.finish(q, j, []error{nil, nil, errWork, queue.Dead(errHopeless), queue.After(errWork, 0)}[rng.IntN(5)])
					delete(held, j)
					break
				}
			case 7:
				for j := range held {
					_, _ = q.Extend(l.ctx, j)
				}
				l.clock = l.clock.Add(time.Duration(rng.IntN(8)) * time.Second)
			}
			// A job is leased to one consumer: of two that hold it, only the later one can end it.
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		quiet = true
		clear(held)
		l.drain(qs[0])
		if t.Failed() {
			t.Fatalf("seed %d: of %v", seed, slices.Sorted(func(yield func(string) bool) {
				for k := range l.sent {
					if !yield(k) {
						return
					}
				}
			}))
		}
	}
}
