package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// flakyWorld is a repository in a store of which one call fails, and those after it do not.
type flakyWorld struct {
	*repo.Host
	k             *keys
	good          storage.Store // the same store, without faults
	failAt, calls atomic.Int64
	blob, unused  cid.Cid
	old           syntax.TID // a revision before the last two
}

func newFlakyWorld(t *testing.T, k *keys, dir string) *flakyWorld {
	t.Helper()
	w := &flakyWorld{k: k, good: memoryStore()}
	before := func(string) error {
		if w.calls.Add(1) == w.failAt.Load() {
			return errInjected
		}
		return nil
	}
	after := func(method string) error {
		switch method {
		case "Reader.Records", "Reader.Keys", "Reader.BlobRefs", "Repos.List", "Blobs.List", "Blobs.Staged": // after each value
			return before(method)
		}
		return nil
	}
	store := storagetest.Faults{Before: before, After: after}.Wrap(storage.Store{Repos: w.good.Repos, Blobs: w.good.Blobs})
	store.Events, store.KV = logOf{w.good.Events, func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error] {
		if err := before("Events.OfAccount"); err != nil {
			return func(yield func(storage.Event, error) bool) { yield(storage.Event{}, err) }
		}
		return log.OfAccount(ctx, did)
	}}, w.good.KV
	h := repo.NewHost(repo.Config{Store: w.good, Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects()}})
	create(t, h, alice)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	upload := func(text string) cid.Cid {
		info, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader(text), 0)
		ok(err)
		return info.CID
	}
	w.blob, w.unused = upload("hello"), upload("nothing")
	ok(w.good.Blobs.Promote(ctx, alice, upload("left over"))) // a sweep finds it
	rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: w.blob, MIME: "text/plain", Size: 5}.Value()})
	must(t, h, batch(
		write(repo.Create, "a", like(t, "x", 1)),
		repo.Write{Action: repo.Create, Collection: notes, RKey: "blob", Record: rec},
		repo.Write{Action: repo.Create, Collection: notes, RKey: "one", Record: note(t, "1")},
	))
	must(t, h, batch(write(repo.Create, "b", like(t, "y", 1))))
	head, err := h.Head(ctx, alice)
	ok(err)
	w.old = head.Rev
	must(t, h, batch(write(repo.Create, "c", like(t, "z", 1))))
	_, err = h.Step(ctx, alice, func(s *repo.Step) error { s.Set("mine", []byte("1"), time.Time{}); return nil })
	ok(err)
	// Nothing is in memory.
	w.Host = repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects()}})
	return w
}

// run calls do with the failAt-th call to the store failing; 0: none.
func (w *flakyWorld) run(failAt int64, do func() (any, error)) (got any, calls int64, err error) {
	w.calls.Store(0)
	w.failAt.Store(failAt)
	got, err = do()
	calls = w.calls.Load()
	w.failAt.Store(0)
	return got, calls, err
}

