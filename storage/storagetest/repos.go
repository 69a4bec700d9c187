package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// repoChecks are the laws of steps: Repos' methods that write.
func repoChecks() []check {
	return append([]check{
		{name: "Repos/Missing", law: missingRepo},
		{name: "Repos/Create", law: createRepo},
		{name: "Repos/Apply", law: applyRecords},
		{name: "Repos/CompareAndSwap", law: compareAndSwap},
		{name: "Repos/Revisions", law: revisions},
		{name: "Repos/BlobReferences", law: blobReferences},
		{name: "Repos/KVWrites", law: kvWrites},
		{name: "Repos/KVChecks", law: kvCheckValues},
		{name: "Repos/FailedStepIsNothing", law: failedStep},
		{name: "Repos/StepWithoutRecords", law: stepAside},
		{name: "Repos/InputIsCopied", law: inputIsCopied},
		{name: "Repos/Large", law: largeValues},
		{name: "Repos/Names", law: oddNames},
		{name: "Repos/Replace", law: replaceRecords},
		{name: "Repos/FailedReplaceIsNothing", law: failedReplace},
		{name: "Repos/Delete", law: deleteRepo},
		{name: "Repos/List", law: listRepos},
		{name: "Repos/Race", law: raceForHead},
		{name: "Repos/RaceToCreate", law: raceToCreate},
		{name: "Repos/Concurrent", law: concurrentAccounts},
		{name: "Repos/SharedCompareAndSwap", law: sharedCAS, needs: sharing},
		{name: "Repos/Reopen", law: reopenRepos, needs: persistence},
		{name: "Repos/Kill", law: killRepos, needs: persistence},
	}, slices.Concat(headlessChecks(), replaceChecks(), viewChecks())...)
}

func missingRepo(e *env) {
	e.newRepo(notes(1)...)
	a := e.account()
	_, err := e.Repos.Head(e.ctx, a.did)
	e.fails(err, storage.ErrNotFound, "Head")
	err = e.Repos.View(e.ctx, a.did, func(storage.Reader) error {
		e.Error("View called its function")
		return nil
	})
	e.fails(err, storage.ErrNotFound, "View")
	e.unchanged("a call for a missing repository", func() {
		_, err = e.Repos.Delete(e.ctx, a.did, []storage.Event{a.gone()})
		e.fails(err, storage.ErrNotFound, "Delete")
		s := a.change(note("x", "x"))
		s.Prev = storage.Head{Commit: s.Head.Commit, Data: s.Head.Data, Rev: "2222222222222"}
		_, err = e.Repos.Apply(e.ctx, a.did, &s.Change)
		e.fails(err, storage.ErrNotFound, "Apply to a repository that is not there")
		s.Head = s.Prev
		s.Records, s.Commit = nil, nil
		_, err = e.Repos.Apply(e.ctx, a.did, &s.Change)
		e.fails(err, storage.ErrNotFound, "Apply of a step that makes no repository")
	})
}

func createRepo(e *env) {
	a := e.newRepo(notes(2)...)
	e.unchanged("a second creation", func() {
		again := newAccount(a.did)
		_, err := e.Repos.Apply(e.ctx, a.did, &again.change(note("other", "x")).Change)
		e.fails(err, storage.ErrExists, "Apply with zero Prev")
		records, s := again.replacement(note("other", "x"))
		_, err = e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
		e.fails(err, storage.ErrExists, "Replace with zero Prev")
	})
	// The first commit of a repository need not have records.
	b := e.account()
	e.write(b)
	e.hasRecords(b)
}

