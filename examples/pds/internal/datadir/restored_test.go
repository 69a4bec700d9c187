package datadir_test

import (
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/s3"
)

// What a restored directory takes for deleted stays in the bucket, which a running server may use.
func TestRestoredDeletesNoObjects(t *testing.T) {
	srv := s3test.Start(t)
	for _, restored := range []bool{false, true} {
		cfg := s3.Config{Bucket: srv.Bucket(t), Endpoint: srv.Endpoint(), ForcePathStyle: true, AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey}
		d := open(t, t.TempDir(), datadir.Options{S3: cfg, Restored: restored})
		did := syntax.DID("did:web:alice.example")
		if _, err := d.Store.Blobs.Stage(t.Context(), did, "text/plain", strings.NewReader("blob"), storage.BlobLimits{}); err != nil {
			t.Fatal(err)
		}
		if err := d.Store.Blobs.DeleteAll(t.Context(), did); err != nil {
			t.Fatal(err)
		}
		objects, err := s3.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range objects.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if want := map[bool]int{false: 0, true: 1}[restored]; n != want {
			t.Errorf("restored %v: %d objects, want %d", restored, n, want)
		}
	}
}
