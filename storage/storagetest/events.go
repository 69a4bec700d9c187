package storagetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// eventChecks are the laws of the event log.
func eventChecks() []check {
	return append([]check{
		{name: "Events/Empty", law: emptyLog},
		{name: "Events/Content", law: eventContent},
		{name: "Events/Numbers", law: eventNumbers},
		{name: "Events/Since", law: eventsSince},
		{name: "Events/SinceIsBounded", law: sinceIsBounded},
		{name: "Events/OfAccount", law: eventsOfAccount},
		{name: "Events/Trim", law: trimEvents},
		{name: "Events/Wait", law: waitForEvents},
		{name: "Events/WaitForVisible", law: waitForVisible},
		{name: "Events/WaitAcrossHandles", law: waitAcross, needs: sharing},
		{name: "Events/VisiblePrefix", law: visiblePrefix},
		{name: "Events/CancelInside", law: cancelSince},
		{name: "Events/NumbersAfterReopen", law: numbersAfterReopen, needs: persistence},
	}, weightChecks()...)
}

func (e *env) bounds(oldest, newest int64, when string) {
	e.Helper()
	o, n, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	if o != oldest || n != newest {
		e.Errorf("bounds %s: %d, %d; want %d, %d", when, o, n, oldest, newest)
	}
}

func emptyLog(e *env) {
	e.bounds(1, 0, "of an empty log")
	for _, since := range []int64{-1, 0, 1, 1 << 62} {
		e.same(len(e.events(since)), 0, "events since %d of an empty log", since)
	}
	e.ok(e.Events.Trim(e.ctx, time.Now()), "Trim")
	e.bounds(1, 0, "of an empty log after Trim")
}

// emit stores a step with n events.
func (e *env) emit(a *account, n int) {
	e.Helper()
	s := a.aside()
	for range n {
		s.Events = append(s.Events, a.event())
	}
	e.apply(a, s)
}

func eventContent(e *env) {
	a := e.newRepo(notes(1)...)
	at := time.Date(2025, 2, 3, 4, 5, 6, 789_999_999, time.FixedZone("", 3600))
	s := a.aside()
	s.Events = []storage.Event{
		{DID: a.did, Kind: "#identity", Time: at, Payload: []byte("\x00\xff payload")},
		{DID: a.did, Kind: "#account", Time: at.Add(-time.Hour), Payload: []byte{0xa0}},
		{DID: a.did, Kind: "#sync", Time: time.UnixMilli(0), Payload: []byte("p"), Seq: 5}, // Seq is the store's
	}
	_, newest, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.apply(a, s)
	got := e.events(newest)
	e.same(len(got), 3, "number of events")
	for i, ev := range got {
		want := s.Events[i]
		e.same(ev.DID, a.did, "DID")
		e.same(ev.Kind, want.Kind, "kind")
		e.same(ev.Payload, want.Payload, "payload")
		e.same(ev.Time.Truncate(time.Millisecond).UTC(), want.Time.Truncate(time.Millisecond).UTC(), "time")
	}
}

func eventNumbers(e *env) {
	accounts := []*account{e.newRepo(), e.newRepo()}
	_, last, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	for i := range 20 {
		a := accounts[i%2]
		floor := time.Now().UnixMicro()
		s := a.aside()
		for range 1 + i%3 {
			s.Events = append(s.Events, a.event())
		}
		seq := e.apply(a, s)
		got := e.events(last)
		if len(got) != len(s.Events) {
			e.Fatalf("a step of %d events made %d", len(s.Events), len(got))
		}
		for j, ev := range got {
			if ev.Seq <= last {
				e.Errorf("event %d comes after %d", ev.Seq, last)
			}
			if ev.Seq < floor {
				e.Errorf("event %d is numbered below the time in microseconds when it was made, %d", ev.Seq, floor)
			}
			e.same(ev.Payload, s.Events[j].Payload, "payload of event %d", j)
			last = ev.Seq
		}
		e.same(seq, last, "number that Apply returned")
		_, newest, err := e.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		e.same(newest, last, "newest number")
	}
}

