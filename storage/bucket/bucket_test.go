package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

func TestOpenNeedsAConfiguration(t *testing.T) {
	kv, b := memory.New(memory.Config{}).KV, new(buckettest.Memory)
	for _, cfg := range []bucket.Config{
		{}, {KV: kv}, {Bucket: b}, {KV: kv, Bucket: b, Prefix: "a b"}, {KV: kv, Bucket: b, Prefix: strings.Repeat("x", 257)},
		{KV: kv, Bucket: b, OrphanAge: -1}, {KV: kv, Bucket: b, KeepDeleted: -1},
	} {
		if _, err := bucket.Open(context.Background(), cfg); err == nil {
			t.Errorf("opened with %+v", cfg)
		}
	}
}

// A process is suspended between its upload and its transaction, for longer than uploads may take.
// Another one deletes the object as an orphan. Then the first one goes on.
func TestSuspendedUpload(t *testing.T) {
	w := newWorld(t)
	other := w.open()
	suspended := false
	cfg := w.config()
	cfg.KV = storagetest.Faults{Before: func(method string) error {
		if method == "KV.Write" && w.objects.Len() == 1 && !suspended {
			suspended = true
			w.clean(other)
			if w.objects.Len() != 0 {
				t.Error("the object was not deleted")
			}
		}
		return nil
	}}.Wrap(storage.Store{KV: w.kv}).KV
	s := w.openAs(cfg)
	_, err := s.Stage(w.ctx, alice, "text/plain", strings.NewReader("content"), storage.BlobLimits{})
	w.fails(err, bucket.ErrExpired)
	_, _, err = s.Stat(w.ctx, alice, cidOf("content"))
	w.fails(err, storage.ErrNotFound)
	w.promoted(s, alice, "content")
	w.clean(other)
	if w.read(other, alice, cidOf("content")) != "content" {
		t.Error("a blob has other bytes")
	}
}

// A clock that was ten years ahead when blobs were collected, and is right again, or is behind.
func TestClockAhead(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	w.promoted(s, alice, "before")
	right := w.clock
	w.clock = right.Add(10 * 365 * 24 * time.Hour)
	_, err := s.Collect(w.ctx, right)
	w.ok(err)
	for _, now := range []time.Time{right, right.Add(-time.Hour), time.UnixMicro(0)} {
		w.clock = now
		content := fmt.Sprint("at ", now)
		info := w.promoted(s, alice, content)
		_, err = s.Collect(w.ctx, w.clock)
		w.ok(err)
		if got := w.read(s, alice, info.CID); got != content {
			t.Errorf("%q, not %q", got, content)
		}
	}
	if rep := w.check(s); rep.Blobs != 4 {
		t.Errorf("%+v", rep)
	}
}

