package edge

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/cloudflare"
)

// noBlobs are the blobs of a part that has none, and takes none: an account's object has its own.
type noBlobs struct{}

var _ storage.Blobs = noBlobs{}

func (noBlobs) Stage(context.Context, syntax.DID, string, io.Reader, storage.BlobLimits) (storage.BlobInfo, error) {
	return storage.BlobInfo{}, cloudflare.ErrElsewhere
}

func (noBlobs) Usage(ctx context.Context, _ syntax.DID) (int64, error) { return 0, ctx.Err() }

func (noBlobs) Stat(ctx context.Context, _ syntax.DID, _ cid.Cid) (storage.BlobInfo, bool, error) {
	return storage.BlobInfo{}, false, absent(ctx)
}

func (noBlobs) SetMIME(ctx context.Context, _ syntax.DID, _ cid.Cid, _ string) error {
	return absent(ctx)
}

func (noBlobs) Promote(ctx context.Context, _ syntax.DID, _ cid.Cid) error { return absent(ctx) }

func (noBlobs) Open(ctx context.Context, _ syntax.DID, _ cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	return nil, storage.BlobInfo{}, absent(ctx)
}

func (noBlobs) Delete(ctx context.Context, _ syntax.DID, _ cid.Cid) error { return ctx.Err() }

func (noBlobs) DeleteAll(ctx context.Context, _ syntax.DID) error { return ctx.Err() }

func (noBlobs) List(ctx context.Context, _ syntax.DID, _ cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(storage.BlobInfo{}, err)
		}
	}
}

func (noBlobs) Collect(ctx context.Context, _ time.Time) (int, error) { return 0, ctx.Err() }

func absent(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.ErrNotFound
}