func eventsSince(e *env) {
	a := e.newRepo()
	for range 8 {
		e.emit(a, 2)
	}
	all := e.events(0)
	e.same(len(all), 17, "number of events")
	for i, ev := range all {
		for _, since := range []int64{ev.Seq - 1, ev.Seq, ev.Seq + 1} {
			var want []int64
			for _, x := range all {
				if x.Seq > since {
					want = append(want, x.Seq)
				}
			}
			var got []int64
			for _, x := range e.events(since) {
				got = append(got, x.Seq)
			}
			e.same(got, want, "Since(%d)", since)
		}
		n := 0
		for range e.Events.Since(e.ctx, ev.Seq) {
			if n++; n == 2 {
				break
			}
		}
		e.same(n, min(2, len(all)-1-i), "events before leaving the iteration")
	}
	e.same(len(e.events(-5)), len(all), "events since a negative number")
}

// sinceIsBounded: an iteration ends although events are added all the time.
func sinceIsBounded(e *env) {
	a := e.newRepo()
	e.emit(a, 3)
	all := e.events(0)
	n := 0
	for ev, err := range e.Events.Since(e.ctx, 0) {
		e.ok(err, "Since")
		if n == len(all) {
			e.Fatalf("the iteration yields event %d, which was added after its start", ev.Seq)
		}
		e.same(ev.Seq, all[n].Seq, "number")
		n++
		s := a.aside()
		s.Events = []storage.Event{a.event()}
		e.within("a step beside an open iteration", func() {
			if _, err := e.Repos.Apply(e.ctx, a.did, &s.Change); err != nil {
				e.Errorf("Apply: %v", err)
			}
		})
	}
	e.same(n, len(all), "events in the iteration")
	e.same(len(e.events(0)), 2*len(all), "events after it")
}

func trimEvents(e *env) {
	a := e.newRepo()
	var times []time.Time
	for i := range 6 {
		s := a.aside()
		ev := a.event()
		ev.Time = start.Add(time.Duration(i) * time.Hour)
		times = append(times, ev.Time)
		s.Events = []storage.Event{ev}
		e.apply(a, s)
	}
	all := e.events(0)[1:] // without the first commit's, whose time is just after start
	newest := all[len(all)-1].Seq
	e.bounds(1, newest, "before Trim")
	check := func(from int, when string) {
		e.Helper()
		got := e.events(0)
		e.same(len(got), len(all)-from, "events "+when)
		for i, ev := range got {
			e.same(ev.Seq, all[from+i].Seq, "number "+when)
		}
	}
	e.ok(e.Events.Trim(e.ctx, start), "Trim")
	e.same(len(e.events(0)), len(all)+1, "events after a Trim of none")
	e.bounds(1, newest, "after a Trim of none")
	e.ok(e.Events.Trim(e.ctx, times[2]), "Trim")
	check(2, "after Trim")
	e.bounds(all[1].Seq+1, newest, "after Trim")
	e.ok(e.Events.Trim(e.ctx, times[1]), "Trim to an earlier time")
	check(2, "after a second Trim")
	e.bounds(all[1].Seq+1, newest, "after a second Trim")
	e.ok(e.Events.Trim(e.ctx, times[5].Add(time.Hour)), "Trim of all")
	check(6, "after a Trim of all")
	e.bounds(newest+1, newest, "after a Trim of all")
	e.emit(a, 1)
	if got := e.events(0); len(got) != 1 || got[0].Seq <= newest {
		e.Errorf("after a Trim of all, a new event has number %d, the last one had %d", got[0].Seq, newest)
	}
	// Deleting a repository is no loss that a reader must be told of.
	b := e.newRepo()
	_, err := e.Repos.Delete(e.ctx, b.did, nil)
	e.ok(err, "Delete")
	oldest, _, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.same(oldest, newest+1, "oldest after a Delete")
}

