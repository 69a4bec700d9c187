package storagetest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

func blobLimit(e *env) {
	content := strings.Repeat("x", 100_000)
	for _, c := range []struct {
		max int64
		ok  bool
	}{{1, false}, {99_999, false}, {100_000, true}, {100_001, true}, {math.MaxInt64, true}, {0, true}} {
		content := fmt.Sprintf("%06d", c.max%1_000_000) + content[6:]
		info, err := e.Blobs.Stage(e.ctx, alice, "", strings.NewReader(content), storage.BlobLimits{Size: c.max})
		if !c.ok {
			e.fails(err, storage.ErrTooLarge, "Stage of 100,000 bytes with a limit of %d", c.max)
			for _, n := range []int{len(content), int(c.max), int(c.max) + 1} {
				e.blob(e.Blobs, alice, content[:n], "missing")
			}
			continue
		}
		e.ok(err, "Stage of 100,000 bytes with a limit of %d", c.max)
		e.same(info.Size, len(content), "size with a limit of %d", c.max)
		e.blob(e.Blobs, alice, content, "staged")
	}
}

// used compares how many bytes an account's blobs have.
func (e *env) used(s storage.Blobs, did syntax.DID, want int, what string) {
	e.Helper()
	n, err := s.Usage(e.ctx, did)
	e.ok(err, "Usage")
	e.same(n, want, "bytes of blobs %s", what)
}

// blobQuota: what is kept counts, once, whatever its state, and nothing else does.
func blobQuota(e *env) {
	stage := func(did syntax.DID, content string, quota int64) error {
		_, err := e.Blobs.Stage(e.ctx, did, "text/plain", strings.NewReader(content), storage.BlobLimits{Size: 100, Quota: quota})
		return err
	}
	full := func(content string, quota int64, used int) {
		e.Helper()
		e.fails(stage(alice, content, quota), storage.ErrQuota, "%d bytes beside %d of %d", len(content), used, quota)
		e.blob(e.Blobs, alice, content, "missing")
		e.used(e.Blobs, alice, used, "after a blob that was refused")
	}
	e.used(e.Blobs, alice, 0, "of nobody")
	full("12345678901", 10, 0)
	e.ok(stage(alice, "12345", 10), "5 bytes of 10")
	e.ok(stage(alice, "67890", 10), "5 more bytes of 10")
	e.ok(stage(alice, "", 10), "an empty blob")
	e.used(e.Blobs, alice, 10, "that fill the quota")
	full("x", 10, 10)
	for _, content := range []string{"12345", "", "67890"} {
		e.ok(stage(alice, content, 10), "a blob that is there")
		e.ok(stage(alice, content, 1), "a blob that is there, beyond a quota that became less")
	}
	e.ok(stage(bob, "1234567890", 10), "10 bytes of another account")
	kept := dag.Sum(dag.Raw, []byte("12345"))
	e.ok(e.Blobs.Promote(e.ctx, alice, kept), "Promote")
	e.ok(e.Blobs.SetMIME(e.ctx, alice, kept, "image/png"), "SetMIME")
	e.used(e.Blobs, alice, 10, "of which some are promoted")
	full("x", 10, 10)
	e.ok(stage(alice, "12345", 10), "a blob that is promoted")
	e.ok(stage(alice, "yz", 12), "2 bytes of a quota that became more")
	e.ok(stage(alice, "more", 0), "4 bytes without a quota")
	e.used(e.Blobs, alice, 16, "with some above the quota")
	full("x", 12, 16)

	broken := errors.New("broken upload")
	_, err := e.Blobs.Stage(e.ctx, alice, "", errReader("abcd", broken), storage.BlobLimits{Quota: 20})
	e.fails(err, broken, "Stage of a broken upload")
	_, err = e.Blobs.Stage(e.ctx, alice, "", strings.NewReader("abcd"), storage.BlobLimits{Size: 3, Quota: 20})
	e.fails(err, storage.ErrTooLarge, "Stage of too long a blob")
	e.ok(stage(alice, "abcd", 20), "4 bytes after two calls that failed")

	// What is deleted gives its room back.
	e.ok(e.Blobs.Delete(e.ctx, alice, dag.Sum(dag.Raw, []byte("abcd"))), "Delete")
	e.ok(e.Blobs.Delete(e.ctx, alice, dag.Sum(dag.Raw, []byte("never there"))), "Delete")
	e.ok(e.Blobs.Delete(e.ctx, alice, kept), "Delete")
	e.used(e.Blobs, alice, 11, "after a deletion")
	full("123456", 16, 11)
	e.ok(stage(alice, "abcde", 16), "5 bytes after a deletion")
	e.ok(e.Blobs.Promote(e.ctx, alice, dag.Sum(dag.Raw, []byte("abcde"))), "Promote")
	e.collectBefore(time.Now().Add(time.Hour), 5) // one of them is bob's
	e.used(e.Blobs, alice, 5, "after a collection")
	full("123456", 10, 5)
	e.ok(stage(alice, "fghij", 10), "5 bytes after a collection")
	e.ok(e.Blobs.DeleteAll(e.ctx, alice), "DeleteAll")
	e.used(e.Blobs, alice, 0, "after everything was deleted")
	full("12345678901", 10, 0)
	e.ok(stage(alice, "1234567890", 10), "10 bytes after everything was deleted")
	e.ok(stage(bob, "1234567890", 10), "10 bytes of another account")
	e.used(e.Blobs, bob, 10, "of another account")
}

// raceForQuota: uploads at the same time do not share the last room, and none of it is lost.
func raceForQuota(e *env) {
	handles := e.racers()
	const size, room, uploads = 10, 4, 12
	for round := range 4 {
		var wg sync.WaitGroup
		errs := make([]error, uploads)
		start := make(chan struct{})
		for i := range uploads {
			blobs := handles[i%len(handles)].Blobs
			wg.Go(func() {
				<-start
				content := fmt.Sprintf("%03d %06d", round, i)
				var info storage.BlobInfo
				info, errs[i] = blobs.Stage(e.ctx, alice, "text/plain", strings.NewReader(content), storage.BlobLimits{Quota: size*room + 5})
				if errs[i] == nil && i%3 == 0 {
					errs[i] = blobs.Promote(e.ctx, alice, info.CID)
				}
			})
		}
		close(start)
		e.within("racing uploads", wg.Wait)
		kept := 0
		for i, err := range errs {
			if err == nil {
				kept++
			} else if !errors.Is(err, storage.ErrQuota) {
				e.Errorf("upload %d: %v", i, err)
			}
		}
		e.same(kept, room, "blobs of %d bytes in %d", size, size*room+5)
		for _, s := range handles {
			e.used(s.Blobs, alice, size*room, "after the race")
		}
		e.ok(handles[round%len(handles)].Blobs.DeleteAll(e.ctx, alice), "DeleteAll")
	}
}
