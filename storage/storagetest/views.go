package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
)

// viewChecks are the laws of snapshots of a repository.
func viewChecks() []check {
	return []check{
		{name: "View/Error", law: viewError},
		{name: "View/Ranges", law: recordRanges},
		{name: "View/Keys", law: viewKeys},
		{name: "View/RecordByCID", law: recordByCID},
		{name: "View/Missing", law: missingRecord},
		{name: "View/ResultsStay", law: resultsStay},
		{name: "View/Snapshot", law: viewSnapshot},
		{name: "View/OwnedResults", law: ownedResults},
		{name: "View/Nested", law: nestedViews},
		{name: "View/Deep", law: deepViews},
		{name: "View/CancelInside", law: cancelInside},
		{name: "Repos/Canceled", law: canceledRepos},
		{name: "Repos/CancelAnyTime", law: cancelAnyTime},
	}
}

// copyFiles copies the store's directory. It skips the test if there is nothing
// in it.
func (e *env) copyFiles() string {
	e.Helper()
	entries, err := os.ReadDir(e.dir)
	e.ok(err, "read the directory")
	if len(entries) == 0 {
		e.Skip("the backend does not keep its data in the directory")
	}
	to := e.TempDir()
	e.ok(os.CopyFS(to, os.DirFS(e.dir)), "copy the directory")
	return to
}

func viewError(e *env) {
	a := e.newRepo(notes(1)...)
	mine := errors.New("mine")
	e.fails(e.Repos.View(e.ctx, a.did, func(storage.Reader) error { return mine }), mine, "View")
	// The error of a look-up inside is not taken for that of View.
	e.ok(e.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
		_, err := r.Record(e.ctx, path("none"))
		e.fails(err, storage.ErrNotFound, "Record")
		return nil
	}), "View")
}

func recordRanges(e *env) {
	var keys []string
	var edits []edit
	for _, n := range []string{"b", "d", "d.x", "f"} {
		edits = append(edits, note(n, n))
		keys = append(keys, path(n))
	}
	x := note("", "x")
	x.path = "com.example.other/a"
	a := e.newRepo(append(edits, x)...)
	keys = append(keys, x.path)
	e.newRepo(notes(3)...)
	e.view(a.did, func(r storage.Reader) {
		for _, rng := range ranges(keys) {
			list, err := collect(r.Records(e.ctx, rng))
			e.ok(err, "Records(%+v)", rng)
			var got []string
			for _, rec := range list {
				got = append(got, rec.Path)
				if (rec.Data == nil) != rng.KeysOnly || !rec.CID.Defined() || rec.Rev == "" {
					e.Errorf("Records(%+v): %s", rng, recordString(rec))
				}
			}
			e.same(got, selected(keys, rng), "Records(%+v)", rng)
			e.cursor(r, rng, list)
		}
	})
}

// cursor reads a range with a cursor, which shows what Records yields, also if it is left before its
// end.
func (e *env) cursor(r storage.Reader, rng storage.Range, want []storage.Record) {
	e.Helper()
	for _, stop := range []int{0, len(want) / 2, len(want) + 1} {
		var got []storage.Record
		c := storage.Records(e.ctx, r, rng)
		for len(got) < stop && c.Next() {
			id, err := cid.Cast(c.CID())
			e.ok(err, "Cursor(%+v): CID", rng)
			got = append(got, storage.Record{Path: string(c.Path()), CID: id, Rev: c.Rev(), Data: bytes.Clone(c.Data())})
		}
		e.ok(c.Err(), "Cursor(%+v)", rng)
		e.same(fmt.Sprint(got), fmt.Sprint(want[:min(stop, len(want))]), "Cursor(%+v)", rng)
		c.Close()
		e.same(c.Next(), false, "Next after Close")
		c.Close()
	}
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	c := storage.Records(ended, r, rng)
	defer c.Close()
	e.same(c.Next(), false, "Next with a context that has ended")
	e.fails(c.Err(), context.Canceled, "Err with a context that has ended")
}

