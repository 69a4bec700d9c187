package datadir

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/pdskit/pdskit/storage/backup"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/transfer"
)

// Verify returns a backup.Restore.Verify, which calls fn with the directory that was restored. Its
// blobs are in the bucket of the options, if there is one.
func Verify(opt Options, fn func(context.Context, *Dir, *backup.Manifest) error) func(context.Context, string, *backup.Manifest) error {
	return func(ctx context.Context, path string, m *backup.Manifest) error {
		opt.Existing, opt.Restored, opt.Copied = true, true, m.BlobsCopied
		d, err := Open(ctx, path, opt)
		if err != nil {
			return err
		}
		return errors.Join(fn(ctx, d, m), d.Close(), os.Remove(filepath.Join(path, lockName)))
	}
}

// keeping is a bucket from which nothing is deleted: what a copy of the database takes for deleted
// or half made, the server that it was made of may need.
type keeping struct{ bucket.Bucket }

func (keeping) Delete(ctx context.Context, _ ...string) error { return ctx.Err() }

// blobsCopied notes that the blobs, which were in a bucket, are in the directory now; with another
// bucket, or the same one, they are to be put there.
func (d *Dir) blobsCopied(ctx context.Context, opt Options) error {
	if opt.S3.Bucket == "" {
		if err := bucket.Forget(ctx, d.Store.KV); err != nil {
			return err
		}
	}
	return transfer.SetBlobs(ctx, d.Store.KV, KindOfBlobs(opt.S3))
}
