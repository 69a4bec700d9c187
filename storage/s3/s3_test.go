package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/s3"
	"github.com/pdskit/pdskit/storage/storagetest"
)

const alice = "did:web:alice.example"

// config is that of a new bucket of a server.
func config(tb testing.TB, srv *s3test.Server) s3.Config {
	return s3.Config{
		Bucket: srv.Bucket(tb), Endpoint: srv.Endpoint(), ForcePathStyle: true,
		AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey,
	}
}

func open(tb testing.TB, cfg s3.Config) *s3.Bucket {
	tb.Helper()
	b, err := s3.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

func TestBucket(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	buckettest.Run(t, func(tb testing.TB) bucket.Bucket { return open(tb, cfg) })
}

func TestConditionalWrites(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	cfg.ConditionalWrites = true
	b, ctx := open(t, cfg), context.Background()
	for _, n := range []int{10, 6 << 20} {
		name := fmt.Sprint("object-", n)
		content := strings.Repeat("x", n)
		if err := b.Put(ctx, name, strings.NewReader(content), -1); err != nil {
			t.Fatal(err)
		}
		// Of the same length, it may be an attempt of ours whose answer was lost.
		var e *s3.Error
		if err := b.Put(ctx, name, strings.NewReader(content+"y"), -1); !errors.As(err, &e) || e.Status != http.StatusPreconditionFailed {
			t.Errorf("an object of %d bytes was overwritten: %v", n, err)
		}
		r, err := b.Get(ctx, name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(r); len(got) != n {
			t.Errorf("the object has %d bytes", len(got))
		}
		r.Close()
	}
}

// TestConformance runs the suite of package storage with the rows in memory.
func TestConformance(t *testing.T) {
	srv := s3test.Start(t)
	var mu sync.Mutex
	type world struct {
		kv storage.KV
		b  *s3.Bucket
	}
	worlds := map[string]world{}
	storagetest.RunBlobs(t, storagetest.Backend{Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
		mu.Lock()
		defer mu.Unlock()
		name := filepath.Join(dir, "name")
		id, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			id = fmt.Append(nil, len(worlds))
			worlds[string(id)] = world{memory.New(memory.Config{}).KV, open(t, config(t, srv))}
			err = os.WriteFile(name, id, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
		w := worlds[string(id)]
		s, err := bucket.Open(context.Background(), bucket.Config{KV: w.kv, Bucket: w.b, Prefix: "pds/"})
		if err != nil {
			tb.Fatal(err)
		}
		return storage.Store{Blobs: s}, func() error { return nil }
	}})
}

// What is stored cannot be read without credentials, and a signed address can be for its time.
func TestNothingIsPublic(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	b, ctx := open(t, cfg), context.Background()
	s, err := bucket.Open(ctx, bucket.Config{KV: memory.New(memory.Config{}).KV, Bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	const page = "<script>alert(1)</script>"
	info, err := s.Stage(ctx, alice, "text/html", strings.NewReader(page), storage.BlobLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var name string
	for o, err := range b.List(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		name = o.Name
	}
	if strings.Contains(name, "alice") || strings.Contains(name, info.CID.String()) {
		t.Errorf("the object is called %s", name)
	}
	get := func(url string) (*http.Response, string) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	plain := srv.Endpoint() + "/" + cfg.Bucket + "/" + name
	if resp, body := get(plain); resp.StatusCode != http.StatusForbidden || strings.Contains(body, "script") {
		t.Errorf("without credentials: %s, %q", resp.Status, body)
	}
	url, _, err := s.URL(ctx, alice, info.CID, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := get(url)
	if h := resp.Header; resp.StatusCode != 200 || body != page || h.Get("Content-Disposition") != "attachment" || h.Get("Content-Type") != "text/html" {
		t.Errorf("%s, %q, %v", resp.Status, body, h)
	}
	for what, url := range map[string]string{
		"another type":   strings.Replace(url, "text%2Fhtml", "text%2Fxml", 1),
		"another time":   strings.Replace(url, "Expires=60", "Expires=600", 1),
		"another object": strings.Replace(url, name, name+"x", 1),
	} {
		if resp, body := get(url); resp.StatusCode != http.StatusForbidden || strings.Contains(body, "script") {
			t.Errorf("the address with %s: %s", what, resp.Status)
		}
	}
	for _, valid := range []time.Duration{0, -1, 8 * 24 * time.Hour} {
		if _, _, err := s.URL(ctx, alice, info.CID, valid); err == nil {
			t.Errorf("an address was made that is valid for %s", valid)
		}
	}
	// With the wrong credentials there is no way.
	cfg.SecretAccessKey = "wrong"
	wrong := open(t, cfg)
	var e *s3.Error
	if _, err := wrong.Get(ctx, name, 0, -1); !errors.As(err, &e) || e.Status != http.StatusForbidden || e.Code != "SignatureDoesNotMatch" || e.Unavailable() || errors.Is(err, bucket.ErrNoObject) {
		t.Errorf("Get with the wrong key: %v", err)
	}
	if strings.Contains(fmt.Sprint(e), "wrong\"") {
		t.Errorf("the error tells the key: %v", e)
	}
}

// Unfinished uploads of processes that died are aborted when they are old.
func TestAbort(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	proxy := newProxy(t, srv.Addr)
	cfg.Endpoint, cfg.Attempts = proxy.endpoint(), 1
	b, ctx := open(t, cfg), context.Background()
	for i := range 3 {
		// The connection is cut after the first part, and the process cannot abort any more.
		n := 0
		err := b.Put(ctx, fmt.Sprint("pds/", i), readerFunc(func(p []byte) (int, error) {
			if n += len(p); n > 12<<20 {
				proxy.refuse(true)
			}
			return len(p), nil
		}), -1)
		if err == nil {
			t.Fatal("the upload succeeded")
		}
		proxy.refuse(false)
	}
	for _, c := range []struct {
		prefix string
		age    time.Duration
		want   int
	}{{"pds/", time.Hour, 0}, {"other/", -time.Hour, 0}, {"pds/", -time.Hour, 3}, {"pds/", -time.Hour, 0}} {
		if n, err := b.Abort(ctx, c.prefix, time.Now().Add(-c.age)); err != nil || n != c.want {
			t.Errorf("of %q, older than %s: %d, %v, not %d", c.prefix, c.age, n, err, c.want)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Connections are cut at random moments, and answers come slowly: what a call says it did, it did.
func TestCutConnections(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	proxy := newProxy(t, srv.Addr)
	cfg.Endpoint = proxy.endpoint()
	cfg.ConditionalWrites = true // also when the answer was lost
	b, ctx := open(t, cfg), context.Background()
	s, err := bucket.Open(ctx, bucket.Config{KV: memory.New(memory.Config{}).KV, Bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	content := make([]byte, 12<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(content)
	uploads, reads := 0, 0
	for i := range 30 {
		blob := content[:100_000+i]
		if i%3 == 0 {
			blob = content[i : 6<<20+rng.IntN(5<<20)]
		}
		proxy.cutAfter(rng.Int64N(2 * int64(len(blob))))
		info, err := s.Stage(ctx, alice, "", bytes.NewReader(blob), storage.BlobLimits{})
		if err != nil {
			var e *s3.Error
			if !errors.As(err, &e) || !e.Unavailable() {
				t.Errorf("upload %d: %v", i, err)
			}
			proxy.cutAfter(0)
			continue
		}
		uploads++
		proxy.cutAfter(rng.Int64N(2 * int64(len(blob))))
		r, _, err := s.Open(ctx, alice, info.CID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err == nil {
			reads++
			if !bytes.Equal(got, blob) {
				t.Errorf("blob %d has other bytes", i)
			}
		}
		r.Close()
		proxy.cutAfter(0)
	}
	if uploads < 20 || reads < uploads-5 {
		t.Errorf("%d uploads and %d reads of 30 succeeded", uploads, reads)
	}
	t.Logf("%d uploads and %d reads of 30, %d connections cut", uploads, reads, proxy.cuts())
	rep, err := s.Check(ctx, func(l bucket.Lost) error { t.Errorf("lost: %v", l); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if rep.Blobs < uploads {
		t.Errorf("%+v after %d uploads", rep, uploads)
	}
}

// A store that takes requests and says nothing is given up after a while; one that is slow is not.
func TestStalls(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	proxy := newProxy(t, srv.Addr)
	cfg.Endpoint, cfg.StallTimeout, cfg.Attempts = proxy.endpoint(), 300*time.Millisecond, 2
	b, ctx := open(t, cfg), context.Background()
	content := strings.Repeat("x", 3<<20)
	proxy.slow(7 * time.Millisecond) // for each 32 KiB
	cfg.StallTimeout = 1500 * time.Millisecond
	long := strings.NewReader(strings.Repeat("x", 9<<20)) // takes longer than that
	if err := open(t, cfg).Put(ctx, "long", long, -1); err != nil {
		t.Fatalf("a slow upload: %v", err)
	}
	if err := open(t, cfg).Put(ctx, "slow", strings.NewReader(content), -1); err != nil {
		t.Fatalf("a slow upload: %v", err)
	}
	r, err := b.Get(ctx, "slow", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	half, err := io.ReadAll(io.LimitReader(r, 1<<20))
	time.Sleep(600 * time.Millisecond) // the reader has something else to do
	rest, err2 := io.ReadAll(r)
	if err := errors.Join(err, err2, r.Close()); err != nil || len(half)+len(rest) != len(content) {
		t.Errorf("a slow read: %d bytes, %v", len(half)+len(rest), err)
	}
	r, err = b.Get(ctx, "slow", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	proxy.stall(true)
	proxy.slow(0)
	start := time.Now()
	_, err = io.ReadAll(r)
	unavailable(t, "a read that stalls", err)
	r.Close()
	unavailable(t, "an upload that stalls", b.Put(ctx, "new", strings.NewReader(content), -1))
	_, err = b.Get(ctx, "slow", 0, 1)
	unavailable(t, "a request that stalls", err)
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("it took %s", d)
	}
	proxy.stall(false)
	if r, err = b.Get(ctx, "slow", 0, 1); err != nil {
		t.Fatal(err)
	}
	r.Close()

	cfg.UploadTimeout = 200 * time.Millisecond
	proxy.slow(10 * time.Millisecond)
	err = open(t, cfg).Put(ctx, "too slow", strings.NewReader(content), -1)
	unavailable(t, "an upload that is too slow", err)
	proxy.slow(0)
	proxy.refuse(true)
	unavailable(t, "an upload to nobody", b.Put(ctx, "new", strings.NewReader("x"), 1))
}

func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	var e *s3.Error
	if !errors.As(err, &e) || !e.Unavailable() || errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v (%T)", what, err, err)
	}
}

// The server is killed during uploads: what was stored is there afterwards.
func TestServerKilled(t *testing.T) {
	srv := s3test.Start(t)
	cfg := config(t, srv)
	cfg.Attempts, cfg.StallTimeout = 2, 2*time.Second
	b, ctx := open(t, cfg), context.Background()
	s, err := bucket.Open(ctx, bucket.Config{KV: memory.New(memory.Config{}).KV, Bucket: b})
	if err != nil {
		t.Fatal(err)
	}
	stored := 0
	for i := range 4 {
		blob := bytes.Repeat([]byte{byte(i)}, 7<<20)
		n := 0
		info, err := s.Stage(ctx, alice, "", io.MultiReader(bytes.NewReader(blob[:1]), readerFunc(func(p []byte) (int, error) {
			k := copy(p, blob[1+n:])
			n += k
			if k == 0 {
				return 0, io.EOF
			}
			if n > 6<<20 && i%2 == 1 {
				srv.Kill()
			}
			return k, nil
		})), storage.BlobLimits{})
		if i%2 == 1 {
			unavailable(t, "an upload whose server was killed", err)
			srv.Restart(t)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		stored++
		if err := s.Promote(ctx, alice, info.CID); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := s.Check(ctx, func(l bucket.Lost) error { t.Errorf("lost: %v", l); return nil })
	if err != nil || rep.Blobs != stored {
		t.Errorf("%+v, %v", rep, err)
	}
	if _, err := s.Collect(ctx, time.Now()); err != nil {
		t.Error(err)
	}
}
