package blobfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

func Example() {
	dir, err := os.MkdirTemp("", "blobs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	blobs, err := blobfs.Open(dir, blobfs.Config{})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	limits := storage.BlobLimits{Size: 1 << 20, Quota: 1 << 30}
	info, err := blobs.Stage(ctx, "did:web:alice.example", "text/plain", strings.NewReader("hello"), limits)
	if err != nil {
		panic(err)
	}
	if err := blobs.Promote(ctx, "did:web:alice.example", info.CID); err != nil {
		panic(err)
	}
	r, info, err := blobs.Open(ctx, "did:web:alice.example", info.CID)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Printf("%s %s %d bytes: %s %v\n", info.CID, info.MIME, info.Size, text, err)
	// Output: bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq text/plain 5 bytes: hello <nil>
}
