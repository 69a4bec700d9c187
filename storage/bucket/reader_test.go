package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/bucket/buckettest"
)

// Connections break while a blob is read: it goes on where it was.
func TestReadsGoOn(t *testing.T) {
	w := newWorld(t)
	content := strings.Repeat("0123456789", 200_000)
	gets := 0
	cfg := w.config()
	cfg.Bucket = buckettest.Faults{
		After: func(method string) error {
			if method == "Get" {
				if gets++; gets%3 == 1 {
					return errors.New("no answer")
				}
			}
			return nil
		},
		Body: func(r io.ReadCloser) io.ReadCloser { return cutReader{r, 200_000}.reader() },
	}.Wrap(w.objects)
	s := w.openAs(cfg)
	info := w.promoted(s, alice, content)
	if w.read(s, alice, info.CID) != content {
		t.Error("the blob has other bytes")
	}
	if gets < 10 || gets > 20 {
		t.Errorf("%d requests", gets)
	}
}

// A bucket that brings nothing, or a byte at a time, is not asked for good.
func TestReadsEnd(t *testing.T) {
	for name, body := range map[string]func(io.ReadCloser) io.ReadCloser{
		"no byte":            func(r io.ReadCloser) io.ReadCloser { return cutReader{r, 0}.reader() },
		"a byte per request": func(r io.ReadCloser) io.ReadCloser { return cutReader{r, 1}.reader() },
		"an end too early":   func(r io.ReadCloser) io.ReadCloser { return io.NopCloser(io.LimitReader(r, 10)) },
		"no progress":        func(io.ReadCloser) io.ReadCloser { return io.NopCloser(idle{}) },
	} {
		w := newWorld(t)
		gets := 0
		cfg := w.config()
		cfg.Bucket = buckettest.Faults{After: func(method string) error {
			if method == "Get" {
				gets++
			}
			return nil
		}, Body: body}.Wrap(w.objects)
		s := w.openAs(cfg)
		info := w.promoted(s, alice, long)
		r, _, err := s.Open(w.ctx, alice, info.CID)
		w.ok(err)
		if _, err := io.ReadAll(r); err == nil || errors.Is(err, storage.ErrCorrupt) || gets > 32 {
			t.Errorf("%s: %d requests, error %v", name, gets, err)
		}
		w.ok(r.Close())
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// While a blob is read, it is uploaded again, and then deleted.
func TestReadOfAnOldObject(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	content := strings.Repeat("0123456789", 100_000)
	info := w.promoted(s, alice, content)
	r, _, err := s.Open(w.ctx, alice, info.CID)
	w.ok(err)
	_, err = r.Seek(100, io.SeekStart)
	w.ok(err)
	b := make([]byte, 1000)
	_, err = io.ReadFull(r, b)
	w.ok(err)
	w.stage(s, alice, content)
	rest, err := io.ReadAll(r)
	w.ok(err)
	if string(b)+string(rest) != content[100:] {
		t.Error("the blob has other bytes")
	}
	_, err = r.Seek(0, io.SeekStart)
	w.ok(err)
	w.ok(s.Delete(w.ctx, alice, info.CID))
	_, err = io.ReadAll(r)
	w.fails(err, storage.ErrNotFound)
	w.ok(r.Close())
	if _, err := r.Read(b); err == nil || r.Close() == nil {
		t.Error("a closed blob was read, or closed again")
	}
}

// Other bytes under the right name: they are noticed before the last of them are given out.
func TestOtherBytes(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	info := w.promoted(s, alice, "content")
	for o, err := range w.objects.List(w.ctx, "", "") {
		w.ok(err)
		w.ok(w.objects.Put(w.ctx, o.Name, strings.NewReader("CONTENT"), 7))
	}
	r, _, err := s.Open(w.ctx, alice, info.CID)
	w.ok(err)
	b, err := io.ReadAll(r)
	if w.fails(err, storage.ErrCorrupt); len(b) == len("content") {
		t.Errorf("%q was read", b)
	}
}

// Random seeks and reads, compared with a reader in memory; and a small range costs a small one.
func TestSeeks(t *testing.T) {
	w := newWorld(t)
	var taken int64
	cfg := w.config()
	cfg.Bucket = countingBucket{w.objects, &taken}
	s := w.openAs(cfg)
	content := make([]byte, 3<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	info := w.promoted(s, alice, string(content))
	r, _, err := s.Open(w.ctx, alice, info.CID)
	w.ok(err)
	want := bytes.NewReader(content)
	for i := range 400 {
		offset, whence := rng.Int64N(4<<20)-1<<19, rng.IntN(4)
		if whence == io.SeekEnd {
			offset -= 3 << 20
		}
		if i%50 == 0 {
			offset, whence = 0, io.SeekStart
		}
		at, err := r.Seek(offset, whence)
		wantAt, wantErr := want.Seek(offset, whence)
		if at != wantAt || (err == nil) != (wantErr == nil) {
			t.Fatalf("Seek(%d, %d): %d, %v, not %d, %v", offset, whence, at, err, wantAt, wantErr)
		}
		n := rng.IntN(1 << 19)
		got, err := io.ReadAll(io.LimitReader(r, int64(n)))
		w.ok(err)
		if b, _ := io.ReadAll(io.LimitReader(want, int64(n))); !bytes.Equal(got, b) {
			t.Fatalf("%d bytes at %d are other ones", n, at)
		}
	}
	taken = 0
	_, err = r.Seek(10, io.SeekStart)
	w.ok(err)
	_, err = io.ReadFull(r, make([]byte, 10))
	w.ok(err)
	if taken > 256<<10 {
		t.Errorf("10 bytes cost %d", taken)
	}
}

// countingBucket counts the bytes that are asked for.
type countingBucket struct {
	*buckettest.Memory
	n *int64
}

func (b countingBucket) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	*b.n += length
	return b.Memory.Get(ctx, name, offset, length)
}

func TestURL(t *testing.T) {
	w := newWorld(t)
	s := w.open()
	info := w.promoted(s, alice, "content")
	_, _, err := s.URL(w.ctx, alice, info.CID, 0)
	w.fails(err, errors.ErrUnsupported)
	cfg := w.config()
	cfg.Bucket = signingBucket{w.objects}
	s = w.openAs(cfg)
	url, _, err := s.URL(w.ctx, alice, info.CID, 5)
	w.ok(err)
	if !strings.HasPrefix(url, "signed:test/") || !strings.HasSuffix(url, ":text/plain") {
		t.Error(url)
	}
	_, _, err = s.URL(w.ctx, bob, info.CID, 5)
	w.fails(err, storage.ErrNotFound)
}

type signingBucket struct{ *buckettest.Memory }

func (signingBucket) URL(ctx context.Context, name, mime string, valid time.Duration) (string, error) {
	return "signed:" + name + ":" + mime, ctx.Err()
}

var _ bucket.Presigner = signingBucket{}
