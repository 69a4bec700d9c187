package storagetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// moveChecks are the laws of storage.Movable and storage.Loader, for backends that have them.
func moveChecks() []check {
	return []check{
		{name: "Move/Notes", law: moveNotes},
		{name: "Move/Settle", law: moveSettle},
		{name: "Move/Shut", law: moveShut},
		{name: "Move/ShutElsewhere", law: moveShutElsewhere, needs: sharing},
		{name: "Move/ShutRace", law: moveShutRace},
		{name: "Move/WatchRace", law: moveWatchRace},
		{name: "Move/Reopen", law: moveReopen, needs: persistence},
		{name: "Load/Whole", law: loadWhole},
		{name: "Load/Again", law: loadAgain},
		{name: "Load/Numbers", law: loadNumbers},
	}
}

func (e *env) movable() storage.Movable {
	e.Helper()
	m, ok := e.Repos.(storage.Movable)
	if !ok {
		e.Skip("the backend has no storage.Movable")
	}
	return m
}

func (e *env) loader() storage.Loader {
	e.Helper()
	l, ok := e.Repos.(storage.Loader)
	if !ok {
		e.Skip("the backend has no storage.Loader")
	}
	return l
}

// noted compares the notes of a store, each as its kind and name.
func (e *env) noted(m storage.Movable, when string, want ...string) []storage.Changed {
	e.Helper()
	list, err := collect(m.Changed(e.ctx))
	e.ok(err, "Changed")
	got := []string{}
	for _, c := range list {
		got = append(got, fmt.Sprintf("%d %s", c.Kind, c.Name))
	}
	if !slices.IsSorted(got) {
		e.Errorf("%s, the notes are not in order: %v", when, got)
	}
	slices.Sort(want)
	e.same(got, want, "notes %s", when)
	return list
}

func (e *env) stands(m storage.Movable, want storage.Watch) {
	e.Helper()
	got, err := m.Watched(e.ctx)
	e.ok(err, "Watched")
	e.same(got, want, "Watched")
}

func (e *env) setKey(kv storage.KV, key string) error {
	return kv.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, key, []byte("v"), time.Time{}) })
}

func account1(a *account) string  { return fmt.Sprint(storage.ChangedAccount, " ", a.did) }
func events1(a *account) string   { return fmt.Sprint(storage.ChangedEvents, " ", a.did) }
func hostKey1(name string) string { return fmt.Sprint(storage.ChangedKey, " ", name) }

// moveNotes: a store that is watched notes every kind of change, and one that is not notes none.
func moveNotes(e *env) {
	m := e.movable()
	a, b, gone := e.newRepo(notes(3)...), e.newRepo(), e.newRepo(notes(1)...)
	e.stands(m, storage.Watch{})
	e.noted(m, "of a store that is not watched")
	e.ok(m.Touch(e.ctx, a.did), "Touch")
	e.ok(m.Settle(e.ctx, []storage.Changed{{Kind: storage.ChangedAccount, Name: "x"}}), "Settle")
	e.ok(m.Unwatch(e.ctx), "Unwatch of a store that is not watched")
	e.ok(m.Watch(e.ctx, "one"), "Watch")
	e.stands(m, storage.Watch{State: storage.Watching, Note: "one"})
	e.noted(m, "at first")
	look := func(what string, do func(), want ...string) {
		e.Helper()
		do()
		list := e.noted(m, "after "+what, want...)
		e.ok(m.Settle(e.ctx, list), "Settle")
		e.noted(m, "settled after "+what)
	}
	look("reading", func() { e.dump() })
	look("a write", func() { e.write(a, note("x", "x")) }, account1(a))
	look("keys", func() {
		e.apply(b, b.aside(storage.KVWrite{Key: "k", Value: []byte("v"), Expires: time.Now().Add(time.Hour)}))
	}, account1(b))
	look("another value", func() { e.apply(b, b.aside(storage.KVWrite{Key: "k", Value: []byte("w")})) }, account1(b))
	look("the removal of a key", func() { e.apply(b, b.aside(storage.KVWrite{Key: "k"})) }, account1(b))
	look("replacing", func() { e.replace(a, notes(2)...) }, account1(a))
	look("a deletion", func() {
		_, err := e.Repos.Delete(e.ctx, gone.did, []storage.Event{gone.event()})
		e.ok(err, "Delete")
	}, account1(gone), events1(gone))
	var made *account
	look("a new account", func() { made = e.newRepo(notes(1)...) }, "1 did:web:account4.example")
	look("a touch", func() { e.ok(m.Touch(e.ctx, "did:web:nobody.example"), "Touch") }, "1 did:web:nobody.example")
	look("a key of the host", func() { e.ok(e.setKey(e.KV, "ns/k"), "KV.Write") }, hostKey1("ns/k"))
	look("its removal", func() {
		e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Delete(e.ctx, "ns/k") }), "KV.Write")
	}, hostKey1("ns/k"))
	look("a key by who moves", func() { e.ok(e.setKey(m.Moving(), "ns/m"), "Moving().Write") }, hostKey1("ns/m"))
	look("a write that fails", func() {
		s := made.change(note("y", "y"))
		s.Checks = []storage.KVCheck{{Key: "none", Value: []byte("x")}}
		_, err := e.Repos.Apply(e.ctx, made.did, &s.Change)
		e.fails(err, storage.ErrConflict, "Apply")
	})
	e.ok(m.Watch(e.ctx, "two"), "Watch")
	e.stands(m, storage.Watch{State: storage.Watching, Note: "two"})
	e.write(a, note("z", "z"))
	e.ok(m.Unwatch(e.ctx), "Unwatch")
	e.stands(m, storage.Watch{})
	e.noted(m, "after Unwatch")
	e.ok(m.Watch(e.ctx, "three"), "Watch")
	e.noted(m, "watched once more")
}

