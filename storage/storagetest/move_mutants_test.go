package storagetest

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// hookMove replaces single methods of a store that can be moved.
type hookMove struct {
	storage.Repos
	storage.Movable
	storage.Loader
	apply      func(context.Context, syntax.DID, *storage.Change) (int64, error)
	watch      func(context.Context, string) error
	shut       func(context.Context, string) error
	watched    func(context.Context) (storage.Watch, error)
	settle     func(context.Context, []storage.Changed) error
	touch      func(context.Context, syntax.DID) error
	load       func(context.Context, syntax.DID, *storage.Load) error
	unload     func(context.Context, syntax.DID) error
	loadEvents func(context.Context, *storage.LoadEvents) error
}

func (h hookMove) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if h.apply != nil {
		return h.apply(ctx, did, c)
	}
	return h.Repos.Apply(ctx, did, c)
}

func (h hookMove) Watch(ctx context.Context, note string) error {
	if h.watch != nil {
		return h.watch(ctx, note)
	}
	return h.Movable.Watch(ctx, note)
}

func (h hookMove) Shut(ctx context.Context, note string) error {
	if h.shut != nil {
		return h.shut(ctx, note)
	}
	return h.Movable.Shut(ctx, note)
}

func (h hookMove) Watched(ctx context.Context) (storage.Watch, error) {
	if h.watched != nil {
		return h.watched(ctx)
	}
	return h.Movable.Watched(ctx)
}

func (h hookMove) Settle(ctx context.Context, list []storage.Changed) error {
	if h.settle != nil {
		return h.settle(ctx, list)
	}
	return h.Movable.Settle(ctx, list)
}

func (h hookMove) Touch(ctx context.Context, did syntax.DID) error {
	if h.touch != nil {
		return h.touch(ctx, did)
	}
	return h.Movable.Touch(ctx, did)
}

func (h hookMove) Load(ctx context.Context, did syntax.DID, l *storage.Load) error {
	if h.load != nil {
		return h.load(ctx, did, l)
	}
	return h.Loader.Load(ctx, did, l)
}

func (h hookMove) Unload(ctx context.Context, did syntax.DID) error {
	if h.unload != nil {
		return h.unload(ctx, did)
	}
	return h.Loader.Unload(ctx, did)
}

func (h hookMove) LoadEvents(ctx context.Context, l *storage.LoadEvents) error {
	if h.loadEvents != nil {
		return h.loadEvents(ctx, l)
	}
	return h.Loader.LoadEvents(ctx, l)
}

// onMove makes a mutant of the abilities.
func onMove(name string, change func(r hookMove) hookMove, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := hookMove{Repos: s.Repos, Movable: s.Repos.(storage.Movable), Loader: s.Repos.(storage.Loader)}
		s.Repos = change(h)
		return s
	}}
}

func moveMutants() []mutant {
	const late = 10 * time.Millisecond
	return []mutant{
		onMove("settles notes that are newer", func(h hookMove) hookMove {
			inner := h.Movable
			h.settle = func(ctx context.Context, list []storage.Changed) error {
				all, err := collect(inner.Changed(ctx))
				if err != nil {
					return err
				}
				return inner.Settle(ctx, slices.DeleteFunc(all, func(c storage.Changed) bool {
					return !slices.ContainsFunc(list, func(x storage.Changed) bool { return x.Name == c.Name })
				}))
			}
			return h
		}, "Move/Settle"),
		onMove("takes no notice of blobs", func(h hookMove) hookMove {
			h.touch = func(context.Context, syntax.DID) error { return nil }
			return h
		}, "Move/Notes", "Move/Shut"),
		{"shuts all but keys", []string{"Move/Shut", "Move/ShutElsewhere", "Move/Reopen"}, func(s storage.Store, _ int) storage.Store {
			s.KV = s.Repos.(storage.Movable).Moving()
			return s
		}},
		onMove("is shut for one process only", func(h hookMove) hookMove {
			var shut atomic.Bool
			h.shut = func(context.Context, string) error { shut.Store(true); return nil }
			h.apply = func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
				if shut.Load() {
					return 0, storage.ErrMoved
				}
				return h.Repos.Apply(ctx, did, c)
			}
			return h
		}, "Move/ShutElsewhere"),
		onMove("is shut before writers have ended", func(h hookMove) hookMove {
			inner := h.Movable
			h.shut = func(ctx context.Context, note string) error {
				time.AfterFunc(late, func() { inner.Shut(ctx, note) })
				return nil
			}
			return h
		}, "Move/ShutRace"),
		onMove("is watched before writers have ended", func(h hookMove) hookMove {
			inner := h.Movable
			h.watch = func(ctx context.Context, note string) error {
				time.AfterFunc(10*late, func() { inner.Watch(ctx, note) })
				return nil
			}
			return h
		}, "Move/WatchRace"),
		{"forgets that it is watched", []string{"Move/Reopen"}, func(s storage.Store, opened int) storage.Store {
			if opened > 0 {
				s.Repos.(storage.Movable).Unwatch(context.Background())
			}
			return s
		}},
		onMove("loads records with the revision of the head", func(h hookMove) hookMove {
			h.load = func(ctx context.Context, did syntax.DID, l *storage.Load) error {
				x := *l
				x.Records = slices.Clone(l.Records)
				for i := range x.Records {
					x.Records[i].Rev = "3zzzzzzzzzzzz"
				}
				return h.Loader.Load(ctx, did, &x)
			}
			return h
		}, "Load/Whole", "Load/Again"),
		onMove("unloads nothing", func(h hookMove) hookMove {
			h.unload = func(context.Context, syntax.DID) error { return nil }
			return h
		}, "Load/Again"),
		onMove("numbers from what it has", func(h hookMove) hookMove {
			h.loadEvents = func(ctx context.Context, l *storage.LoadEvents) error {
				return h.Loader.LoadEvents(ctx, &storage.LoadEvents{Events: l.Events, Drop: l.Drop, Oldest: l.Oldest})
			}
			return h
		}, "Load/Numbers"),
	}
}

// Every law of moving has a mutant that breaks it, and the law's check fails on it.
func TestMoveMutants(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range moveMutants() {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			for _, law := range m.laws {
				i := slices.IndexFunc(moveChecks(), func(c check) bool { return c.name == law })
				if log, skipped := fails(t, moveChecks()[i], keptMemory(m.wrap)); len(log) == 0 && !skipped {
					t.Errorf("%s does not notice", law)
				}
				caught[law] = true
			}
		})
	}
	for _, c := range moveChecks() {
		if !caught[c.name] {
			t.Errorf("no mutant breaks %s", c.name)
		}
	}
}

// lazyStaged lists promoted blobs with those that are staged.
type lazyStaged struct{ storage.Blobs }

func (b lazyStaged) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		for _, seq := range []iter.Seq2[storage.BlobInfo, error]{b.Blobs.(storage.StagedBlobs).Staged(ctx, did), b.List(ctx, did, cid.Undef)} {
			for info, err := range seq {
				if !yield(info, err) {
					return
				}
			}
		}
	}
}
