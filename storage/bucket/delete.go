package bucket

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// batch is how many rows one transaction removes.
const batch = 200

// Delete implements storage.Blobs. When it returns nil, the blob can no longer be opened. If
// Config.KeepDeleted is 0 and the bucket answers, its object is deleted at once; otherwise Collect
// deletes it.
func (s *Store) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	err := s.change(ctx, did, c, func(t *tx, id blobID, x *row) error { return t.remove(id, x) })
	if errors.Is(err, storage.ErrNotFound) {
		return ctx.Err()
	}
	return err
}

// DeleteAll implements storage.Blobs. It works in transactions of 200 blobs, so after an error some
// may be deleted; call it again. Objects are deleted as by Delete.
func (s *Store) DeleteAll(ctx context.Context, did syntax.DID) error {
	page := storage.Prefix(blobPrefix + string(did) + "/")
	for {
		n, last := 0, ""
		err := s.write(ctx, func(t *tx) error {
			var ids []blobID
			var rows []*row
			n = 0
			for pair, err := range t.Keys(ctx, page) {
				if err != nil {
					return err
				}
				x, err := parseRow(pair.Value, pair.Key)
				if err != nil {
					return err
				}
				ids, rows, last = append(ids, blobID(pair.Key[len(blobPrefix):])), append(rows, x), pair.Key
				if n++; n == batch {
					break
				}
			}
			for i, id := range ids {
				if err := t.remove(id, rows[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fail("delete all blobs of "+string(did), err)
		}
		if n < batch {
			return nil
		}
		page.From = last + "\x00"
	}
}

// drop deletes objects that a transaction has given up, and then the notes of that.
func (s *Store) drop(ctx context.Context, due int64, objects []string) error {
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = goneKey(due, o)
	}
	return s.dropNoted(ctx, keys)
}

// dropNoted deletes objects that are noted under the keys, and then the keys.
func (s *Store) dropNoted(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = s.dir + goneObject(k)
	}
	if err := s.bucket.Delete(ctx, names...); err != nil {
		return err
	}
	return s.kv.Write(ctx, func(tx storage.KVTx) error { return forget(ctx, tx, keys) })
}

// Collect implements storage.Blobs. Besides staged blobs it deletes three kinds of leftovers in the
// bucket: objects of deleted blobs that are due, orphans in a bounded part of the bucket (see
// Config.SweepObjects), and unfinished uploads. If it returns an error, what was already deleted
// stays deleted. After an error of the bucket it still processes all rows.
func (s *Store) Collect(ctx context.Context, t time.Time) (deleted int, err error) {
	deleted, err = s.collectStaged(ctx, t)
	if err != nil {
		return deleted, fail("collect", err)
	}
	err = s.dropDue(ctx)
	if s.sweepObjects > 0 {
		if _, sweepErr := s.sweep(ctx); err == nil {
			err = sweepErr
		}
		if a, ok := s.bucket.(Aborter); ok && err == nil {
			_, err = a.Abort(ctx, s.dir, s.now().Add(-s.orphanAge))
		}
	}
	if err != nil {
		return deleted, fail("collect", err)
	}
	return deleted, nil
}

// collectStaged deletes the staged blobs of before t.
func (s *Store) collectStaged(ctx context.Context, t time.Time) (deleted int, err error) {
	end := t.UnixMicro()
	if t.After(time.UnixMicro(end)) {
		end++
	}
	page := storage.Range{From: stagedPrefix, To: stagedPrefix + micros(end)}
	for {
		var n, found int
		err := s.write(ctx, func(tx *tx) error {
			var keys []string
			n, found = 0, 0
			for pair, err := range tx.Keys(ctx, page) {
				if err != nil {
					return err
				}
				keys = append(keys, pair.Key)
				if found++; found == batch {
					break
				}
			}
			for _, k := range keys {
				id := blobID(k[min(len(k), len(stagedPrefix)+21):])
				x, err := getRow(ctx, tx, id)
				if errors.Is(err, storage.ErrNotFound) || err == nil && (x.Promoted || x.stagedKey(id) != k) {
					err = tx.del(k) // it leads nowhere, which should not be
				} else if err == nil {
					n++
					err = tx.remove(id, x)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return deleted, err
		}
		if deleted += n; found < batch {
			return deleted, nil
		}
	}
}

// dropDue deletes the objects that are noted and due.
func (s *Store) dropDue(ctx context.Context) error {
	page := storage.Range{From: gonePrefix, To: gonePrefix + micros(s.now().UnixMicro()+1)}
	for {
		var keys []string
		err := s.kv.Read(ctx, func(r storage.KVReader) error {
			keys = nil
			for pair, err := range r.Keys(ctx, page) {
				if err != nil {
					return err
				}
				if keys = append(keys, pair.Key); len(keys) == batch {
					break
				}
			}
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := s.dropNoted(ctx, keys); err != nil {
			return err
		}
		page.From = keys[len(keys)-1] + "\x00"
	}
}
