package storagetest

import (
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// loadSource makes a store with something of everything, and returns its log's bounds.
func (e *env) loadSource() {
	e.Helper()
	a, b := e.account(), e.account()
	x, y := e.promoted(a.did, "blob x"), e.promoted(a.did, "blob y")
	e.write(a, append(notes(7), note("b1", "two blobs", x, y), note("b2", "one", x))...)
	e.write(a, note("003", "changed"), remove("004"), note("b2", "another", y))
	e.write(b, notes(2)...)
	e.replace(b, notes(3)...)
	e.apply(b, b.aside(storage.KVWrite{Key: "k", Value: []byte("v"), Expires: time.Now().Add(time.Hour)}, storage.KVWrite{Key: "empty", Value: []byte{}}))
	e.emit(a, 3)
	gone := e.newRepo(notes(2)...)
	_, err := e.Repos.Delete(e.ctx, gone.did, []storage.Event{gone.gone()})
	e.ok(err, "Delete")
	e.emit(b, 2)
}

// load copies a store, as one who has the time to do so in pieces of one.
func (e *env) load(from storage.Store, l storage.Loader) {
	e.Helper()
	repos, err := collect(from.Repos.List(e.ctx, ""))
	e.ok(err, "List")
	for _, info := range repos {
		put := func(part storage.Load) { e.Helper(); e.ok(l.Load(e.ctx, info.DID, &part), "Load") }
		e.ok(from.Repos.View(e.ctx, info.DID, func(r storage.Reader) error {
			for rec, err := range r.Records(e.ctx, storage.Range{}) {
				e.ok(err, "Records")
				put(storage.Load{Records: []storage.Record{rec}})
			}
			for ref, err := range r.BlobRefs(e.ctx, cid.Undef, "") {
				e.ok(err, "BlobRefs")
				put(storage.Load{Refs: []storage.BlobRef{ref}})
			}
			for p, err := range r.Keys(e.ctx, storage.Range{}) {
				e.ok(err, "Keys")
				put(storage.Load{KV: []storage.KVWrite{{Key: p.Key, Value: p.Value, Expires: p.Expires}}})
			}
			block, err := r.Commit(e.ctx)
			e.ok(err, "Commit")
			put(storage.Load{Head: r.Head(), Commit: block})
			return nil
		}), "View")
	}
	oldest, newest, err := from.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	log, err := collect(from.Events.Since(e.ctx, 0))
	e.ok(err, "Since")
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Events: log, Oldest: oldest, Newest: newest}), "LoadEvents")
}

// onlyStores is a store without the keys and blobs of the host.
func onlyStores(s storage.Store) storage.Store {
	return storage.Store{Repos: s.Repos, Events: s.Events}
}

func (e *env) sameStores(got, want storage.Store, when string) {
	e.Helper()
	g, err := dump(e.ctx, onlyStores(got))
	e.ok(err, "dump")
	w, err := dump(e.ctx, onlyStores(want))
	e.ok(err, "dump")
	e.sameLines(g, w, when)
	seqs := func(s storage.Store) (list []int64) {
		for ev, err := range s.Events.Since(e.ctx, 0) {
			e.ok(err, "Since")
			list = append(list, ev.Seq)
		}
		return list
	}
	e.same(seqs(got), seqs(want), "%s, numbers of events", when)
	bounds := func(s storage.Store) []int64 {
		oldest, newest, err := s.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		return []int64{oldest, newest}
	}
	e.same(bounds(got), bounds(want), "%s, bounds", when)
}

// target opens an empty store of the same backend.
func (e *env) target() (storage.Store, storage.Loader) {
	e.Helper()
	s := e.openAt(e.TempDir())
	return s, s.Repos.(storage.Loader)
}

// loadWhole: a store that was loaded is the same as the one it was loaded from, and works.
func loadWhole(e *env) {
	e.loader()
	e.loadSource()
	to, l := e.target()
	e.load(e.Store, l)
	e.sameStores(to, e.Store, "loaded")
	if log, ok := to.Events.(storage.AccountEvents); ok {
		for _, did := range []syntax.DID{"did:web:account1.example", "did:web:account3.example"} {
			want, err := collect(e.Events.(storage.AccountEvents).OfAccount(e.ctx, did))
			e.ok(err, "OfAccount")
			got, err := collect(log.OfAccount(e.ctx, did))
			e.ok(err, "OfAccount")
			e.same(got, want, "OfAccount")
		}
	}
	e.ok(CheckStore(e.ctx, onlyStores(to), Options{Key: keyOf}), "CheckStore")
}