// A call of the store that fails alone, before others that do not, is the error of whatever needed
// it: no answer is made up of what could be read.
func TestReadsOfWhichOneCallFails(t *testing.T) {
	k, dir := &keys{}, t.TempDir()
	w := newFlakyWorld(t, k, dir)
	export := func(rev syntax.TID) func(h *repo.Host) (any, error) {
		return func(h *repo.Host) (any, error) {
			var file bytes.Buffer
			err := h.Export(ctx, alice, rev, &file)
			return file.Len(), err
		}
	}
	page := func(list any, next cid.Cid, err error) (any, error) { return fmt.Sprint(list, next), err }
	proof := func(key syntax.RecordKey) func(h *repo.Host) (any, error) {
		return func(h *repo.Host) (any, error) {
			_, blocks, err := h.Proof(ctx, alice, notes, key)
			return len(blocks), err
		}
	}
	blocks := func(paths ...string) func(h *repo.Host) (any, error) {
		return func(h *repo.Host) (any, error) {
			head, err := w.good.Repos.Head(ctx, alice)
			if err != nil {
				return nil, err
			}
			cids := []cid.Cid{head.Commit}
			for _, path := range paths {
				if path == "" {
					cids = append(cids, head.Data)
					continue
				}
				for _, rec := range all(t, repo.NewHost(repo.Config{Store: w.good, Signer: k.signer, TempDir: dir}), alice) {
					if rec.Path == path {
						cids = append(cids, rec.CID)
					}
				}
			}
			var file bytes.Buffer
			missing, err := h.ExportBlocks(ctx, alice, cids, &file)
			return fmt.Sprint(file.Len(), missing), err
		}
	}
	for name, read := range map[string]func(h *repo.Host) (any, error){
		"Head":           func(h *repo.Host) (any, error) { return h.Head(ctx, alice) },
		"Record":         func(h *repo.Host) (any, error) { return h.Record(ctx, alice, notes, "one") },
		"List":           func(h *repo.Host) (any, error) { return h.List(ctx, alice, notes, repo.ListOptions{}) },
		"Collections":    func(h *repo.Host) (any, error) { return h.Collections(ctx, alice) },
		"Stats":          func(h *repo.Host) (any, error) { return h.Stats(ctx, alice) },
		"Blobs":          func(h *repo.Host) (any, error) { return page(h.Blobs(ctx, alice, cid.Undef, "", 10)) },
		"MissingBlobs":   func(h *repo.Host) (any, error) { return page(h.MissingBlobs(ctx, alice, cid.Undef, 10)) },
		"Find":           func(h *repo.Host) (any, error) { return h.Find(ctx, alice, "subject", string(likes)+" x", 10) },
		"SyncEvent":      func(h *repo.Host) (any, error) { ev, err := h.SyncEvent(ctx, alice); return ev.Kind, err },
		"Export":         export(""),
		"Export since":   export(w.old),
		"Export strange": export("2222222222222"),
		"Proof":          proof("one"),
		"Proof of none":  proof("none"),
		"ExportBlocks":   blocks("", string(notes)+"/one"),
		"OpenBlob": func(h *repo.Host) (any, error) {
			r, _, err := h.OpenBlob(ctx, alice, w.blob)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(r)
		},
		"Repos": func(h *repo.Host) (any, error) {
			var list []storage.RepoInfo
			for info, err := range h.Repos(ctx, "") {
				if err != nil {
					return nil, err
				}
				list = append(list, info)
			}
			return list, nil
		},
		"ListEach": func(h *repo.Host) (any, error) {
			n := 0
			err := h.View(ctx, alice, func(r storage.Reader) error {
				return repo.ListEach(ctx, r, notes, repo.ListOptions{}, func(storage.Cursor) error { n++; return nil })
			})
			return n, err
		},
	} {
		cold := func() (any, error) { // with nothing in memory
			return read(repo.NewHost(repo.Config{Store: w.Store(), Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects()}}))
		}
		warm := repo.NewHost(repo.Config{Store: w.good, Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects()}})
		if _, err := warm.Stats(ctx, alice); err != nil { // now its tree is in memory
			t.Fatal(err)
		}
		want, err := read(warm)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, calls, err := w.run(0, cold)
		if err != nil || calls == 0 || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %v, want %v; %v, %d calls", name, got, want, err, calls)
		}
		for n := range calls {
			if got, _, err := w.run(n+1, cold); !errors.Is(err, errInjected) {
				t.Errorf("%s, call %d of %d failed: %v, %v; want %v", name, n+1, calls, got, err, want)
			}
		}
	}
}

