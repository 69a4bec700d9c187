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

// Usage implements storage.Blobs. It reads one row.
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

// Stat implements storage.Blobs. It makes no request to the bucket.
func (s *Store) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	x, err := s.row(ctx, did, c)
	if err != nil {
		return storage.BlobInfo{}, false, err
	}
	return x.info(c), x.Promoted, nil
}

// URL returns a URL from which anybody can fetch a blob for the given time, directly from the
// bucket. The bucket must be a [Presigner]; otherwise the error is errors.ErrUnsupported.
//
// The bucket's response is an attachment with the blob's media type. It lacks
// "X-Content-Type-Options: nosniff" and "Content-Security-Policy", which S3 cannot send, so serve
// it from a separate domain. A blob that is taken down can still be fetched until the time is over,
// so keep it short.
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

// Open implements storage.Blobs. The first request to the bucket is made by Read, not by Open: a
// blob whose object was lost can be opened, and Read then fails with storage.ErrCorrupt. Reads
// continue after a broken connection. If a blob is read from its start to its end, its bytes are
// compared with its CID; a difference gives storage.ErrCorrupt instead of io.EOF.
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

// List implements storage.Blobs. It reads rows in pages of bounded size, and makes no request to
// the bucket. Blobs that are added or removed meanwhile may or may not be listed.
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
