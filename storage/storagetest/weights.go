package storagetest

import (
	"context"
	"fmt"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// weightChecks are the laws of events that take several numbers.
func weightChecks() []check {
	return []check{
		{name: "Events/Weight", law: eventWeights},
		{name: "Events/WeightSince", law: sinceInsideAnEvent},
		{name: "Events/WeightInvalid", law: invalidWeights},
		{name: "Events/WeightReopen", law: reopenWeights, needs: persistence},
	}
}

// weighted makes a step with one event for each weight.
func (a *account) weighted(weights ...int) *step {
	s := a.aside()
	for _, w := range weights {
		ev := a.event()
		ev.Weight = w
		s.Events = append(s.Events, ev)
	}
	return s
}

// eventWeights: an event takes as many numbers as it weighs, of which its own is the last.
func eventWeights(e *env) {
	a := e.newRepo()
	_, last, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	// spans looks at what a step has added.
	spans := func(seq, floor int64, what string, want ...int) {
		e.Helper()
		var got []int
		for _, ev := range e.events(last) {
			got = append(got, ev.Weight)
			if ev.First() <= last {
				e.Errorf("%s: an event has the numbers %d to %d, after %d", what, ev.First(), ev.Seq, last)
			}
			if ev.First() < floor {
				e.Errorf("%s: an event has numbers from %d, below the time in microseconds when it was made, %d", what, ev.First(), floor)
			}
			last = ev.Seq
		}
		e.same(got, want, "weights of %s", what)
		e.same(seq, last, "number that %s returned", what)
		_, newest, err := e.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		e.same(newest, last, "newest number after %s", what)
	}
	for _, weights := range [][]int{{0}, {1}, {7}, {storage.MaxWeight}, {2, 0, storage.MaxWeight, 1, 3}, {1, 1}} {
		floor := time.Now().UnixMicro()
		want := make([]int, len(weights))
		for i, w := range weights {
			want[i] = max(1, w)
		}
		spans(e.apply(a, a.weighted(weights...)), floor, fmt.Sprint("Apply of ", weights), want...)
	}
	records, s := a.replacement(notes(2)...)
	s.Events[0].Weight = 5
	floor := time.Now().UnixMicro()
	seq, err := e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
	e.ok(err, "Replace")
	a.took(s)
	spans(seq, floor, "Replace", 5)
	if log, ok := e.Events.(storage.AccountEvents); ok {
		for ev, err := range log.OfAccount(e.ctx, a.did) {
			e.ok(err, "OfAccount")
			e.same(ev.Weight, 5, "weight of the newest event of an account")
			break
		}
	}
	gone := a.gone()
	gone.Weight = 4
	floor = time.Now().UnixMicro()
	seq, err = e.Repos.Delete(e.ctx, a.did, []storage.Event{gone})
	e.ok(err, "Delete")
	spans(seq, floor, "Delete", 4)
	// The numbers of several handles do not overlap either.
	handles := e.racers()
	b := e.newRepo()
	_, last, err = e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	for i := range 10 {
		s := b.weighted(1+i, 100)
		seq, err := handles[i%len(handles)].Repos.Apply(e.ctx, b.did, &s.Change)
		e.ok(err, "Apply")
		spans(seq, 0, "Apply through one of the handles", 1+i, 100)
	}
	// Trim leaves no part of an event.
	e.ok(e.Events.Trim(e.ctx, time.Now().Add(time.Hour)), "Trim")
	e.bounds(last+1, last, "after Trim of all")
}

// sinceInsideAnEvent: who has seen a part of an event's numbers gets all of it, and is woken.
func sinceInsideAnEvent(e *env) {
	a := e.newRepo()
	_, before, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	seq := e.apply(a, a.weighted(10, 3))
	list := e.events(before)
	if len(list) != 2 {
		e.Fatalf("%d events of a change that has 2", len(list))
	}
	heavy, after := list[0], list[1]
	e.same(after.Seq, seq, "number of the last event")
	if heavy.Seq >= after.First() { // the clock may have left numbers out between them
		e.Errorf("the heavy event ends at %d, and the next one begins at %d", heavy.Seq, after.First())
	}
	for _, n := range []int64{heavy.First() - 1, heavy.First(), heavy.Seq - 5, heavy.Seq - 1} {
		got := e.events(n)
		if len(got) != 2 || got[0].Seq != heavy.Seq || string(got[0].Payload) != string(heavy.Payload) {
			e.Errorf("since %d of the numbers %d to %d the event is not the next", n, heavy.First(), heavy.Seq)
		}
	}
	for _, n := range []int64{heavy.Seq, after.First(), after.Seq - 1} {
		if got := e.events(n); len(got) != 1 || got[0].Seq != after.Seq {
			e.Errorf("since %d there are %d events, want the last alone", n, len(got))
		}
	}
	e.same(len(e.events(after.Seq)), 0, "events since the last number")
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	e.ok(e.receive(e.waits(ctx, e.Store, after.Seq-1), "Wait inside an event"), "Wait")
	done := e.waits(ctx, e.Store, after.Seq)
	e.stillWaits(done, "all numbers are older")
	e.apply(a, a.weighted(2))
	e.ok(e.receive(done, "Wait for a heavy event"), "Wait")
}

// invalidWeights: what no event can weigh is refused, and nothing is written.
func invalidWeights(e *env) {
	a := e.newRepo(notes(1)...)
	none := e.account()
	for _, weight := range []int{-1, storage.MaxWeight + 1, 1 << 40, -1 << 40} {
		e.unchanged(fmt.Sprint("an event of weight ", weight), func() {
			s := a.weighted(1, weight)
			s.KV = []storage.KVWrite{{Key: "k", Value: []byte("v")}}
			_, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
			e.fails(err, storage.ErrInvalid, "Apply")
			_, err = e.Repos.Apply(e.ctx, none.did, &none.weighted(weight).Change)
			e.fails(err, storage.ErrInvalid, "Apply to an account that is not there")
			records, s := a.replacement(notes(3)...)
			s.Events[0].Weight = weight
			_, err = e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
			e.fails(err, storage.ErrInvalid, "Replace")
			_, err = e.Repos.Delete(e.ctx, a.did, a.weighted(1, weight).Events)
			e.fails(err, storage.ErrInvalid, "Delete")
		})
	}
}

// reopenWeights: weights are kept, and the numbers of an event are not given again.
func reopenWeights(e *env) {
	a := e.newRepo()
	for _, w := range []int{1, 3, storage.MaxWeight} {
		seq := e.apply(a, a.weighted(w))
		before := e.events(0)
		e.reopen()
		e.same(e.events(0), before, "events after opening again")
		if list := e.events(seq - 1); len(list) != 1 || list[0].Weight != w {
			e.Errorf("the event of weight %d has another one after opening again", w)
		}
		next := e.apply(a, a.weighted(2))
		if next < seq+2 {
			e.Errorf("after opening again, the event after %d has the numbers %d and %d", seq, next-1, next)
		}
	}
}
