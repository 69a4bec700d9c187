package memory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// blobs keeps the bytes of blobs.
type blobs struct {
	now func() time.Time
	mu  sync.Mutex
	all map[blobKey]*blob
	// used is how many bytes the blobs of an account have.
	used map[syntax.DID]int64
}

type blobKey struct {
	did syntax.DID
	cid string // binary
}

type blob struct {
	info     storage.BlobInfo
	data     []byte
	promoted bool
}

func newBlobs(now func() time.Time) *blobs {
	return &blobs{now: now, all: make(map[blobKey]*blob), used: make(map[syntax.DID]int64)}
}

func keyOf(did syntax.DID, c cid.Cid) blobKey { return blobKey{did, c.KeyString()} }

func (b *blobs) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	most := limits.Size
	if most > 0 && most < math.MaxInt64 {
		r = io.LimitReader(r, most+1)
	}
	data, err := io.ReadAll(ctxReader{ctx, r})
	if err != nil {
		return storage.BlobInfo{}, err
	}
	if most > 0 && int64(len(data)) > most {
		return storage.BlobInfo{}, fmt.Errorf("%w: more than %d bytes", storage.ErrTooLarge, most)
	}
	digest := sha256.Sum256(data)
	info := storage.BlobInfo{CID: dag.CID(dag.Raw, &digest), Size: int64(len(data)), MIME: mime, Created: b.now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.all[keyOf(did, info.CID)]; old != nil {
		old.info.Created = info.Created
		return old.info, nil
	}
	if limits.Quota > 0 && info.Size > limits.Quota-b.used[did] {
		return storage.BlobInfo{}, fmt.Errorf("%w: %d bytes beside %d, of %d", storage.ErrQuota, info.Size, b.used[did], limits.Quota)
	}
	b.all[keyOf(did, info.CID)] = &blob{info: info, data: data}
	b.used[did] += info.Size
	return info, nil
}

func (b *blobs) Usage(ctx context.Context, did syntax.DID) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[did], nil
}

// freed counts a blob that was deleted. The caller holds the lock.
func (b *blobs) freed(did syntax.DID, x *blob) {
	if b.used[did] -= x.info.Size; b.used[did] == 0 {
		delete(b.used, did)
	}
}

// remove deletes the blobs for which fn returns true. The caller holds the lock.
func (b *blobs) remove(fn func(blobKey, *blob) bool) (deleted int) {
	maps.DeleteFunc(b.all, func(k blobKey, x *blob) bool {
		if !fn(k, x) {
			return false
		}
		deleted++
		b.freed(k.did, x)
		return true
	})
	return deleted
}

// ctxReader fails when its context ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// find returns a blob or ErrNotFound. The caller holds the lock.
func (b *blobs) find(ctx context.Context, did syntax.DID, c cid.Cid) (*blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if x := b.all[keyOf(did, c)]; x != nil {
		return x, nil
	}
	return nil, fmt.Errorf("%w: blob %s", storage.ErrNotFound, c)
}

func (b *blobs) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.find(ctx, did, c)
	if err != nil {
		return storage.BlobInfo{}, false, err
	}
	return x.info, x.promoted, nil
}

func (b *blobs) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.find(ctx, did, c)
	if err == nil {
		x.info.MIME = mime
	}
	return err
}

func (b *blobs) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.find(ctx, did, c)
	if err == nil {
		x.promoted = true
	}
	return err
}

type blobReader struct{ *bytes.Reader }

func (blobReader) Close() error { return nil }

func (b *blobs) Open(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x, err := b.find(ctx, did, c)
	if err != nil {
		return nil, storage.BlobInfo{}, err
	}
	return blobReader{bytes.NewReader(x.data)}, x.info, nil
}

func (b *blobs) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if x := b.all[keyOf(did, c)]; x != nil {
		delete(b.all, keyOf(did, c))
		b.freed(did, x)
	}
	return nil
}

func (b *blobs) DeleteAll(ctx context.Context, did syntax.DID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(func(k blobKey, _ *blob) bool { return k.did == did })
	return nil
}

func (b *blobs) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return b.list(ctx, did, true, after)
}

// Staged implements storage.StagedBlobs.
func (b *blobs) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return b.list(ctx, did, false, cid.Undef)
}

func (b *blobs) list(ctx context.Context, did syntax.DID, promoted bool, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return until(ctx, func(yield func(storage.BlobInfo) bool) {
		var list []storage.BlobInfo
		b.mu.Lock()
		for k, x := range b.all {
			if k.did == did && x.promoted == promoted && k.cid > after.KeyString() {
				list = append(list, x.info)
			}
		}
		b.mu.Unlock()
		slices.SortFunc(list, func(x, y storage.BlobInfo) int {
			return strings.Compare(x.CID.KeyString(), y.CID.KeyString())
		})
		for _, info := range list {
			if !yield(info) {
				return
			}
		}
	})
}

func (b *blobs) Collect(ctx context.Context, t time.Time) (deleted int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.remove(func(_ blobKey, x *blob) bool { return !x.promoted && x.info.Created.Before(t) }), nil
}
