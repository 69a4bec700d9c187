package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
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
	return slices.Concat(repoMutants(), replaceMutants(), viewMutants(), eventMutants(), kvMutants(), blobMutants())
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

// replaceMutants break what holds while Replace is under way.
func replaceMutants() []mutant {
	type finalFunc = func() (*storage.Change, error)
	type records = iter.Seq2[storage.RecordChange, error]
	return []mutant{
		onRepos("takes a missing repository for a lost race", func(r storage.Repos) hookRepos {
			return hookRepos{replace: func(ctx context.Context, did syntax.DID, records records, final finalFunc) (int64, error) {
				seq, err := r.Replace(ctx, did, records, final)
				if errors.Is(err, storage.ErrNotFound) {
					err = storage.ErrConflict
				}
				return seq, err
			}}
		}, "Replace/Missing"),
		onRepos("keeps all writers waiting during a Replace", func(r storage.Repos) hookRepos {
			var mu sync.Mutex
			return hookRepos{
				replace: func(ctx context.Context, did syntax.DID, records records, final finalFunc) (int64, error) {
					mu.Lock()
					defer mu.Unlock()
					return r.Replace(ctx, did, records, final)
				},
				apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
					mu.Lock()
					defer mu.Unlock()
					return r.Apply(ctx, did, c)
				},
			}
		}, "Replace/HoldsNothing"),
		onRepos("holds its lock while it asks for the final change", func(r storage.Repos) hookRepos {
			var mu sync.Mutex
			return hookRepos{
				replace: func(ctx context.Context, did syntax.DID, records records, final finalFunc) (int64, error) {
					return r.Replace(ctx, did, records, func() (*storage.Change, error) {
						mu.Lock()
						defer mu.Unlock()
						return final()
					})
				},
				apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
					mu.Lock()
					defer mu.Unlock()
					return r.Apply(ctx, did, c)
				},
			}
		}, "Replace/HoldsNothing"),
		onRepos("shows records that are staged", func(r storage.Repos) hookRepos {
			staged := map[string]storage.Record{}
			return hookRepos{
				replace: func(ctx context.Context, did syntax.DID, records records, final finalFunc) (int64, error) {
					return r.Replace(ctx, did, func(yield func(storage.RecordChange, error) bool) {
						for x, err := range records {
							staged[x.Path] = storage.Record{Path: x.Path, CID: x.CID, Data: slices.Clone(x.Data)}
							if !yield(x, err) {
								return
							}
						}
					}, final)
				},
				view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
					return r.View(ctx, did, func(r storage.Reader) error {
						return fn(hookReader{Reader: r, record: func(ctx context.Context, path string) (storage.Record, error) {
							if rec, ok := staged[path]; ok {
								return rec, nil
							}
							return r.Record(ctx, path)
						}})
					})
				},
			}
		}, "Replace/Unseen"),
		onRepos("replaces whatever is there when the records have come", func(r storage.Repos) hookRepos {
			return hookRepos{replace: func(ctx context.Context, did syntax.DID, records records, final finalFunc) (int64, error) {
				return r.Replace(ctx, did, records, func() (*storage.Change, error) {
					c, err := final()
					if err != nil {
						return nil, err
					}
					with := *c
					with.Prev, err = r.Head(ctx, did)
					if errors.Is(err, storage.ErrNotFound) {
						err = nil
					}
					return &with, err
				})
			}}
		}, "Replace/Conflict"),
		// As package memory does.
		onRepos("keeps all records of a Replace in memory", func(r storage.Repos) hookRepos { return hookRepos{} }, "Replace/Buffers"),
		later(onReader("loses records when it dies during a Replace", func(r storage.Reader) hookReader {
			return hookReader{records: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
				return func(func(storage.Record, error) bool) {}
			}}
		}, "Replace/Kill")),
	}
}

