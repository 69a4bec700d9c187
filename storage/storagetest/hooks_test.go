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

// The types here replace single methods of a store, for mutants.

type hookRepos struct {
	storage.Repos
	head    func(context.Context, syntax.DID) (storage.Head, error)
	apply   func(context.Context, syntax.DID, *storage.Change) (int64, error)
	replace func(context.Context, syntax.DID, iter.Seq2[storage.RecordChange, error], func() (*storage.Change, error)) (int64, error)
	view    func(context.Context, syntax.DID, func(storage.Reader) error) error
	delete  func(context.Context, syntax.DID, []storage.Event) (int64, error)
	list    func(context.Context, syntax.DID) iter.Seq2[storage.RepoInfo, error]
}

func (h hookRepos) Head(ctx context.Context, did syntax.DID) (storage.Head, error) {
	if h.head != nil {
		return h.head(ctx, did)
	}
	return h.Repos.Head(ctx, did)
}

func (h hookRepos) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	if h.apply != nil {
		return h.apply(ctx, did, c)
	}
	return h.Repos.Apply(ctx, did, c)
}

func (h hookRepos) Replace(ctx context.Context, did syntax.DID, records iter.Seq2[storage.RecordChange, error], final func() (*storage.Change, error)) (int64, error) {
	if h.replace != nil {
		return h.replace(ctx, did, records, final)
	}
	return h.Repos.Replace(ctx, did, records, final)
}

func (h hookRepos) View(ctx context.Context, did syntax.DID, fn func(storage.Reader) error) error {
	if h.view != nil {
		return h.view(ctx, did, fn)
	}
	return h.Repos.View(ctx, did, fn)
}

func (h hookRepos) Delete(ctx context.Context, did syntax.DID, events []storage.Event) (int64, error) {
	if h.delete != nil {
		return h.delete(ctx, did, events)
	}
	return h.Repos.Delete(ctx, did, events)
}

func (h hookRepos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	if h.list != nil {
		return h.list(ctx, after)
	}
	return h.Repos.List(ctx, after)
}

type hookReader struct {
	storage.Reader
	record       func(context.Context, string) (storage.Record, error)
	recordByCID  func(context.Context, cid.Cid) (storage.Record, error)
	records      func(context.Context, storage.Range) iter.Seq2[storage.Record, error]
	recordsSince func(context.Context, syntax.TID) iter.Seq2[storage.Record, error]
	blobRefs     func(context.Context, cid.Cid, syntax.TID) iter.Seq2[storage.BlobRef, error]
	get          func(context.Context, string) ([]byte, error)
	keys         func(context.Context, storage.Range) iter.Seq2[storage.KVPair, error]
}

func (h hookReader) Record(ctx context.Context, path string) (storage.Record, error) {
	if h.record != nil {
		return h.record(ctx, path)
	}
	return h.Reader.Record(ctx, path)
}

func (h hookReader) RecordByCID(ctx context.Context, c cid.Cid) (storage.Record, error) {
	if h.recordByCID != nil {
		return h.recordByCID(ctx, c)
	}
	return h.Reader.RecordByCID(ctx, c)
}

func (h hookReader) Records(ctx context.Context, r storage.Range) iter.Seq2[storage.Record, error] {
	if h.records != nil {
		return h.records(ctx, r)
	}
	return h.Reader.Records(ctx, r)
}

func (h hookReader) RecordsSince(ctx context.Context, rev syntax.TID) iter.Seq2[storage.Record, error] {
	if h.recordsSince != nil {
		return h.recordsSince(ctx, rev)
	}
	return h.Reader.RecordsSince(ctx, rev)
}

func (h hookReader) BlobRefs(ctx context.Context, after cid.Cid, since syntax.TID) iter.Seq2[storage.BlobRef, error] {
	if h.blobRefs != nil {
		return h.blobRefs(ctx, after, since)
	}
	return h.Reader.BlobRefs(ctx, after, since)
}

func (h hookReader) Get(ctx context.Context, key string) ([]byte, error) {
	if h.get != nil {
		return h.get(ctx, key)
	}
	return h.Reader.Get(ctx, key)
}

func (h hookReader) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	if h.keys != nil {
		return h.keys(ctx, r)
	}
	return h.Reader.Keys(ctx, r)
}

type hookEvents struct {
	storage.Events
	since  func(context.Context, int64) iter.Seq2[storage.Event, error]
	bounds func(context.Context) (int64, int64, error)
	wait   func(context.Context, int64) error
}

func (h hookEvents) Since(ctx context.Context, seq int64) iter.Seq2[storage.Event, error] {
	if h.since != nil {
		return h.since(ctx, seq)
	}
	return h.Events.Since(ctx, seq)
}

