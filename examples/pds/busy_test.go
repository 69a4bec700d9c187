//go:build unix

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/internal/s3test"
)

// busy is a server that people go on writing to.
type busy struct {
	p     *process
	users []*user
	size  int // of a blob, in bytes

	mu    sync.Mutex
	acked []acked
	err   error // a writer has failed
}

// acked is a blob whose record the server has acknowledged.
type acked struct {
	did, cid string
	sum      [sha256.Size]byte
}

// newBusy makes accounts, and fills them with blobs of so many bytes in all.
func newBusy(t *testing.T, p *process, users, size, total int) *busy {
	t.Helper()
	b := &busy{p: p, size: size}
	for i := range users {
		b.users = append(b.users, p.register(fmt.Sprint("writer", i)))
	}
	for i := 0; len(b.acked)*size < total; i++ {
		if err := b.write(t.Context(), b.users[i%users]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// write uploads a blob and makes a record of it.
func (b *busy) write(ctx context.Context, u *user) error {
	data := make([]byte, b.size)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	var blob struct{ Blob json.RawMessage }
	if err := u.Upload(ctx, "com.atproto.repo.uploadBlob", "application/octet-stream", bytes.NewReader(data), &blob); err != nil {
		return err
	}
	var ref struct {
		Ref struct {
			Link string `json:"$link"`
		}
	}
	if err := json.Unmarshal(blob.Blob, &ref); err != nil {
		return err
	}
	in := map[string]any{"repo": u.DID, "collection": "com.example.note", "record": map[string]any{"blob": blob.Blob}}
	if err := u.Procedure(ctx, "com.atproto.repo.createRecord", in, nil); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acked = append(b.acked, acked{string(u.DID), ref.Ref.Link, sha256.Sum256(data)})
	return nil
}

// begin lets everybody write until the returned function is called, which waits for them.
func (b *busy) begin(t *testing.T) (end func()) {
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, u := range b.users {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := b.write(t.Context(), u); err != nil { // what has begun is finished
					b.mu.Lock()
					b.err = err
					b.mu.Unlock()
					return
				}
			}
		})
	}
	return func() {
		t.Helper()
		stop()
		all.Wait()
		if b.err != nil {
			t.Errorf("a writer beside: %v", b.err)
		}
	}
}

// written returns what was acknowledged up to now.
func (b *busy) written() []acked {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.acked[:len(b.acked):len(b.acked)]
}

// beside runs something again and again, until people have written while it ran. It returns what
// was acknowledged before the last time.
func (b *busy) beside(t *testing.T, f func()) (before []acked) {
	t.Helper()
	for {
		before = b.written()
		f()
		b.mu.Lock()
		n, failed := len(b.acked)-len(before), b.err != nil
		b.mu.Unlock()
		if n > 0 || failed || t.Failed() {
			t.Logf("%d blobs were written meanwhile", n)
			return before
		}
	}
}

// holds checks that a server has blobs, byte for byte.
func (p *process) holds(t *testing.T, list []acked) {
	t.Helper()
	for _, a := range list {
		resp, err := p.anonymous().Get(t.Context(), "com.atproto.sync.getBlob", url.Values{"did": {a.did}, "cid": {a.cid}})
		if err != nil {
			t.Fatalf("blob %s: %v", a.cid, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, resp.Body)
		resp.Body.Close()
		if err != nil || [sha256.Size]byte(h.Sum(nil)) != a.sum {
			t.Fatalf("blob %s is another one: %v", a.cid, err)
		}
	}
}

// realSize is how many bytes of blobs the tests beside writers begin with: with PDSKIT_LONG, as many
// as a small server has.
func realSize() (blob, total int) {
	if long() {
		return 1 << 20, 64 << 20
	}
	return 64 << 10, 2 << 20
}

// A backup to a store of objects is made while people write, in full and once more, with what is
// new. The server dies at once. All that it had acknowledged before the last backup is restored, and
// the repositories are whole.
//
//	PDSKIT_LONG=1 go test -run TestBackupWhileWriting -v ./examples/pds   64 MB
func TestBackupWhileWriting(t *testing.T) {
	srv := s3test.Start(t)
	store := newBackupStore(t, srv, srv.Endpoint())
	identity, recipient := identityFile(t)
	root := t.TempDir()
	at := "s3://" + store.bucket + "/pds"
	p := start(t, filepath.Join(root, "data"), "PDS_RATE_LIMITS_ENABLED=false")
	blob, total := realSize()
	b := newBusy(t, p, 4, blob, total)
	o := newOperator(t, filepath.Join(root, "data"), append(store.env, p.port())...)
	end := b.begin(t)
	b.beside(t, func() {
		t.Logf("the first backup took at most %d MB of memory", o.measured(t, "backup", "-to-age", recipient, at))
	})
	before := b.beside(t, func() {
		t.Logf("the next one took at most %d MB of memory", o.measured(t, "backup", "-to-age", recipient, at))
	})
	end()
	p.kill()

	restored := filepath.Join(root, "restored")
	r := newOperator(t, restored, append(store.env, p.port())...)
	r.fails(0, "All is well with 4 accounts", "restore", "-identity", identity, at)
	var found checkReport
	if r.ok(&found, "check"); found.Blobs < len(before) || found.MissingBlobs+found.Found != 0 {
		t.Errorf("%+v, want %d blobs or more", found, len(before))
	}
	t.Logf("%d of %d blobs were there before the last backup, %d are restored", len(before), len(b.acked), found.Blobs)
	p = start(t, restored, p.port(), "PDS_RATE_LIMITS_ENABLED=false")
	p.holds(t, before)
}

// Blobs move to another disk while people upload. When the server has been stopped and the move is
// finished, everything that was acknowledged is at the new place.
//
//	PDSKIT_LONG=1 go test -run TestMoveBlobsWhileUploading -v ./examples/pds   64 MB
func TestMoveBlobsWhileUploading(t *testing.T) {
	root := t.TempDir()
	dir, disk := filepath.Join(root, "data"), filepath.Join(root, "disk", "blobs")
	p := start(t, dir, "PDS_RATE_LIMITS_ENABLED=false")
	blob, total := realSize()
	b := newBusy(t, p, 4, blob, total)
	o := newOperator(t, dir, p.port())
	end := b.begin(t)
	b.beside(t, func() { o.fails(0, "The server is running: stop it", "move-blobs", disk) })
	b.beside(t, func() { o.fails(0, "The server is running: stop it", "move-blobs", disk) })
	end()
	p.interrupt()
	var done struct {
		Finished bool
		Copied   struct{ Files, Written int }
	}
	if o.ok(&done, "move-blobs", disk); !done.Finished || done.Copied.Files != len(b.acked) {
		t.Errorf("%+v of %d", done, len(b.acked))
	}
	t.Logf("of %d blobs, %d were left for when the server had stopped", done.Copied.Files, done.Copied.Written)
	o.fails(1, "PDS_BLOBSTORE_DISK_LOCATION="+disk, "serve")
	var found checkReport
	if newOperator(t, dir, p.port(), "PDS_BLOBSTORE_DISK_LOCATION="+disk).ok(&found, "check"); found.Blobs != len(b.acked) || found.MissingBlobs+found.Found != 0 {
		t.Errorf("%+v, want %d blobs", found, len(b.acked))
	}
	p = start(t, dir, p.port(), "PDS_BLOBSTORE_DISK_LOCATION="+disk, "PDS_RATE_LIMITS_ENABLED=false")
	p.holds(t, b.acked)
}
