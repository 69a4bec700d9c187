package storagetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/storage"
)

// snapshotChecks are the laws of storage.Snapshotter.
func snapshotChecks() []check {
	return []check{
		{name: "Snapshot/Frozen", law: frozenSnapshot},
		{name: "Snapshot/ReadOnly", law: readOnlySnapshot},
		{name: "Snapshot/Agrees", law: snapshotAgrees},
		{name: "Snapshot/HoldsNobodyUp", law: snapshotHoldsNobody},
		{name: "Snapshot/Nested", law: nestedInSnapshot},
		{name: "Snapshot/Ends", law: snapshotEnds},
	}
}

// snapshot takes a snapshot of a store, for the rest of the test at most, or skips the test if the
// store has none.
func (e *env) snapshot(s storage.Store) storage.Snapshot {
	e.Helper()
	from, ok := s.Repos.(storage.Snapshotter)
	if !ok {
		e.Skip("the backend has no storage.Snapshotter")
	}
	snap, err := from.Snapshot(e.ctx)
	e.ok(err, "Snapshot")
	e.Cleanup(func() {
		if err := snap.Close(); err != nil {
			e.Errorf("close of a snapshot: %v", err)
		}
	})
	return snap
}

// dumpOf describes everything that can be read from a snapshot, with all numbers.
func (e *env) dumpOf(snap storage.Snapshot) []string {
	e.Helper()
	s := snap.Store()
	lines, err := dump(e.ctx, s)
	e.ok(err, "read the whole snapshot")
	oldest, newest, err := s.Events.Bounds(e.ctx)
	e.ok(err, "Bounds of a snapshot")
	lines = append(lines, fmt.Sprint("bounds ", oldest, newest))
	for ev, err := range s.Events.Since(e.ctx, 0) {
		e.ok(err, "Since of a snapshot")
		lines = append(lines, fmt.Sprint("number ", ev.Seq))
	}
	return lines
}

// frozenSnapshot: a snapshot has everything that was there, and nothing that comes later.
func frozenSnapshot(e *env) {
	a, gone, late := e.newRepo(notes(4)...), e.newRepo(notes(2)...), e.account()
	e.apply(a, a.aside(storage.KVWrite{Key: "k", Value: []byte("1")}, storage.KVWrite{Key: "x", Value: []byte("1"), Expires: time.Now().Add(time.Hour)}))
	e.set("host", "1")
	snap := e.snapshot(e.Store)
	if snap.Store().Blobs != nil {
		e.Errorf("a snapshot has blobs")
	}
	if left := time.Until(snap.Until()); left <= 0 {
		e.Errorf("a new snapshot ended %v ago", -left)
	}
	before, want := e.dumpOf(snap), e.dump()
	e.sameLines(before[:min(len(want), len(before))], want, "a snapshot differs from the store")
	e.ok(CheckStore(e.ctx, snap.Store(), Options{Key: keyOf}), "check of a snapshot")
	e.write(a, note("000", "changed"), remove("001"), note("new", "new"))
	e.apply(a, a.aside(storage.KVWrite{Key: "k"}, storage.KVWrite{Key: "k2", Value: []byte("2")}))
	e.sameLines(e.dumpOf(snap), before, "a snapshot after steps of an account")
	e.replace(a, manyNotes(2500, "replaced")...)
	_, err := e.Repos.Delete(e.ctx, gone.did, []storage.Event{gone.gone()})
	e.ok(err, "Delete")
	e.write(late, notes(1)...)
	e.set("host", "2")
	e.set("host/new", "2")
	e.sameLines(e.dumpOf(snap), before, "a snapshot after a Replace and a Delete")
	e.ok(e.Events.Trim(e.ctx, time.Now().Add(time.Hour)), "Trim")
	e.sameLines(e.dumpOf(snap), before, "a snapshot after Trim")
	if log, ok := snap.Store().Events.(storage.AccountEvents); ok {
		list, err := collect(log.OfAccount(e.ctx, gone.did))
		e.ok(err, "OfAccount")
		e.same(len(list), 1, "events, in the snapshot, of an account that was deleted later")
	}
	_, err = snap.Store().Repos.Head(e.ctx, late.did)
	e.fails(err, storage.ErrNotFound, "Head of a repository that was made later")
	head, err := snap.Store().Repos.Head(e.ctx, gone.did)
	e.ok(err, "Head of a repository that was deleted later")
	e.same(headString(head), headString(gone.head), "its head")
	after := e.snapshot(e.Store)
	now := e.dump()
	got := e.dumpOf(after)
	e.sameLines(got[:min(len(got), len(now))], now, "a second snapshot differs from the store")
	e.ok(after.Close(), "Close")
	e.sameLines(e.dumpOf(snap), before, "a snapshot when another one was closed")
}