func (h hookEvents) Bounds(ctx context.Context) (int64, int64, error) {
	if h.bounds != nil {
		return h.bounds(ctx)
	}
	return h.Events.Bounds(ctx)
}

func (h hookEvents) Wait(ctx context.Context, seq int64) error {
	if h.wait != nil {
		return h.wait(ctx, seq)
	}
	return h.Events.Wait(ctx, seq)
}

type hookAccountEvents struct {
	storage.Events
	of func(context.Context, syntax.DID) iter.Seq2[storage.Event, error]
}

func (h hookAccountEvents) OfAccount(ctx context.Context, did syntax.DID) iter.Seq2[storage.Event, error] {
	return h.of(ctx, did)
}

type hookBlobs struct {
	storage.Blobs
	stage   func(context.Context, syntax.DID, string, io.Reader, storage.BlobLimits) (storage.BlobInfo, error)
	usage   func(context.Context, syntax.DID) (int64, error)
	stat    func(context.Context, syntax.DID, cid.Cid) (storage.BlobInfo, bool, error)
	setMIME func(context.Context, syntax.DID, cid.Cid, string) error
	promote func(context.Context, syntax.DID, cid.Cid) error
	open    func(context.Context, syntax.DID, cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error)
	delete  func(context.Context, syntax.DID, cid.Cid) error
	list    func(context.Context, syntax.DID, cid.Cid) iter.Seq2[storage.BlobInfo, error]
	collect func(context.Context, time.Time) (int, error)
}

func (h hookBlobs) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	if h.stage != nil {
		return h.stage(ctx, did, mime, r, limits)
	}
	return h.Blobs.Stage(ctx, did, mime, r, limits)
}

func (h hookBlobs) Usage(ctx context.Context, did syntax.DID) (int64, error) {
	if h.usage != nil {
		return h.usage(ctx, did)
	}
	return h.Blobs.Usage(ctx, did)
}

func (h hookBlobs) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	if h.stat != nil {
		return h.stat(ctx, did, c)
	}
	return h.Blobs.Stat(ctx, did, c)
}

func (h hookBlobs) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	if h.setMIME != nil {
		return h.setMIME(ctx, did, c, mime)
	}
	return h.Blobs.SetMIME(ctx, did, c, mime)
}

func (h hookBlobs) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if h.promote != nil {
		return h.promote(ctx, did, c)
	}
	return h.Blobs.Promote(ctx, did, c)
}

func (h hookBlobs) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	if h.open != nil {
		return h.open(ctx, did, c)
	}
	return h.Blobs.Open(ctx, did, c)
}

func (h hookBlobs) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if h.delete != nil {
		return h.delete(ctx, did, c)
	}
	return h.Blobs.Delete(ctx, did, c)
}

func (h hookBlobs) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	if h.list != nil {
		return h.list(ctx, did, after)
	}
	return h.Blobs.List(ctx, did, after)
}

func (h hookBlobs) Collect(ctx context.Context, t time.Time) (int, error) {
	if h.collect != nil {
		return h.collect(ctx, t)
	}
	return h.Blobs.Collect(ctx, t)
}

type hookKV struct {
	storage.KV
	read  func(context.Context, func(storage.KVReader) error) error
	write func(context.Context, func(storage.KVTx) error) error
}

func (h hookKV) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if h.read != nil {
		return h.read(ctx, fn)
	}
	return h.KV.Read(ctx, fn)
}

func (h hookKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if h.write != nil {
		return h.write(ctx, fn)
	}
	return h.KV.Write(ctx, fn)
}

type hookTx struct {
	storage.KVTx
	get    func(context.Context, string) ([]byte, error)
	keys   func(context.Context, storage.Range) iter.Seq2[storage.KVPair, error]
	set    func(context.Context, string, []byte, time.Time) error
	delete func(context.Context, string) error
}

func (h hookTx) Get(ctx context.Context, key string) ([]byte, error) {
	if h.get != nil {
		return h.get(ctx, key)
	}
	return h.KVTx.Get(ctx, key)
}

func (h hookTx) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	if h.keys != nil {
		return h.keys(ctx, r)
	}
	return h.KVTx.Keys(ctx, r)
}

func (h hookTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if h.set != nil {
		return h.set(ctx, key, value, expires)
	}
	return h.KVTx.Set(ctx, key, value, expires)
}

func (h hookTx) Delete(ctx context.Context, key string) error {
	if h.delete != nil {
		return h.delete(ctx, key)
	}
	return h.KVTx.Delete(ctx, key)
}
