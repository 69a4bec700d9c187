package edge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/memory"
)

// objectOf names the object of an account.
func objectOf(n int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:account%d.example.com", n)) }

// Accounts that nobody uses cost their bytes on disk and nothing else: no memory, no goroutine, no open
// file. One that is used is woken, does its work and is forgotten again. There are 40 of them, or as
// many as PDSKIT_ACCOUNTS says; with it, the prices are printed.
func TestIdleAccountsCostNothing(t *testing.T) {
	count, _ := strconv.Atoi(os.Getenv("PDSKIT_ACCOUNTS"))
	count = max(count, 40)
	dir := t.TempDir()
	objects, err := files.OpenObjects(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	p := newPlace(t, "alice.example.com")
	blobs := memory.New(memory.Config{}).Blobs
	wake := func(n int, work func(s *Server)) {
		t.Helper()
		p.set(p.now().Add(11 * time.Second)) // objects end after ten, and clocks of two programs at one time could make one key
		solo, err := durable.OpenSolo(t.Context(), func(ctx context.Context) (durable.Object, error) { return objects.Open(ctx, objectOf(n), true) }, durable.SoloConfig{})
		if err != nil {
			t.Fatal(err)
		}
		p.store = solo.Store()
		p.store.Blobs = blobs
		work(p.start())
		if err := solo.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var did, token string
	wake(0, func(s *Server) {
		status, out := account(t, s, "alice.example.com", invite(t, s))
		if status != 200 {
			t.Fatal(status, out)
		}
		did, token = out["did"].(string), "Bearer "+out["accessJwt"].(string)
		for i := range 20 {
			post(t, s, did, token, i)
		}
	})
	bytes := copyObjects(t, dir, count)
	wake(1, func(s *Server) { post(t, s, did, token, 0) })
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var reads, writes []time.Duration
	for range min(count/2, 300) {
		n := 1 + rand.IntN(count-1)
		began := time.Now()
		wake(n, func(s *Server) {
			if status, out := call(t, s, "GET", "/xrpc/com.atproto.repo.listRecords?collection=com.example.note&repo="+did, "", nil); status != 200 {
				t.Fatal(status, out)
			}
			reads = append(reads, time.Since(began))
			post(t, s, did, token, n)
		})
		writes = append(writes, time.Since(began))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines before, %d after", goroutines, n)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d bytes are kept for accounts that are idle", grown)
	}
	slices.Sort(reads)
	slices.Sort(writes)
	t.Logf("%d accounts of %d KiB on disk each; idle: %d goroutines, heap %+d KiB after %d wake-ups; wake-up with a read: p50 %v, p99 %v; with a read and a write: p50 %v, p99 %v",
		count, bytes>>10, runtime.NumGoroutine()-goroutines, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10, len(reads),
		reads[len(reads)/2], reads[len(reads)*99/100], writes[len(writes)/2], writes[len(writes)*99/100])
}

func post(t *testing.T, s *Server, did, token string, n int) {
	t.Helper()
	status, out := call(t, s, "POST", "/xrpc/com.atproto.repo.createRecord", token, map[string]any{
		"repo": did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "n": n, "text": "a short note"},
	})
	if status != 200 {
		t.Fatal(status, out)
	}
}

// copyObjects makes the objects of all accounts out of the first one's.
func copyObjects(t *testing.T, dir string, count int) (size int64) {
	t.Helper()
	path := func(n int) string {
		sum := sha256.Sum256([]byte(objectOf(n)))
		name := hex.EncodeToString(sum[:])
		return filepath.Join(dir, name[:2], name+".sqlite")
	}
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(path(0) + suffix)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		size += int64(len(text))
		for n := 1; n < count; n++ {
			if err := os.MkdirAll(filepath.Dir(path(n)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path(n)+suffix, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return size
}