// readOnlySnapshot: nothing can be written through a snapshot, and nothing is waited for.
func readOnlySnapshot(e *env) {
	a := e.newRepo(notes(2)...)
	s := e.snapshot(e.Store).Store()
	e.unchanged("writing to a snapshot", func() {
		_, err := s.Repos.Apply(e.ctx, a.did, &a.change(note("x", "x")).Change)
		e.fails(err, storage.ErrReadOnly, "Apply")
		records, st := a.replacement(note("x", "x"))
		_, err = s.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &st.Change, nil })
		e.fails(err, storage.ErrReadOnly, "Replace")
		_, err = s.Repos.Delete(e.ctx, a.did, nil)
		e.fails(err, storage.ErrReadOnly, "Delete")
		e.fails(s.Events.Trim(e.ctx, time.Now()), storage.ErrReadOnly, "Trim")
		e.fails(s.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "k", nil, time.Time{}) }), storage.ErrReadOnly, "KV.Write")
	})
	_, newest, err := s.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.within("Wait in a snapshot", func() {
		if err := s.Events.Wait(e.ctx, newest-1); err != nil {
			e.Errorf("Wait for an event that is there: %v", err)
		}
		e.fails(s.Events.Wait(e.ctx, newest), storage.ErrReadOnly, "Wait for an event that cannot come")
	})
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err = s.Repos.Head(ctx, a.did)
	e.fails(err, context.Canceled, "Head with a context that has ended")
	_, err = collect(s.Repos.List(ctx, ""))
	e.fails(err, context.Canceled, "List with a context that has ended")
	_, err = s.Repos.Head(e.ctx, "did:web:missing.example")
	e.fails(err, storage.ErrNotFound, "Head of a missing repository")
	err = s.Repos.View(e.ctx, a.did, func(storage.Reader) error { return errBroken })
	e.fails(err, errBroken, "View whose function fails")
}

// snapshotAgrees: while others write, all parts of a snapshot are of one moment, whenever they are
// read. The writer counts: in the first account with an event, then in the second, then in the
// host's keys.
func snapshotAgrees(e *env) {
	handles := e.racers()
	a, b := e.newRepo(), e.newRepo()
	first := e.snapshot(e.Store)
	e.ok(first.Close(), "Close")
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; n < 300 && ctx.Err() == nil; n++ {
			time.Sleep(time.Millisecond)
			count := []byte(strconv.Itoa(n))
			for _, x := range []*account{a, b} {
				s := x.change(note("count", string(count)))
				s.KV = []storage.KVWrite{{Key: "count", Value: count}}
				if _, err := handles[n%len(handles)].Repos.Apply(e.ctx, x.did, &s.Change); err != nil {
					e.Errorf("Apply: %v", err)
					return
				}
				x.took(s)
			}
			err := handles[n%len(handles)].KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "count", count, time.Time{}) })
			if err != nil {
				e.Errorf("KV.Write: %v", err)
				return
			}
		}
	})
	defer writer.Wait()
	defer stop()
	number := func(b []byte, err error) int {
		if errors.Is(err, storage.ErrNotFound) {
			return 0
		}
		e.ok(err, "Get")
		n, err := strconv.Atoi(string(b))
		e.ok(err, "count")
		return n
	}
	for round := range 6 {
		snap := e.snapshot(handles[round%len(handles)])
		s := snap.Store()
		host := -1
		counts := map[*account]int{}
		parts := []func(){
			func() {
				e.ok(s.KV.Read(e.ctx, func(r storage.KVReader) error {
					host = number(r.Get(e.ctx, "count"))
					return nil
				}), "KV.Read")
			},
			func() {
				for _, x := range []*account{b, a} {
					e.ok(s.Repos.View(e.ctx, x.did, func(r storage.Reader) error {
						counts[x] = number(r.Get(e.ctx, "count"))
						return nil
					}), "View")
					time.Sleep(2 * time.Millisecond) // the writer goes on
				}
			},
			func() { e.ok(CheckStore(e.ctx, s, Options{Key: keyOf}), "check of a snapshot") },
		}
		for i := range parts {
			parts[(i+round)%len(parts)]()
			time.Sleep(2 * time.Millisecond)
		}
		if counts[a] < counts[b] || counts[a] > counts[b]+1 || counts[b] < host || counts[b] > host+1 {
			e.Errorf("a snapshot has %d, %d and %d, which were never there together", counts[a], counts[b], host)
		}
		events := map[string]int{}
		for ev, err := range s.Events.Since(e.ctx, 0) {
			e.ok(err, "Since")
			events[string(ev.DID)]++
		}
		for x, n := range counts {
			e.same(events[string(x.did)], n+1, "events in a snapshot with %d steps", n)
		}
		e.ok(snap.Close(), "Close")
	}
}