func viewMutants() []mutant {
	return []mutant{
		onReader("gives out its own bytes", func(r storage.Reader) hookReader {
			kept := map[string]storage.Record{}
			return hookReader{record: func(ctx context.Context, path string) (storage.Record, error) {
				if rec, ok := kept[path]; ok {
					return rec, nil
				}
				rec, err := r.Record(ctx, path)
				if err == nil {
					kept[path] = rec
				}
				return rec, err
			}}
		}, "View/OwnedResults"),
		onRepos("has eight readers", func(r storage.Repos) hookRepos {
			readers := make(chan struct{}, 8)
			return hookRepos{view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
				select {
				case readers <- struct{}{}:
				case <-time.After(time.Second): // the test is over
					return nil
				}
				defer func() { <-readers }()
				return r.View(ctx, did, fn)
			}}
		}, "View/Deep"),
		onReader("takes revisions that are equal for newer", func(r storage.Reader) hookReader {
			return hookReader{recordsSince: func(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
				return func(yield func(storage.Record, error) bool) {
					for rec, err := range r.Records(ctx, storage.Range{}) {
						if rec.Rev >= rev && !yield(rec, err) {
							return
						}
					}
				}
			}}
		}, "Repos/Revisions", "History/"),
		onReader("yields references regardless of revisions", func(r storage.Reader) hookReader {
			return hookReader{blobRefs: func(ctx context.Context, after cid.Cid, _ syntax.TID) iter.Seq2[storage.BlobRef, error] {
				return r.BlobRefs(ctx, after, "")
			}}
		}, "Repos/BlobReferences", "History/"),
		onRepos("swallows the error of View", func(r storage.Repos) hookRepos {
			return hookRepos{view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
				return r.View(ctx, did, func(r storage.Reader) error {
					_ = fn(r)
					return nil
				})
			}}
		}, "View/Error"),
		onReader("ignores the upper bound when it goes backwards", func(r storage.Reader) hookReader {
			return hookReader{records: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
				if rng.Reverse {
					rng.To = ""
				}
				return r.Records(ctx, rng)
			}}
		}, "View/Ranges", "History/"),
		onReader("ignores the lower bound of keys", func(r storage.Reader) hookReader {
			return hookReader{keys: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
				rng.From = ""
				return r.Keys(ctx, rng)
			}}
		}, "View/Keys", "History/"),
		onReader("does not know the revision of a record by CID", func(r storage.Reader) hookReader {
			return hookReader{recordByCID: func(ctx context.Context, c cid.Cid) (storage.Record, error) {
				rec, err := r.RecordByCID(ctx, c)
				rec.Rev = ""
				return rec, err
			}}
		}, "View/RecordByCID"),
		onReader("folds the case of paths", func(r storage.Reader) hookReader {
			return hookReader{record: func(ctx context.Context, path string) (storage.Record, error) {
				return r.Record(ctx, strings.ToLower(path))
			}}
		}, "View/Missing"),
		onReader("uses one buffer for all records", func(r storage.Reader) hookReader {
			var buf []byte
			return hookReader{records: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
				return func(yield func(storage.Record, error) bool) {
					for rec, err := range r.Records(ctx, rng) {
						if rec.Data != nil {
							buf = append(buf[:0], rec.Data...)
							rec.Data = buf
						}
						if !yield(rec, err) {
							return
						}
					}
				}
			}}
		}, "View/ResultsStay"),
		onRepos("reads the present state in every call of a view", func(repos storage.Repos) hookRepos {
			return hookRepos{view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
				return repos.View(ctx, did, func(r storage.Reader) error {
					return fn(hookReader{Reader: r, record: func(ctx context.Context, path string) (rec storage.Record, err error) {
						err = repos.View(ctx, did, func(r storage.Reader) error {
							rec, err = r.Record(ctx, path)
							return err
						})
						return rec, err
					}})
				})
			}}
		}, "View/Snapshot"),
		onRepos("holds its lock during a view", func(r storage.Repos) hookRepos {
			var mu sync.Mutex
			return hookRepos{
				view: func(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
					mu.Lock()
					defer mu.Unlock()
					return r.View(ctx, did, fn)
				},
				apply: func(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
					mu.Lock()
					defer mu.Unlock()
					return r.Apply(ctx, did, c)
				},
			}
		}, "View/Nested"),
		onReader("does not look at the context while it iterates", func(r storage.Reader) hookReader {
			return hookReader{records: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.Record, error] {
				return r.Records(context.WithoutCancel(ctx), rng)
			}}
		}, "View/CancelInside"),
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