func viewKeys(e *env) {
	keys := []string{"a", "a\x00", "a/1", "a/2", "b", "c"}
	a := e.newRepo()
	s := a.aside()
	for _, k := range keys {
		s.KV = append(s.KV, storage.KVWrite{Key: k, Value: []byte("value of " + k)})
	}
	e.apply(a, s)
	e.view(a.did, func(r storage.Reader) { e.keyRanges(r, keys) })
}

// keyRanges tries all kinds of ranges on keys with known values.
func (e *env) keyRanges(r storage.KVReader, keys []string) {
	e.Helper()
	for _, rng := range ranges(keys) {
		list, err := collect(r.Keys(e.ctx, rng))
		e.ok(err, "Keys(%+v)", rng)
		var got []string
		for _, p := range list {
			got = append(got, p.Key)
			if rng.KeysOnly {
				e.same(p.Value == nil, true, "Keys(%+v): no value", rng)
			} else {
				e.same(string(p.Value), "value of "+p.Key, "Keys(%+v)", rng)
			}
		}
		e.same(fmt.Sprintf("%q", got), fmt.Sprintf("%q", selected(keys, rng)), "Keys(%+v)", rng)
	}
}

func recordByCID(e *env) {
	a := e.newRepo(note("000", "same"), note("001", "same"), note("002", "other"))
	same, other := dag.Sum(dag.CBOR, note("", "same").record), dag.Sum(dag.CBOR, note("", "other").record)
	find := func(c cid.Cid, paths ...string) {
		e.Helper()
		e.view(a.did, func(r storage.Reader) {
			rec, err := r.RecordByCID(e.ctx, c)
			if len(paths) == 0 {
				e.fails(err, storage.ErrNotFound, "RecordByCID")
				return
			}
			e.ok(err, "RecordByCID")
			want, err := r.Record(e.ctx, rec.Path)
			e.ok(err, "Record(%s)", rec.Path)
			e.same(recordString(rec), recordString(want), "RecordByCID")
			e.same(rec.CID, c, "RecordByCID")
		})
	}
	find(same, "000", "001")
	find(other, "002")
	find(dag.Sum(dag.CBOR, nil))
	e.write(a, remove("000"), note("002", "changed"))
	find(same, "001")
	find(other)
	e.write(a, remove("001"))
	find(same)
	e.newRepo(note("000", "same"))
	find(same)
}

func missingRecord(e *env) {
	a := e.newRepo(append(notes(2), note("blob", "x", blobInfos(1)...))...)
	e.view(a.did, func(r storage.Reader) {
		for _, p := range []string{path("none"), "", "com.example.note/", "com.example.note/00", "com.example.note/0000", "COM.EXAMPLE.NOTE/000"} {
			_, err := r.Record(e.ctx, p)
			e.fails(err, storage.ErrNotFound, "Record(%q)", p)
		}
		for _, c := range []cid.Cid{cid.Undef, dag.Sum(dag.Raw, notes(1)[0].record), a.head.Commit, a.head.Data} {
			_, err := r.RecordByCID(e.ctx, c)
			e.fails(err, storage.ErrNotFound, "RecordByCID(%s)", c)
			ok, err := r.HasBlobRef(e.ctx, c)
			if ok || err != nil {
				e.Errorf("HasBlobRef(%s): %v, %v", c, ok, err)
			}
		}
		_, err := r.Get(e.ctx, "none")
		e.fails(err, storage.ErrNotFound, "Get")
	})
}

