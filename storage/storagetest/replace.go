package storagetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
)

// replaceChecks are the laws of what Replace does before it is done.
func replaceChecks() []check {
	return []check{
		{name: "Replace/Missing", law: replaceMissing},
		{name: "Replace/HoldsNothing", law: replaceHoldsNothing},
		{name: "Replace/Unseen", law: replaceUnseen},
		{name: "Replace/Conflict", law: replaceConflict},
		{name: "Replace/Buffers", law: replaceBuffers, needs: streaming},
		{name: "Replace/Kill", law: killReplace, needs: persistence},
	}
}

// manyNotes are more records than a backend stages at once, that refer to some blobs.
func manyNotes(n int, text string, blobs ...storage.BlobInfo) (edits []edit) {
	for i := range n {
		edits = append(edits, note(fmt.Sprintf("many%06d", i), fmt.Sprint(text, " ", i), blobs...))
	}
	return edits
}

// stagedNotes is how many records are staged where a law looks at what is staged.
const stagedNotes = 2500

// replaceMissing: a replacement from a head that a missing repository cannot have finds nothing.
func replaceMissing(e *env) {
	e.newRepo(notes(1)...)
	a := e.account()
	e.unchanged("a Replace of a missing repository", func() {
		records, s := a.replacement(note("x", "x"))
		s.Prev = storage.Head{Commit: s.Head.Commit, Data: s.Head.Data, Rev: "2222222222222"}
		_, err := e.Repos.Replace(e.ctx, a.did, stream(records, nil), func() (*storage.Change, error) { return &s.Change, nil })
		e.fails(err, storage.ErrNotFound, "Replace with a Prev")
	})
}

// replaceHoldsNothing: the functions that Replace calls may call all methods, and so may others
// meanwhile.
func replaceHoldsNothing(e *env) {
	a, other := e.newRepo(notes(3)...), e.newRepo(notes(1)...)
	records, s := a.replacement(manyNotes(stagedNotes, "new")...)
	calls := func(when string) {
		e.within("calls "+when, func() {
			st := other.change(note("x", when))
			_, err := e.Repos.Apply(e.ctx, other.did, &st.Change)
			if err != nil {
				e.Errorf("Apply to another account %s: %v", when, err)
				return
			}
			other.took(st)
			made := e.account()
			if _, err := e.Repos.Apply(e.ctx, made.did, &made.change(notes(2)...).Change); err != nil {
				e.Errorf("creation of another account %s: %v", when, err)
			}
			if _, err := e.Repos.Delete(e.ctx, made.did, nil); err != nil {
				e.Errorf("Delete of another account %s: %v", when, err)
			}
			if head, err := e.Repos.Head(e.ctx, a.did); err != nil || head != a.head {
				e.Errorf("Head %s: %v, %v", when, head, err)
			}
			err = e.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
				_, err := r.Record(e.ctx, path("000"))
				return err
			})
			if err != nil {
				e.Errorf("View %s: %v", when, err)
			}
			if _, err := collect(e.Events.Since(e.ctx, 0)); err != nil {
				e.Errorf("Since %s: %v", when, err)
			}
		})
	}
	_, err := e.Repos.Replace(e.ctx, a.did, func(yield func(storage.RecordChange, error) bool) {
		for i, r := range records {
			if i%(len(records)/3) == 1 {
				calls(fmt.Sprint("before record ", i))
			}
			if !yield(r, nil) {
				return
			}
		}
	}, func() (*storage.Change, error) {
		calls("in the final function")
		return &s.Change, nil
	})
	e.ok(err, "Replace")
	a.took(s)
	e.hasRecords(a, manyNotes(stagedNotes, "new")...)
}