// Stats counts what a repository has, also when nothing of it is in memory.
func TestStatsOfAColdRepository(t *testing.T) {
	k, dir := &keys{}, t.TempDir()
	w := newFlakyWorld(t, k, dir)
	head, err := w.Head(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.Stats(ctx, alice)
	if err != nil || st.Head != head || st.Records != 5 || st.Nodes == 0 || st.Blobs != 1 || st.Missing != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if err := w.good.Blobs.DeleteAll(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if st, err := w.Stats(ctx, alice); err != nil || st.Blobs != 1 || st.Missing != 1 {
		t.Errorf("without its blob: %+v, %v", st, err)
	}
	if _, err := w.Stats(ctx, bob); !errors.Is(err, repo.ErrRepoNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}

// A change of which one call fails is refused with that call's error, and then the repository is as
// before or as it was to be; if there is no error, it is as it was to be. It can be read and written
// afterwards, by the same host.
func TestChangesOfWhichOneCallFails(t *testing.T) {
	k, dir := &keys{}, t.TempDir()
	export := file(madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{
		string(notes) + "/moved": block(record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: dag.Sum(dag.Raw, []byte("nothing")), MIME: "text/plain", Size: 7}.Value()})),
	}))
	changes := map[string]func(w *flakyWorld) error{
		"Create": func(w *flakyWorld) error {
			_, err := w.Create(ctx, bob, repo.Batch{Writes: []repo.Write{write(repo.Create, "a", like(t, "x", 1))}, Sync: true})
			return err
		},
		"Apply": func(w *flakyWorld) error {
			_, err := w.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{
				write(repo.Create, "new", like(t, "x", 2)), write(repo.Update, "b", like(t, "y", 3)), write(repo.Delete, "c", nil),
			}, Guard: func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
				v, err := r.Get(ctx, "mine")
				return []storage.KVCheck{{Key: "mine", Value: v}}, err
			}})
			return err
		},
		"Apply with a blob": func(w *flakyWorld) error {
			rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: w.unused, MIME: "text/plain", Size: 7}.Value()})
			_, err := w.Apply(ctx, alice, one(repo.Create, "more", rec, nil))
			return err
		},
		"Apply with a blob in use": func(w *flakyWorld) error {
			rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: w.blob, MIME: "text/plain", Size: 5}.Value()})
			_, err := w.Apply(ctx, alice, one(repo.Create, "more", rec, nil))
			return err
		},
		"Apply nothing": func(w *flakyWorld) error {
			_, err := w.Apply(ctx, alice, one(repo.Put, "one", note(t, "1"), nil))
			return err
		},
		"UploadBlob": func(w *flakyWorld) error {
			_, err := w.UploadBlob(ctx, alice, "image/png", strings.NewReader("picture"), 0)
			return err
		},
		"UploadBlob again": func(w *flakyWorld) error {
			_, err := w.UploadBlob(ctx, alice, "image/png", strings.NewReader("nothing"), 0)
			return err
		},
		"UploadBlob in use": func(w *flakyWorld) error {
			_, err := w.UploadBlob(ctx, alice, "image/png", strings.NewReader("hello"), 0)
			return err
		},
		"SweepBlobs": func(w *flakyWorld) error {
			n, err := w.SweepBlobs(ctx, alice, time.Now().Add(time.Hour))
			if err == nil && n != 1 {
				return fmt.Errorf("%d blobs were deleted", n)
			}
			return err
		},
		"Import": func(w *flakyWorld) error {
			_, err := w.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true, Sync: true, Guard: func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error) {
				v, err := r.Get(ctx, "mine")
				return []storage.KVCheck{{Key: "mine", Value: v}}, err
			}})
			return err
		},
		"Resign": func(w *flakyWorld) error { _, err := w.Resign(ctx, alice, repo.Resign{}); return err },
		"Step": func(w *flakyWorld) error {
			_, err := w.Step(ctx, alice, func(s *repo.Step) error {
				v, err := s.Get(ctx, "mine")
				s.Expect("mine", v)
				s.Set("mine", []byte("2"), time.Time{})
				s.Sync = true
				return err
			})
			return err
		},
		"Delete": func(w *flakyWorld) error { return w.Delete(ctx, alice, w.AccountEvent(alice, commit.Deleted)) },
		"Find what must be built": func(w *flakyWorld) error {
			all := repo.Index{Name: "all", Replaces: []string{"old/"}, Keys: func(c syntax.NSID, _ syntax.RecordKey, _ *data.Encoded) []string { return []string{string(c)} }}
			w.Host = repo.NewHost(repo.Config{Store: w.Store(), Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects(), all}})
			for limit, want := range []string{"[]", "[com.example.like/a]", "[com.example.like/a com.example.like/b]", "[com.example.like/a com.example.like/b com.example.like/c]", "[com.example.like/a com.example.like/b com.example.like/c]"} {
				paths, err := w.Find(ctx, alice, "all", string(likes), limit)
				if err != nil {
					return err
				}
				if fmt.Sprint(paths) != want {
					return fmt.Errorf("up to %d: %v", limit, paths)
				}
			}
			return nil
		},
		"DeleteStep of nobody": func(w *flakyWorld) error {
			err := w.DeleteStep(ctx, bob, func(*repo.Step) error { return nil })
			if errors.Is(err, repo.ErrRepoNotFound) {
				return nil
			} else if err == nil {
				return errors.New("it succeeds")
			}
			return err
		},
		"DeleteStep": func(w *flakyWorld) error {
			return w.DeleteStep(ctx, alice, func(s *repo.Step) error {
				_, err := s.Get(ctx, "mine")
				return err
			})
		},
	}
	// state is all there is of an account, but for its revision and its uploads.
	state := func(w *flakyWorld, did syntax.DID) string {
		h := repo.NewHost(repo.Config{Store: w.good, Signer: k.signer, TempDir: dir, Indexes: []repo.Index{subjects()}})
		stats, err := h.Stats(ctx, did) // which builds the tree from the records
		if errors.Is(err, repo.ErrRepoNotFound) {
			return "nothing"
		} else if err != nil {
			return err.Error()
		}
		out := fmt.Sprintln(stats.Head.Data, stats.Records, stats.Blobs, stats.Missing)
		for _, subject := range []string{"x", "y", "z"} {
			paths, err := h.Find(ctx, did, "subject", string(likes)+" "+subject, 10)
			out += fmt.Sprintln(paths, err)
		}
		if did == alice {
			out += get(t, w.good, "mine")
		}
		return out
	}
	states := func(w *flakyWorld) string { return state(w, alice) + state(w, bob) }
	blobs := func(w *flakyWorld) (out string) {
		for info, err := range w.good.Blobs.List(ctx, alice, cid.Undef) {
			_, kept, statErr := w.good.Blobs.Stat(ctx, alice, info.CID)
			out += fmt.Sprintln(info.CID, info.MIME, kept, err, statErr)
		}
		return out
	}
	events := func(w *flakyWorld) (list []string) {
		for ev, err := range w.good.Events.Since(ctx, 0) {
			list = append(list, fmt.Sprint(ev.DID, ev.Kind, err))
		}
		return list
	}
	for name, change := range changes {
		do := func(w *flakyWorld) func() (any, error) { return func() (any, error) { return nil, change(w) } }
		good := newFlakyWorld(t, k, dir)
		before := states(good)
		_, calls, err := good.run(0, do(good))
		if err != nil || calls == 0 {
			t.Fatalf("%s: %v, %d calls", name, err, calls)
		}
		after, blobsAfter, eventsAfter := states(good), blobs(good), events(good)
		for n := range calls {
			w := newFlakyWorld(t, k, dir)
			_, _, err := w.run(n+1, do(w))
			now := states(w)
			switch {
			case err != nil && !errors.Is(err, errInjected):
				t.Errorf("%s, call %d of %d failed: %v", name, n+1, calls, err)
			case err == nil && (now != after || blobs(w) != blobsAfter || fmt.Sprint(events(w)) != fmt.Sprint(eventsAfter)):
				t.Errorf("%s, call %d of %d failed, and no error: %s, want %s", name, n+1, calls, now, after)
			case now != before && now != after:
				t.Errorf("%s, call %d of %d failed: %s, which is neither %s nor %s", name, n+1, calls, now, before, after)
			}
			if strings.HasPrefix(name, "Delete") {
				continue
			}
			if _, err := w.Apply(ctx, alice, one(repo.Put, "later", note(t, "later"), nil)); err != nil {
				t.Errorf("%s, call %d of %d failed, and then a write: %v", name, n+1, calls, err)
			}
		}
	}
}

