package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// copyOf is what somebody holds of a repository: all blocks, by CID.
type copyOf map[cid.Cid][]byte

// since is what a host exports since a revision.
func since(t testing.TB, h *repo.Host, rev syntax.TID) (root cid.Cid, blocks copyOf) {
	t.Helper()
	var file bytes.Buffer
	if err := h.Export(ctx, alice, rev, &file); err != nil {
		t.Fatalf("since %q: %v", rev, err)
	}
	roots, list, err := car.ReadAll(file.Bytes(), car.Limits{})
	if err != nil || len(roots) != 1 {
		t.Fatalf("since %q: %d roots, %v", rev, len(roots), err)
	}
	blocks = make(copyOf)
	for _, b := range list {
		blocks[b.CID] = b.Data
	}
	return roots[0], blocks
}

// rebuild puts a repository together from what somebody holds and what was exported, with nothing
// else, and verifies all of it.
func rebuild(t testing.TB, k *keys, root cid.Cid, parts ...copyOf) (map[string]string, error) {
	t.Helper()
	all := make(mst.BlockMap)
	for _, p := range parts {
		for c, data := range p {
			all[c] = data
		}
	}
	block, err := all.Block(root)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	c, err := commit.Parse(block)
	if err == nil {
		err = c.Verify(k.key(alice).PublicKey())
	}
	if err != nil {
		return nil, err
	}
	tree, err := mst.Load(all, c.Data, mst.Limits{})
	if err != nil {
		return nil, fmt.Errorf("tree: %w", err)
	}
	got := make(map[string]string)
	for e, err := range tree.Walk("") {
		if err != nil {
			return nil, err
		}
		if _, err := all.Block(e.Value); err != nil {
			return nil, fmt.Errorf("record %s: %w", e.Key, err)
		}
		got[e.Key] = e.Value.String()
	}
	return got, nil
}

// A random history, with imports, silent commits and a log that was trimmed: whoever holds the
// repository as it was at any revision can put the present one together.
func TestSinceEveryRevision(t *testing.T) {
	allStores(t, func(t *testing.T, store storage.Store) {
		if testing.Short() && !strings.HasSuffix(t.Name(), "/memory") {
			t.Skip("one backend will do with -short")
		}
		rng := rand.New(rand.NewPCG(5, 6))
		k := &keys{}
		clock := time.Now() // no timing: revisions come from the real clock, and the fake one is never behind it
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, Now: func() time.Time { return clock }})
		create(t, h, alice)
		type past struct {
			rev  syntax.TID
			held copyOf
		}
		var history []past
		want := make(map[string]string)
		exact := 0
		for step := range 70 {
			clock = clock.Add(time.Second)
			switch {
			case step == 30: // moved here from elsewhere, with some records of its own
				var file bytes.Buffer
				if err := h.Export(ctx, alice, "", &file); err != nil {
					t.Fatal(err)
				}
				if _, err := h.Import(ctx, alice, &file, repo.Import{Sync: true, Unverified: true}); err != nil {
					t.Fatal(err)
				}
			case step == 50: // the first part of the log is no longer kept
				if err := store.Events.Trim(ctx, clock.Add(-10*time.Second)); err != nil {
					t.Fatal(err)
				}
			case step%25 == 24: // down to nothing
				var b repo.Batch
				for path := range want {
					b.Writes = append(b.Writes, one(repo.Delete, syntax.RecordKey(path[strings.Index(path, "/")+1:]), nil, nil).Writes...)
				}
				apply(t, h, alice, want, b)
			default:
				b := repo.Batch{Silent: step == 40}
				for _, i := range rng.Perm(150)[:1+rng.IntN(12)] {
					key, text := keyN(i), fmt.Sprint("text ", rng.IntN(20)) // many have the same text
					if _, there := want[string(notes)+"/"+string(key)]; there && rng.IntN(2) == 0 {
						b.Writes = append(b.Writes, one(repo.Delete, key, nil, nil).Writes...)
					} else {
						b.Writes = append(b.Writes, one(repo.Put, key, note(t, text), nil).Writes...)
					}
				}
				apply(t, h, alice, want, b)
			}
			head, err := h.Head(ctx, alice)
			if err != nil {
				t.Fatal(err)
			}
			_, now := since(t, h, "")
			for _, p := range history {
				root, part := since(t, h, p.rev)
				got, err := rebuild(t, k, root, p.held, part)
				if err != nil || root != head.Commit || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("step %d, since %s: %d records, want %d; %v", step, p.rev, len(got), len(want), err)
				}
				// If the log covers it, there is nothing in it but what was not held, or was
				// written since.
				spare := 0
				for c := range part {
					if p.held[c] != nil {
						spare++
					}
				}
				if spare <= 12 && len(now) > 30 {
					exact++
				}
			}
			history = append(history, past{head.Rev, now})
			if len(history) > 14 { // any, but for the newest ones
				at := rng.IntN(10)
				history = slices.Delete(history, at, at+1)
			}
			// The present revision, and some that never were.
			if _, part := since(t, h, head.Rev); len(part) != 0 {
				t.Fatalf("%d blocks since the head", len(part))
			}
			strange := []syntax.TID{"2222222222222", "jzzzzzzzzzzzz", syntax.NewTID(head.Rev.Time().Add(time.Hour), 1)}
			if step != 30 && step != 40 && step < 50 {
				strange = append(strange, syntax.NewTID(head.Rev.Time().Add(-time.Microsecond), 5))
			}
			for _, rev := range strange {
				root, part := since(t, h, rev)
				if got, err := rebuild(t, k, root, part); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("step %d, since %s, which never was: %v", step, rev, err)
				}
			}
		}
		if exact < 100 {
			t.Errorf("only %d exports were small", exact)
		}
	})
}