// onKV makes a mutant of KV.
func onKV(name string, change func(kv storage.KV) hookKV, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := change(s.KV)
		h.KV = s.KV
		s.KV = h
		return s
	}}
}

// onTx makes a mutant of the transactions of KV.
func onTx(name string, change func(tx storage.KVTx) hookTx, laws ...string) mutant {
	return onKV(name, func(kv storage.KV) hookKV {
		return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
			return kv.Write(ctx, func(tx storage.KVTx) error {
				h := change(tx)
				h.KVTx = tx
				return fn(h)
			})
		}}
	}, laws...)
}

// onKVReader makes a mutant of the readers of KV.
func onKVReader(name string, change func(kv storage.KV, r storage.KVReader) storage.KVReader, laws ...string) mutant {
	return onKV(name, func(kv storage.KV) hookKV {
		return hookKV{read: func(ctx context.Context, fn func(storage.KVReader) error) error {
			return kv.Read(ctx, func(r storage.KVReader) error { return fn(change(kv, r)) })
		}}
	}, laws...)
}

// noTx makes a reader look like a transaction.
type noTx struct{ storage.KVReader }

func (noTx) Set(context.Context, string, []byte, time.Time) error { return nil }
func (noTx) Delete(context.Context, string) error                 { return nil }

// optimistic runs transactions on a snapshot, and writes what they wrote if what
// they have read with Get, or what they overwrite, is as it was. It does not look at ranges.
func optimistic(kv storage.KV, checkReads, checkWrites bool) hookKV {
	return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
		for {
			seen := map[string][]byte{}
			type write struct {
				value   []byte
				expires time.Time
			}
			writes := map[string]write{}
			err := kv.Read(ctx, func(r storage.KVReader) error {
				h := hookTx{KVTx: noTx{r}}
				h.get = func(ctx context.Context, key string) ([]byte, error) {
					b, err := r.Get(ctx, key)
					if checkReads {
						seen[key] = b
					}
					return b, err
				}
				h.set = func(ctx context.Context, key string, value []byte, expires time.Time) error {
					if b, err := r.Get(ctx, key); checkWrites && (err == nil || errors.Is(err, storage.ErrNotFound)) {
						seen[key] = b
					}
					writes[key] = write{bytes.Clone(value), expires}
					return nil
				}
				return fn(h)
			})
			if err != nil {
				return err
			}
			changed := errors.New("changed")
			err = kv.Write(ctx, func(tx storage.KVTx) error {
				for key, value := range seen {
					if b, _ := tx.Get(ctx, key); string(b) != string(value) {
						return changed
					}
				}
				for key, w := range writes {
					if err := tx.Set(ctx, key, w.value, w.expires); err != nil {
						return err
					}
				}
				return nil
			})
			if err != changed {
				return err
			}
		}
	}}
}

