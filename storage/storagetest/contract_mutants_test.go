package storagetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// reweighted makes a mutant that changes the weight of every event that is read.
func reweighted(name string, weight func(ev storage.Event) int, laws ...string) mutant {
	return onEvents(name, func(events storage.Events) hookEvents {
		return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
			return func(yield func(storage.Event, error) bool) {
				for ev, err := range events.Since(ctx, seq) {
					ev.Weight = weight(ev)
					if !yield(ev, err) {
						return
					}
				}
			}
		}}
	}, laws...)
}

func weightMutants() []mutant {
	lightened := func(list []storage.Event) []storage.Event {
		list = slices.Clone(list)
		for i := range list {
			list[i].Weight = min(1, list[i].Weight)
		}
		return list
	}
	clamped := func(list []storage.Event) []storage.Event {
		list = slices.Clone(list)
		for i := range list {
			list[i].Weight = min(max(0, list[i].Weight), storage.MaxWeight)
		}
		return list
	}
	return []mutant{
		reweighted("forgets weights", func(storage.Event) int { return 1 }, "Events/Weight", "Events/WeightReopen", "History/"),
		reweighted("reads light events without a weight", func(ev storage.Event) int {
			if ev.Weight == 1 {
				return 0
			}
			return ev.Weight
		}, "Events/Weight"),
		onApply("gives each event one number", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.Events = lightened(c.Events)
			return r.Apply(ctx, did, &c)
		}, "Events/Weight", "Events/WeightReopen"),
		onRepos("gives the event of a deletion one number", func(r storage.Repos) hookRepos {
			return hookRepos{delete: func(ctx context.Context, did syntax.DID, list []storage.Event) (int64, error) {
				return r.Delete(ctx, did, lightened(list))
			}}
		}, "Events/Weight"),
		onEvents("numbers an event by its first number", func(events storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for ev, err := range events.Since(ctx, seq) {
						if ev.First() <= seq && err == nil {
							continue
						}
						if !yield(ev, err) {
							return
						}
					}
				}
			}}
		}, "Events/WeightSince"),
		onApply("takes any weight", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.Events = clamped(c.Events)
			return r.Apply(ctx, did, &c)
		}, "Events/WeightInvalid", "History/"),
		onRepos("takes any weight in Delete", func(r storage.Repos) hookRepos {
			return hookRepos{delete: func(ctx context.Context, did syntax.DID, list []storage.Event) (int64, error) {
				return r.Delete(ctx, did, clamped(list))
			}}
		}, "Events/WeightInvalid"),
		later(reweighted("forgets weights when it is opened again", func(storage.Event) int { return 1 }, "Events/WeightReopen")),
	}
}

func isHeadless(ctx context.Context, r storage.Repos, did syntax.DID) (keys []storage.KVPair, ok bool) {
	_ = r.View(ctx, did, func(r storage.Reader) (err error) {
		ok = r.Head() == storage.Head{}
		keys, err = collect(r.Keys(ctx, storage.Range{}))
		return err
	})
	return keys, ok
}

func headlessMutants() []mutant {
	hidden := func(r storage.Repos) hookRepos {
		return hookRepos{list: func(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
			return func(yield func(storage.RepoInfo, error) bool) {
				for info, err := range r.List(ctx, after) {
					if err == nil && info.Head == (storage.Head{}) {
						continue
					}
					if !yield(info, err) {
						return
					}
				}
			}
		}}
	}
	return []mutant{
		onRepos("does not list accounts without a head", hidden, "Repos/WithoutHead", "Repos/WithoutHeadReopen", "History/"),
		onRepos("has a zero head for accounts without one", func(r storage.Repos) hookRepos {
			return hookRepos{head: func(ctx context.Context, did syntax.DID) (storage.Head, error) {
				h, err := r.Head(ctx, did)
				if _, ok := isHeadless(ctx, r, did); ok {
					err = nil
				}
				return h, err
			}}
		}, "Repos/WithoutHead", "Repos/WithoutHeadDelete"),
		onApply("refuses changes without a head", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Head == (storage.Head{}) {
				return 0, storage.ErrNotFound
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHead", "Repos/WithoutHeadInvalid"),
		onApply("makes an account of nothing", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Head == (storage.Head{}) && c.Prev == c.Head && len(c.KV) == 0 && len(c.Events) == 0 {
				c.KV = []storage.KVWrite{{Key: "made"}}
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHeadInvalid"),
		onApply("takes records without a head", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Head == (storage.Head{}) {
				c.Records, c.Commit = nil, nil
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHeadInvalid"),
		onApply("begins a repository with no keys", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if keys, ok := isHeadless(ctx, r, did); ok && c.Head != (storage.Head{}) && len(c.Checks) == 0 {
				c.KV = slices.Clone(c.KV)
				for _, p := range keys {
					c.KV = append(c.KV, storage.KVWrite{Key: p.Key})
				}
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHeadReopen"),
		onApply("does not look at the checks of a first commit", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if _, ok := isHeadless(ctx, r, did); ok && c.Head != (storage.Head{}) {
				c.Checks = nil
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHeadBecomesRepo"),
		onRepos("cannot delete an account without a head", func(r storage.Repos) hookRepos {
			return hookRepos{delete: func(ctx context.Context, did syntax.DID, list []storage.Event) (int64, error) {
				if _, err := r.Head(ctx, did); err != nil {
					return 0, err
				}
				return r.Delete(ctx, did, list)
			}}
		}, "Repos/WithoutHeadDelete"),
		onApply("looks at checks too early", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Head != (storage.Head{}) || c.Prev != c.Head {
				return r.Apply(ctx, did, &c)
			}
			err := r.View(ctx, did, func(r storage.Reader) error {
				for _, check := range c.Checks {
					if v, err := r.Get(ctx, check.Key); (err == nil) != (check.Value != nil) || string(v) != string(check.Value) {
						return storage.ErrConflict
					}
				}
				return nil
			})
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return 0, err
			}
			time.Sleep(3 * time.Millisecond)
			c.Checks = nil
			return r.Apply(ctx, did, &c)
		}, "Repos/WithoutHeadRace"),
		later(onRepos("loses accounts without a head when it is opened again", hidden, "Repos/WithoutHeadReopen")),
	}
}
