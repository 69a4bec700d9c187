package bucket_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/memory"
)

// The rows are in the store that has everything else, the bytes in a bucket.
func Example() {
	ctx := context.Background()
	store := memory.New(memory.Config{})
	blobs, err := bucket.Open(ctx, bucket.Config{
		KV:     store.KV,
		Bucket: new(buckettest.Memory), // or one of package s3
		Prefix: "pds/",
	})
	if err != nil {
		panic(err)
	}
	store.Blobs = blobs

	info, err := store.Blobs.Stage(ctx, "did:web:alice.example", "text/plain", strings.NewReader("hello"), storage.BlobLimits{Size: 1 << 20})
	if err != nil {
		panic(err)
	}
	if err := store.Blobs.Promote(ctx, "did:web:alice.example", info.CID); err != nil {
		panic(err)
	}
	r, _, err := store.Blobs.Open(ctx, "did:web:alice.example", info.CID)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s has %q\n", info.CID, b)
	// Output: bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq has "hello"
}
