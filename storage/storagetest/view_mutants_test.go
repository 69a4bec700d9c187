package storagetest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

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