// moveSettle: a note that is newer than what is settled stays, and Settle of many leaves the
// others.
func moveSettle(e *env) {
	m := e.movable()
	e.ok(m.Watch(e.ctx, ""), "Watch")
	a := e.newRepo()
	first := e.noted(m, "of one", account1(a))
	e.write(a, note("x", "x"))
	second := e.noted(m, "of one, again", account1(a))
	e.ok(m.Settle(e.ctx, first), "Settle")
	e.noted(m, "after the older was settled", account1(a))
	e.ok(m.Settle(e.ctx, second), "Settle")
	e.noted(m, "after the newer was settled")
	const many = 2500 // more than a page
	want := []string{}
	e.ok(e.KV.Write(e.ctx, func(tx storage.KVTx) error {
		want = want[:0]
		for i := range many {
			name := fmt.Sprintf("many/%04d", i)
			want = append(want, hostKey1(name))
			if err := tx.Set(e.ctx, name, nil, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	}), "KV.Write")
	list := e.noted(m, "of many keys", slices.Clone(want)...)
	e.ok(m.Settle(e.ctx, list[:many-3]), "Settle")
	e.noted(m, "of the rest", want[many-3:]...)
}

// refused makes every kind of write of a store that is shut.
func (e *env) refused(s storage.Store, a, b *account, when string) {
	e.Helper()
	m := s.Repos.(storage.Movable)
	step := a.change(note("late", "late"))
	_, err := s.Repos.Apply(e.ctx, a.did, &step.Change)
	e.fails(err, storage.ErrMoved, "%s, Apply", when)
	step = a.aside(storage.KVWrite{Key: "late", Value: []byte("v")})
	_, err = s.Repos.Apply(e.ctx, a.did, &step.Change)
	e.fails(err, storage.ErrMoved, "%s, Apply of a key", when)
	step = a.aside()
	step.Events = []storage.Event{a.event()}
	_, err = s.Repos.Apply(e.ctx, a.did, &step.Change)
	e.fails(err, storage.ErrMoved, "%s, Apply of an event", when)
	made := newAccount("did:web:late.example")
	step = made.change(note("late", "late"))
	_, err = s.Repos.Apply(e.ctx, made.did, &step.Change)
	e.fails(err, storage.ErrMoved, "%s, Apply to a new account", when)
	records, step := a.replacement(notes(2)...)
	_, err = s.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &step.Change, nil })
	e.fails(err, storage.ErrMoved, "%s, Replace", when)
	_, err = s.Repos.Delete(e.ctx, b.did, nil)
	e.fails(err, storage.ErrMoved, "%s, Delete", when)
	e.fails(e.setKey(s.KV, "late"), storage.ErrMoved, "%s, KV.Write", when)
	e.fails(m.Touch(e.ctx, a.did), storage.ErrMoved, "%s, Touch", when)
}