// Collectors whose age of orphans is nothing run beside uploads: uploads may fail, but none that
// succeeded is lost.
func TestCollectorsBesideUploads(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Now, cfg.OrphanAge = nil, time.Nanosecond
	s, collector := w.openAs(cfg), w.openAs(cfg)
	done := make(chan struct{})
	var uploads, wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.Gosched()
				if _, err := collector.Collect(w.ctx, time.Now().Add(-time.Hour)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	var mu sync.Mutex
	kept, expired := map[string]bool{}, 0
	for g := range 4 {
		uploads.Go(func() {
			for i := range 300 {
				content := fmt.Sprint(g, i%100)
				info, err := s.Stage(w.ctx, alice, "", strings.NewReader(content), storage.BlobLimits{})
				if err == nil {
					err = s.Promote(w.ctx, alice, info.CID)
				}
				mu.Lock()
				if err == nil {
					kept[content] = true
				} else if !errors.Is(err, bucket.ErrExpired) {
					t.Error(err)
				} else {
					expired++
				}
				mu.Unlock()
			}
		})
	}
	uploads.Wait()
	close(done)
	wg.Wait()
	for content := range kept {
		if w.read(s, alice, cidOf(content)) != content {
			t.Errorf("blob %q has other bytes", content)
		}
	}
	if rep := w.check(s); rep.Blobs != len(kept) {
		t.Errorf("%d blobs, not %d", rep.Blobs, len(kept))
	}
	t.Logf("%d blobs, %d uploads too late", len(kept), expired)
}

// The comparison of listing and rows goes on where it stopped, and touches nothing that the store
// has not made.
func TestOrphansAreCollectedInParts(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.SweepObjects = 10
	s := w.openAs(cfg)
	const blobs, orphans = 17, 25
	var name string
	for i := range blobs {
		w.promoted(s, alice, fmt.Sprint("blob ", i))
	}
	for o, err := range w.objects.List(w.ctx, "", "") {
		w.ok(err)
		name = o.Name
	}
	dir := name[:strings.LastIndexByte(name, '/')+1]
	for i := range orphans {
		orphan := fmt.Sprintf("%s%014x-%026d", dir, w.clock.UnixMicro()+int64(i), 2222222+i)
		w.ok(w.objects.Put(w.ctx, strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(orphan[len(dir)+15:]), strings.NewReader(""), 0))
		w.ok(w.objects.Put(w.ctx, orphan[:len(dir)+15]+strings.Repeat("a", 24)+string(rune('a'+i))+"x", strings.NewReader("orphan"), 6))
	}
	foreign := []string{"other", dir + "README", dir + "000-x", "test/" + strings.Repeat("a", 16) + "/" + name[len(dir):]}
	for _, f := range foreign {
		w.ok(w.objects.Put(w.ctx, f, strings.NewReader("foreign"), 7))
	}
	before := w.objects.Len()
	w.promoted(s, alice, "blob")
	w.clock = w.clock.Add(25 * time.Hour)
	var left []int
	for range 6 {
		_, err := s.Collect(w.ctx, time.Time{})
		w.ok(err)
		left = append(left, w.objects.Len()-1)
	}
	if left[0] < before-10 || left[5] != before-orphans {
		t.Errorf("of %d objects, collections left %v; %d are orphans", before, left, orphans)
	}
	for _, f := range foreign {
		if _, err := w.objects.Get(w.ctx, f, 0, -1); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	w.check(s)
	// The next round begins at the start: what arrives late is found.
	w.ok(w.objects.Put(w.ctx, dir+fmt.Sprintf("%014x-", w.clock.Add(-48*time.Hour).UnixMicro())+strings.Repeat("z", 26), strings.NewReader("late"), 4))
	for range 6 {
		_, err := s.Collect(w.ctx, time.Time{})
		w.ok(err)
	}
	if n := w.objects.Len() - 1; n != before-orphans {
		t.Errorf("%d objects are left, not %d", n, before-orphans)
	}
}

// Two stores share a bucket, each with its own rows.
func TestStoresInOneBucket(t *testing.T) {
	w := newWorld(t)
	other := *w
	other.kv = memory.New(memory.Config{}).KV
	s, s2 := w.open(), other.open()
	w.promoted(s, alice, "content")
	w.promoted(s2, alice, "content")
	w.clock = w.clock.Add(time.Hour * 48)
	other.clock = w.clock
	for range 2 {
		_, err := s.Collect(w.ctx, w.clock)
		w.ok(err)
		_, err = s2.Collect(w.ctx, w.clock)
		w.ok(err)
	}
	w.ok(s.DeleteAll(w.ctx, alice))
	if got := w.read(s2, alice, cidOf("content")); got != "content" || w.objects.Len() != 1 {
		t.Errorf("%d objects, the blob is %q", w.objects.Len(), got)
	}
}

// A server is started with the wrong bucket, or its blobs are lost.
func TestWrongBucket(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	w.ok(s.Probe(w.ctx))
	a, b := w.promoted(s, alice, "a"), w.promoted(s, alice, "bb")
	w.promoted(s, bob, "c")
	w.ok(s.Probe(w.ctx))
	cfg := w.config()
	cfg.Bucket = new(buckettest.Memory)
	wrong := w.openAs(cfg)
	w.fails(wrong.Probe(w.ctx), bucket.ErrNoObjects)
	var lost []bucket.Lost
	_, err := wrong.Check(w.ctx, func(l bucket.Lost) error { lost = append(lost, l); return nil })
	w.ok(err)
	if len(lost) != 3 {
		t.Errorf("lost: %v", lost)
	}
	r, _, err := wrong.Open(w.ctx, alice, a.CID)
	w.ok(err)
	_, err = io.ReadAll(r)
	w.fails(err, storage.ErrCorrupt)
	w.ok(r.Close())
	// Collections there delete nothing from the rows, and the right bucket is as it was.
	w.clock = w.clock.Add(48 * time.Hour)
	_, err = wrong.Collect(w.ctx, w.clock.Add(-time.Hour))
	w.ok(err)
	w.check(s)
	// One object is lost, one is cut; uploads repair them.
	var names []string
	for o, err := range w.objects.List(w.ctx, "", "") {
		w.ok(err)
		names = append(names, o.Name)
	}
	w.ok(w.objects.Delete(w.ctx, names[0]))
	w.ok(w.objects.Put(w.ctx, names[1], strings.NewReader("b"), 1))
	lost = nil
	rep, err := s.Check(w.ctx, func(l bucket.Lost) error { lost = append(lost, l); return nil })
	w.ok(err)
	want := []bucket.Lost{{DID: alice, CID: a.CID, Object: names[0], Size: 1, Has: -1}, {DID: alice, CID: b.CID, Object: names[1], Size: 2, Has: 1}}
	if len(lost) != 2 || lost[0] != want[0] || lost[1] != want[1] || rep.Blobs != 1 || rep.Lost != 2 {
		t.Errorf("%+v, lost: %v, not %v", rep, lost, want)
	}
	w.stage(s, alice, "a")
	w.stage(s, alice, "bb")
	w.check(s)
	if _, promoted, err := s.Stat(w.ctx, alice, a.CID); err != nil || !promoted {
		t.Errorf("promoted: %v, %v", promoted, err)
	}
	w.clean(s)
}

// What is above the quota is refused before it is uploaded, if it is not long.
func TestQuotaIsLookedAtFirst(t *testing.T) {
	w := newWorld(t)
	puts := 0
	cfg := w.config()
	cfg.Bucket = buckettest.Faults{Before: func(method string) error {
		if method == "Put" {
			puts++
		}
		return nil
	}}.Wrap(w.objects)
	s := w.openAs(cfg)
	_, err := s.Stage(w.ctx, alice, "", strings.NewReader("content"), storage.BlobLimits{Quota: 6})
	w.fails(err, storage.ErrQuota)
	if puts != 0 {
		t.Error("it was uploaded")
	}
	_, err = s.Stage(w.ctx, alice, "", strings.NewReader(long), storage.BlobLimits{Quota: 6})
	w.fails(err, storage.ErrQuota)
	if w.objects.Len() != 0 {
		t.Error("its object was kept")
	}
	for _, did := range []string{"", "did:web:a/b", "did:web:a\x00"} {
		if _, err := s.Stage(w.ctx, "did:web:"+alice[8:]+"/", "", strings.NewReader(did), storage.BlobLimits{}); err == nil {
			t.Errorf("%q was taken for a DID", did)
		}
	}
	if _, err := s.Stage(w.ctx, alice, strings.Repeat("x", 1025), strings.NewReader("x"), storage.BlobLimits{}); err == nil {
		t.Error("a media type of 1025 bytes was taken")
	}
}

// Objects outlive their blobs by the configured time, so that rows from before find them.
func TestKeepDeleted(t *testing.T) {
	w := newWorld(t)
	w.keep = 7 * 24 * time.Hour
	s := w.open()
	a := w.promoted(s, alice, "a")
	w.promoted(s, alice, "b")
	w.stage(s, alice, "c")
	w.ok(s.Delete(w.ctx, alice, a.CID))
	_, _, err := s.Open(w.ctx, alice, a.CID)
	w.fails(err, storage.ErrNotFound)
	w.clock = w.clock.Add(6 * 24 * time.Hour)
	_, err = s.Collect(w.ctx, w.clock)
	w.ok(err)
	w.ok(s.DeleteAll(w.ctx, alice))
	if rep := w.check(s); w.objects.Len() != 3 || rep.Gone != 3 || rep.Blobs != 0 || rep.Orphans != 0 {
		t.Errorf("%d objects, %+v", w.objects.Len(), rep)
	}
	w.clock = w.clock.Add(25 * time.Hour)
	_, err = s.Collect(w.ctx, w.clock)
	w.ok(err)
	if w.objects.Len() != 2 {
		t.Errorf("after seven days there are %d objects", w.objects.Len())
	}
	w.clock = w.clock.Add(7 * 24 * time.Hour)
	w.clean(s)
	if w.objects.Len() != 0 {
		t.Errorf("after fourteen days there are %d objects", w.objects.Len())
	}
}

// While the bucket does not answer, blobs can be deleted; their objects go later.
func TestBucketDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	down := errors.New("no answer")
	var broken error
	cfg := w.config()
	cfg.Bucket = buckettest.Faults{Before: func(string) error { return broken }}.Wrap(w.objects)
	s := w.openAs(cfg)
	a := w.promoted(s, alice, "a")
	w.stage(s, alice, "b")
	for i := range 450 {
		w.stage(s, bob, fmt.Sprint(i))
	}
	broken = down
	w.ok(s.Delete(w.ctx, alice, a.CID))
	w.ok(s.DeleteAll(w.ctx, bob))
	n, err := s.Collect(w.ctx, w.clock.Add(time.Hour))
	if w.fails(err, down); n != 1 {
		t.Errorf("%d blobs collected", n)
	}
	_, err = s.Stage(w.ctx, alice, "", strings.NewReader("c"), storage.BlobLimits{})
	w.fails(err, down)
	w.fails(s.Probe(w.ctx), down)
	w.fails(s.Ping(w.ctx), down)
	if used, _ := s.Usage(w.ctx, alice); used != 0 || w.objects.Len() != 452 {
		t.Errorf("%d bytes used, %d objects", used, w.objects.Len())
	}
	broken = nil
	w.ok(s.Ping(w.ctx))
	_, err = s.Collect(w.ctx, time.Time{})
	if w.ok(err); w.objects.Len() != 0 {
		t.Errorf("%d objects are left", w.objects.Len())
	}
}

// A bucket that says it has stored a blob of which it has not read the end.
func TestBucketThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Bucket = lazyBucket{w.objects}
	s := w.openAs(cfg)
	if _, err := s.Stage(w.ctx, alice, "", strings.NewReader(long), storage.BlobLimits{}); err == nil {
		t.Error("the blob was taken for stored")
	}
	if w.objects.Len() != 0 {
		t.Error("the object was kept")
	}
}

type lazyBucket struct{ *buckettest.Memory }

func (b lazyBucket) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	return b.Memory.Put(ctx, name, bytes.NewReader(make([]byte, 10)), -1)
}