// hasRecords compares a repository with what an account has written.
func (e *env) hasRecords(a *account, edits ...edit) {
	e.Helper()
	head, err := e.Repos.Head(e.ctx, a.did)
	e.ok(err, "Head")
	e.same(headString(head), headString(a.head), "head")
	if head != a.head {
		e.Errorf("heads with the same content are not == (%v, %v)", head, a.head)
	}
	want := map[string][]byte{}
	for _, x := range edits {
		want[x.path] = x.record
	}
	e.view(a.did, func(r storage.Reader) {
		e.same(headString(r.Head()), headString(a.head), "head of the view")
		block, err := r.Commit(e.ctx)
		e.ok(err, "Commit")
		if !dag.Matches(a.head.Commit, block) {
			e.Errorf("the commit block does not match the head")
		}
		all, err := collect(r.Records(e.ctx, storage.Range{}))
		e.ok(err, "Records")
		e.same(len(all), len(want), "number of records")
		for _, rec := range all {
			e.same(recordString(rec), recordString(storage.Record{Path: rec.Path, CID: dag.Sum(dag.CBOR, want[rec.Path]), Data: want[rec.Path], Rev: rec.Rev}), "record")
			one, err := r.Record(e.ctx, rec.Path)
			e.ok(err, "Record(%s)", rec.Path)
			e.same(recordString(one), recordString(rec), "Record(%s)", rec.Path)
		}
	})
}

func applyRecords(e *env) {
	a := e.newRepo(notes(3)...)
	e.hasRecords(a, notes(3)...)
	e.write(a, note("000", "changed"), remove("001"), note("004", "new"))
	e.hasRecords(a, note("000", "changed"), notes(3)[2], note("004", "new"))
	e.write(a, remove("000"), remove("002"), remove("004"))
	e.hasRecords(a)
	e.write(a, note("000", "back"))
	e.hasRecords(a, note("000", "back"))
}

func compareAndSwap(e *env) {
	a := e.newRepo(notes(2)...)
	older := a.head
	e.write(a, note("000", "second commit"))
	good := a.change(note("000", "third commit"))
	wrong := map[string]storage.Head{
		"the head before": older,
		"another commit":  {Commit: older.Commit, Data: a.head.Data, Rev: a.head.Rev},
		"another root":    {Commit: a.head.Commit, Data: older.Data, Rev: a.head.Rev},
		"another rev":     {Commit: a.head.Commit, Data: a.head.Data, Rev: older.Rev},
	}
	for name, prev := range wrong {
		e.unchanged("a step from "+name, func() {
			c := good.Change
			c.Prev = prev
			_, err := e.Repos.Apply(e.ctx, a.did, &c)
			e.fails(err, storage.ErrConflict, "Apply from %s", name)
			c.Head = c.Prev
			c.Records, c.Commit = nil, nil
			_, err = e.Repos.Apply(e.ctx, a.did, &c)
			e.fails(err, storage.ErrConflict, "Apply of events from %s", name)
			records, s := a.replacement(note("x", "replaced"))
			s.Prev = prev
			_, err = e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
			e.fails(err, storage.ErrConflict, "Replace from %s", name)
		})
	}
	e.apply(a, good)
}

func revisions(e *env) {
	a := e.newRepo(notes(3)...)
	first := a.head.Rev
	e.write(a, note("001", "changed"))
	second := a.head.Rev
	e.write(a, note("003", "new"), remove("000"))
	third := a.head.Rev
	e.view(a.did, func(r storage.Reader) {
		all, err := collect(r.Records(e.ctx, storage.Range{}))
		e.ok(err, "Records")
		var got []syntax.TID
		for _, rec := range all {
			got = append(got, rec.Rev)
		}
		e.same(got, []syntax.TID{second, first, third}, "revisions")
		for _, c := range []struct {
			since syntax.TID
			want  []string
		}{
			{"", []string{path("001"), path("002"), path("003")}},
			{first, []string{path("001"), path("003")}},
			{second, []string{path("003")}},
			{third, nil},
		} {
			since, err := collect(r.RecordsSince(e.ctx, c.since))
			e.ok(err, "RecordsSince")
			var paths []string
			for _, rec := range since {
				paths = append(paths, rec.Path)
				if !dag.Matches(rec.CID, rec.Data) {
					e.Errorf("RecordsSince(%q): the data of %s is not right", c.since, rec.Path)
				}
			}
			slices.Sort(paths)
			e.same(paths, c.want, "RecordsSince(%q)", c.since)
		}
	})
}