// losing is a store that has always been faster.
type losing struct {
	storage.Repos
	lost int
}

func (l *losing) Apply(context.Context, syntax.DID, *storage.Change) (int64, error) {
	l.lost++
	return 0, storage.ErrConflict
}

func (l *losing) Replace(_ context.Context, _ syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	l.lost++
	for _, err := range records {
		if err != nil {
			return 0, err
		}
	}
	if _, err := final(); err != nil {
		return 0, err
	}
	return 0, storage.ErrConflict
}

// Whoever loses every race tries again a few times, and is told in the end.
func TestRacesThatAreAlwaysLost(t *testing.T) {
	k := &keys{}
	store := memoryStore()
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
	create(t, h, alice)
	info, err := h.UploadBlob(ctx, alice, "text/plain", strings.NewReader("nothing"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Blobs.Promote(ctx, alice, info.CID); err != nil {
		t.Fatal(err)
	}
	export := file(madeRepo(t, alice, k.key(alice), aTime, nil))
	for name, c := range map[string]struct {
		do   func(h *repo.Host) error
		want int
	}{
		"Apply": {func(h *repo.Host) error {
			b := one(repo.Create, "a", note(t, "x"), nil)
			b.Guard = func(context.Context, storage.Reader) ([]storage.KVCheck, error) { return nil, nil }
			_, err := h.Apply(ctx, alice, b)
			return err
		}, 9},
		"Apply what nobody else could prevent": {func(h *repo.Host) error {
			_, err := h.Apply(ctx, alice, one(repo.Create, "a", note(t, "x"), nil))
			return err
		}, 1},
		"Find": {func(h *repo.Host) error {
			_, err := h.Find(ctx, alice, "subject", string(likes)+" x", 10)
			return err
		}, 9},
		"Import": {func(h *repo.Host) error {
			_, err := h.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true})
			return err
		}, 9},
		"SweepBlobs": {func(h *repo.Host) error {
			_, err := h.SweepBlobs(ctx, alice, time.Now().Add(time.Hour))
			return err
		}, 21},
	} {
		l := &losing{Repos: store.Repos}
		s := store
		s.Repos = l
		h := repo.NewHost(repo.Config{Store: s, Signer: k.signer, TempDir: t.TempDir(), Indexes: []repo.Index{subjects()}})
		if err := c.do(h); !errors.Is(err, storage.ErrConflict) || l.lost != c.want {
			t.Errorf("%s: %v after %d attempts, want %d", name, err, l.lost, c.want)
		}
	}
}

