package storagetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// mutant is a backend that breaks laws. A law that ends with a slash stands for
// all checks of that kind, of which some must fail.
type mutant struct {
	name string // "the backend …"
	laws []string
	wrap func(s storage.Store, opened int) storage.Store
}

func mutants() []mutant {
	return slices.Concat(repoMutants(), replaceMutants(), viewMutants(), eventMutants(), weightMutants(), headlessMutants(), snapshotMutants(), kvMutants(), blobMutants())
}

// onRepos makes a mutant of Repos.
func onRepos(name string, change func(r storage.Repos) hookRepos, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := change(s.Repos)
		h.Repos = s.Repos
		s.Repos = h
		return s
	}}
}

// onApply makes a mutant of Apply.
func onApply(name string, apply func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error), laws ...string) mutant {
	return onRepos(name, func(r storage.Repos) hookRepos {
		return hookRepos{apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
			return apply(r, ctx, did, *c)
		}}
	}, laws...)
}

// onReader makes a mutant of the readers that View gives.
func onReader(name string, change func(r storage.Reader) hookReader, laws ...string) mutant {
	return onRepos(name, func(repos storage.Repos) hookRepos {
		return hookRepos{view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
			return repos.View(ctx, did, func(r storage.Reader) error {
				h := change(r)
				h.Reader = r
				return fn(h)
			})
		}}
	}, laws...)
}

func exists(ctx context.Context, r storage.Repos, did syntax.DID) bool {
	_, err := r.Head(ctx, did)
	return err == nil
}

// later wraps every other handle, from the second on.
func later(m mutant) mutant {
	wrap := m.wrap
	m.wrap = func(s storage.Store, opened int) storage.Store {
		if opened%2 == 0 {
			return s
		}
		return wrap(s, opened)
	}
	return m
}

