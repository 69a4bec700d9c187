package storagetest

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Faults makes methods of a store fail, to test code that uses the store. Its functions are called
// with the name of a method, such as "Repos.Apply", "Reader.Records" or "KVTx.Set". Their errors
// become the method's. They may be nil, and may be called concurrently.
type Faults struct {
	// Before is called before a call. After an error, the call is not made.
	Before func(method string) error
	// After is called after a call that succeeded. Its error simulates a call that took effect
	// although its response was lost. For an iterator, it is called after each value.
	After func(method string) error
}

// Wrap returns the store with faults.
func (f Faults) Wrap(s storage.Store) storage.Store {
	if s.Repos != nil {
		m, movable := s.Repos.(storage.Movable)
		l, loads := s.Repos.(storage.Loader)
		if s.Repos = (faultyRepos{f, s.Repos}); movable && loads {
			s.Repos = faultyMovable{s.Repos.(faultyRepos), m, l}
		}
	}
	if s.Events != nil {
		s.Events = faultyEvents{f, s.Events}
	}
	if s.Blobs != nil {
		staged, ok := s.Blobs.(storage.StagedBlobs)
		if s.Blobs = (faultyBlobs{f, s.Blobs}); ok {
			s.Blobs = faultyStaged{s.Blobs.(faultyBlobs), staged}
		}
	}
	if s.KV != nil {
		s.KV = faultyKV{f, s.KV}
	}
	return s
}

// call makes a call between the two functions.
func (f Faults) call(method string, do func() error) error {
	if f.Before != nil {
		if err := f.Before(method); err != nil {
			return err
		}
	}
	err := do()
	if err == nil && f.After != nil {
		err = f.After(method)
	}
	return err
}

// call2 is call for a method with a result.
func call2[T any](f Faults, method string, do func() (T, error)) (v T, err error) {
	err = f.call(method, func() (err error) {
		v, err = do()
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// faulty is call for an iterator.
func faulty[T any](f Faults, method string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if f.Before != nil {
			if err := f.Before(method); err != nil {
				yield(none, err)
				return
			}
		}
		for v, err := range seq {
			if !yield(v, err) || err != nil {
				return
			}
			if f.After != nil {
				if err := f.After(method); err != nil {
					yield(none, err)
					return
				}
			}
		}
	}
}

type faultyRepos struct {
	f Faults
	r storage.Repos
}

func (x faultyRepos) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	return call2(x.f, "Repos.Head", func() (storage.Head, error) { return x.r.Head(ctx, did) })
}

func (x faultyRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	return call2(x.f, "Repos.Apply", func() (int64, error) { return x.r.Apply(ctx, did, c) })
}

func (x faultyRepos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	return call2(x.f, "Repos.Replace", func() (int64, error) { return x.r.Replace(ctx, did, records, final) })
}

func (x faultyRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	return x.f.call("Repos.View", func() error {
		return x.r.View(ctx, did, func(r storage.Reader) error { return fn(faultyReader{x.f, r}) })
	})
}

func (x faultyRepos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	return call2(x.f, "Repos.Delete", func() (int64, error) { return x.r.Delete(ctx, did, events) })
}

func (x faultyRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return faulty(x.f, "Repos.List", x.r.List(ctx, after))
}

type faultyReader struct {
	f Faults
	r storage.Reader
}

func (x faultyReader) Head() storage.Head { return x.r.Head() }

func (x faultyReader) Commit(ctx context.Context) ([]byte, error) {
	return call2(x.f, "Reader.Commit", func() ([]byte, error) { return x.r.Commit(ctx) })
}

func (x faultyReader) Record(ctx context.Context, path string) (storage.Record, error) {
	return call2(x.f, "Reader.Record", func() (storage.Record, error) { return x.r.Record(ctx, path) })
}

func (x faultyReader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	return call2(x.f, "Reader.RecordByCID", func() (storage.Record, error) { return x.r.RecordByCID(ctx, c) })
}

func (x faultyReader) Records(ctx context.Context, r storage.Range) iter.Seq2[storage.Record, error] {
	return faulty(x.f, "Reader.Records", x.r.Records(ctx, r))
}

func (x faultyReader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	return faulty(x.f, "Reader.RecordsSince", x.r.RecordsSince(ctx, rev))
}

func (x faultyReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	return faulty(x.f, "Reader.BlobRefs", x.r.BlobRefs(ctx, after, since))
}

func (x faultyReader) HasBlobRef(ctx context.Context, blob cid.Cid) (bool, error) {
	return call2(x.f, "Reader.HasBlobRef", func() (bool, error) { return x.r.HasBlobRef(ctx, blob) })
}

func (x faultyReader) Get(ctx context.Context, key string) ([]byte, error) {
	return call2(x.f, "Reader.Get", func() ([]byte, error) { return x.r.Get(ctx, key) })
}

func (x faultyReader) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	return faulty(x.f, "Reader.Keys", x.r.Keys(ctx, r))
}