// blobInfos are n descriptions of blobs, ordered by binary CID.
func blobInfos(n int) (list []storage.BlobInfo) {
	for i := range n {
		content := fmt.Sprint("blob ", i)
		list = append(list, storage.BlobInfo{CID: dag.Sum(dag.Raw, []byte(content)), MIME: "text/plain", Size: int64(len(content))})
	}
	slices.SortFunc(list, func(x, y storage.BlobInfo) int { return strings.Compare(x.CID.KeyString(), y.CID.KeyString()) })
	return list
}

func blobReferences(e *env) {
	b := blobInfos(4)
	a := e.newRepo(note("000", "x", b[1], b[2]), note("001", "x", b[0], b[1]), note("002", "no blobs"))
	first := a.head.Rev
	refs := func(after cid.Cid, since syntax.TID, want ...string) {
		e.Helper()
		e.view(a.did, func(r storage.Reader) {
			var got []string
			for ref, err := range r.BlobRefs(e.ctx, after, since) {
				e.ok(err, "BlobRefs")
				i := slices.IndexFunc(b, func(x storage.BlobInfo) bool { return x.CID == ref.Blob })
				got = append(got, fmt.Sprintf("%d in %s", i, strings.TrimPrefix(ref.Path, collection+"/")))
				if rec, err := r.Record(e.ctx, ref.Path); err != nil || rec.Rev != ref.Rev {
					e.Errorf("reference in %s: revision %s, record has %s (%v)", ref.Path, ref.Rev, rec.Rev, err)
				}
			}
			e.same(got, want, "BlobRefs after %s since %q", after, since)
		})
	}
	has := func(want ...bool) {
		e.Helper()
		e.view(a.did, func(r storage.Reader) {
			var got []bool
			for _, x := range b {
				ok, err := r.HasBlobRef(e.ctx, x.CID)
				e.ok(err, "HasBlobRef")
				got = append(got, ok)
			}
			e.same(got, want, "HasBlobRef")
		})
	}
	refs(cid.Undef, "", "0 in 001", "1 in 000", "1 in 001", "2 in 000")
	refs(b[0].CID, "", "1 in 000", "1 in 001", "2 in 000")
	refs(b[1].CID, "", "2 in 000")
	refs(b[3].CID, "")
	refs(cid.Undef, first)
	has(true, true, true, false)
	// An update replaces the references of its record, and of no other.
	e.write(a, note("000", "y", b[3]))
	refs(cid.Undef, "", "0 in 001", "1 in 001", "3 in 000")
	refs(cid.Undef, first, "3 in 000")
	has(true, true, false, true)
	e.write(a, remove("001"), note("002", "z", b[3]))
	refs(cid.Undef, "", "3 in 000", "3 in 002")
	has(false, false, false, true)
	e.write(a, remove("000"))
	has(false, false, false, true)
	e.write(a, remove("002"))
	refs(cid.Undef, "")
	has(false, false, false, false)
	// Another account's references are its own.
	other := e.newRepo(note("000", "x", b[0]))
	has(false, false, false, false)
	e.write(other, remove("000"))
}

// fullStep is a step with everything in it.
func fullStep(a *account, b []storage.BlobInfo) *step {
	s := a.change(note("000", "changed", b...), remove("001"), note("new", "new"))
	s.KV = []storage.KVWrite{{Key: "a"}, {Key: "new", Value: []byte("1")}}
	s.Events = append(s.Events, a.event())
	return s
}

