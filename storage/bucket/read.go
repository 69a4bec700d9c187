package bucket

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Usage implements storage.Blobs. It costs one read of a row.
func (s *Store) Usage(ctx context.Context, did syntax.DID) (n int64, err error) {
	err = s.kv.Read(ctx, func(r storage.KVReader) error {
		n, err = number(ctx, r, usagePrefix+string(did))
		return err
	})
	if err != nil {
		return 0, fail("count the blobs of "+string(did), err)
	}
	return n, nil
}

// row returns the row of a blob, or ErrNotFound.
func (s *Store) row(ctx context.Context, did syntax.DID, c cid.Cid) (x *row, err error) {
	id, ok := idOf(did, c)
	if !ok {
		return nil, notFound(c)
	}
	err = s.kv.Read(ctx, func(r storage.KVReader) error {
		x, err = getRow(ctx, r, id)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, notFound(c)
	} else if err != nil {
		return nil, fail("find a blob", err)
	}
	return x, nil
}

// Stat implements storage.Blobs. It makes no request of the bucket.
func (s *Store) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	x, err := s.row(ctx, did, c)
	if err != nil {
		return storage.BlobInfo{}, false, err
	}
	return x.info(c), x.Promoted, nil
}

// URL returns an address from which anybody can fetch a blob for the given time, straight from the
// bucket. It works only with a bucket that is a [Presigner]; otherwise the error is
// errors.ErrUnsupported.
//
// The bucket's answer is an attachment of the blob's media type; it has no
// "X-Content-Type-Options: nosniff" and no "Content-Security-Policy", which S3 cannot be told to
// send. Serve it from a domain of its own. A blob that is taken down meanwhile can be fetched until
// the time is over, so keep that short.
func (s *Store) URL(ctx context.Context, did syntax.DID, c cid.Cid, valid time.Duration) (string, storage.BlobInfo, error) {
	p, ok := s.bucket.(Presigner)
	if !ok {
		return "", storage.BlobInfo{}, fmt.Errorf("bucket: addresses of blobs: %w", errors.ErrUnsupported)
	}
	x, err := s.row(ctx, did, c)
	if err != nil {
		return "", storage.BlobInfo{}, err
	}
	url, err := p.URL(ctx, s.dir+x.Object, x.MIME, valid)
	if err != nil {
		return "", storage.BlobInfo{}, fail("make the address of a blob", err)
	}
	return url, x.info(c), nil
}

// Open implements storage.Blobs. The bucket is asked by the first Read, not by Open: a blob whose
// object was lost can be opened, and its Read fails with storage.ErrCorrupt. Reads go on where they
// were after a connection broke. A blob that is read from its start to its end is compared with its
// CID: other bytes give storage.ErrCorrupt instead of io.EOF.
//
// The reader is for one goroutine. The context applies to all its reads.
func (s *Store) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	x, err := s.row(ctx, did, c)
	if err != nil {
		return nil, storage.BlobInfo{}, err
	}
	return newReader(ctx, s, did, c, x), x.info(c), nil
}

// listPage is how many rows List reads at a time.
const listPage = 256

// rawPrefix begins the binary CIDs of all blobs.
var rawPrefix = dag.CID(dag.Raw, new(dag.Digest)).KeyString()[:4]

// List implements storage.Blobs. It reads the rows in pages of a bounded size and makes no request
// of the bucket. Blobs that come or go meanwhile may or may not show.
func (s *Store) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		if err := s.list(ctx, did, true, after, yield); err != nil {
			yield(storage.BlobInfo{}, fail("list blobs", err))
		}
	}
}

// Staged implements storage.StagedBlobs. It reads the rows of all blobs of the account.
func (s *Store) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		if err := s.list(ctx, did, false, cid.Undef, yield); err != nil {
			yield(storage.BlobInfo{}, fail("list staged blobs", err))
		}
	}
}

func (s *Store) list(ctx context.Context, did syntax.DID, promoted bool, after cid.Cid, yield func(storage.BlobInfo, error) bool) error {
	all := storage.Prefix(blobPrefix + string(did) + "/")
	switch digest, ok := strings.CutPrefix(after.KeyString(), rawPrefix); {
	case ok:
		all.From += hex.EncodeToString([]byte(digest)) + "\x00"
	case after.KeyString() > rawPrefix:
		return ctx.Err()
	}
	for {
		var page []storage.BlobInfo
		n := 0
		err := s.kv.Read(ctx, func(r storage.KVReader) error {
			page, n = page[:0], 0
			for pair, err := range r.Keys(ctx, all) {
				if err != nil {
					return err
				}
				x, err := parseRow(pair.Value, pair.Key)
				if err != nil {
					return err
				}
				_, c, err := blobID(pair.Key[len(blobPrefix):]).split()
				if err != nil {
					return err
				}
				all.From = pair.Key + "\x00"
				if x.Promoted == promoted {
					page = append(page, x.info(c))
				}
				if n++; n == listPage {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, info := range page {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !yield(info, nil) {
				return nil
			}
		}
		if n < listPage {
			return nil
		}
	}
}