// resultsStay: what was read is good after the next step and after the view.
func resultsStay(e *env) {
	b := blobInfos(3)
	a := e.newRepo(note("000", "x", b[0]), note("001", "y", b[1]), note("002", "z", b[2]))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}, storage.KVWrite{Key: "b", Value: []byte("2")}))
	head := a.head
	var got []string
	var recs []storage.Record
	var pairs []storage.KVPair
	var commits [][]byte
	e.view(a.did, func(r storage.Reader) {
		block, err := r.Commit(e.ctx)
		e.ok(err, "Commit")
		commits = append(commits, block)
		for rec, err := range r.Records(e.ctx, storage.Range{}) {
			e.ok(err, "Records")
			got = append(got, recordString(rec))
			recs = append(recs, rec)
			one, err := r.Record(e.ctx, rec.Path)
			e.ok(err, "Record")
			recs = append(recs, one)
			got = append(got, recordString(one))
		}
		for p, err := range r.Keys(e.ctx, storage.Range{}) {
			e.ok(err, "Keys")
			got = append(got, pairString(p))
			pairs = append(pairs, p)
		}
	})
	events := e.events(0)
	for _, ev := range events {
		got = append(got, fmt.Sprintf("%x", ev.Payload))
	}
	e.write(a, note("000", "changed"), note("001", "changed"), note("002", "changed"))
	_ = e.dump()
	var later []string
	for _, rec := range recs {
		later = append(later, recordString(rec))
	}
	for _, p := range pairs {
		later = append(later, pairString(p))
	}
	for _, ev := range events {
		later = append(later, fmt.Sprintf("%x", ev.Payload))
	}
	e.sameLines(later, got, "results changed after they were returned")
	if !dag.Matches(head.Commit, commits[0]) {
		e.Errorf("the commit block changed after it was returned")
	}
}

// viewSnapshot: nothing that is written while a view is open shows in it, and the
// writers need not wait for it.
func viewSnapshot(e *env) {
	b := blobInfos(3)
	a := e.newRepo(append(notes(20), note("blob", "x", b[0]))...)
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}, storage.KVWrite{Key: "b", Value: []byte("1")}))
	handle := e.another()
	e.view(a.did, func(r storage.Reader) {
		read := func() (lines []string) {
			e.Helper()
			e.ok(dumpRepo(e.ctx, r, func(f string, args ...any) { lines = append(lines, fmt.Sprintf(f, args...)) }), "read the snapshot")
			since, err := collect(r.RecordsSince(e.ctx, ""))
			e.ok(err, "RecordsSince")
			ok0, err0 := r.HasBlobRef(e.ctx, b[0].CID)
			ok1, err1 := r.HasBlobRef(e.ctx, b[1].CID)
			e.ok(errors.Join(err0, err1), "HasBlobRef")
			_, err = r.Record(e.ctx, path("new"))
			_, err2 := r.RecordByCID(e.ctx, dag.Sum(dag.CBOR, note("new", "new", b[1]).record))
			return append(lines, fmt.Sprint(len(since), ok0, ok1, err, err2))
		}
		before := read()
		next := 0
		for rec, err := range r.Records(e.ctx, storage.Range{}) {
			e.ok(err, "Records")
			if next == 2 { // while an iteration is under way
				s := a.change(note("000", "changed"), remove("005"), note("new", "new", b[1]), remove("blob"))
				s.KV = []storage.KVWrite{{Key: "a"}, {Key: "b", Value: []byte("2")}, {Key: "c", Value: []byte("3")}}
				e.within("a writer beside an open view", func() {
					if _, err := handle.Repos.Apply(e.ctx, a.did, &s.Change); err != nil {
						e.Errorf("Apply: %v", err)
					}
				})
				a.took(s)
			}
			if next < 20 {
				e.same(recordString(rec), recordString(storage.Record{Path: path(fmt.Sprintf("%03d", next)), CID: rec.CID, Rev: rec.Rev, Data: notes(20)[next].record}), "record in an iteration")
			}
			next++
		}
		e.same(next, 21, "records in the iteration")
		e.sameLines(read(), before, "snapshot after a step")
		records, s := a.replacement(note("y", "replaced"))
		e.within("a Replace beside an open view", func() {
			if _, err := handle.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil }); err != nil {
				e.Errorf("Replace: %v", err)
			}
		})
		a.took(s)
		e.sameLines(read(), before, "snapshot after Replace")
		e.within("a Delete beside an open view", func() {
			if _, err := handle.Repos.Delete(e.ctx, a.did, nil); err != nil {
				e.Errorf("Delete: %v", err)
			}
		})
		e.sameLines(read(), before, "snapshot after Delete")
	})
	_, err := e.Repos.Head(e.ctx, a.did)
	e.fails(err, storage.ErrNotFound, "Head after Delete")
}

