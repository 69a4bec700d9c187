package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// backend keeps what is opened on a directory, or a copy of it, as if it were there.
func backend() storagetest.Backend {
	var mu sync.Mutex
	worlds := map[string]*world{}
	return storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		mu.Lock()
		defer mu.Unlock()
		name := filepath.Join(dir, "name")
		id, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			id = fmt.Append(nil, len(worlds))
			worlds[string(id)] = newWorld(tb)
			worlds[string(id)].now = nil
			err = os.WriteFile(name, id, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
		return storage.Store{Blobs: worlds[string(id)].open()}, func() error { return nil }
	}}
}

func TestConformance(t *testing.T) { storagetest.RunBlobs(t, backend()) }

const (
	alice = syntax.DID("did:web:alice.example")
	bob   = syntax.DID("did:web:bob.example")
)

// world is what outlives processes: rows, objects and the time.
type world struct {
	testing.TB
	kv      storage.KV
	objects *buckettest.Memory
	clock   time.Time
	now     func() time.Time
	keep    time.Duration
	ctx     context.Context
}

func newWorld(tb testing.TB) *world {
	w := &world{TB: tb, kv: memory.New(memory.Config{}).KV, objects: new(buckettest.Memory), clock: time.Now(), ctx: context.Background()}
	w.now = func() time.Time { w.clock = w.clock.Add(time.Millisecond); return w.clock }
	return w
}

// config is that of a store without faults.
func (w *world) config() bucket.Config {
	return bucket.Config{KV: w.kv, Bucket: w.objects, Prefix: "test/", Now: w.now, KeepDeleted: w.keep}
}

func (w *world) open() *bucket.Store { return w.openAs(w.config()) }

func (w *world) openAs(cfg bucket.Config) *bucket.Store {
	w.Helper()
	s, err := bucket.Open(w.ctx, cfg)
	w.ok(err)
	return s
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) fails(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("error %v, not %v", err, want)
	}
}

func (w *world) stage(s *bucket.Store, did syntax.DID, content string) storage.BlobInfo {
	w.Helper()
	info, err := s.Stage(w.ctx, did, "text/plain", strings.NewReader(content), storage.BlobLimits{})
	w.ok(err)
	return info
}

func (w *world) promoted(s *bucket.Store, did syntax.DID, content string) storage.BlobInfo {
	w.Helper()
	info := w.stage(s, did, content)
	w.ok(s.Promote(w.ctx, did, info.CID))
	return info
}

func (w *world) read(s *bucket.Store, did syntax.DID, c cid.Cid) string {
	w.Helper()
	r, _, err := s.Open(w.ctx, did, c)
	w.ok(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	w.ok(err)
	return string(b)
}

func cidOf(content string) cid.Cid { return dag.Sum(dag.Raw, []byte(content)) }

// check compares rows and objects, and fails if a blob is lost.
func (w *world) check(s *bucket.Store) *bucket.Report {
	w.Helper()
	rep, err := s.Check(w.ctx, func(l bucket.Lost) error {
		w.Errorf("lost: %+v", l)
		return nil
	})
	w.ok(err)
	return rep
}

// clean collects after a day, and sees to it that nothing is left but the objects of blobs.
func (w *world) clean(s *bucket.Store) {
	w.Helper()
	w.clock = w.clock.Add(25 * time.Hour)
	_, err := s.Collect(w.ctx, time.Time{})
	w.ok(err)
	rep := w.check(s)
	if rep.Orphans > 0 || rep.Gone > 0 || w.objects.Len() != rep.Blobs {
		w.Errorf("after a collection there are %d objects: %+v", w.objects.Len(), rep)
	}
}
