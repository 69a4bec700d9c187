package storage

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// NewSnapshot makes a Snapshot of a view; it is for backends. The view needs only the methods that
// read, except Wait. They are called only before the snapshot has ended, with contexts that end
// with it. release is called once, at the end, while calls may still run.
func NewSnapshot(view Store, life time.Duration, release func() error) Snapshot {
	s := &snapshot{view: view, until: time.Now().Add(life), release: release}
	s.life, s.end = context.WithCancel(context.Background())
	s.timer = time.AfterFunc(life, s.expire)
	return s
}

type snapshot struct {
	view    Store
	until   time.Time
	timer   *time.Timer
	life    context.Context
	end     context.CancelFunc
	once    sync.Once
	release func() error
	err     error // of release
}

func (s *snapshot) Until() time.Time { return s.until }

func (s *snapshot) Close() error {
	s.timer.Stop()
	s.expire()
	return s.err
}

// expire ends the snapshot. The timer may call it before NewSnapshot has returned.
func (s *snapshot) expire() {
	s.once.Do(func() {
		s.end()
		s.err = s.release()
	})
}

func (s *snapshot) Store() Store {
	store := Store{Repos: frozenRepos{s}, Events: frozenEvents{s}, KV: frozenKV{s}}
	if log, ok := s.view.Events.(AccountEvents); ok {
		store.Events = frozenAccountEvents{frozenEvents{s}, log}
	}
	return store
}

// call calls fn with a context that ends with the snapshot.
func (s *snapshot) call(ctx context.Context, fn func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.life.Err() != nil {
		return ErrExpired
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	return s.result(ctx, fn(inner))
}

// result is an error of the view, or that the snapshot has ended, if it comes of that.
func (s *snapshot) result(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && s.life.Err() != nil && !errors.Is(err, ErrExpired) {
		return errors.Join(ErrExpired, err)
	}
	return err
}

// frozen yields what an iterator of the view does, until the snapshot ends.
func frozen[T any](s *snapshot, ctx context.Context, seq func(ctx context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		done := false
		err := s.call(ctx, func(inner context.Context) error {
			for v, err := range seq(inner) {
				if err == nil && s.life.Err() != nil {
					err = ErrExpired
				}
				if err != nil {
					return err
				}
				if !yield(v, nil) {
					done = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !done {
			var none T
			yield(none, err)
		}
	}
}

type frozenRepos struct{ *snapshot }

func (r frozenRepos) Head(ctx context.Context, did syntax.DID) (head Head, err error) {
	err = r.call(ctx, func(ctx context.Context) error {
		head, err = r.view.Repos.Head(ctx, did)
		return err
	})
	return head, err
}

func (r frozenRepos) Apply(context.Context, syntax.DID, *Change) (int64, error) {
	return 0, ErrReadOnly
}

func (r frozenRepos) Replace(context.Context, syntax.DID, iter.Seq2[RecordChange, error], func() (*Change, error)) (int64, error) {
	return 0, ErrReadOnly
}

func (r frozenRepos) Delete(context.Context, syntax.DID, []Event) (int64, error) {
	return 0, ErrReadOnly
}

// View lets fn run on after the end of the snapshot, but fn's reads then fail.
func (r frozenRepos) View(ctx context.Context, did syntax.DID, fn func(Reader) error) error {
	if r.life.Err() != nil {
		return ErrExpired
	}
	called := false
	err := r.view.Repos.View(ctx, did, func(inner Reader) error {
		called = true
		return fn(frozenReader{r.snapshot, inner})
	})
	if called {
		return err
	}
	return r.result(ctx, err)
}

func (r frozenRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[RepoInfo, error] {
	return frozen(r.snapshot, ctx, func(ctx context.Context) iter.Seq2[RepoInfo, error] { return r.view.Repos.List(ctx, after) })
}

type frozenReader struct {
	*snapshot
	r Reader
}

func (f frozenReader) Head() Head { return f.r.Head() }

func (f frozenReader) Commit(ctx context.Context) (block []byte, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		block, err = f.r.Commit(ctx)
		return err
	})
	return block, err
}

func (f frozenReader) Record(ctx context.Context, path string) (rec Record, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		rec, err = f.r.Record(ctx, path)
		return err
	})
	return rec, err
}

func (f frozenReader) RecordByCID(ctx context.Context, c cid.Cid) (rec Record, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		rec, err = f.r.RecordByCID(ctx, c)
		return err
	})
	return rec, err
}

