package account

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// flaky counts the calls of a store. One of them fails, and those after it do not. A function that
// gets that error in a transaction or a snapshot has to return it: the transaction would be made of
// what could be read otherwise.
type flaky struct {
	storage.Store
	failAt, calls, failed atomic.Int64
	method                atomic.Value // that of the call that failed
	twice                 atomic.Bool  // KV.Write calls its function twice, as a store does that begins a transaction anew
	t                     *testing.T
}

var errFlaky = errors.New("this call has failed")

func newFlaky(t *testing.T, store storage.Store) *flaky {
	f := &flaky{t: t}
	f.Store = storagetest.Faults{Before: func(method string) error {
		if f.calls.Add(1) == f.failAt.Load() {
			f.method.Store(method)
			f.failed.Add(1)
			return errFlaky
		}
		return nil
	}}.Wrap(store)
	f.Store.KV, f.Store.Repos = strictKV{f.Store.KV, f}, strictRepos{f.Store.Repos, f}
	return f
}

// arm makes one of the next calls fail; 0: none.
func (f *flaky) arm(n int64) {
	f.calls.Store(0)
	f.failAt.Store(n)
}

// hear calls the function of a transaction or a snapshot, and sees to it that it returns the error
// of a call that fails in it.
func (f *flaky) hear(fn func() error) error {
	before := f.failed.Load()
	err := fn()
	if f.failed.Load() > before && !errors.Is(err, errFlaky) {
		f.t.Errorf("%s failed, call %d, and the function that called it returned: %v", f.method.Load(), f.failAt.Load(), err)
	}
	return err
}

type strictKV struct {
	storage.KV
	f *flaky
}

func (k strictKV) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	return k.KV.Read(ctx, func(r storage.KVReader) error { return k.f.hear(func() error { return fn(r) }) })
}

func (k strictKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if k.f.twice.Load() {
		lost := errors.New("the transaction was lost")
		err := k.KV.Write(ctx, func(tx storage.KVTx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return lost
		})
		if !errors.Is(err, lost) {
			return err
		}
	}
	return k.KV.Write(ctx, func(tx storage.KVTx) error { return k.f.hear(func() error { return fn(tx) }) })
}

type strictRepos struct {
	storage.Repos
	f *flaky
}

func (r strictRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return r.Repos.View(ctx, did, func(x storage.Reader) error { return r.f.hear(func() error { return fn(x) }) })
}
