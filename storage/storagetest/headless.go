package storagetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// headlessChecks are the laws of accounts without a head.
func headlessChecks() []check {
	return []check{
		{name: "Repos/WithoutHead", law: withoutHead},
		{name: "Repos/WithoutHeadInvalid", law: invalidWithoutHead},
		{name: "Repos/WithoutHeadBecomesRepo", law: headComes},
		{name: "Repos/WithoutHeadDelete", law: deleteWithoutHead},
		{name: "Repos/WithoutHeadRace", law: raceWithoutHead},
		{name: "Repos/WithoutHeadReopen", law: reopenWithoutHead, needs: persistence},
	}
}

// known makes a change of an account without a head: a key, and an event.
func (a *account) known(status string) *step {
	s := a.aside(storage.KVWrite{Key: "status", Value: []byte(status)})
	s.Events = []storage.Event{a.event()}
	return s
}

// isWithoutHead reports it if an account is not there without a head, with a status.
func (e *env) isWithoutHead(did syntax.DID, status string) {
	e.Helper()
	_, err := e.Repos.Head(e.ctx, did)
	e.fails(err, storage.ErrNotFound, "Head of an account without one")
	e.view(did, func(r storage.Reader) {
		if r.Head() != (storage.Head{}) {
			e.Errorf("View of an account without a head has the head %v", r.Head())
		}
		_, err := r.Commit(e.ctx)
		e.fails(err, storage.ErrNotFound, "Commit of an account without a head")
		_, err = r.Record(e.ctx, path("000"))
		e.fails(err, storage.ErrNotFound, "Record of an account without a head")
		records, err := collect(r.Records(e.ctx, storage.Range{}))
		e.ok(err, "Records")
		since, err := collect(r.RecordsSince(e.ctx, ""))
		e.ok(err, "RecordsSince")
		refs, err := collect(r.BlobRefs(e.ctx, cid.Undef, ""))
		e.ok(err, "BlobRefs")
		e.same(len(records)+len(since)+len(refs), 0, "records and references of an account without a head")
	})
	e.same(e.value(did, "status"), fmt.Sprintf("%q", status), "status")
	e.same(e.listedHead(did), headString(storage.Head{}), "head in List")
}

// listedHead is the head of an account in List, or says that it is missing.
func (e *env) listedHead(did syntax.DID) string {
	e.Helper()
	for info, err := range e.Repos.List(e.ctx, "") {
		e.ok(err, "List")
		if info.DID == did {
			return headString(info.Head)
		}
	}
	return "not listed"
}