// moveShut: a store that is shut refuses every write and can be read. Who moves it can write the
// host's keys. Afterwards all is as before.
func moveShut(e *env) {
	m := e.movable()
	a, b := e.newRepo(notes(3)...), e.newRepo(notes(1)...)
	if err := m.Shut(e.ctx, ""); err == nil {
		e.Errorf("a store was shut that was not watched")
	}
	e.ok(m.Watch(e.ctx, ""), "Watch")
	e.ok(m.Shut(e.ctx, "moved"), "Shut")
	e.stands(m, storage.Watch{State: storage.Shut, Note: "moved"})
	e.unchanged("writes of a store that is shut", func() { e.refused(e.Store, a, b, "shut") })
	var u interface{ Unavailable() bool }
	if !errors.As(e.setKey(e.KV, "late"), &u) || !u.Unavailable() {
		e.Errorf("ErrMoved does not say that it may pass")
	}
	e.noted(m, "of a store that is shut")
	e.ok(e.setKey(m.Moving(), "ns/m"), "Moving().Write")
	e.noted(m, "after a key", hostKey1("ns/m"))
	e.fails(e.setKey(e.KV, "late"), storage.ErrMoved, "KV.Write after one by who moves")
	broken := errors.New("broken")
	e.fails(m.Moving().Write(e.ctx, func(tx storage.KVTx) error { return errors.Join(tx.Set(e.ctx, "late", nil, time.Time{}), broken) }), broken, "Moving().Write")
	e.fails(e.setKey(e.KV, "late"), storage.ErrMoved, "KV.Write after one by who moves that failed")
	e.ok(m.Watch(e.ctx, "still"), "Watch of a store that is shut")
	e.stands(m, storage.Watch{State: storage.Watching, Note: "still"})
	e.write(a, note("w", "w"))
	e.noted(m, "of before and after", account1(a), hostKey1("ns/m"))
	e.ok(m.Shut(e.ctx, "again"), "Shut again")
	e.ok(m.Shut(e.ctx, "again"), "Shut of a store that is shut")
	e.fails(e.setKey(e.KV, "late"), storage.ErrMoved, "KV.Write after Shut again")
	e.stands(m, storage.Watch{State: storage.Shut, Note: "again"})
	e.ok(m.Unwatch(e.ctx), "Unwatch")
	e.stands(m, storage.Watch{})
	e.write(a, note("x", "x"))
	e.ok(e.setKey(e.KV, "k"), "KV.Write")
	e.ok(m.Touch(e.ctx, a.did), "Touch")
	e.noted(m, "in use again")
}

// moveShutElsewhere: what one handle does is so for all others, at once.
func moveShutElsewhere(e *env) {
	m := e.movable()
	other := e.another()
	om := other.Repos.(storage.Movable)
	a, b := e.newRepo(notes(3)...), e.newRepo(notes(1)...)
	e.ok(e.setKey(other.KV, "before"), "KV.Write")
	for range 2 {
		e.ok(m.Watch(e.ctx, "n"), "Watch")
		e.stands(om, storage.Watch{State: storage.Watching, Note: "n"})
		step := a.change(note("x", fmt.Sprint(a.ticks)))
		_, err := other.Repos.Apply(e.ctx, a.did, &step.Change)
		e.ok(err, "Apply")
		a.took(step)
		e.noted(m, "of another handle", account1(a))
		e.ok(m.Shut(e.ctx, "s"), "Shut")
		e.unchanged("another handle", func() { e.refused(other, a, b, "elsewhere") })
		e.ok(om.Unwatch(e.ctx), "Unwatch")
		e.write(a, note("y", fmt.Sprint(a.ticks)))
		e.ok(e.setKey(other.KV, "after"), "KV.Write")
	}
}

// busyWriters write with all kinds of changes until stop is closed, and report each success.
func (e *env) busyWriters(n int, stop <-chan struct{}, wrote func(what string)) (wait func()) {
	var wg sync.WaitGroup
	for i := range n {
		a := e.newRepo()
		key := fmt.Sprintf("busy/%d", i)
		wg.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-stop:
					return
				default:
				}
				runtime.Gosched() // where there is one thread, and nothing else takes it away
				if i%2 == 0 {
					if e.setKey(e.KV, key) == nil {
						wrote(hostKey1(key))
					}
					continue
				}
				s := a.change(note(j%5, fmt.Sprint(j)))
				if _, err := e.Repos.Apply(e.ctx, a.did, &s.Change); err == nil {
					a.took(s)
					wrote(account1(a))
				}
			}
		})
	}
	return wg.Wait
}