func repoMutants() []mutant {
	return []mutant{
		onRepos("has a zero head for missing repositories", func(r storage.Repos) hookRepos {
			return hookRepos{head: func(ctx context.Context, did syntax.DID) (storage.Head, error) {
				h, err := r.Head(ctx, did)
				if errors.Is(err, storage.ErrNotFound) {
					err = nil
				}
				return h, err
			}}
		}, "Repos/Missing"),
		onApply("creates over an existing repository", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Prev == (storage.Head{}) && exists(ctx, r, did) {
				if _, err := r.Delete(ctx, did, nil); err != nil {
					return 0, err
				}
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/Create"),
		onApply("does not delete records", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.Records = slices.DeleteFunc(slices.Clone(c.Records), func(x storage.RecordChange) bool { return !x.CID.Defined() })
			return r.Apply(ctx, did, &c)
		}, "Repos/Apply", "History/0", "History/1"),
		onApply("compares revisions only", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if h, err := r.Head(ctx, did); err == nil && h.Rev == c.Prev.Rev {
				if c.Head == c.Prev {
					c.Head = h
				}
				c.Prev = h
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/CompareAndSwap"),
		onApply("carries out key-value writes backwards", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.KV = slices.Clone(c.KV)
			slices.Reverse(c.KV)
			return r.Apply(ctx, did, &c)
		}, "Repos/KVWrites", "History/"),
		onApply("takes an empty value for none", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.Checks = slices.Clone(c.Checks)
			for i := range c.Checks {
				if len(c.Checks[i].Value) == 0 {
					c.Checks[i].Value = nil
				}
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/KVChecks", "History/"),
		onApply("writes keys before it checks", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Prev != (storage.Head{}) {
				if _, err := r.Apply(ctx, did, &storage.Change{Prev: c.Prev, Head: c.Prev, KV: c.KV}); err != nil {
					return 0, err
				}
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/FailedStepIsNothing", "History/"),
		onApply("writes in two steps", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			if c.Prev != (storage.Head{}) {
				if _, err := r.Apply(context.WithoutCancel(ctx), did, &storage.Change{Prev: c.Prev, Head: c.Prev, KV: c.KV}); err != nil {
					return 0, err
				}
				time.Sleep(3 * time.Millisecond)
				c.KV = nil
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/CancelAnyTime"),
		mutant{"gives the newest number for a step without events", []string{"Repos/StepWithoutRecords"}, func(s storage.Store, _ int) storage.Store {
			inner := s
			s.Repos = hookRepos{Repos: inner.Repos, apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
				seq, err := inner.Repos.Apply(ctx, did, c)
				if err == nil && seq == 0 {
					_, seq, err = inner.Events.Bounds(ctx)
				}
				return seq, err
			}}
			return s
		}},
		onRepos("keeps the caller's bytes", func(r storage.Repos) hookRepos {
			kept := map[string][]byte{}
			return hookRepos{
				apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
					for _, x := range c.Records {
						kept[x.Path] = x.Data
					}
					return r.Apply(ctx, did, c)
				},
				view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
					return r.View(ctx, did, func(r storage.Reader) error {
						return fn(hookReader{Reader: r, record: func(ctx context.Context, path string) (storage.Record, error) {
							rec, err := r.Record(ctx, path)
							rec.Data = kept[path]
							return rec, err
						}})
					})
				},
			}
		}, "Repos/InputIsCopied"),
		onApply("cuts large payloads", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			c.Events = slices.Clone(c.Events)
			for i, ev := range c.Events {
				c.Events[i].Payload = ev.Payload[:min(len(ev.Payload), 1<<20)]
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/Large"),
		onApply("folds the case of DIDs", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			return r.Apply(ctx, syntax.DID(strings.ToLower(string(did))), &c)
		}, "Repos/Names"),
		onRepos("leaves old records when it replaces", func(r storage.Repos) hookRepos {
			return hookRepos{replace: func(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
				all, err := collect(records)
				if err != nil {
					return 0, err
				}
				c, err := final()
				if err != nil {
					return 0, err
				}
				with := *c
				with.Records = all
				return r.Apply(ctx, did, &with)
			}}
		}, "Repos/Replace"),
		onRepos("forgets references when it replaces", func(r storage.Repos) hookRepos {
			return hookRepos{replace: func(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
				return r.Replace(ctx, did, func(yield func(storage.RecordChange, error) bool) {
					for x, err := range records {
						x.Blobs = nil
						if !yield(x, err) {
							return
						}
					}
				}, final)
			}}
		}, "Repos/Replace", "History/"),
		onRepos("deletes the old records before the new ones have come", func(r storage.Repos) hookRepos {
			return hookRepos{replace: func(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
				seq, err := r.Replace(ctx, did, records, final)
				if err != nil {
					_, _ = r.Delete(ctx, did, nil)
				}
				return seq, err
			}}
		}, "Repos/FailedReplaceIsNothing", "History/"),
		onRepos("forgets the events of Delete", func(r storage.Repos) hookRepos {
			return hookRepos{delete: func(ctx context.Context, did syntax.DID, _ []storage.Event) (int64, error) {
				return r.Delete(ctx, did, nil)
			}}
		}, "Repos/Delete"),
		onRepos("keeps the keys of deleted repositories", func(r storage.Repos) hookRepos {
			kept := map[syntax.DID][]storage.KVWrite{}
			return hookRepos{
				delete: func(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
					_ = r.View(ctx, did, func(r storage.Reader) error {
						for p := range r.Keys(ctx, storage.Range{}) {
							kept[did] = append(kept[did], storage.KVWrite(p))
						}
						return nil
					})
					return r.Delete(ctx, did, events)
				},
				apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
					with := *c
					with.KV = append(kept[did], with.KV...)
					return r.Apply(ctx, did, &with)
				},
			}
		}, "Repos/Delete", "History/"),
		onRepos("lists the repository after which to list", func(r storage.Repos) hookRepos {
			return hookRepos{list: func(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
				return func(yield func(storage.RepoInfo, error) bool) {
					for info, err := range r.List(ctx, "") {
						if info.DID >= after && !yield(info, err) {
							return
						}
					}
				}
			}}
		}, "Repos/List", "History/"),
		onApply("checks the head before it takes the lock", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			head, _ := r.Head(ctx, did)
			if head == c.Prev {
				time.Sleep(2 * time.Millisecond)
				c.Prev, _ = r.Head(ctx, did)
			}
			return r.Apply(ctx, did, &c)
		}, "Repos/Race", "Repos/RaceToCreate"),
		onRepos("drops steps when it is busy", func(r storage.Repos) hookRepos {
			var mu sync.Mutex
			return hookRepos{apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
				if !mu.TryLock() {
					return 0, nil
				}
				defer mu.Unlock()
				time.Sleep(time.Millisecond)
				return r.Apply(ctx, did, c)
			}}
		}, "Repos/Concurrent"),
		later(onRepos("remembers heads per handle", func(r storage.Repos) hookRepos {
			var mu sync.Mutex
			heads := map[syntax.DID]storage.Head{}
			return hookRepos{head: func(ctx context.Context, did syntax.DID) (h storage.Head, err error) {
				mu.Lock()
				defer mu.Unlock()
				if h, ok := heads[did]; ok {
					return h, nil
				}
				if h, err = r.Head(ctx, did); err == nil {
					heads[did] = h
				}
				return h, err
			}}
		}, "Repos/SharedCompareAndSwap")),
		later(onReader("loses keys when it is closed", func(r storage.Reader) hookReader {
			return hookReader{keys: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
				return func(func(storage.KVPair, error) bool) {}
			}}
		}, "Repos/Reopen", "Repos/Kill", "History/1", "History/3", "History/5")),
		onApply("ignores the context", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			return r.Apply(context.WithoutCancel(ctx), did, &c)
		}, "Repos/Canceled"),
	}
}

// onEvents makes a mutant of Events.
func onEvents(name string, change func(e storage.Events) hookEvents, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := change(s.Events)
		h.Events = s.Events
		s.Events = h
		return s
	}}
}

