package s3_test

import (
	"context"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/s3"
)

// A store whose blobs are in Cloudflare R2, and everything else in a database.
func Example() {
	withBlobs := func(ctx context.Context, store storage.Store, keyID, secret string) (storage.Store, error) {
		objects, err := s3.New(s3.Config{
			Bucket:          "pds-blobs",
			Endpoint:        "https://0123456789abcdef.r2.cloudflarestorage.com",
			Region:          "auto",
			AccessKeyID:     keyID,
			SecretAccessKey: secret,
		})
		if err != nil {
			return store, err
		}
		blobs, err := bucket.Open(ctx, bucket.Config{KV: store.KV, Bucket: objects})
		if err != nil {
			return store, err
		}
		store.Blobs = blobs
		return store, blobs.Probe(ctx) // is it the right bucket?
	}
	_ = withBlobs
}