// forgetful is a store in which another process undoes each index that was built.
type forgetful struct{ storage.Repos }

func (f forgetful) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	seq, err := f.Repos.Apply(ctx, did, c)
	for _, w := range c.KV {
		if w.Key == "index/" && !bytes.HasPrefix(w.Value, []byte("building ")) && err == nil {
			_, err = f.Repos.Apply(ctx, did, &storage.Change{Prev: c.Head, Head: c.Head, KV: []storage.KVWrite{{Key: "index/"}}})
		}
	}
	return seq, err
}

// A look-up in an index that is undone as often as it is built ends with an error, not with no records.
func TestIndexThatIsUndoneAgainAndAgain(t *testing.T) {
	k, store := &keys{}, memoryStore()
	create(t, indexedHost(store, k), alice)
	must(t, indexedHost(store, k), batch(write(repo.Create, "a", like(t, "x", 1))))
	undone := store
	undone.Repos = forgetful{store.Repos}
	other := indexedHost(undone, k, tags())
	if paths, err := other.Find(ctx, alice, "tags", "none", 10); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("%v, %v", paths, err)
	}
}

// restless is a store in which another process is faster than each look at a head.
type restless struct {
	storage.Repos
	move func()
}

func (r restless) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	r.move()
	return r.Repos.Head(ctx, did)
}

// A batch that changes nothing is held against the present state; if that never stands still, the caller is
// told.
func TestNothingToDoInARepositoryThatNeverStandsStill(t *testing.T) {
	k, store := &keys{}, memoryStore()
	other := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
	create(t, other, alice)
	apply(t, other, alice, map[string]string{}, one(repo.Create, "one", note(t, "1"), nil))
	moves := 0
	s := store
	s.Repos = restless{store.Repos, func() {
		moves++
		apply(t, other, alice, map[string]string{}, one(repo.Put, "busy", note(t, fmt.Sprint(moves)), nil))
	}}
	h := repo.NewHost(repo.Config{Store: s, Signer: k.signer, TempDir: t.TempDir()})
	if _, err := h.Apply(ctx, alice, one(repo.Put, "one", note(t, "1"), nil)); !errors.Is(err, storage.ErrConflict) || moves != 9 {
		t.Errorf("%v after %d attempts", err, moves)
	}
}

// Blobs that an interrupted deletion has left are deleted when the account is deleted again.
func TestBlobsThatADeletionLeft(t *testing.T) {
	k, store := &keys{}, memoryStore()
	h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, TempDir: t.TempDir()})
	info, err := store.Blobs.Stage(ctx, alice, "text/plain", strings.NewReader("left"), storage.BlobLimits{})
	if err == nil {
		err = store.Blobs.Promote(ctx, alice, info.CID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteStep(ctx, alice, func(*repo.Step) error { return nil }); !errors.Is(err, repo.ErrRepoNotFound) {
		t.Error(err)
	}
	if _, _, err := store.Blobs.Stat(ctx, alice, info.CID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the blob is there: %v", err)
	}
}