// onAccountEvents makes a mutant of Events.OfAccount.
func onAccountEvents(name string, of func(e storage.AccountEvents, ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error], laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		log := s.Events
		s.Events = hookAccountEvents{log, func(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
			return of(log.(storage.AccountEvents), ctx, did)
		}}
		return s
	}}
}

func eventMutants() []mutant {
	return []mutant{
		onAccountEvents("finds one event only of each account", func(e storage.AccountEvents, ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
			return func(yield func(storage.Event, error) bool) {
				for ev, err := range e.OfAccount(ctx, did) {
					yield(ev, err)
					return
				}
			}
		}, "Events/OfAccount"),
		onAccountEvents("takes accounts whose names begin alike for one", func(e storage.AccountEvents, ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
			return e.OfAccount(ctx, syntax.DID(strings.TrimSuffix(string(did), "x")))
		}, "Events/OfAccount"),
		onEvents("has an oldest number below 1", func(e storage.Events) hookEvents {
			return hookEvents{bounds: func(ctx context.Context) (int64, int64, error) {
				oldest, newest, err := e.Bounds(ctx)
				return oldest - 1, newest, err
			}}
		}, "Events/Empty"),
		onEvents("puts the time of reading into events", func(e storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for ev, err := range e.Since(ctx, seq) {
						ev.Time = time.Now()
						if !yield(ev, err) {
							return
						}
					}
				}
			}}
		}, "Events/Content", "History/0"),
		onApply("returns the number of the first event", func(r storage.Repos, ctx context.Context, did syntax.DID, c storage.Change) (int64, error) {
			seq, err := r.Apply(ctx, did, &c)
			return seq - int64(max(0, len(c.Events)-1)), err
		}, "Events/Numbers"),
		onEvents("counts from the position that was given", func(e storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] { return e.Since(ctx, seq-1) }}
		}, "Events/Since"),
		onEvents("goes on as long as there are events", func(e storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					for more := true; more; {
						more = false
						for ev, err := range e.Since(ctx, seq) {
							if !yield(ev, err) {
								return
							}
							seq, more = ev.Seq, true
						}
					}
				}
			}}
		}, "Events/SinceIsBounded"),
		onEvents("takes the newest number from the events that are left", func(e storage.Events) hookEvents {
			return hookEvents{bounds: func(ctx context.Context) (oldest, newest int64, err error) {
				oldest, _, err = e.Bounds(ctx)
				for ev := range e.Since(ctx, 0) {
					newest = ev.Seq
				}
				return oldest, newest, err
			}}
		}, "Events/Trim", "Events/NumbersAfterReopen"),
		onEvents("never waits", func(storage.Events) hookEvents {
			return hookEvents{wait: func(ctx context.Context, _ int64) error { return ctx.Err() }}
		}, "Events/Wait"),
		onEvents("waits for numbers instead of events", func(e storage.Events) hookEvents {
			return hookEvents{wait: func(ctx context.Context, seq int64) error {
				if _, newest, err := e.Bounds(ctx); err != nil || newest > seq {
					return err
				}
				return e.Wait(ctx, seq)
			}}
		}, "Events/WaitForVisible"),
		later(onEvents("is not woken by other handles", func(storage.Events) hookEvents {
			return hookEvents{wait: func(ctx context.Context, _ int64) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Second): // the test is over
					return nil
				}
			}}
		}, "Events/WaitAcrossHandles")),
		onEvents("shows an event after its successor", func(e storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return func(yield func(storage.Event, error) bool) {
					all, err := collect(e.Since(ctx, seq))
					if err != nil {
						yield(storage.Event{}, err)
						return
					}
					for i, ev := range all {
						if i != len(all)-2 && !yield(ev, nil) {
							return
						}
					}
				}
			}}
		}, "Events/VisiblePrefix"),
		onEvents("does not look at the context while it iterates over events", func(e storage.Events) hookEvents {
			return hookEvents{since: func(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
				return e.Since(context.WithoutCancel(ctx), seq)
			}}
		}, "Events/CancelInside"),
	}
}