func failedStep(e *env) {
	b := blobInfos(2)
	a := e.newRepo(note("000", "x", b[0]), note("001", "x", b[1]))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}))
	e.unchanged("a step whose check does not hold", func() {
		s := fullStep(a, b[1:])
		s.Checks = []storage.KVCheck{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}}
		_, err := e.Repos.Apply(e.ctx, a.did, &s.Change)
		e.fails(err, storage.ErrConflict, "Apply")
		records, s := a.replacement(note("x", "replaced"))
		s.Checks, s.KV = []storage.KVCheck{{Key: "b", Value: []byte("2")}}, []storage.KVWrite{{Key: "a"}}
		_, err = e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
		e.fails(err, storage.ErrConflict, "Replace")
		made := e.account()
		s = made.change(note("000", "x", b...))
		s.KV, s.Events = []storage.KVWrite{{Key: "a", Value: []byte("1")}}, append(s.Events, made.event())
		s.Checks = []storage.KVCheck{{Key: "a", Value: []byte("1")}}
		_, err = e.Repos.Apply(e.ctx, made.did, &s.Change)
		e.fails(err, storage.ErrConflict, "Apply of a first step")
	})
}

func stepAside(e *env) {
	a := e.newRepo(notes(3)...)
	before := a.head
	s := a.aside(storage.KVWrite{Key: "status", Value: []byte("deactivated")})
	s.Events = []storage.Event{a.event()}
	seq := e.apply(a, s)
	e.same(headString(a.head), headString(before), "head")
	e.hasRecords(a, notes(3)...)
	e.same(e.value(a.did, "status"), `"deactivated"`, "status")
	list := e.events(seq - 1)
	if len(list) != 1 || list[0].Seq != seq {
		e.Errorf("the step's event is not in the log at %d: %d events", seq, len(list))
	}
	// One without anything has no number.
	seq = e.apply(a, a.aside())
	e.same(seq, 0, "sequence number of a step without events")
}

func inputIsCopied(e *env) {
	b := blobInfos(2)
	a := e.account()
	s := a.change(note("000", "x", b[0]), note("001", "y"))
	s.KV = []storage.KVWrite{{Key: "a", Value: []byte("value")}}
	s.Events = append(s.Events, a.event())
	before := [][]byte{slices.Clone(s.Events[0].Payload), slices.Clone(s.Events[1].Payload)}
	e.apply(a, s)
	scribble(s.Commit, s.KV[0].Value, s.Events[0].Payload, s.Events[1].Payload)
	for i := range s.Records {
		scribble(s.Records[i].Data)
		for j := range s.Records[i].Blobs {
			s.Records[i].Blobs[j] = b[1].CID
		}
	}
	e.hasRecords(a, note("000", "x", b[0]), note("001", "y"))
	e.same(e.value(a.did, "a"), `"value"`, "a value that the caller overwrote later")
	for i, ev := range e.events(0) {
		e.same(ev.Payload, before[i], "a payload that the caller overwrote later")
	}
	e.view(a.did, func(r storage.Reader) {
		ok, err := r.HasBlobRef(e.ctx, b[0].CID)
		if !ok || err != nil {
			e.Errorf("a reference that the caller overwrote later is lost (%v)", err)
		}
	})
}

func largeValues(e *env) {
	a := e.newRepo()
	big := note("big", strings.Repeat("x", 999_000))
	e.write(a, big)
	e.hasRecords(a, big)
	many := []edit{big}
	for i := range 1000 {
		many = append(many, note(fmt.Sprintf("%04d", i), "x"))
	}
	s := a.change(many[1:]...)
	s.KV = []storage.KVWrite{{Key: strings.Repeat("k", 900), Value: make([]byte, 1<<20)}}
	s.Events[0].Payload = make([]byte, 3<<20)
	seq := e.apply(a, s)
	e.hasRecords(a, many...)
	e.view(a.did, func(r storage.Reader) {
		value, err := r.Get(e.ctx, s.KV[0].Key)
		e.ok(err, "Get a large value")
		e.same(shown(value), shown(s.KV[0].Value), "a large value")
	})
	if list := e.events(seq - 1); len(list) != 1 || len(list[0].Payload) != 3<<20 {
		e.Errorf("the large event is not in the log")
	}
}

