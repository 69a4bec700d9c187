package storagetest

import (
	"context"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// hookSnapshots replaces how snapshots are taken.
type hookSnapshots struct {
	hookRepos
	take func(ctx context.Context) (storage.Snapshot, error)
}

func (h hookSnapshots) Snapshot(ctx context.Context) (storage.Snapshot, error) { return h.take(ctx) }

// hookSnapshot replaces the store, or the end, of a snapshot.
type hookSnapshot struct {
	storage.Snapshot
	store storage.Store
	close func() error
}

func (h hookSnapshot) Store() storage.Store { return h.store }
func (h hookSnapshot) Close() error {
	if h.close != nil {
		return h.close()
	}
	return h.Snapshot.Close()
}

// onSnapshot makes a mutant of snapshots, from the store and a good snapshot.
func onSnapshot(name string, change func(s storage.Store, snap storage.Snapshot) hookSnapshot, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		good := s
		s.Repos = hookSnapshots{hookRepos{Repos: good.Repos}, func(ctx context.Context) (storage.Snapshot, error) {
			snap, err := good.Repos.(storage.Snapshotter).Snapshot(ctx)
			if err != nil {
				return nil, err
			}
			h := change(good, snap)
			h.Snapshot = snap
			return h, nil
		}}
		return s
	}}
}

func snapshotMutants() []mutant {
	forever := func(s storage.Store) storage.Store {
		snap, err := s.Repos.(storage.Snapshotter).Snapshot(context.Background())
		if err != nil {
			panic(err) // memory takes any number of them
		}
		return snap.Store()
	}
	oneByOne := onSnapshot("reads a snapshot one function after another", func(_ storage.Store, snap storage.Snapshot) hookSnapshot {
		store := snap.Store()
		repos := store.Repos
		var turn sync.Mutex
		store.Repos = hookRepos{Repos: repos, view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
			turn.Lock()
			defer turn.Unlock()
			return repos.View(ctx, did, fn)
		}}
		return hookSnapshot{store: store}
	}, "Snapshot/Nested")
	held := mutant{"holds writers up while a snapshot is open", []string{"Snapshot/HoldsNobodyUp"}, func(s storage.Store, _ int) storage.Store {
		good := s
		var open sync.RWMutex
		s.Repos = hookSnapshots{hookRepos{Repos: good.Repos, apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
			open.Lock()
			defer open.Unlock()
			return good.Repos.Apply(ctx, did, c)
		}}, func(ctx context.Context) (storage.Snapshot, error) {
			snap, err := good.Repos.(storage.Snapshotter).Snapshot(ctx)
			if err != nil {
				return nil, err
			}
			open.RLock()
			var once sync.Once
			return hookSnapshot{snap, snap.Store(), func() error {
				once.Do(open.RUnlock)
				return snap.Close()
			}}, nil
		}}
		return s
	}}
	return []mutant{
		oneByOne, held,
		onSnapshot("shows the present in a snapshot", func(s storage.Store, snap storage.Snapshot) hookSnapshot {
			store := snap.Store()
			store.KV = s.KV
			return hookSnapshot{store: store}
		}, "Snapshot/Frozen", "Snapshot/ReadOnly", "Snapshot/Ends"),
		onSnapshot("takes the parts of a snapshot one after another", func(s storage.Store, snap storage.Snapshot) hookSnapshot {
			store := snap.Store()
			time.Sleep(20 * time.Millisecond)
			store.KV = forever(s).KV
			return hookSnapshot{store: store}
		}, "Snapshot/Agrees"),
		onSnapshot("lets a snapshot be written to", func(s storage.Store, snap storage.Snapshot) hookSnapshot {
			store := snap.Store()
			store.Repos = hookRepos{Repos: store.Repos, apply: s.Repos.Apply}
			return hookSnapshot{store: store}
		}, "Snapshot/ReadOnly"),
		onSnapshot("waits in a snapshot for what cannot come", func(s storage.Store, snap storage.Snapshot) hookSnapshot {
			store := snap.Store()
			store.Events = hookEvents{Events: store.Events, wait: s.Events.Wait}
			return hookSnapshot{store: store}
		}, "Snapshot/ReadOnly"),
		onSnapshot("reads a snapshot on after its end", func(s storage.Store, _ storage.Snapshot) hookSnapshot {
			return hookSnapshot{store: forever(s)}
		}, "Snapshot/Ends"),
	}
}