// eventsOfAccount: whoever can find the events of an account finds all that Since does, and no
// others.
func eventsOfAccount(e *env) {
	log, ok := e.Events.(storage.AccountEvents)
	if !ok {
		e.Skip("the backend has no storage.AccountEvents")
	}
	a, b := e.newRepo(), e.newRepo()
	look := func(when string) {
		e.Helper()
		for _, did := range []syntax.DID{a.did, b.did, a.did + "x", a.did[:len(a.did)-1]} {
			var want []int64
			for _, ev := range e.events(0) {
				if ev.DID == did {
					want = append(want, ev.Seq)
				}
			}
			slices.Reverse(want)
			got, err := collect(log.OfAccount(e.ctx, did))
			e.ok(err, "OfAccount")
			var seqs []int64
			for _, ev := range got {
				seqs = append(seqs, ev.Seq)
				same := e.events(ev.Seq - 1)
				if len(same) == 0 || same[0].Seq != ev.Seq || same[0].DID != ev.DID || same[0].Kind != ev.Kind || string(same[0].Payload) != string(ev.Payload) {
					e.Errorf("%s, event %d of %s is another", when, ev.Seq, did)
				}
			}
			e.same(seqs, want, "%s, events of %s", when, did)
		}
	}
	look("at first")
	for i := range 40 {
		e.emit([]*account{a, b, a}[i%3], 1+i%3)
	}
	look("after 40 steps")
	taken := 0
	for _, err := range log.OfAccount(e.ctx, a.did) {
		e.ok(err, "OfAccount")
		if taken++; taken == 2 {
			break // must not go on
		}
	}
	e.reopen()
	log = e.Events.(storage.AccountEvents)
	look("opened again")
	_, err := e.Repos.Delete(e.ctx, b.did, []storage.Event{b.event()})
	e.ok(err, "Delete")
	look("after a deletion")
	e.ok(e.Events.Trim(e.ctx, time.Now().Add(time.Hour)), "Trim")
	look("after Trim")
	e.emit(a, 2)
	look("after one more step")
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err = collect(log.OfAccount(ctx, a.did))
	e.fails(err, context.Canceled, "OfAccount with a context that has ended")
}

// waits starts a Wait and returns its result.
func (e *env) waits(ctx context.Context, s storage.Store, seq int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Events.Wait(ctx, seq) }()
	return done
}

// receive returns what Wait did, or ends the test if it does not return.
func (e *env) receive(done <-chan error, what string) (err error) {
	e.Helper()
	e.within(what, func() { err = <-done })
	return err
}

// stillWaits reports a Wait that has returned. It may miss one that is about to.
func (e *env) stillWaits(done <-chan error, what string) {
	e.Helper()
	select {
	case err := <-done:
		e.Fatalf("Wait returned %v although %s", err, what)
	case <-time.After(20 * time.Millisecond):
	}
}

func waitForEvents(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	done := e.waits(ctx, e.Store, 0)
	e.stillWaits(done, "the log is empty")
	a := e.newRepo()
	e.ok(e.receive(done, "Wait for the first event"), "Wait")
	for range 5 {
		_, newest, err := e.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		e.ok(e.receive(e.waits(ctx, e.Store, newest-1), "Wait for an event that is there"), "Wait")
		done, other := e.waits(ctx, e.Store, newest), e.waits(ctx, e.Store, newest)
		e.stillWaits(done, "there is no newer event")
		e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("no event")}))
		e.stillWaits(done, "a step without events was stored")
		e.emit(a, 1)
		e.ok(e.receive(done, "Wait for an event"), "Wait")
		e.ok(e.receive(other, "a second Wait for an event"), "Wait")
		if len(e.events(newest)) == 0 {
			e.Errorf("Wait returned, but the event does not show")
		}
	}
	done = e.waits(ctx, e.Store, 1<<62)
	e.emit(a, 1)
	e.stillWaits(done, "all events are older")
	cancel()
	e.fails(e.receive(done, "a canceled Wait"), context.Canceled, "a canceled Wait")
}