func kvMutants() []mutant {
	return []mutant{
		onKVReader("gives out its own values", func(_ storage.KV, r storage.KVReader) storage.KVReader {
			kept := map[string][]byte{}
			return hookTx{KVTx: noTx{r}, get: func(ctx context.Context, key string) ([]byte, error) {
				if v, ok := kept[key]; ok {
					return v, nil
				}
				v, err := r.Get(ctx, key)
				if err == nil {
					kept[key] = v
				}
				return v, err
			}}
		}, "KV/OwnedResults"),
		onKV("waits for its writer without regard to the context", func(kv storage.KV) hookKV {
			writer := make(chan struct{}, 1)
			return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
				select {
				case writer <- struct{}{}:
				case <-time.After(time.Second): // the test is over
					return nil
				}
				defer func() { <-writer }()
				return kv.Write(ctx, fn)
			}}
		}, "KV/Nested"),
		onTx("deletes a key that is set to nothing", func(tx storage.KVTx) hookTx {
			return hookTx{set: func(ctx context.Context, key string, value []byte, expires time.Time) error {
				if len(value) == 0 {
					return tx.Delete(ctx, key)
				}
				return tx.Set(ctx, key, value, expires)
			}}
		}, "KV/SetGetDelete", "History/"),
		onKVReader("includes the upper bound of a range", func(_ storage.KV, r storage.KVReader) storage.KVReader {
			return hookTx{KVTx: noTx{r}, keys: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
				if rng.To != "" {
					rng.To += "\x00"
				}
				return r.Keys(ctx, rng)
			}}
		}, "KV/Ranges", "History/"),
		onTx("folds the case of keys", func(tx storage.KVTx) hookTx {
			return hookTx{set: func(ctx context.Context, key string, value []byte, expires time.Time) error {
				return tx.Set(ctx, strings.ToLower(key), value, expires)
			}}
		}, "KV/ByteOrder"),
		onTx("keeps keys for good", func(tx storage.KVTx) hookTx {
			return hookTx{set: func(ctx context.Context, key string, value []byte, _ time.Time) error {
				return tx.Set(ctx, key, value, time.Time{})
			}}
		}, "KV/Expiry", "History/"),
		onKV("iterates over keys as they were before the transaction", func(kv storage.KV) hookKV {
			return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
				return kv.Read(ctx, func(r storage.KVReader) error {
					return kv.Write(ctx, func(tx storage.KVTx) error { return fn(hookTx{KVTx: tx, keys: r.Keys}) })
				})
			}}
		}, "KV/OwnWrites"),
		onKV("commits transactions that fail", func(kv storage.KV) hookKV {
			return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
				var failed error
				err := kv.Write(ctx, func(tx storage.KVTx) error {
					failed = fn(tx)
					return nil
				})
				return errors.Join(failed, err)
			}}
		}, "KV/Rollback", "History/"),
		onKVReader("reads the present state in every call", func(kv storage.KV, r storage.KVReader) storage.KVReader {
			return hookTx{KVTx: noTx{r}, get: func(ctx context.Context, key string) (b []byte, err error) {
				err = kv.Read(ctx, func(r storage.KVReader) error {
					b, err = r.Get(ctx, key)
					return err
				})
				return b, err
			}}
		}, "KV/Snapshot"),
		onKV("loses updates", func(kv storage.KV) hookKV { return optimistic(kv, false, false) }, "KV/Counter"),
		onKV("allows write skew", func(kv storage.KV) hookKV { return optimistic(kv, false, true) }, "KV/WriteSkew"),
		onKV("does not lock ranges", func(kv storage.KV) hookKV { return optimistic(kv, true, false) }, "KV/Phantom"),
		onTx("keeps the caller's value", func(tx storage.KVTx) hookTx {
			kept := map[string][]byte{}
			return hookTx{
				set: func(ctx context.Context, key string, value []byte, expires time.Time) error {
					kept[key] = value
					return tx.Set(ctx, key, value, expires)
				},
				get: func(ctx context.Context, key string) ([]byte, error) { return kept[key], nil },
			}
		}, "KV/InputIsCopied"),
		onKV("ignores the context in transactions", func(kv storage.KV) hookKV {
			return hookKV{write: func(ctx context.Context, fn func(storage.KVTx) error) error {
				return kv.Write(context.WithoutCancel(ctx), fn)
			}}
		}, "KV/Canceled"),
		onKVReader("does not look at the context while it iterates over keys", func(_ storage.KV, r storage.KVReader) storage.KVReader {
			return hookTx{KVTx: noTx{r}, keys: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
				return r.Keys(context.WithoutCancel(ctx), rng)
			}}
		}, "KV/CancelInside"),
		later(onKVReader("loses the key c", func(_ storage.KV, r storage.KVReader) storage.KVReader {
			return hookTx{KVTx: noTx{r}, keys: func(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
				rng.To = "c"
				return r.Keys(ctx, rng)
			}}
		}, "KV/Reopen", "KV/Kill")),
		later(onKVReader("remembers values per handle", func(_ storage.KV, r storage.KVReader) storage.KVReader {
			return hookTx{KVTx: noTx{r}, get: func(context.Context, string) ([]byte, error) { return []byte("0"), nil }}
		}, "KV/Shared")),
	}
}

// onBlobs makes a mutant of Blobs.
func onBlobs(name string, change func(b storage.Blobs) hookBlobs, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := change(s.Blobs)
		h.Blobs = s.Blobs
		s.Blobs = h
		return s
	}}
}

type noSeek struct{ io.ReadCloser }