// snapshotHoldsNobody: an open snapshot, one that is read, and one that is taken hold nobody up.
func snapshotHoldsNobody(e *env) {
	a, other := e.newRepo(notes(3)...), e.newRepo(notes(3)...)
	snap := e.snapshot(e.Store)
	write := func(when string) {
		e.within("writing "+when, func() {
			for range 3 {
				s := a.change(note("000", when))
				if _, err := e.Repos.Apply(e.ctx, a.did, &s.Change); err != nil {
					e.Errorf("Apply %s: %v", when, err)
					return
				}
				a.took(s)
			}
			if err := e.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "k", []byte(when), time.Time{}) }); err != nil {
				e.Errorf("KV.Write %s: %v", when, err)
			}
			if err := e.Events.Trim(e.ctx, start); err != nil {
				e.Errorf("Trim %s: %v", when, err)
			}
		})
	}
	write("beside an open snapshot")
	e.ok(snap.Store().Repos.View(e.ctx, other.did, func(r storage.Reader) error {
		for range r.Records(e.ctx, storage.Range{}) {
			write("beside a View of a snapshot")
			break
		}
		return nil
	}), "View")
	for range snap.Store().Events.Since(e.ctx, 0) {
		write("beside a loop over a snapshot")
		break
	}
	e.ok(snap.Close(), "Close")
	e.view(other.did, func(storage.Reader) {
		e.within("a snapshot beside a View", func() { e.ok(e.snapshot(e.Store).Close(), "Close") })
	})
	// In the middle of a Replace: before the last record.
	records, s := other.replacement(notes(5)...)
	_, err := e.Repos.Replace(e.ctx, other.did, func(yield func(storage.RecordChange, error) bool) {
		for i, r := range records {
			if i == len(records)-1 {
				e.within("a snapshot inside a Replace", func() { e.ok(e.snapshot(e.Store).Close(), "Close") })
			}
			if !yield(r, nil) {
				return
			}
		}
	}, func() (*storage.Change, error) { return &s.Change, nil })
	e.ok(err, "Replace")
}

// nestedInSnapshot: a snapshot is read by many at the same time, and inside its own functions.
func nestedInSnapshot(e *env) {
	accounts := []*account{e.newRepo(notes(3)...), e.newRepo(notes(3)...)}
	s := e.snapshot(e.Store).Store()
	e.within("reads inside a View of a snapshot", func() {
		err := s.Repos.View(e.ctx, accounts[0].did, func(outer storage.Reader) error {
			for rec, err := range outer.Records(e.ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				err = s.Repos.View(e.ctx, accounts[1].did, func(inner storage.Reader) error {
					_, err := inner.Record(e.ctx, rec.Path)
					return err
				})
				if err != nil {
					return err
				}
				if _, err := outer.Record(e.ctx, rec.Path); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			e.Errorf("View: %v", err)
		}
	})
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			for range 5 {
				err := s.Repos.View(e.ctx, accounts[i%2].did, func(r storage.Reader) error {
					list, err := collect(r.Records(e.ctx, storage.Range{}))
					if err == nil && len(list) != 3 {
						err = fmt.Errorf("%d records", len(list))
					}
					return err
				})
				if err == nil {
					_, err = collect(s.Events.Since(e.ctx, 0))
				}
				if err != nil {
					e.Errorf("a reader of a snapshot: %v", err)
				}
			}
		})
	}
	e.within("readers of a snapshot", readers.Wait)
}

// snapshotEnds: after Close everything fails with ErrExpired, what runs too.
func snapshotEnds(e *env) {
	a := e.newRepo(notes(5)...)
	e.emit(a, 5)
	e.set("k", "v")
	snap := e.snapshot(e.Store)
	s := snap.Store()
	// Loops end with it, at the next step.
	loops := map[string]func() error{
		"Since": func() error { _, err := collect(s.Events.Since(e.ctx, 0)); return err },
		"List":  func() error { _, err := collect(s.Repos.List(e.ctx, "")); return err },
	}
	n := 0
	err := s.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
		loops["Records"] = func() error { _, err := collect(r.Records(e.ctx, storage.Range{})); return err }
		loops["BlobRefs"] = func() error { _, err := collect(r.BlobRefs(e.ctx, cid.Undef, "")); return err }
		for _, err := range r.Records(e.ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			if n++; n == 2 {
				e.ok(snap.Close(), "Close")
			}
			if n > 2 {
				break
			}
		}
		return nil
	})
	if n > 2 {
		e.Errorf("a loop goes on after the end of its snapshot")
	}
	e.fails(err, storage.ErrExpired, "a loop in which the snapshot ended")
	for what, loop := range loops {
		e.fails(loop(), storage.ErrExpired, "%s after the end", what)
	}
	_, err = s.Repos.Head(e.ctx, a.did)
	e.fails(err, storage.ErrExpired, "Head after the end")
	_, _, err = s.Events.Bounds(e.ctx)
	e.fails(err, storage.ErrExpired, "Bounds after the end")
	err = s.Repos.View(e.ctx, a.did, func(storage.Reader) error { return nil })
	e.fails(err, storage.ErrExpired, "View after the end")
	err = s.KV.Read(e.ctx, func(storage.KVReader) error { return nil })
	e.fails(err, storage.ErrExpired, "KV.Read after the end")
	e.ok(snap.Close(), "second Close")
	e.write(a, note("000", "after the end"))
	e.ok(e.snapshot(e.Store).Close(), "Close of another one")
}
