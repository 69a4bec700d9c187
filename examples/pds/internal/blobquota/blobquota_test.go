package blobquota_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/blobquota"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	"github.com/pdskit/pdskit/storage/storagetest"
)

const alice, bob = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"

var errFull = errors.New("full")

func open(t *testing.T, dir string, limit int64) *blobquota.Blobs {
	t.Helper()
	b := blobquota.New(limit, errFull)
	store, err := blobfs.Open(dir, blobfs.Config{Quota: b.Allow})
	if err != nil {
		t.Fatal(err)
	}
	return b.Over(store)
}

func stage(t *testing.T, b *blobquota.Blobs, did syntax.DID, text string) (storage.BlobInfo, error) {
	return b.Stage(t.Context(), did, "text/plain", strings.NewReader(text), 0)
}

func TestQuota(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	b := open(t, dir, 10)
	kept, err := stage(t, b, alice, "12345")
	if err != nil {
		t.Fatal(err)
	}
	lost, err := stage(t, b, alice, "abcd")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is there already costs nothing
		if _, err := stage(t, b, alice, "12345"); err != nil {
			t.Errorf("again: %v", err)
		}
	}
	if _, err := stage(t, b, alice, "xy"); !errors.Is(err, errFull) {
		t.Errorf("beyond the quota: %v", err)
	}
	if _, err := stage(t, b, bob, "1234567890"); err != nil {
		t.Errorf("another account: %v", err)
	}
	if err := b.Promote(ctx, alice, kept.CID); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t, b, alice, "xy"); !errors.Is(err, errFull) {
		t.Errorf("beyond the quota, with a blob that is used: %v", err)
	}
	if _, err := b.Collect(ctx, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Stat(ctx, alice, lost.CID); !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := stage(t, b, alice, "12346"); err != nil {
		t.Errorf("after what was not used is gone: %v", err)
	}

	// Another process finds what is used.
	b = open(t, dir, 10)
	if _, err := stage(t, b, alice, "123456"); !errors.Is(err, errFull) {
		t.Errorf("after a restart: %v", err)
	}
	if err := b.Delete(ctx, alice, kept.CID); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t, b, alice, "123456"); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	if err := b.DeleteAll(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t, b, alice, "1234567890"); err != nil {
		t.Errorf("after everything was deleted: %v", err)
	}
	if _, err := stage(t, b, bob, "12345678901"); !errors.Is(err, errFull) {
		t.Errorf("more than all: %v", err)
	}
}

// Uploads at the same moment do not share the last room.
func TestQuotaRace(t *testing.T) {
	b := open(t, t.TempDir(), 10)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for i := range 16 {
		wg.Go(func() {
			_, err := stage(t, b, alice, "four"[:3]+string(rune('a'+i)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				kept++
			} else if !errors.Is(err, errFull) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if kept != 2 {
		t.Errorf("%d blobs of 4 bytes in 10", kept)
	}
}

// With room enough, a counted store is a store like any other.
func TestConformance(t *testing.T) {
	storagetest.RunBlobs(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			b := blobquota.New(1<<40, errFull)
			store, err := blobfs.Open(dir, blobfs.Config{Quota: b.Allow})
			if err != nil {
				tb.Fatal(err)
			}
			return storage.Store{Blobs: b.Over(store)}, func() error { return nil }
		},
	})
}