func (noSeek) Seek(int64, int) (int64, error) { return 0, errors.New("no seek") }

// fromStart takes an offset from where the reader is for one from the start.
type fromStart struct{ io.ReadSeekCloser }

func (r fromStart) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		whence = io.SeekStart
	}
	return r.ReadSeekCloser.Seek(offset, whence)
}

func emptyUnless(err error, fn func() (storage.BlobInfo, error)) (storage.BlobInfo, error) {
	if err != nil {
		return storage.BlobInfo{}, err
	}
	return fn()
}

func blobMutants() []mutant {
	return []mutant{
		onBlobs("promotes at once", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				info, err := b.Stage(ctx, did, mime, r, limits)
				if err == nil {
					err = b.Promote(ctx, did, info.CID)
				}
				return info, err
			}}
		}, "Blobs/Stage", "History/", "Blobs/History/"),
		onBlobs("cuts blobs to the limit", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				if limits.Size > 0 {
					r = io.LimitReader(r, limits.Size)
				}
				return b.Stage(ctx, did, mime, r, limits)
			}}
		}, "Blobs/Limit", "History/", "Blobs/History/"),
		onBlobs("takes an error for the end of an upload", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				return b.Stage(ctx, did, mime, readerFunc(func(p []byte) (int, error) {
					n, err := r.Read(p)
					if err != nil {
						err = io.EOF
					}
					return n, err
				}), limits)
			}}
		}, "Blobs/BrokenUpload", "History/", "Blobs/History/"),
		onBlobs("counts a blob each time it is staged", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := b.Usage(ctx, did)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				data, err := io.ReadAll(r)
				if err == nil && limits.Quota > 0 && int64(len(data)) > limits.Quota-used {
					err = storage.ErrQuota
				}
				return emptyUnless(err, func() (storage.BlobInfo, error) {
					return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
				})
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("counts what is promoted only", func(b storage.Blobs) hookBlobs {
			usage := func(ctx context.Context, did syntax.DID) (used int64, err error) {
				for info, err := range b.List(ctx, did, cid.Undef) {
					if err != nil {
						return 0, err
					}
					used += info.Size
				}
				return used, nil
			}
			return hookBlobs{usage: usage, stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := usage(ctx, did)
				if err == nil && limits.Quota > 0 && limits.Quota <= used {
					err = storage.ErrQuota
				}
				limits.Quota = 0
				return emptyUnless(err, func() (storage.BlobInfo, error) { return b.Stage(ctx, did, mime, r, limits) })
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("gives no room back", func(b storage.Blobs) hookBlobs {
			var mu sync.Mutex
			ever := map[syntax.DID]map[cid.Cid]int64{}
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				mu.Lock()
				defer mu.Unlock()
				used := int64(0)
				for _, n := range ever[did] {
					used += n
				}
				info, err := b.Stage(ctx, did, mime, r, limits)
				if err != nil {
					return info, err
				}
				if _, ok := ever[did][info.CID]; !ok && limits.Quota > 0 && info.Size > limits.Quota-used {
					return storage.BlobInfo{}, errors.Join(storage.ErrQuota, b.Delete(ctx, did, info.CID))
				}
				if ever[did] == nil {
					ever[did] = map[cid.Cid]int64{}
				}
				ever[did][info.CID] = info.Size
				return info, nil
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("looks at the quota before it keeps the blob", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := b.Usage(ctx, did)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				time.Sleep(5 * time.Millisecond)
				data, err := io.ReadAll(r)
				if err == nil && limits.Quota > 0 && int64(len(data)) > limits.Quota-used {
					err = storage.ErrQuota
				}
				limits.Quota = 0
				return emptyUnless(err, func() (storage.BlobInfo, error) {
					return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
				})
			}}
		}, "Blobs/QuotaRace"),
		later(onBlobs("counts from nothing", func(b storage.Blobs) hookBlobs {
			return hookBlobs{usage: func(ctx context.Context, did syntax.DID) (int64, error) { return 0, ctx.Err() }}
		}, "Blobs/Reopen", "Blobs/Kill", "Blobs/Shared")),
		onBlobs("does nothing when a blob is staged again", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				data, err := io.ReadAll(r)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				for _, content := range []string{"staged", "promoted", "again"} {
					if info, _, err := b.Stat(ctx, did, blobCID(content)); err == nil && content == string(data) {
						return info, nil
					}
				}
				return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
			}}
		}, "Blobs/StageAgain", "Blobs/CollectFresh"),
		onBlobs("keeps the type of promoted blobs", func(b storage.Blobs) hookBlobs {
			return hookBlobs{setMIME: func(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
				if _, promoted, err := b.Stat(ctx, did, c); err == nil && promoted {
					return nil
				}
				return b.SetMIME(ctx, did, c, mime)
			}}
		}, "Blobs/SetMIME", "History/", "Blobs/History/"),
		onBlobs("promotes what gets another type", func(b storage.Blobs) hookBlobs {
			return hookBlobs{setMIME: func(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
				if err := b.SetMIME(ctx, did, c, mime); err != nil {
					return err
				}
				return b.Promote(ctx, did, c)
			}}
		}, "Blobs/SetMIME", "History/", "Blobs/History/"),
		onBlobs("promotes what is not there", func(b storage.Blobs) hookBlobs {
			return hookBlobs{promote: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				if err := b.Promote(ctx, did, c); !errors.Is(err, storage.ErrNotFound) {
					return err
				}
				return nil
			}}
		}, "Blobs/Promote", "History/", "Blobs/History/"),
		onBlobs("seeks from the start", func(b storage.Blobs) hookBlobs {
			return hookBlobs{open: func(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
				r, info, err := b.Open(ctx, did, c)
				return fromStart{r}, info, err
			}}
		}, "Blobs/Ranges"),
		onBlobs("cannot seek", func(b storage.Blobs) hookBlobs {
			return hookBlobs{open: func(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
				r, info, err := b.Open(ctx, did, c)
				return noSeek{r}, info, err
			}}
		}, "Blobs/Open"),
		onBlobs("does not delete promoted blobs", func(b storage.Blobs) hookBlobs {
			return hookBlobs{delete: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				if _, promoted, err := b.Stat(ctx, did, c); err == nil && promoted {
					return nil
				}
				return b.Delete(ctx, did, c)
			}}
		}, "Blobs/Delete", "History/", "Blobs/History/"),
		onBlobs("lists the blob after which to list", func(b storage.Blobs) hookBlobs {
			return hookBlobs{list: func(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
				return func(yield func(storage.BlobInfo, error) bool) {
					for info, err := range b.List(ctx, did, cid.Undef) {
						if info.CID.KeyString() >= after.KeyString() && !yield(info, err) {
							return
						}
					}
				}
			}}
		}, "Blobs/List", "History/", "Blobs/History/"),
		onBlobs("collects everything that is staged", func(b storage.Blobs) hookBlobs {
			return hookBlobs{collect: func(ctx context.Context, _ time.Time) (int, error) {
				return b.Collect(ctx, time.Now().AddDate(1, 0, 0))
			}}
		}, "Blobs/Collect", "History/", "Blobs/History/"),
		onBlobs("collects what was promoted in the meantime", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				info, err := b.Stage(ctx, did, mime, r, limits)
				time.Sleep(time.Millisecond)
				return info, err
			}, collect: func(ctx context.Context, _ time.Time) (n int, err error) {
				var staged []cid.Cid
				for i := range 160 {
					c := blobCID(fmt.Sprint("blob ", i, " of one"))
					if _, promoted, err := b.Stat(ctx, alice, c); err == nil && !promoted {
						staged = append(staged, c)
					}
				}
				time.Sleep(time.Millisecond)
				for _, c := range staged {
					_ = b.Delete(ctx, alice, c)
				}
				return len(staged), ctx.Err()
			}}
		}, "Blobs/Race"),
		onBlobs("ignores the context in Promote", func(b storage.Blobs) hookBlobs {
			return hookBlobs{promote: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				return b.Promote(context.WithoutCancel(ctx), did, c)
			}}
		}, "Blobs/Canceled"),
		later(onBlobs("forgets what was promoted", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stat: func(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
				info, _, err := b.Stat(ctx, did, c)
				return info, false, err
			}}
		}, "Blobs/Reopen", "Blobs/Kill", "Blobs/Shared")),
	}
}