// nestedViews: other methods may be called from within a view, and iterations may
// be nested and left early.
func nestedViews(e *env) {
	a, other := e.newRepo(notes(5)...), e.newRepo(notes(2)...)
	e.within("calls from within a view", func() {
		err := e.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
			n := 0
			for range r.Records(e.ctx, storage.Range{}) {
				for range r.Records(e.ctx, storage.Range{Reverse: true}) {
					if n++; n%3 == 0 {
						break
					}
				}
			}
			if n < 8 {
				e.Errorf("nested iterations: %d steps", n)
			}
			if _, err := e.Repos.Head(e.ctx, other.did); err != nil {
				return err
			}
			if _, err := collect(e.Events.Since(e.ctx, 0)); err != nil {
				return err
			}
			if _, err := e.Repos.Apply(e.ctx, a.did, &a.change(note("x", "x")).Change); err != nil {
				return err
			}
			return e.Repos.View(e.ctx, other.did, func(r2 storage.Reader) error {
				e.same(r2.Head(), other.head, "head of the inner view")
				e.same(r.Head(), a.head, "head of the outer view")
				return nil
			})
		})
		if err != nil {
			e.Errorf("View: %v", err)
		}
	})
}

// cancelInside: iterations end when the context does.
func cancelInside(e *env) {
	const many = 3000
	b := blobInfos(1)
	var edits []edit
	for i := range many {
		edits = append(edits, note(fmt.Sprintf("%04d", i), "x", b[0]))
	}
	a := e.newRepo(edits...)
	s := a.aside()
	for i := range many {
		s.KV = append(s.KV, storage.KVWrite{Key: fmt.Sprintf("%04d", i), Value: []byte("x")})
	}
	e.apply(a, s)
	e.view(a.did, func(r storage.Reader) {
		stops(e, many, "Records", func(ctx context.Context) iterator {
			return untyped(r.Records(ctx, storage.Range{}))
		})
		stops(e, many, "RecordsSince", func(ctx context.Context) iterator { return untyped(r.RecordsSince(ctx, "")) })
		stops(e, many, "BlobRefs", func(ctx context.Context) iterator { return untyped(r.BlobRefs(ctx, cid.Undef, "")) })
		stops(e, many, "Keys", func(ctx context.Context) iterator { return untyped(r.Keys(ctx, storage.Range{})) })
		// The snapshot is as good as before.
		all, err := collect(r.Records(e.ctx, storage.Range{KeysOnly: true}))
		e.ok(err, "Records")
		e.same(len(all), many, "records after all that")
	})
}