type faultyEvents struct {
	f Faults
	e storage.Events
}

func (x faultyEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	return faulty(x.f, "Events.Since", x.e.Since(ctx, seq))
}

func (x faultyEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	err = x.f.call("Events.Bounds", func() (err error) {
		oldest, newest, err = x.e.Bounds(ctx)
		return err
	})
	return oldest, newest, err
}

func (x faultyEvents) Wait(ctx context.Context, seq int64) error {
	return x.f.call("Events.Wait", func() error { return x.e.Wait(ctx, seq) })
}

func (x faultyEvents) Trim(ctx context.Context, t time.Time) error {
	return x.f.call("Events.Trim", func() error { return x.e.Trim(ctx, t) })
}

type faultyBlobs struct {
	f Faults
	b storage.Blobs
}

func (x faultyBlobs) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	return call2(x.f, "Blobs.Stage", func() (storage.BlobInfo, error) { return x.b.Stage(ctx, did, mime, r, limits) })
}

func (x faultyBlobs) Usage(ctx context.Context, did syntax.DID) (int64, error) {
	return call2(x.f, "Blobs.Usage", func() (int64, error) { return x.b.Usage(ctx, did) })
}

func (x faultyBlobs) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (info storage.BlobInfo, promoted bool, err error) {
	err = x.f.call("Blobs.Stat", func() (err error) {
		info, promoted, err = x.b.Stat(ctx, did, c)
		return err
	})
	return info, promoted, err
}

func (x faultyBlobs) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	return x.f.call("Blobs.SetMIME", func() error { return x.b.SetMIME(ctx, did, c, mime) })
}

func (x faultyBlobs) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	return x.f.call("Blobs.Promote", func() error { return x.b.Promote(ctx, did, c) })
}

func (x faultyBlobs) Open(ctx context.Context, did syntax.DID, c cid.Cid) (r io.ReadSeekCloser, info storage.BlobInfo, err error) {
	err = x.f.call("Blobs.Open", func() (err error) {
		r, info, err = x.b.Open(ctx, did, c)
		return err
	})
	if err != nil && r != nil {
		r.Close()
		r = nil
	}
	return r, info, err
}

func (x faultyBlobs) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	return x.f.call("Blobs.Delete", func() error { return x.b.Delete(ctx, did, c) })
}

func (x faultyBlobs) DeleteAll(ctx context.Context, did syntax.DID) error {
	return x.f.call("Blobs.DeleteAll", func() error { return x.b.DeleteAll(ctx, did) })
}

func (x faultyBlobs) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return faulty(x.f, "Blobs.List", x.b.List(ctx, did, after))
}

func (x faultyBlobs) Collect(ctx context.Context, t time.Time) (int, error) {
	return call2(x.f, "Blobs.Collect", func() (int, error) { return x.b.Collect(ctx, t) })
}

type faultyKV struct {
	f  Faults
	kv storage.KV
}

func (x faultyKV) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	return x.f.call("KV.Read", func() error {
		return x.kv.Read(ctx, func(r storage.KVReader) error { return fn(faultyKVReader{x.f, "KVReader.", r}) })
	})
}

func (x faultyKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return x.f.call("KV.Write", func() error {
		return x.kv.Write(ctx, func(tx storage.KVTx) error { return fn(faultyTx{faultyKVReader{x.f, "KVTx.", tx}, tx}) })
	})
}

type faultyKVReader struct {
	f    Faults
	name string
	r    storage.KVReader
}

func (x faultyKVReader) Get(ctx context.Context, key string) ([]byte, error) {
	return call2(x.f, x.name+"Get", func() ([]byte, error) { return x.r.Get(ctx, key) })
}

func (x faultyKVReader) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	return faulty(x.f, x.name+"Keys", x.r.Keys(ctx, r))
}

type faultyTx struct {
	faultyKVReader
	tx storage.KVTx
}

func (x faultyTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	return x.f.call("KVTx.Set", func() error { return x.tx.Set(ctx, key, value, expires) })
}

func (x faultyTx) Delete(ctx context.Context, key string) error {
	return x.f.call("KVTx.Delete", func() error { return x.tx.Delete(ctx, key) })
}