func replaceRecords(e *env) {
	b := blobInfos(3)
	a := e.newRepo(note("000", "x", b[0]), note("001", "y", b[1]), note("002", "z"))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}, storage.KVWrite{Key: "b", Value: []byte("1")}))
	next := []edit{note("001", "y", b[2]), note("002", "z"), note("003", "new")}
	records, s := a.replacement(next...)
	s.KV, s.Checks = []storage.KVWrite{{Key: "b", Value: []byte("2")}}, []storage.KVCheck{{Key: "a", Value: []byte("1")}}
	calls := 0
	seq, err := e.Repos.Replace(e.ctx, a.did, func(yield func(storage.RecordChange, error) bool) {
		if calls != 0 {
			e.Error("final was called before the stream had ended")
		}
		stream(records, nil)(yield)
	}, func() (*storage.Change, error) {
		calls++
		return &s.Change, nil
	})
	e.ok(err, "Replace")
	e.same(calls, 1, "calls of final")
	a.took(s)
	e.hasRecords(a, next...)
	e.same(e.value(a.did, "a"), `"1"`, "a key that was not touched")
	e.same(e.value(a.did, "b"), `"2"`, "a key of the step")
	if list := e.events(seq - 1); len(list) != 1 || list[0].Seq != seq {
		e.Errorf("Replace returned %d, which is not the last event", seq)
	}
	e.view(a.did, func(r storage.Reader) {
		for rec, err := range r.Records(e.ctx, storage.Range{}) {
			e.ok(err, "Records")
			e.same(rec.Rev, a.head.Rev, "revision of %s", rec.Path)
			byCID, err := r.RecordByCID(e.ctx, rec.CID)
			e.ok(err, "RecordByCID of %s", rec.Path)
			e.same(byCID.Path, rec.Path, "RecordByCID")
		}
		_, err := r.RecordByCID(e.ctx, dag.Sum(dag.CBOR, note("000", "x", b[0]).record))
		e.fails(err, storage.ErrNotFound, "RecordByCID of a replaced record")
		var got []string
		for ref, err := range r.BlobRefs(e.ctx, cid.Undef, "") {
			e.ok(err, "BlobRefs")
			got = append(got, fmt.Sprint(ref.Blob, ref.Path, ref.Rev))
		}
		e.same(got, []string{fmt.Sprint(b[2].CID, path("001"), a.head.Rev)}, "references")
	})
	// It makes a repository, and empties one.
	made := e.account()
	e.replace(made, notes(5)...)
	e.hasRecords(made, notes(5)...)
	e.replace(made)
	e.hasRecords(made)
	e.write(made, note("000", "x"))
	e.hasRecords(made, note("000", "x"))
	e.hasRecords(a, next...)
}

func failedReplace(e *env) {
	b := blobInfos(2)
	a := e.newRepo(note("000", "x", b[0]), note("001", "y", b[1]))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}))
	broken := errors.New("broken stream")
	none := e.account()
	for _, x := range []*account{a, none} {
		e.unchanged("a failed Replace", func() {
			records, s := x.replacement(note("001", "z", b[0]), note("005", "z"), note("006", "z"))
			for n := range len(records) + 1 {
				_, err := e.Repos.Replace(e.ctx, x.did, stream(records[:n], broken), func() (*storage.Change, error) {
					e.Error("final was called after an error of the stream")
					return &s.Change, nil
				})
				e.fails(err, broken, "Replace whose stream fails after %d records", n)
			}
			_, err := e.Repos.Replace(e.ctx, x.did, stream(records, nil), func() (*storage.Change, error) { return nil, broken })
			e.fails(err, broken, "Replace whose final step fails")
		})
	}
	e.hasRecords(a, note("000", "x", b[0]), note("001", "y", b[1]))
	e.replace(a, note("002", "z"))
	e.hasRecords(a, note("002", "z"))
}
