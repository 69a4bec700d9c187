package storagetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/pdskit/pdskit/storage"
)

// racers are the handles that take part in a race.
func (e *env) racers() []storage.Store { return []storage.Store{e.Store, e.another()} }

// raceForHead: of many steps from one head, one takes effect.
func raceForHead(e *env) {
	a := e.newRepo(notes(1)...)
	handles := e.racers()
	for round := range 15 {
		steps := make([]*step, 6)
		errs := make([]error, len(steps))
		var wg sync.WaitGroup
		for i := range steps {
			steps[i] = a.change(note("000", fmt.Sprint("round ", round, " by ", i)), note(fmt.Sprint(round, "-", i), "x"))
		}
		for i, s := range steps {
			wg.Go(func() {
				_, errs[i] = handles[i%len(handles)].Repos.Apply(e.ctx, a.did, &s.Change)
			})
		}
		e.within("a race", wg.Wait)
		won := -1
		for i, err := range errs {
			switch {
			case err != nil:
				e.fails(err, storage.ErrConflict, "a lost race")
			case won >= 0:
				e.Fatalf("two steps from the same head were carried out")
			default:
				won = i
			}
		}
		if won < 0 {
			e.Fatalf("no step was carried out: %v", errs)
		}
		a.took(steps[won])
		for _, h := range handles {
			head, err := h.Repos.Head(e.ctx, a.did)
			e.ok(err, "Head")
			e.same(headString(head), headString(a.head), "head after a race")
		}
		e.view(a.did, func(r storage.Reader) {
			for i := range steps {
				_, err := r.Record(e.ctx, path(fmt.Sprint(round, "-", i)))
				if i == won {
					e.ok(err, "the winner's record")
				} else {
					e.fails(err, storage.ErrNotFound, "a loser's record")
				}
			}
		})
	}
}

func raceToCreate(e *env) {
	handles := e.racers()
	for range 10 {
		a := e.account()
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			s := a.change(note(i, "x"))
			wg.Go(func() { _, errs[i] = handles[i%len(handles)].Repos.Apply(e.ctx, a.did, &s.Change) })
		}
		e.within("a race", wg.Wait)
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, storage.ErrConflict) {
				e.fails(err, storage.ErrExists, "a lost race to create")
			}
		}
		e.same(won, 1, "number of steps that created the repository")
		e.view(a.did, func(r storage.Reader) {
			all, err := collect(r.Records(e.ctx, storage.Range{}))
			e.ok(err, "Records")
			e.same(len(all), 1, "number of records")
		})
	}
}

// concurrentAccounts: steps of different accounts do not disturb each other.
func concurrentAccounts(e *env) {
	handles := e.racers()
	accounts := make([]*account, 8)
	for i := range accounts {
		accounts[i] = e.newRepo(notes(3)...)
	}
	var wg sync.WaitGroup
	for i, a := range accounts {
		s := handles[i%len(handles)]
		wg.Go(func() {
			for n := range 25 {
				st := a.change(note("000", fmt.Sprint(i, " ", n)), note(fmt.Sprint("new-", n), "x"))
				st.KV = []storage.KVWrite{{Key: "count", Value: fmt.Append(nil, n)}}
				if _, err := s.Repos.Apply(e.ctx, a.did, &st.Change); err != nil {
					e.Errorf("Apply: %v", err)
					return
				}
				a.took(st)
				err := s.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
					if r.Head() != a.head {
						return fmt.Errorf("the account's own write %s does not show, head is %s", a.head.Rev, r.Head().Rev)
					}
					v, err := r.Get(e.ctx, "count")
					if err == nil && string(v) != fmt.Sprint(n) {
						err = fmt.Errorf("the account's own value %d does not show: %s", n, v)
					}
					return err
				})
				if err != nil {
					e.Errorf("View: %v", err)
					return
				}
			}
		})
	}
	e.within("steps of several accounts", wg.Wait)
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

// sharedCAS: what one handle has written, another one sees at once.
func sharedCAS(e *env) {
	other := e.another()
	a := e.newRepo(notes(1)...)
	for i := range 5 {
		head, err := other.Repos.Head(e.ctx, a.did)
		e.ok(err, "Head")
		e.same(headString(head), headString(a.head), "head through the other handle")
		s := a.change(note("000", fmt.Sprint("step ", i)))
		stale := a.change(note("001", "stale"))
		_, err = other.Repos.Apply(e.ctx, a.did, &s.Change)
		e.ok(err, "Apply")
		a.took(s)
		_, err = e.Repos.Apply(e.ctx, a.did, &stale.Change)
		e.fails(err, storage.ErrConflict, "Apply of a stale step through the first handle")
		e.hasRecords(a, note("000", fmt.Sprint("step ", i)))
	}
}
