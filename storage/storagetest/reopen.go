package storagetest

import (
	"fmt"
	"time"

	"github.com/pdskit/pdskit/storage"
)

// reopenRepos: what was acknowledged is there after closing and opening, after
// every kind of step.
func reopenRepos(e *env) {
	b := blobInfos(2)
	a := e.newRepo(notes(3)...)
	steps := []func(){
		func() { e.write(a, note("000", "changed", b[0]), remove("001")) },
		func() {
			e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}, storage.KVWrite{Key: "b", Value: []byte("2"), Expires: time.Now().Add(time.Hour)}))
		},
		func() { e.replace(a, note("000", "replaced", b[1]), note("001", "x")) },
		func() { e.newRepo(notes(2)...) },
		func() {
			_, err := e.Repos.Delete(e.ctx, a.did, []storage.Event{a.gone()})
			e.ok(err, "Delete")
		},
		func() { e.ok(e.Events.Trim(e.ctx, start.Add(2*time.Millisecond)), "Trim") },
	}
	for i, step := range steps {
		step()
		before, seqs := e.dump(), fmt.Sprint(e.seqs())
		e.reopen()
		e.sameLines(e.dump(), before, "store after step %d and reopening", i)
		e.same(fmt.Sprint(e.seqs()), seqs, "numbers after step %d and reopening", i)
	}
}

// seqs are all numbers of events and the bounds of the log.
func (e *env) seqs() (list []int64) {
	e.Helper()
	for _, ev := range e.events(0) {
		list = append(list, ev.Seq)
	}
	oldest, newest, err := e.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	return append(list, oldest, newest)
}

// killRepos: a copy of the files while the store is open is what a killed process
// leaves. It has all that was acknowledged.
func killRepos(e *env) {
	a := e.newRepo(notes(3)...)
	for i := range 4 {
		e.write(a, note("000", fmt.Sprint("step ", i)))
		e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: fmt.Append(nil, i)}))
		if i == 2 {
			e.replace(a, notes(4)...)
		}
		e.opensAsCopy(fmt.Sprint("after step ", i))
	}
}

// opensAsCopy compares the store with one that is opened on a copy of its files.
func (e *env) opensAsCopy(when string) {
	e.Helper()
	before := e.dump()
	dir := e.copyFiles()
	s, closeIt := e.backend.Open(e.TB, dir)
	after, err := dump(e.ctx, s)
	e.ok(err, "read the copy %s", when)
	e.ok(closeIt(), "close the copy")
	e.sameLines(after, before, "copy %s", when)
}
