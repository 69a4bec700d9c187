package durable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// SoloConfig configures a Solo. The zero value works.
type SoloConfig struct {
	// Alarms configures the calls of alarms.
	Alarms Alarms
	// Schedule, if not nil, is called before a change that sets an alarm is stored, with the time
	// at which to call FireAlarms. A Durable Object then sets its own alarm, unless it has an
	// earlier one. Hosts that call Run do not need it.
	Schedule func(at time.Time) error
	// Now is the clock, for sequence numbers, alarms and the expiry of keys. Nil: time.Now.
	Now func() time.Time
}

// Solo is a whole store in one Object: any number of accounts, the event log and the host's keys,
// everything but blobs. Each change is one transaction. It serves a server with only one Object,
// such as a Durable Object with its own account. It can also be the Config.Shared of a DB.
//
// Only one writer runs at a time. Readers run beside it, and see only what is committed: of the
// log, the events up to the last committed number. A Solo has no goroutines and no timers while no
// method runs.
type Solo struct {
	cfg    SoloConfig
	open   func(context.Context) (Object, error)
	alarms caller

	*core
	// With the turn:
	busy map[syntax.DID]*sets // accounts that have loose sets

	// logMu is held, besides the turn, by a transaction that deletes events, so that readers of
	// the log do not take what it has undone for what is stored.
	logMu   sync.RWMutex
	deleted map[syntax.DID]int64 // events up to that number are not to be read; guarded by logMu

	pos     sync.Mutex
	log     logRow
	changed chan struct{} // closed and replaced when the log grows
	users   int
	closed  bool
	idle    chan struct{} // closed when it is closed and nobody uses it
}

// OpenSolo opens a store in an object. open opens the object. If the outcome of a transaction is
// unknown, the object is closed, and open is called again.
func OpenSolo(ctx context.Context, open func(context.Context) (Object, error), cfg SoloConfig) (*Solo, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Solo{
		cfg: cfg, open: open, core: newCore(), busy: make(map[syntax.DID]*sets), deleted: make(map[syntax.DID]int64),
		changed: make(chan struct{}), idle: make(chan struct{}),
	}
	s.alarms = caller{Alarms: cfg.Alarms, now: cfg.Now, repos: soloRepos{s}, index: s.alarmIndex, forget: s.forgetAlarm}
	s.alarms.init()
	store, err := open(ctx)
	if err != nil {
		return nil, err
	}
	s.store = values{Object: store}
	s.to(unknown)
	if err := s.load(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return s, nil
}

// Store returns the store. It has no Blobs: combine it with others, such as package bucket, whose
// rows can be in its KV.
func (s *Solo) Store() storage.Store {
	return storage.Store{Repos: soloRepos{s}, Events: soloEvents{s}, KV: soloKV{s}}
}

// Close waits for running calls, including views, and closes the object.
func (s *Solo) Close() error {
	s.pos.Lock()
	if s.closed {
		s.pos.Unlock()
		return nil
	}
	s.closed = true
	if s.users == 0 {
		close(s.idle)
	}
	s.pos.Unlock()
	<-s.idle
	s.to(closing)
	defer s.to(gone)
	return s.store.Close()
}

// acquire is called before the object is used, and release after that.
func (s *Solo) acquire() error {
	s.pos.Lock()
	defer s.pos.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.users++
	return nil
}

func (s *Solo) release() {
	s.pos.Lock()
	defer s.pos.Unlock()
	if s.users--; s.users == 0 && s.closed {
		close(s.idle)
	}
}

// load reads what is kept in memory. The caller has the turn, or nobody else knows of the Solo.
func (s *Solo) load() error {
	if err := s.findPieces(); err != nil {
		return err
	}
	log, err := s.loadLog()
	if err != nil {
		return fmt.Errorf("durable: log: %w", err)
	}
	// Replace goes on over a transaction that failed: what it has staged stays its own.
	busy := make(map[syntax.DID]*sets)
	for did, old := range s.busy {
		if len(old.staging) > 0 {
			old.loose = nil
			busy[did] = old
		}
	}
	list, _, err := s.pairs(Scan{From: keyLoose, To: keyPiece, MaxValue: KeysOnly}, 0)
	if err != nil {
		return err
	}
	for _, p := range list {
		did, name, ok := cutOrdered(p.key[len(keyLoose):])
		set, err := parseSet(name)
		if err != nil || !ok {
			return corrupt("set", errRow)
		}
		if busy[syntax.DID(did)] == nil {
			busy[syntax.DID(did)] = new(sets)
		}
		b := busy[syntax.DID(did)]
		b.loose = append(b.loose, set)
	}
	list, _, err = s.pairs(Scan{From: keyDead, To: keyDeadEnd}, 0)
	if err != nil {
		return err
	}
	dead := make(map[syntax.DID]int64)
	for _, p := range list {
		seq, ok := parseNumber(string(p.value))
		if !ok {
			return corrupt("deleted account", errRow)
		}
		dead[syntax.DID(p.key[len(keyDead):])] = seq
	}
	s.busy = busy
	s.logMu.Lock()
	s.deleted = dead
	s.logMu.Unlock()
	s.publish(log)
	s.to(settled)
	return nil
}

// turnOf calls fn in the turn, with what is stored known.
func (s *Solo) turnOf(ctx context.Context, fn func() error) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	if s.is(doubtful) {
		if err := s.reopen(func() (Object, error) { return s.open(ctx) }); err != nil {
			return fmt.Errorf("durable: open the object again: %w", err)
		}
	}
	if s.is(unknown) {
		if err := s.load(); err != nil {
			return err
		}
	}
	return fn()
}

