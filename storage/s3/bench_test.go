package s3_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/s3test"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/bucket"
	"github.com/pdskit/pdskit/storage/s3"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// stores are those that are compared: rows in SQLite and objects in versitygw, and files.
func stores(tb testing.TB) map[string]storage.Blobs {
	srv := s3test.Start(tb)
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(tb.TempDir(), "rows.sqlite"), sqlite.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { db.Close() })
	objects, err := s3.New(config(tb, srv))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := bucket.Open(ctx, bucket.Config{KV: db.Store().KV, Bucket: objects})
	if err != nil {
		tb.Fatal(err)
	}
	files, err := blobfs.Open(tb.TempDir(), blobfs.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]storage.Blobs{"s3": s, "blobfs": files}
}

// The server runs on the same machine, so that its work counts too:
//
//	go test -run '^$' -bench . -benchtime 200x ./storage/s3
func BenchmarkStageAndPromote64KiB(b *testing.B) {
	ctx := context.Background()
	content := strings.Repeat("x", 64<<10-8)
	for name, s := range stores(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(64 << 10)
			for i := range b.N {
				info, err := s.Stage(ctx, alice, "text/plain", strings.NewReader(fmt.Sprintf("%08d", i)+content), storage.BlobLimits{})
				if err == nil {
					err = s.Promote(ctx, alice, info.CID)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead64KiB(b *testing.B) {
	ctx := context.Background()
	for name, s := range stores(b) {
		info, err := s.Stage(ctx, alice, "text/plain", strings.NewReader(strings.Repeat("x", 64<<10)), storage.BlobLimits{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(64 << 10)
			for range b.N {
				r, _, err := s.Open(ctx, alice, info.CID)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

const large = 50 << 20

// peak returns how much more heap there is at most while fn runs than before.
func peak(fn func()) int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := int64(m.HeapAlloc), int64(0)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, int64(m.HeapAlloc)-before)
			}
		}
	}()
	fn()
	close(done)
	<-stopped
	return most
}

// upload stages 50 MiB that differ each time.
func upload(tb testing.TB, s storage.Blobs, seed byte) {
	r := io.LimitReader(rand.NewChaCha8([32]byte{seed, 1}), large)
	if _, err := s.Stage(context.Background(), alice, "", r, storage.BlobLimits{Size: large, Quota: 1 << 40}); err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkUpload50MiB(b *testing.B) {
	for name, s := range stores(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(large)
			most := int64(0)
			for i := range b.N {
				most = max(most, peak(func() { upload(b, s, byte(i)) }))
			}
			b.ReportMetric(float64(most)/(1<<20), "MiB-heap")
		})
	}
}

// TestUploadMemory: 50 MiB go through 24 MiB of memory.
func TestUploadMemory(t *testing.T) {
	for name, s := range stores(t) {
		most := peak(func() { upload(t, s, 7) })
		t.Logf("%s: %.1f MiB", name, float64(most)/(1<<20))
		if most > 24<<20 {
			t.Errorf("%s: an upload of 50 MiB takes %.1f MiB of memory", name, float64(most)/(1<<20))
		}
	}
}
