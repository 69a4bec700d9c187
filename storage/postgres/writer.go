package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Limits on what shares a transaction.
const (
	maxGroup      = 256
	maxGroupBytes = 8 << 20
)

// kind is what a step does with the records.
type kind uint8

const (
	apply   kind = iota
	replace      // gives the repository the set of records that Replace has filled
	remove       // deletes the repository
)

// step is what one caller does.
type step struct {
	ctx    context.Context
	kind   kind
	did    syntax.DID
	change *storage.Change // of remove: its events
	set    int64           // of replace; 0: it has no records

	seq  int64
	err  error
	done chan struct{} // closed when seq and err are there
}

// bytes estimates how much the step writes.
func (s *step) bytes() (n int64) {
	for i := range s.change.Records {
		n += s.change.Records[i].Cost()
	}
	for i := range s.change.Events {
		n += int64(len(s.change.Events[i].Payload))
	}
	for i := range s.change.KV {
		n += int64(len(s.change.KV[i].Value))
	}
	return n
}

// writer carries out steps. Steps that arrive while a transaction runs share the next one, a group:
// so they share the sequencer and a flush.
//
//	do ──▶ queue ──take──▶ group ──try──▶ committed, or refused ──▶ done
//	         │               ▲              │
//	         ▼               ├── again ◀────┤ the server, or another node, was in the way
//	      withdraw           └── one by one ┘ one of several is at fault
//
// No step is left behind. running is set under mu when a step joins the queue and nobody works; work
// clears it under the same mu, only after it has found the queue empty. And a step has its result
// once: withdraw and take both remove it from the queue under mu, so only one of them has it.
type writer struct {
	db   *DB
	lane lane

	// mu guards these. It is not held while a group is carried out.
	mu      sync.Mutex
	queue   []*step
	running bool      // a goroutine is in work
	closed  bool      // no more steps are taken
	idle    sync.Cond // that running is false

	// Only the goroutine in work uses this.
	numbers int64 // how many the group of the last attempt takes
}

func (w *writer) init(db *DB) {
	w.db, w.lane, w.idle.L = db, lane{db: db, id: laneSteps}, &w.mu
}

// close waits for the steps that have come, and refuses others.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for w.running {
		w.idle.Wait()
	}
}

// do carries out a step. Once it is sent to the server its context does not matter any more, so
// that the answer is true.
func (w *writer) do(s *step) (seq int64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.valid(); err != nil {
		return 0, err
	}
	s.done = make(chan struct{})
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return 0, errClosed
	}
	w.queue = append(w.queue, s)
	if !w.running {
		w.running = true
		go w.work()
	}
	w.mu.Unlock()
	select {
	case <-s.done:
	case <-s.ctx.Done():
		if w.withdraw(s) {
			return 0, s.ctx.Err()
		}
		<-s.done
	}
	return s.seq, fail(s.ctx, s.err)
}

// withdraw takes a step out of the queue, if it is still there.
func (w *writer) withdraw(s *step) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, s)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

// work carries out steps until there are none.
func (w *writer) work() {
	for {
		w.mu.Lock()
		group := w.take()
		if len(group) == 0 {
			w.running = false
			w.idle.Broadcast()
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		w.carryOut(group)
		for _, s := range group {
			close(s.done)
		}
	}
}

// take takes the next group out of the queue: one step of each account, the oldest first.
func (w *writer) take() (group []*step) {
	rest := w.queue[:0]
	accounts := make(map[syntax.DID]bool, len(w.queue))
	size := int64(0)
	for _, s := range w.queue {
		n := s.bytes()
		if accounts[s.did] || len(group) == maxGroup || len(group) > 0 && size+n > maxGroupBytes {
			accounts[s.did] = true // what comes after it waits too
			rest = append(rest, s)
			continue
		}
		accounts[s.did] = true
		size += n
		group = append(group, s)
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	return group
}

// carryOut carries out a group, again if the server or another node was in the way, until each
// step has its result.
func (w *writer) carryOut(group []*step) {
	begin := time.Now()
	for attempt := 0; ; attempt++ {
		group = slices.DeleteFunc(slices.Clone(group), func(s *step) bool {
			s.seq, s.err = 0, s.ctx.Err()
			return s.err != nil
		})
		if len(group) == 0 {
			return
		}
		err := w.try(group)
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrUnknown), errors.Is(err, errClosed), errors.Is(err, storage.ErrBusy):
		case transient(err) || w.repairFor(err, attempt):
			if time.Since(begin) < w.db.cfg.Wait {
				if blocked(err) {
					w.db.endStalledSessions(context.Background())
				}
				time.Sleep(min(time.Duration(attempt)*5*time.Millisecond, 200*time.Millisecond))
				continue
			}
			err = busy(err)
		case len(group) > 1: // one of them is at fault
			for _, s := range group {
				w.carryOut([]*step{s})
			}
			return
		}
		for _, s := range group {
			s.seq, s.err = 0, err
		}
		return
	}
}

// repairFor does something about an error of the server, so that the next attempt may succeed.
func (w *writer) repairFor(err error, attempt int) bool {
	switch code(err) {
	case codeCheck: // there is no partition for the numbers
		ctx, cancel := context.WithTimeout(context.Background(), w.db.cfg.Wait)
		defer cancel()
		_, newest, err := w.db.bounds(ctx, w.db.lookups)
		return err == nil && w.db.parts.ensure(ctx, w.db, w.db.floor(newest), w.numbers+time.Second.Microseconds()) == nil && attempt < 5
	case codeUnique: // another node has made the repository meanwhile
		return attempt < 5
	}
	return errors.Is(err, errNoTicket) && attempt < 5
}

// try carries out a group in one transaction, in two exchanges with the server. A step that is
// refused has its error afterwards; an error of try is that of all.
func (w *writer) try(group []*step) error {
	ctx := context.Background()
	number := w.lane.next()
	c, err := w.db.lanes.take(ctx)
	if err != nil {
		return err
	}
	s, err := w.lockAndRead(ctx, c, group)
	if err != nil {
		c.end()
		if errors.Is(err, errNoTicket) {
			err = errors.Join(err, w.lane.register(ctx))
		}
		return err
	}
	writes, err := w.decide(ctx, group, s)
	if err != nil || writes == nil {
		c.end()
		return err
	}
	w.numbers = writes.numbers()
	var b batch
	var last int64
	writes.queue(&b, w, number, &last)
	b.Queue("COMMIT")
	err = c.send(ctx, &b)
	switch {
	case err == nil:
		c.end()
	case refused(err):
		c.end()
		return err
	default:
		c.drop()
		committed, seq, unknown := w.lane.outcome(number)
		if unknown != nil {
			return unknown
		}
		if !committed {
			return err
		}
		last = seq
	}
	writes.done(group, last)
	if n := len(writes.events.dids); n > 0 {
		w.db.announce(last)
		select {
		case w.db.notify <- struct{}{}:
		default:
		}
		w.db.parts.makeNext(w.db, last)
	}
	return nil
}

// errNoTicket: the process's row is not there.
var errNoTicket = errors.New("postgres: the process is not registered")