// canceledRepos: no method does anything after the context has ended.
func canceledRepos(e *env) {
	a := e.newRepo(notes(3)...)
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}))
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.unchanged("a canceled call", func() {
		e.canceled(map[string]func() error{
			"Head":  func() error { _, err := e.Repos.Head(ctx, a.did); return err },
			"Apply": func() error { _, err := e.Repos.Apply(ctx, a.did, &fullStep(a, nil).Change); return err },
			"Replace": func() error {
				records, s := a.replacement(note("x", "x"))
				_, err := e.Repos.Replace(ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
				return err
			},
			"View":   func() error { return e.Repos.View(ctx, a.did, func(r storage.Reader) error { return nil }) },
			"Delete": func() error { _, err := e.Repos.Delete(ctx, a.did, []storage.Event{a.gone()}); return err },
			"List":   func() error { _, err := collect(e.Repos.List(ctx, "")); return err },
			"Since":  func() error { _, err := collect(e.Events.Since(ctx, 0)); return err },
			"Bounds": func() error { _, _, err := e.Events.Bounds(ctx); return err },
			"Wait":   func() error { return e.Events.Wait(ctx, 1<<62) },
			"Trim":   func() error { return e.Events.Trim(ctx, start.AddDate(1, 0, 0)) },
		})
		e.view(a.did, func(r storage.Reader) {
			e.canceled(map[string]func() error{
				"Commit":       func() error { _, err := r.Commit(ctx); return err },
				"Record":       func() error { _, err := r.Record(ctx, path("000")); return err },
				"RecordByCID":  func() error { _, err := r.RecordByCID(ctx, a.head.Data); return err },
				"Records":      func() error { _, err := collect(r.Records(ctx, storage.Range{})); return err },
				"RecordsSince": func() error { _, err := collect(r.RecordsSince(ctx, "")); return err },
				"BlobRefs":     func() error { _, err := collect(r.BlobRefs(ctx, cid.Undef, "")); return err },
				"HasBlobRef":   func() error { _, err := r.HasBlobRef(ctx, a.head.Data); return err },
				"Get":          func() error { _, err := r.Get(ctx, "a"); return err },
				"Keys":         func() error { _, err := collect(r.Keys(ctx, storage.Range{})); return err },
			})
		})
		// It ends in the middle of a stream, or just before the last step.
		for _, final := range []bool{false, true} {
			ctx, cancel := context.WithCancel(e.ctx)
			defer cancel()
			records, s := a.replacement(notes(200)...)
			_, err := e.Repos.Replace(ctx, a.did, func(yield func(storage.RecordChange, error) bool) {
				for i, r := range records {
					if i == 10 && !final {
						cancel()
					}
					if !yield(r, nil) {
						return
					}
				}
			}, func() (*storage.Change, error) {
				cancel()
				return &s.Change, nil
			})
			e.fails(err, context.Canceled, "Replace, canceled on the way (at the end: %v)", final)
		}
	})
}

// canceled calls methods with a context that has ended.
func (e *env) canceled(calls map[string]func() error) {
	e.Helper()
	for name, call := range calls {
		e.fails(call(), context.Canceled, "%s with a canceled context", name)
	}
}

// cancelAnyTime: a step that is canceled while it runs has taken effect or not, as
// a whole, and the head says which.
func cancelAnyTime(e *env) {
	b := blobInfos(1)
	a := e.newRepo(note("000", "x", b[0]), note("001", "x"))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("1")}))
	done, undone := 0, 0
	for i := range 60 {
		ctx, cancel := context.WithCancel(e.ctx)
		s := a.change(note("000", fmt.Sprint("try ", i)), note(fmt.Sprint("new", i), "x"))
		s.KV = []storage.KVWrite{{Key: "try", Value: fmt.Append(nil, i)}}
		started := make(chan struct{})
		go func() {
			<-started
			for range i * i * 20 { // from at once to a while later
				_ = ctx.Err()
			}
			cancel()
		}()
		_, newest, err := e.Events.Bounds(e.ctx)
		e.ok(err, "Bounds")
		close(started)
		_, applyErr := e.Repos.Apply(ctx, a.did, &s.Change)
		cancel()
		head, err := e.Repos.Head(e.ctx, a.did)
		e.ok(err, "Head")
		took := head == s.Head
		if !took && head != a.head {
			e.Fatalf("the head is neither the old nor the new one")
		}
		if applyErr == nil && !took {
			e.Fatalf("an acknowledged step was lost")
		} else if applyErr != nil {
			e.fails(applyErr, context.Canceled, "a canceled Apply")
		}
		e.same(len(e.events(newest)) == 1, took, "the step's event is there")
		e.same(e.value(a.did, "try") == fmt.Sprintf("%q", fmt.Sprint(i)), took, "the step's key is there")
		e.view(a.did, func(r storage.Reader) {
			_, err := r.Record(e.ctx, path(fmt.Sprint("new", i)))
			e.same(err == nil, took, "the step's record is there")
		})
		if took {
			a.took(s)
			done++
		} else {
			undone++
		}
	}
	e.Logf("%d steps took effect, %d did not", done, undone)
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}