// logOf is an event log whose events of an account are as a test wants them.
type logOf struct {
	storage.Events
	of func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error]
}

func (l logOf) OfAccount(_ context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return l.of(l.Events.(storage.AccountEvents), did)
}

// Logs that are without end, change while they are read, or say what is not so: the file is larger
// then, but still enough, and the work is bounded.
func TestSinceOnHostileLogs(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		want := fill(t, h, alice, 50)
		old, _ := h.Head(ctx, alice)
		_, held := since(t, h, "")
		for i := range 20 {
			apply(t, h, alice, want, one(repo.Put, keyN(40+i), note(t, fmt.Sprint("again ", i)), nil))
			apply(t, h, alice, want, one(repo.Delete, keyN(i), nil, nil))
		}
		read := 0
		real := func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error] {
			return log.OfAccount(ctx, did)
		}
		forge := func(change func(e *commit.Event)) func(storage.AccountEvents, syntax.DID) iter.Seq2[storage.Event, error] {
			return func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for ev, err := range log.OfAccount(ctx, did) {
						if ev.Kind == commit.KindCommit {
							e, err := commit.DecodeEvent(ev.Payload)
							if err != nil {
								t.Error(err)
							}
							change(e)
							ev.Payload = e.Payload()
						}
						if !yield(ev, err) {
							return
						}
					}
				}
			}
		}
		for name, of := range map[string]func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error]{
			"as it is": real,
			"without end": func(storage.AccountEvents, syntax.DID) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for yield(storage.Event{DID: alice, Kind: commit.KindIdentity, Payload: []byte("\xa0")}, nil) {
						read++
					}
				}
			},
			"of large events": func(storage.AccountEvents, syntax.DID) iter.Seq2[storage.Event, error] {
				large := make([]byte, 2<<20)
				return func(yield func(storage.Event, error) bool) {
					for yield(storage.Event{DID: alice, Kind: commit.KindIdentity, Payload: large}, nil) {
						read += 200
					}
				}
			},
			"another host's events": func(storage.AccountEvents, syntax.DID) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					yield(storage.Event{DID: alice, Kind: commit.KindCommit, Payload: []byte("\xa0")}, nil)
				}
			},
			"empty": func(storage.AccountEvents, syntax.DID) iter.Seq2[storage.Event, error] {
				return func(func(storage.Event, error) bool) {}
			},
			"other values before": forge(func(e *commit.Event) {
				for i := range e.Ops {
					if e.Ops[i].Prev.Defined() {
						e.Ops[i].Prev = e.Commit
					}
				}
			}),
			"an operation less":     forge(func(e *commit.Event) { e.Ops = nil }),
			"another root before":   forge(func(e *commit.Event) { e.PrevData = e.Commit }),
			"another newest commit": forge(func(e *commit.Event) { e.Commit = e.PrevData }),
			"changing while it is read": func(log storage.AccountEvents, did syntax.DID) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for ev, err := range log.OfAccount(ctx, did) {
						if !yield(ev, err) {
							break
						}
					}
					read += 100
					apply(t, h, alice, want, one(repo.Put, "busy", note(t, fmt.Sprint(read)), nil))
				}
			},
		} {
			read = 0
			s := store
			s.Events = logOf{store.Events, of}
			other := repo.NewHost(repo.Config{Store: s, Signer: k.signer})
			root, part := since(t, other, old.Rev)
			if got, err := rebuild(t, k, root, held, part); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %d records, want %d: %v", name, len(got), len(want), err)
			}
			if read > 5000 {
				t.Errorf("%s: %d events were read", name, read)
			}
			if name == "changing while it is read" && read != 400 {
				t.Errorf("the log was read %d times, want 4", read/100)
			}
		}
	})
}

// A DID whose account was deleted and made again: whoever holds what there was before, or something
// of another account, gets all that the new repository needs, whether or not the log still covers
// it.
func TestSinceOfAnAccountMadeAgain(t *testing.T) {
	for _, trimmed := range []bool{false, true} {
		allStores(t, func(t *testing.T, store storage.Store) {
			k := &keys{}
			clock := time.Now()
			h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, Now: func() time.Time { return clock }})
			type past struct {
				rev  syntax.TID
				held copyOf
			}
			var history []past
			fill := func(did syntax.DID, from, to int) map[string]string {
				create(t, h, did)
				want := make(map[string]string)
				for i := from; i < to; i++ {
					clock = clock.Add(time.Second)
					apply(t, h, did, want, one(repo.Create, keyN(i), note(t, fmt.Sprint("text ", i%7)), nil))
					if head, err := h.Head(ctx, did); err != nil {
						t.Fatal(err)
					} else if did == alice && i%5 == 0 {
						_, held := since(t, h, "")
						history = append(history, past{head.Rev, held})
					}
				}
				return want
			}
			fill(alice, 0, 30)
			if err := h.Delete(ctx, alice); err != nil {
				t.Fatal(err)
			}
			clock = clock.Add(time.Second)
			fill(bob, 0, 5)
			of, err := h.Head(ctx, bob)
			if err != nil {
				t.Fatal(err)
			}
			want := fill(alice, 15, 45)
			if trimmed {
				if err := store.Events.Trim(ctx, clock.Add(-8*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			history = append(history, past{of.Rev, nil}, past{syntax.NewTID(clock.Add(-200*time.Hour), 1), nil}, past{syntax.NewTID(clock.Add(time.Hour), 1), nil})
			for _, p := range history {
				root, part := since(t, h, p.rev)
				if got, err := rebuild(t, k, root, p.held, part); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("trimmed: %v, since %s: %d records, want %d; %v", trimmed, p.rev, len(got), len(want), err)
				}
			}
		})
	}
}