// moveShutRace: what is written at the same time has ended when Shut returns, or is refused.
func moveShutRace(e *env) {
	m := e.movable()
	e.ok(m.Watch(e.ctx, ""), "Watch")
	stop := make(chan struct{})
	var once sync.Once
	started := make(chan struct{})
	wait := e.busyWriters(6, stop, func(string) { once.Do(func() { close(started) }) })
	<-started
	e.ok(m.Shut(e.ctx, ""), "Shut")
	before := e.dump()
	time.Sleep(20 * time.Millisecond) // for what may come late, and must not
	close(stop)
	e.within("writers", wait)
	e.sameLines(e.dump(), before, "a store that is shut was written")
}

// moveWatchRace: what is written at the same time has ended when Watch returns, or is noted.
func moveWatchRace(e *env) {
	m := e.movable()
	stop := make(chan struct{})
	var mu sync.Mutex
	seen := map[string]bool{}
	watched := false
	var once sync.Once
	started := make(chan struct{})
	wait := e.busyWriters(6, stop, func(what string) {
		once.Do(func() { close(started) })
		mu.Lock()
		defer mu.Unlock()
		if watched {
			seen[what] = true
		}
	})
	<-started
	e.ok(m.Watch(e.ctx, ""), "Watch")
	before := e.dump()
	mu.Lock()
	watched = true
	mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	close(stop)
	e.within("writers", wait)
	list, err := collect(m.Changed(e.ctx))
	e.ok(err, "Changed")
	for _, c := range list {
		delete(seen, fmt.Sprintf("%d %s", c.Kind, c.Name))
	}
	// A success that was reported after Watch may be of before. Then it is in what was read.
	for what := range seen {
		_, name, _ := strings.Cut(what, " ")
		if strings.HasPrefix(name, "did:") {
			head, err := e.Repos.Head(e.ctx, syntax.DID(name))
			e.ok(err, "Head")
			if slices.Contains(before, "repository "+name+" "+headString(head)) {
				continue
			}
			e.Errorf("a change of %s was not noted", name)
		}
	}
}

// moveReopen: how a store stands, and its notes, outlast the process.
func moveReopen(e *env) {
	m := e.movable()
	a, b := e.newRepo(notes(3)...), e.newRepo(notes(1)...)
	e.ok(m.Watch(e.ctx, "w"), "Watch")
	e.reopen()
	m = e.movable()
	e.stands(m, storage.Watch{State: storage.Watching, Note: "w"})
	e.write(a, note("x", "x"))
	e.reopen()
	m = e.movable()
	e.noted(m, "of before", account1(a))
	e.ok(m.Shut(e.ctx, "s"), "Shut")
	e.reopen()
	m = e.movable()
	e.stands(m, storage.Watch{State: storage.Shut, Note: "s"})
	e.refused(e.Store, a, b, "opened again")
	e.noted(m, "of before", account1(a))
	e.ok(m.Unwatch(e.ctx), "Unwatch")
	e.reopen()
	e.write(a, note("y", "y"))
}

// stagedBlobs: who lists staged blobs lists those that are staged, of one account.
func stagedBlobs(e *env) {
	s, ok := e.Blobs.(storage.StagedBlobs)
	if !ok {
		e.Skip("the backend has no storage.StagedBlobs")
	}
	a, b := e.account().did, e.account().did
	look := func(when string, did syntax.DID, want ...storage.BlobInfo) {
		e.Helper()
		list, err := collect(s.Staged(e.ctx, did))
		e.ok(err, "Staged")
		got, all := []string{}, []string{}
		for _, info := range list {
			got = append(got, blobString(info))
		}
		for _, info := range want {
			all = append(all, blobString(info))
		}
		slices.Sort(got)
		slices.Sort(all)
		e.same(got, all, "staged blobs of %s %s", did, when)
	}
	look("at first", a)
	x, y := e.stage(a, "x"), e.stage(a, "y")
	z := e.stage(b, "x")
	look("of two", a, x, y)
	look("of another", b, z)
	e.ok(e.Blobs.Promote(e.ctx, a, x.CID), "Promote")
	look("after one was promoted", a, y)
	e.ok(e.Blobs.Delete(e.ctx, a, y.CID), "Delete")
	look("after one was deleted", a)
	look("of another", b, z)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err := collect(s.Staged(ctx, b))
	e.fails(err, context.Canceled, "Staged with a context that has ended")
}