// loadAgain: to load what is there changes nothing, parts can be taken away, and an account can be.
func loadAgain(e *env) {
	e.loader()
	e.loadSource()
	to, l := e.target()
	e.load(e.Store, l)
	e.load(e.Store, l)
	e.sameStores(to, e.Store, "loaded twice")
	info, err := collect(e.Repos.List(e.ctx, ""))
	e.ok(err, "List")
	did := info[0].DID
	before, err := dump(e.ctx, onlyStores(to))
	e.ok(err, "dump")
	var rec storage.Record
	var refs []storage.BlobRef
	e.view(did, func(r storage.Reader) {
		rec, err = r.Record(e.ctx, path("b1"))
		e.ok(err, "Record")
		refs, err = collect(r.BlobRefs(e.ctx, cid.Undef, ""))
		e.ok(err, "BlobRefs")
	})
	e.ok(l.Load(e.ctx, did, &storage.Load{Records: []storage.Record{{Path: rec.Path}}, NoRefs: refs}), "Load")
	e.ok(to.Repos.View(e.ctx, did, func(r storage.Reader) error {
		_, err := r.Record(e.ctx, rec.Path)
		e.fails(err, storage.ErrNotFound, "Record that was taken away")
		_, err = r.RecordByCID(e.ctx, rec.CID)
		e.fails(err, storage.ErrNotFound, "RecordByCID of what was taken away")
		left, err := collect(r.BlobRefs(e.ctx, cid.Undef, ""))
		e.same(len(left), 0, "references that were taken away")
		return err
	}), "View")
	e.ok(l.Load(e.ctx, did, &storage.Load{Records: []storage.Record{rec}, Refs: refs}), "Load")
	after, err := dump(e.ctx, onlyStores(to))
	e.ok(err, "dump")
	e.sameLines(after, before, "put back")
	log := e.events(0)
	drop := []int64{log[1].Seq, log[3].Seq}
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Drop: drop}), "LoadEvents")
	left, err := collect(to.Events.Since(e.ctx, 0))
	e.ok(err, "Since")
	e.same(len(left), len(log)-2, "events after some were dropped")
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Events: []storage.Event{log[1], log[3]}}), "LoadEvents")
	e.sameStores(to, e.Store, "events put back")
	for range 2 {
		e.ok(l.Unload(e.ctx, did), "Unload")
		_, err = to.Repos.Head(e.ctx, did)
		e.fails(err, storage.ErrNotFound, "Head of what was unloaded")
	}
	left, err = collect(to.Events.Since(e.ctx, 0))
	e.ok(err, "Since")
	e.same(len(left), len(log), "events after Unload")
	e.load(e.Store, l)
	e.sameStores(to, e.Store, "loaded once more")
	e.ok(l.Load(e.ctx, "did:web:part.example", &storage.Load{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}}), "Load of a part")
	_, err = to.Repos.Head(e.ctx, "did:web:part.example")
	e.fails(err, storage.ErrNotFound, "Head of a part")
	e.ok(to.Repos.View(e.ctx, "did:web:part.example", func(r storage.Reader) error {
		e.same(r.Head(), storage.Head{}, "head of a part")
		v, err := r.Get(e.ctx, "k")
		e.same(string(v), "v", "key of a part")
		return err
	}), "View of a part")
}

// loadNumbers: a log with gaps, trimmed and far from the present keeps its numbers, and the next
// one is greater than all.
func loadNumbers(e *env) {
	e.loader()
	to, l := e.target()
	a := newAccount("did:web:numbers.example")
	now := time.Now().UnixMicro()
	numbers := []int64{7, 1_000_000, now - 100*24*3600*1e6, now - 7200*1e6, now, now + 3600*1e6}
	var log []storage.Event
	for i, n := range numbers {
		ev := a.event()
		ev.Seq, ev.Weight = n, 1+i
		log = append(log, ev)
	}
	step := a.change(notes(1)...)
	newest := log[5].Seq + 10
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Events: log[:4], Oldest: 5}), "LoadEvents")
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Events: log[4:], Newest: newest}), "LoadEvents")
	got, err := collect(to.Events.Since(e.ctx, 0))
	e.ok(err, "Since")
	e.same(got, log, "events")
	oldest, last, err := to.Events.Bounds(e.ctx)
	e.ok(err, "Bounds")
	e.same([]int64{oldest, last}, []int64{5, newest}, "bounds")
	e.ok(l.LoadEvents(e.ctx, &storage.LoadEvents{Oldest: 3, Newest: 3}), "LoadEvents of nothing")
	seq, err := to.Repos.Apply(e.ctx, a.did, &step.Change)
	e.ok(err, "Apply")
	if seq <= newest {
		e.Errorf("the next number is %d, the greatest was %d", seq, newest)
	}
	e.ok(to.Events.Trim(e.ctx, log[1].Time.Add(time.Millisecond)), "Trim")
	got, err = collect(to.Events.Since(e.ctx, 0))
	e.ok(err, "Since")
	e.same(len(got), 5, "events after Trim")
}