func withoutHead(e *env) {
	other := e.newRepo(notes(2)...)
	a := e.account()
	s := a.known("known")
	s.Checks = []storage.KVCheck{{Key: "status"}}
	seq := e.apply(a, s)
	if list := e.events(seq - 1); len(list) != 1 || list[0].DID != a.did || string(list[0].Payload) != string(s.Events[0].Payload) {
		e.Errorf("the event of an account without a head is not in the log")
	}
	e.isWithoutHead(a.did, "known")
	// It is changed like others: with checks, keys alone, events alone.
	e.unchanged("a change whose check does not hold", func() {
		s := a.known("wrong")
		s.Checks = []storage.KVCheck{{Key: "status", Value: []byte("other")}}
		_, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
		e.fails(err, storage.ErrConflict, "Apply")
	})
	s = a.known("active")
	s.Checks = []storage.KVCheck{{Key: "status", Value: []byte("known")}}
	e.apply(a, s)
	e.isWithoutHead(a.did, "active")
	e.same(e.apply(a, a.aside(storage.KVWrite{Key: "status", Value: []byte("gone")})), 0, "number of a change without events")
	e.isWithoutHead(a.did, "gone")
	heard := e.account()
	seq = e.apply(heard, heard.weighted(0))
	e.same(len(e.events(seq-1)), 1, "events of a change that has nothing else")
	e.isWithoutHeadAndKeys(heard.did)
	quiet := e.account()
	e.apply(quiet, quiet.aside(storage.KVWrite{Key: "status", Value: []byte("quiet")}))
	e.isWithoutHead(quiet.did, "quiet")
	e.hasRecords(other, notes(2)...)
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

func (e *env) isWithoutHeadAndKeys(did syntax.DID) {
	e.Helper()
	e.same(e.value(did, "status"), "missing", "key of an account without any")
	e.same(e.listedHead(did), headString(storage.Head{}), "head in List")
}

func invalidWithoutHead(e *env) {
	a, repo, none := e.account(), e.newRepo(notes(2)...), e.account()
	e.apply(a, a.known("known"))
	kv, full := []storage.KVWrite{{Key: "k", Value: []byte("v")}}, repo.change(note("x", "x"))
	for what, c := range map[string]storage.Change{
		"nothing":              {},
		"checks alone":         {Checks: []storage.KVCheck{{Key: "k"}}},
		"records":              {Records: full.Records, KV: kv},
		"a commit":             {Commit: full.Commit, KV: kv},
		"a head before":        {Prev: repo.head, KV: kv},
		"a head before, alone": {Prev: repo.head},
	} {
		e.unchanged("a change without a head, but with "+what, func() {
			for _, did := range []syntax.DID{a.did, repo.did, none.did} {
				_, err := e.Repos.Apply(e.ctx, did, &c)
				e.fails(err, storage.ErrInvalid, "Apply of a change without a head, but with %s", what)
			}
		})
	}
	e.unchanged("a Replace without a head", func() {
		for _, x := range []*account{a, repo, none} {
			records, _ := x.replacement(notes(2)...)
			for _, c := range []storage.Change{{KV: kv}, {Prev: x.head, KV: kv}, {}} {
				_, err := e.Repos.Replace(e.ctx, x.did, stream(records, nil), func() (*storage.Change, error) { return &c, nil })
				e.fails(err, storage.ErrInvalid, "Replace without a head")
			}
			with := x.change(note("x", "x"))
			_, err := e.Repos.Replace(e.ctx, x.did, stream(records, nil), func() (*storage.Change, error) { return &with.Change, nil })
			e.fails(err, storage.ErrInvalid, "Replace whose change has records")
		}
	})
	e.unchanged("a change from a head that is not there", func() {
		s := a.change(note("x", "x"))
		s.Prev = repo.head
		_, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
		e.fails(err, storage.ErrConflict, "Apply, with a Prev, to an account without a head")
		_, err = e.Repos.Apply(e.ctx, repo.did, &repo.withoutHead("x").Change)
		e.fails(err, storage.ErrExists, "Apply of a change without a head to a repository")
	})
}

// withoutHead makes a change of an account that takes it for one without a head.
func (a *account) withoutHead(status string) *step {
	return newAccount(a.did).known(status)
}

func headComes(e *env) {
	for _, replaced := range []bool{false, true} {
		a := e.account()
		e.apply(a, a.known("known"))
		s := a.change(notes(2)...)
		s.KV, s.Checks = []storage.KVWrite{{Key: "more", Value: []byte("1")}}, []storage.KVCheck{{Key: "status", Value: []byte("wrong")}}
		var records []storage.RecordChange
		if replaced {
			kv := s.KV
			records, s = a.replacement(notes(2)...)
			s.KV = kv
		}
		apply := func() error {
			var err error
			if replaced {
				_, err = e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
			} else {
				_, err = e.Repos.Apply(e.ctx, a.did, &s.Change)
			}
			return err
		}
		s.Checks = []storage.KVCheck{{Key: "status", Value: []byte("wrong")}}
		e.unchanged("a first commit whose check does not hold", func() { e.fails(apply(), storage.ErrConflict, "first commit") })
		s.Checks[0].Value = []byte("known")
		e.ok(apply(), "first commit")
		a.took(s)
		e.hasRecords(a, notes(2)...)
		e.same(e.value(a.did, "status"), `"known"`, "a key from before the head")
		e.same(e.value(a.did, "more"), `"1"`, "a key that came with the head")
		e.same(e.listedHead(a.did), headString(a.head), "head in List")
		e.write(a, note("000", "second commit"))
		e.hasRecords(a, note("000", "second commit"), notes(2)[1])
	}
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

func deleteWithoutHead(e *env) {
	a, other := e.account(), e.account()
	e.apply(other, other.known("other"))
	e.apply(a, a.known("known"))
	seq, err := e.Repos.Delete(e.ctx, a.did, []storage.Event{a.gone()})
	e.ok(err, "Delete")
	var kinds []string
	for _, ev := range e.events(0) {
		if ev.DID == a.did {
			kinds = append(kinds, ev.Kind)
			e.same(ev.Seq, seq, "number of the event of Delete")
		}
	}
	e.same(kinds, []string{"#account"}, "events of a deleted account")
	e.same(e.listedHead(a.did), "not listed", "List of a deleted account")
	err = e.Repos.View(e.ctx, a.did, func(storage.Reader) error { return nil })
	e.fails(err, storage.ErrNotFound, "View of a deleted account")
	_, err = e.Repos.Delete(e.ctx, a.did, nil)
	e.fails(err, storage.ErrNotFound, "second Delete")
	// The account of a repository that was deleted is heard of again: nothing of before is there.
	b := e.newRepo(notes(1)...)
	e.apply(b, b.aside(storage.KVWrite{Key: "old", Value: []byte("1")}))
	_, err = e.Repos.Delete(e.ctx, b.did, nil)
	e.ok(err, "Delete")
	s := b.withoutHead("deleted")
	s.Checks = []storage.KVCheck{{Key: "old"}}
	_, err = e.Repos.Apply(e.ctx, b.did, &s.Change)
	e.ok(err, "Apply to an account whose repository was deleted")
	e.isWithoutHead(b.did, "deleted")
	e.same(e.value(b.did, "old"), "missing", "a key of the deleted repository")
	e.isWithoutHead(other.did, "other")
}

// raceWithoutHead: of many changes that check the same key, one takes effect; so it is with the
// change that gives the account its head.
func raceWithoutHead(e *env) {
	handles := e.racers()
	for round := range 8 {
		a := e.account()
		errs := make([]error, 5)
		var wg sync.WaitGroup
		for i := range errs {
			s := a.known(fmt.Sprint(i))
			if i == 0 && round%2 == 0 {
				s = a.change(notes(1)...)
				s.KV = []storage.KVWrite{{Key: "status", Value: []byte("0")}}
			}
			s.Checks = []storage.KVCheck{{Key: "status"}}
			wg.Go(func() { _, errs[i] = handles[(i+round)%len(handles)].Repos.Apply(e.ctx, a.did, &s.Change) })
		}
		e.within("a race", wg.Wait)
		var won []string
		for i, err := range errs {
			if err == nil {
				won = append(won, fmt.Sprintf("%q", fmt.Sprint(i)))
			} else if !errors.Is(err, storage.ErrConflict) {
				e.fails(err, storage.ErrExists, "a lost race")
			}
		}
		e.same(strings.Join(won, " "), e.value(a.did, "status"), "winners of a race")
	}
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

func reopenWithoutHead(e *env) {
	a := e.account()
	e.apply(a, a.known("known"))
	e.opensAsCopy("with an account without a head")
	before := e.dump()
	e.reopen()
	e.sameLines(e.dump(), before, "store after opening again")
	e.isWithoutHead(a.did, "known")
	e.write(a, notes(1)...)
	e.reopen()
	e.hasRecords(a, notes(1)...)
	e.same(e.value(a.did, "status"), `"known"`, "a key from before the head")
}