// replaceUnseen: nothing of the new records shows before the step, nor after one that failed.
func replaceUnseen(e *env) {
	b := blobInfos(2)
	a := e.newRepo(note("000", "old", b[0]), note("001", "old"))
	for _, x := range []*account{a, e.account()} {
		edits := manyNotes(stagedNotes, "staged", b[1])
		records, s := x.replacement(edits...)
		before := e.dump()
		look := func(when string) {
			e.sameLines(e.dump(), before, "the store "+when)
			if x != a {
				_, err := e.Repos.Head(e.ctx, x.did)
				e.fails(err, storage.ErrNotFound, "Head of a repository that is being made")
				return
			}
			e.view(x.did, func(r storage.Reader) {
				_, err := r.Record(e.ctx, records[0].Path)
				e.fails(err, storage.ErrNotFound, "a staged record "+when)
				_, err = r.RecordByCID(e.ctx, records[0].CID)
				e.fails(err, storage.ErrNotFound, "a staged record by its CID "+when)
				if ok, err := r.HasBlobRef(e.ctx, b[1].CID); ok || err != nil {
					e.Errorf("a staged reference shows %s (%v)", when, err)
				}
			})
		}
		broken := errors.New("broken")
		for _, fail := range []error{broken, nil} {
			_, err := e.Repos.Replace(e.ctx, x.did, func(yield func(storage.RecordChange, error) bool) {
				for i, r := range records {
					if i == len(records)-1 {
						look("while records are staged")
					}
					if !yield(r, nil) {
						return
					}
				}
				if fail != nil {
					yield(storage.RecordChange{}, fail)
				}
			}, func() (*storage.Change, error) {
				look("when all records are staged")
				return &s.Change, nil
			})
			if fail != nil {
				e.fails(err, broken, "Replace whose stream fails late")
				look("after a Replace that failed")
				continue
			}
			e.ok(err, "Replace")
		}
		x.took(s)
		e.hasRecords(x, edits...)
	}
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

// replaceConflict: what is written to the repository while records are staged is not lost.
func replaceConflict(e *env) {
	a := e.newRepo(notes(3)...)
	replace := func(x *account, during func()) error {
		records, s := x.replacement(manyNotes(stagedNotes, "new")...)
		_, err := e.Repos.Replace(e.ctx, x.did, func(yield func(storage.RecordChange, error) bool) {
			for i, r := range records {
				if i == len(records)/2 {
					during()
				}
				if !yield(r, nil) {
					return
				}
			}
		}, func() (*storage.Change, error) { return &s.Change, nil })
		return err
	}
	e.fails(replace(a, func() { e.write(a, note("000", "meanwhile")) }), storage.ErrConflict, "Replace of a repository that was written to meanwhile")
	e.hasRecords(a, note("000", "meanwhile"), notes(3)[1], notes(3)[2])
	e.fails(replace(a, func() { e.replace(a, manyNotes(stagedNotes, "inner")...) }), storage.ErrConflict, "Replace of a repository that was replaced meanwhile")
	e.hasRecords(a, manyNotes(stagedNotes, "inner")...)
	e.fails(replace(a, func() {
		_, err := e.Repos.Delete(e.ctx, a.did, []storage.Event{a.gone()})
		e.ok(err, "Delete")
	}), storage.ErrNotFound, "Replace of a repository that was deleted meanwhile")
	_, err := e.Repos.Head(e.ctx, a.did)
	e.fails(err, storage.ErrNotFound, "Head of a deleted repository")
	made := e.account()
	e.fails(replace(made, func() { e.write(made, note("000", "meanwhile")) }), storage.ErrExists, "Replace that makes a repository which was made meanwhile")
	e.hasRecords(made, note("000", "meanwhile"))
	e.ok(CheckStore(e.ctx, e.Store, Options{Key: keyOf}), "check of the whole store")
}

// replaceBuffers: Replace keeps few records in memory.
func replaceBuffers(e *env) {
	const records, size, most = 160, 800_000, 64 << 20
	if testing.Short() {
		e.Skip("writes a large repository")
	}
	a := e.newRepo(notes(1)...)
	heap := func() int64 {
		runtime.GC()
		var st runtime.MemStats
		runtime.ReadMemStats(&st)
		return int64(st.HeapAlloc)
	}
	broken := errors.New("broken")
	base, peak := heap(), int64(0)
	_, err := e.Repos.Replace(e.ctx, a.did, func(yield func(storage.RecordChange, error) bool) {
		for i := range records {
			// The data is garbage once it was yielded, unless the backend keeps it.
			text := note(fmt.Sprintf("%04d", i), strings.Repeat(string(rune('a'+i%26)), size))
			if !yield(storage.RecordChange{Path: text.path, CID: dag.Sum(dag.CBOR, text.record), Data: text.record}, nil) {
				return
			}
			if i%16 == 15 {
				peak = max(peak, heap()-base)
			}
		}
		yield(storage.RecordChange{}, broken)
	}, func() (*storage.Change, error) { return nil, broken })
	e.fails(err, broken, "Replace")
	if peak > most {
		e.Errorf("%d MB of memory for %d MB of records, at most %d", peak>>20, records*size>>20, most>>20)
	}
}

// killReplace: a process that dies while records are staged leaves the old state, which can be
// worked with.
func killReplace(e *env) {
	b := blobInfos(2)
	a := e.newRepo(note("000", "old", b[0]), note("001", "old"))
	none := e.account()
	for _, x := range []*account{a, none} {
		records, s := x.replacement(manyNotes(stagedNotes, "staged", b[1])...)
		broken := errors.New("broken")
		_, err := e.Repos.Replace(e.ctx, x.did, func(yield func(storage.RecordChange, error) bool) {
			for i, r := range records {
				if i == len(records)-1 {
					e.opensAsCopy("while records are staged")
				}
				if !yield(r, nil) {
					return
				}
			}
		}, func() (*storage.Change, error) {
			e.survives(x, s)
			return nil, broken
		})
		e.fails(err, broken, "Replace")
	}
}

// survives opens a copy of the store's files, and replaces the account's records there.
func (e *env) survives(a *account, s *step) {
	e.Helper()
	before := e.dump()
	dir := e.copyFiles()
	st, closeIt := e.backend.Open(e.TB, dir)
	copied := &env{TB: e.TB, Store: st, ctx: e.ctx, backend: e.backend, dir: dir, patience: e.patience}
	copied.sameLines(copied.dump(), before, "copy while records are staged")
	copied.ok(st.Events.Trim(e.ctx, start.Add(-time.Hour)), "Trim")
	again := *a
	copied.replace(&again, manyNotes(stagedNotes, "again")...)
	copied.hasRecords(&again, manyNotes(stagedNotes, "again")...)
	copied.write(&again, note("one", "more"))
	copied.ok(CheckStore(e.ctx, st, Options{Key: keyOf}), "check of the copy")
	e.ok(closeIt(), "close the copy")
}

// viewDepth is deeper than views are nested for good reasons.
const viewDepth = 100

// deepViews: views in views do not wait for each other for good.
func deepViews(e *env) {
	a := e.newRepo(notes(1)...)
	var nest func(depth int) error
	nest = func(depth int) error {
		return e.Repos.View(e.ctx, a.did, func(r storage.Reader) error {
			if _, err := r.Record(e.ctx, path("000")); err != nil || depth == 1 {
				return err
			}
			return nest(depth - 1)
		})
	}
	e.within("nested views", func() {
		if err := nest(viewDepth); err != nil && !errors.Is(err, storage.ErrBusy) {
			e.Errorf("%d nested views: %v", viewDepth, err)
		}
	})
	e.hasRecords(a, notes(1)...)
}

// ownedResults: bytes that were returned are the caller's, who may overwrite them.
func ownedResults(e *env) {
	b := blobInfos(1)
	a := e.newRepo(note("000", "x", b[0]), note("001", "y"))
	e.apply(a, a.aside(storage.KVWrite{Key: "a", Value: []byte("value")}))
	e.unchanged("overwriting what was returned", func() {
		e.view(a.did, func(r storage.Reader) {
			for range 2 {
				block, err := r.Commit(e.ctx)
				e.ok(err, "Commit")
				one, err := r.Record(e.ctx, path("000"))
				e.ok(err, "Record")
				byCID, err := r.RecordByCID(e.ctx, note("001", "y").cid())
				e.ok(err, "RecordByCID")
				value, err := r.Get(e.ctx, "a")
				e.ok(err, "Get")
				scribble(block, one.Data, byCID.Data, value)
				for rec, err := range r.Records(e.ctx, storage.Range{}) {
					e.ok(err, "Records")
					scribble(rec.Data)
				}
				for rec, err := range r.RecordsSince(e.ctx, "") {
					e.ok(err, "RecordsSince")
					scribble(rec.Data)
				}
				for p, err := range r.Keys(e.ctx, storage.Range{}) {
					e.ok(err, "Keys")
					scribble(p.Value)
				}
			}
			// The snapshot is what it was.
			rec, err := r.Record(e.ctx, path("000"))
			e.ok(err, "Record")
			e.same(rec.Data, note("000", "x", b[0]).record, "a record of a view, after overwriting what was returned")
			value, err := r.Get(e.ctx, "a")
			e.ok(err, "Get")
			e.same(string(value), "value", "a key of a view, after overwriting what was returned")
		})
		for _, ev := range e.events(0) {
			scribble(ev.Payload)
		}
	})
	// What a later step overwrites is read from what a view keeps of it.
	e.view(a.did, func(r storage.Reader) {
		e.write(a, note("000", "z"))
		for range 2 {
			rec, err := r.Record(e.ctx, path("000"))
			e.ok(err, "Record")
			e.same(rec.Data, note("000", "x", b[0]).record, "a record that was overwritten since")
			scribble(rec.Data)
		}
	})
}

// cid is the CID of the record that an edit writes.
func (x edit) cid() cid.Cid { return dag.Sum(dag.CBOR, x.record) }

// kvOwned: values that were returned are the caller's.
func kvOwned(e *env) {
	e.set("a", "value", "b", "other")
	e.unchanged("overwriting what was returned", func() {
		for range 2 {
			e.read(func(r storage.KVReader) {
				value, err := r.Get(e.ctx, "a")
				e.ok(err, "Get")
				scribble(value)
				for p, err := range r.Keys(e.ctx, storage.Range{}) {
					e.ok(err, "Keys")
					scribble(p.Value)
				}
				e.has(r, "a", "value")
			})
		}
	})
}

// kvNested: a function that reads may call all methods. One that writes may not write by other
// ways: such a call waits for its own end, and so ends with its context.
func kvNested(e *env) {
	e.set("a", "1")
	e.within("calls from within Read", func() {
		err := e.KV.Read(e.ctx, func(r storage.KVReader) error {
			e.has(r, "a", "1")
			if err := e.KV.Write(e.ctx, func(tx storage.KVTx) error { return tx.Set(e.ctx, "a", []byte("2"), time.Time{}) }); err != nil {
				return err
			}
			e.has(r, "a", "1")
			return e.KV.Read(e.ctx, func(r storage.KVReader) error {
				e.has(r, "a", "2")
				return nil
			})
		})
		if err != nil {
			e.Errorf("Read: %v", err)
		}
	})
	e.within("a Write within a Write", func() {
		err := e.KV.Write(e.ctx, func(tx storage.KVTx) error {
			ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
			defer cancel()
			err := e.KV.Write(ctx, func(storage.KVTx) error { return nil })
			if !errors.Is(err, context.DeadlineExceeded) {
				e.Errorf("a Write within a Write: %v", err)
			}
			return tx.Set(e.ctx, "b", []byte("3"), time.Time{})
		})
		if err != nil {
			e.Errorf("Write: %v", err)
		}
	})
	e.read(func(r storage.KVReader) {
		e.has(r, "a", "2")
		e.has(r, "b", "3")
	})
	e.set("a", "4")
	e.read(func(r storage.KVReader) { e.has(r, "a", "4") })
}