// waitForVisible: events that were deleted are not waited for.
func waitForVisible(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	a, b := e.newRepo(), e.newRepo()
	_, before, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.emit(a, 2)
	_, err = e.Repos.Delete(e.ctx, a.did, nil)
	e.ok(err, "Delete")
	e.same(len(e.events(before)), 0, "events of a deleted repository")
	done := e.waits(ctx, e.Store, before)
	e.stillWaits(done, "the newer events have been deleted")
	e.emit(b, 1)
	e.ok(e.receive(done, "Wait"), "Wait")
}

func waitAcross(e *env) {
	other := e.another()
	a := e.newRepo()
	for range 3 {
		_, newest, err := e.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		done := e.waits(e.ctx, other, newest)
		e.stillWaits(done, "there is no newer event")
		e.emit(a, 1)
		e.ok(e.receive(done, "Wait for an event of another handle"), "Wait")
		list, err := collect(other.Events.Since(e.ctx, newest))
		e.ok(err, "Since")
		e.same(len(list), 1, "events through the other handle")
	}
}

// visiblePrefix: while many write, readers who follow the log get all of it, in
// order.
func visiblePrefix(e *env) {
	const writers, steps = 6, 40
	handles := e.racers()
	accounts := make([]*account, writers)
	for i := range accounts {
		accounts[i] = e.newRepo()
	}
	_, from, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	seen := make([][]int64, 3)
	var readers, wg sync.WaitGroup
	for i := range seen {
		s := handles[i%len(handles)]
		readers.Go(func() {
			last := from
			for {
				ended := ctx.Err() != nil // after the last step: one more look
				for ev, err := range s.Events.Since(e.ctx, last) {
					if err != nil {
						e.Errorf("Since: %v", err)
						return
					}
					seen[i] = append(seen[i], ev.Seq)
					last = ev.Seq
				}
				if ended {
					return
				}
				_ = s.Events.Wait(ctx, last)
			}
		})
	}
	wrote := make([][]string, writers)
	for i, a := range accounts {
		s := handles[i%len(handles)]
		wg.Go(func() {
			for n := range steps {
				st := a.aside()
				for range 1 + n%3 {
					ev := a.event()
					st.Events = append(st.Events, ev)
					wrote[i] = append(wrote[i], string(ev.Payload))
				}
				if _, err := s.Repos.Apply(e.ctx, a.did, &st.Change); err != nil {
					e.Errorf("Apply: %v", err)
					return
				}
			}
		})
	}
	e.within("writers", wg.Wait)
	cancel()
	e.within("readers", readers.Wait)
	var all []int64
	got := map[syntax.DID][]string{}
	for _, ev := range e.events(from) {
		all = append(all, ev.Seq)
		got[ev.DID] = append(got[ev.DID], string(ev.Payload))
	}
	if !slices.IsSorted(all) {
		e.Errorf("the log is not in order")
	}
	for i := range seen {
		if !slices.Equal(seen[i], all) {
			e.Errorf("reader %d saw %d events, the log has %d; the first that differs is at %d", i, len(seen[i]), len(all), firstDifference(seen[i], all))
		}
	}
	for i, a := range accounts {
		e.same(slices.Equal(got[a.did], wrote[i]), true, "the events of %s are in the log, in order", a.did)
	}
}

func firstDifference[T comparable](a, b []T) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func cancelSince(e *env) {
	const many = 3000
	a := e.newRepo()
	e.emit(a, many)
	stops(e, many, "Since", func(ctx context.Context) iterator { return untyped(e.Events.Since(ctx, 0)) })
}

// numbersAfterReopen: a number is not given twice, even if the event that had it
// is gone.
func numbersAfterReopen(e *env) {
	a := e.newRepo()
	gone := e.newRepo()
	e.emit(gone, 20)
	_, newest, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	_, err = e.Repos.Delete(e.ctx, gone.did, nil)
	e.ok(err, "Delete")
	e.ok(e.Events.Trim(e.ctx, time.Now().AddDate(1, 0, 0)), "Trim")
	oldest, _, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.reopen()
	e.bounds(oldest, newest, "after reopening")
	e.emit(a, 1)
	if got := e.events(0); len(got) != 1 || got[0].Seq <= newest {
		e.Errorf("after reopening, events have numbers from %d on, the last one had %d", got[0].Seq, newest)
	}
}