// account reads an account. there is whether it has a state.
func (s *Solo) account(did syntax.DID) (a *account, there bool, err error) {
	a = &account{core: s.core, did: did, place: inSolo(did), sets: s.busy[did]}
	if a.sets == nil {
		a.sets = new(sets)
	}
	b, err := s.get(a.place.state)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if len(a.loose) > 0 { // of one that was deleted
			a.state.set = a.nextSet()
			a.state.keys = a.state.set
		}
		return a, false, nil
	case err != nil:
		return nil, false, err
	}
	if a.state, err = decodeState(b); err == nil && a.state.did != did {
		err = corrupt("state", errRow)
	}
	if err != nil {
		return nil, false, fmt.Errorf("durable: account %s: %w", did, err)
	}
	return a, true, nil
}

// use implements host.
func (s *Solo) use(ctx context.Context, did syntax.DID, create bool, fn func(*account) error) error {
	return s.turnOf(ctx, func() error {
		a, there, err := s.account(did)
		if err != nil {
			return err
		}
		if !there && !create && len(a.loose) == 0 {
			return notThere(did)
		}
		err = fn(a)
		if len(a.loose)+len(a.staging) > 0 {
			s.busy[did] = a.sets
		} else {
			delete(s.busy, did)
		}
		return err
	})
}

// mark implements host: what there is to tidy up is noted in the object.
func (s *Solo) mark(syntax.DID) error { return nil }

// tidy carries on with what earlier changes have left, by at most one transaction. It is called in
// the turn, after a change; the next one goes on if it fails.
func (s *Solo) tidy() (more bool, err error) {
	for did := range s.busy {
		a, _, err := s.account(did)
		if err != nil {
			return false, err
		}
		if a.sweepable() == nil {
			continue
		}
		err = s.transact(a, func() error {
			_, err := a.sweepSome()
			return err
		})
		if len(a.loose)+len(a.staging) == 0 {
			delete(s.busy, did)
		}
		return true, err
	}
	return s.sweepDeletedEvents()
}

// alarmIndex yields the alarms that are set.
func (s *Solo) alarmIndex(ctx context.Context) iter.Seq2[alarm, error] {
	return func(yield func(alarm, error) bool) {
		for from := keyAlarm; from != ""; {
			// In the turn, so that no transaction runs.
			var page []pair
			err := s.turnOf(ctx, func() (err error) {
				page, from, err = s.pairs(Scan{From: from, To: keyAlarmEnd, Rows: firstPage, MaxValue: KeysOnly}, 0)
				return err
			})
			for _, p := range page {
				a, err := parseAlarmKey(p.key)
				if !yield(a, err) || err != nil {
					return
				}
			}
			if err != nil {
				yield(alarm{}, err)
				return
			}
			if from != "" {
				from += "\x00"
			}
		}
	}
}

// forgetAlarm deletes an alarm from the index, unless it is set: entries are made and deleted with
// the alarm, so only one that has expired, as a key, is left.
func (s *Solo) forgetAlarm(ctx context.Context, al alarm) error {
	return s.use(ctx, al.did, true, func(a *account) error {
		value, there, err := a.value(AlarmKey, s.cfg.Now())
		if err != nil || there && string(value) == string(al.value()) {
			return err
		}
		if _, err := s.get(al.key()); errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		return s.transact(a, func() error { return s.deleteHidden(al.key(), al.key()+"\x00") })
	})
}

// Run calls alarms when they are due, until the context ends or the object fails, and returns that
// error. It returns after all calls have ended. While no alarm is set, it has no timer.
func (s *Solo) Run(ctx context.Context) error { return s.alarms.serve(ctx) }

// FireAlarms calls all alarms that are due, waits for each call up to Alarms.Timeout, and returns
// when to call it next (the zero time if no alarm is set). It is for hosts with their own
// scheduler, such as a Durable Object; others use Run.
func (s *Solo) FireAlarms(ctx context.Context) (next time.Time, err error) {
	return s.alarms.fire(ctx)
}
