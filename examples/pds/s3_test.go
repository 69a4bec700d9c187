package main_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/storage/s3"
)

// getBlob fetches a blob, or a range of it.
func (u *user) getBlob(t *testing.T, p *process, b blob, byteRange string) (status int, content string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, p.url+"/xrpc/com.atproto.sync.getBlob?did="+url.QueryEscape(string(u.DID))+"&cid="+b.Ref.Link, nil)
	if err != nil {
		t.Fatal(err)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// bucketEnv is the environment of a server whose blobs are in a new bucket.
func bucketEnv(t testing.TB, srv *s3test.Server) []string {
	return []string{
		"PDS_BLOBSTORE_S3_BUCKET=" + srv.Bucket(t), "PDS_BLOBSTORE_S3_ENDPOINT=" + srv.Endpoint(), "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=" + s3test.AccessKeyID, "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=" + s3test.SecretAccessKey,
	}
}

// A server's blobs move from disk to a bucket; it is killed, backed up and restored there.
func TestBlobsInABucket(t *testing.T) {
	srv := s3test.Start(t)
	env := append([]string{"PDS_PORT=0"}, bucketEnv(t, srv)...)
	_, name, _ := strings.Cut(env[1], "=")
	root := t.TempDir()
	dir, backup, restored := filepath.Join(root, "data"), filepath.Join(root, "backup"), filepath.Join(root, "restored")
	o := newOperator(t, dir, env...)

	p := start(t, dir)
	alice := p.register("alice")
	first, err := alice.upload(t, "image/png", picture)
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.refer(t, first); err != nil {
		t.Fatal(err)
	}
	p.interrupt()

	o.fails(1, "pds check -blobs-from", "serve")
	o.fails(3, "pds check -blobs-from", "check")
	var back struct{ PutBack, Found int }
	if o.ok(&back, "check", "-blobs-from", dir); back.PutBack != 1 || back.Found != 0 {
		t.Errorf("%+v", back)
	}
	if err := os.RemoveAll(filepath.Join(dir, "pds.sqlite.blobs")); err != nil {
		t.Fatal(err)
	}

	p = start(t, dir, env...)
	if alice, err = p.login(t, alice.Handle, "password of alice"); err != nil {
		t.Fatal(err)
	}
	if status, body := alice.getBlob(t, p, first, ""); status != 200 || body != string(picture) {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	if status, body := alice.getBlob(t, p, first, "bytes=10-19"); status != 206 || body != string(picture[10:20]) {
		t.Errorf("status %d, %q", status, body)
	}
	changed := append([]byte(nil), picture...)
	second, err := alice.upload(t, "image/png", append(changed, 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.refer(t, second); err != nil {
		t.Fatal(err)
	}
	p.kill()
	o.fails(0, "All is well", "check")
	o.fails(0, "All is well", "check", "-fast")
	o.fails(0, "without the blobs, which are in the S3 bucket "+name, "backup", backup)

	// Without the bucket, the backup is not restored; with it, nothing is missing.
	newOperator(t, restored, "PDS_PORT=0").fails(1, "set PDS_BLOBSTORE_S3_BUCKET", "restore", backup)
	r := newOperator(t, restored, env...)
	r.fails(0, "All is well", "restore", backup)
	r.fails(0, "All is well", "check")
	p = start(t, restored, env...)
	if status, body := alice.getBlob(t, p, second, ""); status != 200 || len(body) != len(picture)+3 {
		t.Errorf("status %d, %d bytes", status, len(body))
	}
	p.interrupt()

	// The bucket has lost everything, or is the wrong one.
	objects, err := s3.New(s3.Config{Bucket: name, Endpoint: srv.Endpoint(), ForcePathStyle: true, AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var names []string
	for obj, err := range objects.List(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, obj.Name)
	}
	if err := objects.Delete(ctx, names[1:]...); err != nil {
		t.Fatal(err)
	}
	o.fails(3, "1 blobs are not in the S3 bucket "+name, "check", "-fast")
	if err := objects.Delete(ctx, names...); err != nil {
		t.Fatal(err)
	}
	o.fails(1, "none of the blobs' objects is in the bucket", "serve")
	wrong := newOperator(t, dir, append(env, "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=wrong")...)
	wrong.fails(1, "SignatureDoesNotMatch", "serve")
	wrong = newOperator(t, dir, append(env, "PDS_BLOBSTORE_DISK_LOCATION="+root)...)
	wrong.fails(2, "PDS_BLOBSTORE_DISK_LOCATION are both set", "serve")
	wrong = newOperator(t, dir, env[0], env[2], env[4])
	wrong.fails(2, "PDS_BLOBSTORE_S3_BUCKET", "serve")
}