func (f frozenReader) Records(ctx context.Context, rng Range) iter.Seq2[Record, error] {
	return frozen(f.snapshot, ctx, func(ctx context.Context) iter.Seq2[Record, error] { return f.r.Records(ctx, rng) })
}

func (f frozenReader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[Record, error] {
	return frozen(f.snapshot, ctx, func(ctx context.Context) iter.Seq2[Record, error] { return f.r.RecordsSince(ctx, rev) })
}

func (f frozenReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[BlobRef, error] {
	return frozen(f.snapshot, ctx, func(ctx context.Context) iter.Seq2[BlobRef, error] { return f.r.BlobRefs(ctx, after, since) })
}

func (f frozenReader) HasBlobRef(ctx context.Context, blob cid.Cid) (ok bool, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		ok, err = f.r.HasBlobRef(ctx, blob)
		return err
	})
	return ok, err
}

func (f frozenReader) Get(ctx context.Context, key string) ([]byte, error) {
	return frozenKeys{f.snapshot, f.r}.Get(ctx, key)
}

func (f frozenReader) Keys(ctx context.Context, rng Range) iter.Seq2[KVPair, error] {
	return frozenKeys{f.snapshot, f.r}.Keys(ctx, rng)
}

type frozenKeys struct {
	*snapshot
	r KVReader
}

func (f frozenKeys) Get(ctx context.Context, key string) (value []byte, err error) {
	err = f.call(ctx, func(ctx context.Context) error {
		value, err = f.r.Get(ctx, key)
		return err
	})
	return value, err
}

func (f frozenKeys) Keys(ctx context.Context, rng Range) iter.Seq2[KVPair, error] {
	return frozen(f.snapshot, ctx, func(ctx context.Context) iter.Seq2[KVPair, error] { return f.r.Keys(ctx, rng) })
}

type frozenKV struct{ *snapshot }

func (k frozenKV) Read(ctx context.Context, fn func(KVReader) error) error {
	if k.life.Err() != nil {
		return ErrExpired
	}
	called := false
	err := k.view.KV.Read(ctx, func(inner KVReader) error {
		called = true
		return fn(frozenKeys{k.snapshot, inner})
	})
	if called {
		return err
	}
	return k.result(ctx, err)
}

func (k frozenKV) Write(context.Context, func(KVTx) error) error { return ErrReadOnly }

type frozenEvents struct{ *snapshot }

func (e frozenEvents) Since(ctx context.Context, seq int64) iter.Seq2[Event, error] {
	return frozen(e.snapshot, ctx, func(ctx context.Context) iter.Seq2[Event, error] { return e.view.Events.Since(ctx, seq) })
}

func (e frozenEvents) Bounds(ctx context.Context) (oldest, newest int64, err error) {
	err = e.call(ctx, func(ctx context.Context) error {
		oldest, newest, err = e.view.Events.Bounds(ctx)
		return err
	})
	return oldest, newest, err
}

func (e frozenEvents) Wait(ctx context.Context, seq int64) error {
	for _, err := range e.Since(ctx, seq) {
		return err
	}
	return ErrReadOnly
}

func (e frozenEvents) Trim(context.Context, time.Time) error { return ErrReadOnly }

type frozenAccountEvents struct {
	frozenEvents
	log AccountEvents
}

func (e frozenAccountEvents) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[Event, error] {
	return frozen(e.snapshot, ctx, func(ctx context.Context) iter.Seq2[Event, error] { return e.log.OfAccount(ctx, did) })
}
