package repo

import (
	"context"
	"iter"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Record returns a record, or ErrRecordNotFound.
func (h *Host) Record(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (rec storage.Record, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		rec, err = Record(ctx, r, collection, rkey)
		return err
	})
	return rec, err
}

// Record returns a record of a snapshot, or ErrRecordNotFound.
func Record(ctx context.Context, r storage.Reader, collection syntax.NSID, rkey syntax.RecordKey) (storage.Record, error) {
	rec, err := r.Record(ctx, string(collection)+"/"+string(rkey))
	return rec, notFound(err, ErrRecordNotFound)
}

// ListOptions selects a page of a collection.
type ListOptions struct {
	Limit   int              // 0, or less: 50
	Cursor  syntax.RecordKey // the last record key of the page before
	Reverse bool             // ascending record keys; the default is descending
	// Bytes bounds the total bytes of a page's records. A larger single record is a page by itself.
	// 0 means 1 MiB; negative means no bound.
	Bytes int
}

const defaultPageBytes = 1 << 20

// List returns a page of a collection in descending order of record keys: newest first if keys come
// from the clock. A page may have fewer records than the limit, because of ListOptions.Bytes. The
// page behind the last one is empty.
func (h *Host) List(ctx context.Context, did syntax.DID, collection syntax.NSID, opt ListOptions) (page []storage.Record, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		page, err = List(ctx, r, collection, opt)
		return err
	})
	return page, err
}

// List returns a page of a collection of a snapshot, as Host.List does.
func List(ctx context.Context, r storage.Reader, collection syntax.NSID, opt ListOptions) (page []storage.Record, err error) {
	rng := opt.of(collection)
	size := 0
	for rec, err := range r.Records(ctx, rng) {
		if err != nil {
			return nil, err
		}
		if size += len(rec.Data); opt.Bytes > 0 && size > opt.Bytes && len(page) > 0 {
			break
		}
		if page = append(page, rec); len(page) == opt.Limit {
			break
		}
	}
	return page, nil
}

// ListEach calls fn with each record of the page that [List] returns. The record is in the store's
// memory: see [storage.Cursor]. An error of fn ends the call.
func ListEach(ctx context.Context, r storage.Reader, collection syntax.NSID, opt ListOptions, fn func(storage.Cursor) error) error {
	c := storage.Records(ctx, r, opt.of(collection))
	defer c.Close()
	for n, size := 0, 0; n < opt.Limit && c.Next(); n++ {
		if size += len(c.Data()); opt.Bytes > 0 && size > opt.Bytes && n > 0 {
			break
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return c.Err()
}

// of fills in what is not set, and returns the range of the records from which the page is taken.
func (opt *ListOptions) of(collection syntax.NSID) storage.Range {
	if opt.Limit <= 0 {
		opt.Limit = 50
	}
	if opt.Bytes == 0 {
		opt.Bytes = defaultPageBytes
	}
	rng := collectionRange(collection)
	rng.Reverse = !opt.Reverse
	switch after := string(collection) + "/" + string(opt.Cursor); {
	case opt.Cursor == "":
	case opt.Reverse:
		rng.From = after + "\x00" // the least path greater than after
	default:
		rng.To = after
	}
	return rng
}

// collectionRange is the range of all paths of a collection.
func collectionRange(collection syntax.NSID) storage.Range {
	return storage.Prefix(string(collection) + "/")
}

// Collections returns the names of all collections that have records, in order.
// It costs one look-up per collection, not per record.
func (h *Host) Collections(ctx context.Context, did syntax.DID) (names []syntax.NSID, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		for name, err := range Collections(ctx, r) {
			if err != nil {
				return err
			}
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// Collections yields the names of the collections of a snapshot, as [Host.Collections] does. A
// repository may have as many collections as records.
func Collections(ctx context.Context, r storage.Reader) iter.Seq2[syntax.NSID, error] {
	return func(yield func(syntax.NSID, error) bool) {
		rng := storage.Range{KeysOnly: true}
		for {
			var next syntax.NSID
			for rec, err := range r.Records(ctx, rng) {
				if err == nil {
					next, _, err = syntax.ParsePath(rec.Path)
				}
				if err != nil {
					yield("", err)
					return
				}
				break
			}
			if next == "" || !yield(next, nil) {
				return
			}
			rng.From = collectionRange(next).To
		}
	}
}

// Repos yields all repositories of the host in DID order.
func (h *Host) Repos(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		for info, err := range h.store.Repos.List(ctx, after) {
			if err == nil && info.Head == (storage.Head{}) {
				continue // an account without a head
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
