package storagetest

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
)

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

func (noTx) Delete(context.Context, string) error { return nil }

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
