package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// blobChecks are the laws of Blobs.
func blobChecks() []check {
	list := []check{
		{name: "Blobs/Stage", law: stageBlob},
		{name: "Blobs/Limit", law: blobLimit},
		{name: "Blobs/BrokenUpload", law: brokenUpload},
		{name: "Blobs/Quota", law: blobQuota},
		{name: "Blobs/QuotaRace", law: raceForQuota},
		{name: "Blobs/StageAgain", law: stageAgain},
		{name: "Blobs/SetMIME", law: setMIME},
		{name: "Blobs/Promote", law: promoteBlob},
		{name: "Blobs/Open", law: openBlob},
		{name: "Blobs/Ranges", law: readRanges},
		{name: "Blobs/Delete", law: deleteBlobs},
		{name: "Blobs/List", law: listBlobs},
		{name: "Blobs/Staged", law: stagedBlobs},
		{name: "Blobs/Collect", law: collectBlobs},
		{name: "Blobs/CollectFresh", law: collectFresh},
		{name: "Blobs/Race", law: raceForBlobs},
		{name: "Blobs/Canceled", law: canceledBlobs},
		{name: "Blobs/Reopen", law: reopenBlobs, needs: persistence},
		{name: "Blobs/Kill", law: killBlobs, needs: persistence},
		{name: "Blobs/Shared", law: sharedBlobs, needs: sharing},
	}
	for seed := range uint64(4) {
		list = append(list, check{name: fmt.Sprint("Blobs/History/", seed), law: func(e *env) { blobHistory(e, seed) }})
	}
	return list
}

const (
	alice = syntax.DID("did:web:alice.example")
	bob   = syntax.DID("did:web:bob.example")
)

// stage stages a blob.
func (e *env) stage(did syntax.DID, content string) storage.BlobInfo {
	e.Helper()
	info, err := e.Blobs.Stage(e.ctx, did, "text/plain", strings.NewReader(content), storage.BlobLimits{})
	e.ok(err, "Stage")
	return info
}

// promoted stages and promotes a blob.
func (e *env) promoted(did syntax.DID, content string) storage.BlobInfo {
	e.Helper()
	info := e.stage(did, content)
	e.ok(e.Blobs.Promote(e.ctx, did, info.CID), "Promote")
	return info
}

// blob compares the state of a blob ("missing", "staged" or "promoted") and its
// content.
func (e *env) blob(s storage.Blobs, did syntax.DID, content, want string) {
	e.Helper()
	c := dag.Sum(dag.Raw, []byte(content))
	got := "staged"
	info, promoted, err := s.Stat(e.ctx, did, c)
	r, opened, openErr := s.Open(e.ctx, did, c)
	if errors.Is(err, storage.ErrNotFound) {
		e.same("missing", want, "blob %q", cut(content))
		e.fails(openErr, storage.ErrNotFound, "Open of blob %q", cut(content))
		return
	}
	e.ok(errors.Join(err, openErr), "Stat and Open of blob %q", cut(content))
	if promoted {
		got = "promoted"
	}
	e.same(got, want, "blob %q", cut(content))
	e.same(info.CID, c, "CID of blob %q", cut(content))
	e.same(info.Size, len(content), "size of blob %q", cut(content))
	e.same(blobString(opened), blobString(info), "Open and Stat of blob %q", cut(content))
	b, err := io.ReadAll(r)
	e.ok(errors.Join(err, r.Close()), "read of blob %q", cut(content))
	if string(b) != content {
		e.Errorf("blob %q has the content %q", cut(content), cut(string(b)))
	}
}

// listed are the CIDs that List yields.
func (e *env) listed(did syntax.DID, after cid.Cid) (list []cid.Cid) {
	e.Helper()
	for info, err := range e.Blobs.List(e.ctx, did, after) {
		e.ok(err, "List")
		list = append(list, info.CID)
	}
	return list
}

func stageBlob(e *env) {
	for _, content := range []string{"", "x", "hello", strings.Repeat("0123456789abcdef", 300_000)} {
		e.blob(e.Blobs, alice, content, "missing")
		before := time.Now()
		info, err := e.Blobs.Stage(e.ctx, alice, "image/png", io.MultiReader(strings.NewReader(content)), storage.BlobLimits{})
		e.ok(err, "Stage")
		want := storage.BlobInfo{CID: dag.Sum(dag.Raw, []byte(content)), Size: int64(len(content)), MIME: "image/png"}
		e.same(blobString(info), blobString(want), "Stage")
		if info.Created.Before(before.Truncate(time.Millisecond)) || info.Created.After(time.Now()) {
			e.Errorf("created %s, at a time since %s", info.Created, before)
		}
		stat, promoted, err := e.Blobs.Stat(e.ctx, alice, info.CID)
		e.ok(err, "Stat")
		e.same(blobString(stat), blobString(want), "Stat")
		e.same(promoted, false, "promoted")
		if d := stat.Created.Sub(info.Created).Abs(); d >= time.Millisecond {
			e.Errorf("Stage and Stat disagree on the age by %s", d)
		}
		e.blob(e.Blobs, alice, content, "staged")
		e.blob(e.Blobs, bob, content, "missing")
	}
	e.same(len(e.listed(alice, cid.Undef)), 0, "staged blobs that List yields")
}

func brokenUpload(e *env) {
	broken := errors.New("broken upload")
	kept := e.promoted(alice, "kept")
	for _, content := range []string{"", "half", strings.Repeat("long", 200_000)} {
		_, err := e.Blobs.Stage(e.ctx, alice, "", errReader(content, broken), storage.BlobLimits{})
		e.fails(err, broken, "Stage of a broken upload")
		e.blob(e.Blobs, alice, content, "missing")
	}
	e.same(e.listed(alice, cid.Undef), []cid.Cid{kept.CID}, "List")
}

// stageAgain: the blob stays as it was, but is young again.
func stageAgain(e *env) {
	staged, promoted := e.stage(alice, "staged"), e.promoted(alice, "promoted")
	waitForClock()
	for _, old := range []storage.BlobInfo{staged, promoted} {
		content := map[cid.Cid]string{staged.CID: "staged", promoted.CID: "promoted"}[old.CID]
		info, err := e.Blobs.Stage(e.ctx, alice, "image/png", strings.NewReader(content), storage.BlobLimits{})
		e.ok(err, "Stage")
		e.same(blobString(info), blobString(old), "Stage of a blob that is %s", content)
		if !info.Created.After(old.Created) {
			e.Errorf("%s blob: the age is not fresh", content)
		}
		e.blob(e.Blobs, alice, content, content)
		stat, _, err := e.Blobs.Stat(e.ctx, alice, old.CID)
		e.ok(err, "Stat")
		e.same(blobString(stat), blobString(old), "Stat")
		if !stat.Created.After(old.Created) {
			e.Errorf("%s blob: the age that Stat tells is not fresh", content)
		}
	}
	// In another account it is another blob.
	info, err := e.Blobs.Stage(e.ctx, bob, "image/png", strings.NewReader("promoted"), storage.BlobLimits{})
	e.ok(err, "Stage")
	e.same(info.MIME, "image/png", "MIME type in another account")
	e.blob(e.Blobs, bob, "promoted", "staged")
}

// setMIME: the type changes, and nothing else does.
func setMIME(e *env) {
	staged, promoted := e.stage(alice, "staged"), e.promoted(alice, "promoted")
	e.promoted(bob, "promoted")
	e.stage(alice, "other")
	for _, old := range []storage.BlobInfo{staged, promoted} {
		content := map[cid.Cid]string{staged.CID: "staged", promoted.CID: "promoted"}[old.CID]
		for _, mime := range []string{"image/png", "image/png", "", "a/" + strings.Repeat("b", 200), "text/plain"} {
			e.ok(e.Blobs.SetMIME(e.ctx, alice, old.CID, mime), "SetMIME")
			old.MIME = mime
			e.blob(e.Blobs, alice, content, content)
			stat, _, err := e.Blobs.Stat(e.ctx, alice, old.CID)
			e.ok(err, "Stat")
			e.same(blobString(stat), blobString(old), "Stat")
			if d := stat.Created.Sub(old.Created).Abs(); d >= time.Millisecond {
				e.Errorf("the age changed by %s", d)
			}
		}
	}
	e.ok(e.Blobs.SetMIME(e.ctx, alice, promoted.CID, "image/png"), "SetMIME")
	stat, _, err := e.Blobs.Stat(e.ctx, bob, promoted.CID)
	e.ok(err, "Stat")
	e.same(stat.MIME, "text/plain", "type of another account's blob")
	stat, _, err = e.Blobs.Stat(e.ctx, alice, dag.Sum(dag.Raw, []byte("other")))
	e.ok(err, "Stat")
	e.same(stat.MIME, "text/plain", "type of another blob")
	for _, c := range []cid.Cid{cid.Undef, dag.Sum(dag.Raw, []byte("none")), dag.Sum(dag.CBOR, []byte("staged"))} {
		e.fails(e.Blobs.SetMIME(e.ctx, alice, c, "image/png"), storage.ErrNotFound, "SetMIME(%s)", c)
	}
	e.fails(e.Blobs.SetMIME(e.ctx, bob, staged.CID, "image/png"), storage.ErrNotFound, "SetMIME of another account's blob")
	e.same(e.listed(alice, cid.Undef), []cid.Cid{promoted.CID}, "List")
	e.collectBefore(time.Now().Add(time.Hour), 2)
	e.blob(e.Blobs, alice, "promoted", "promoted")
}

func promoteBlob(e *env) {
	e.stage(alice, "other")
	e.fails(e.Blobs.Promote(e.ctx, alice, dag.Sum(dag.Raw, []byte("none"))), storage.ErrNotFound, "Promote of a missing blob")
	info := e.promoted(alice, "content")
	e.ok(e.Blobs.Promote(e.ctx, alice, info.CID), "second Promote")
	e.blob(e.Blobs, alice, "content", "promoted")
	e.blob(e.Blobs, alice, "other", "staged")
	e.fails(e.Blobs.Promote(e.ctx, bob, info.CID), storage.ErrNotFound, "Promote of another account's blob")
	e.same(e.listed(alice, cid.Undef), []cid.Cid{info.CID}, "List")
	// CIDs that blobs do not have.
	for _, c := range []cid.Cid{cid.Undef, dag.Sum(dag.CBOR, []byte("content")), cid.NewCidV0(info.CID.Hash())} {
		_, _, err := e.Blobs.Stat(e.ctx, alice, c)
		e.fails(err, storage.ErrNotFound, "Stat(%s)", c)
		_, _, err = e.Blobs.Open(e.ctx, alice, c)
		e.fails(err, storage.ErrNotFound, "Open(%s)", c)
		e.fails(e.Blobs.Promote(e.ctx, alice, c), storage.ErrNotFound, "Promote(%s)", c)
		e.ok(e.Blobs.Delete(e.ctx, alice, c), "Delete(%s)", c)
	}
	e.blob(e.Blobs, alice, "content", "promoted")
}

func openBlob(e *env) {
	content := strings.Repeat("0123456789", 50_000)
	info := e.promoted(alice, content)
	r, _, err := e.Blobs.Open(e.ctx, alice, info.CID)
	e.ok(err, "Open")
	end, err := r.Seek(0, io.SeekEnd)
	e.ok(err, "Seek")
	e.same(end, len(content), "end of the blob")
	for _, at := range []int64{0, 7, 499_990, 250_003} {
		_, err := r.Seek(at, io.SeekStart)
		e.ok(err, "Seek")
		b := make([]byte, 10)
		_, err = io.ReadFull(r, b)
		e.ok(err, "Read")
		e.same(string(b), content[at:at+10], "bytes at %d", at)
	}
	var all bytes.Buffer
	_, err = r.Seek(0, io.SeekStart)
	e.ok(err, "Seek")
	n, err := io.Copy(&all, r)
	e.ok(errors.Join(err, r.Close()), "read")
	if n != int64(len(content)) || all.String() != content {
		e.Errorf("the blob was read as %d other bytes", n)
	}
}

// readRanges: readers of one blob have their own positions, and Seek is that of io.Seeker.
func readRanges(e *env) {
	rng := rand.New(rand.NewPCG(7, 7))
	content := make([]byte, 700_000)
	for i := range content {
		content[i] = byte(rng.Uint32())
	}
	info := e.promoted(alice, string(content))
	type pair struct {
		got  io.ReadSeekCloser
		want *bytes.Reader
	}
	var readers []pair
	for range 3 {
		r, _, err := e.Blobs.Open(e.ctx, alice, info.CID)
		e.ok(err, "Open")
		readers = append(readers, pair{r, bytes.NewReader(content)})
	}
	for range 150 {
		r := readers[rng.IntN(len(readers))]
		whence := rng.IntN(3)
		offset := rng.Int64N(900_000) - 100_000
		if whence == io.SeekEnd {
			offset = -offset
		} else if whence == io.SeekCurrent {
			offset /= 4
		}
		at, err := r.got.Seek(offset, whence)
		want, wantErr := r.want.Seek(offset, whence)
		e.same(at, want, "Seek(%d, %d)", offset, whence)
		e.same(err != nil, wantErr != nil, "Seek(%d, %d) fails", offset, whence)
		b := make([]byte, rng.IntN(50_000))
		n, err := io.ReadFull(r.got, b)
		wantBytes := make([]byte, len(b))
		m, wantErr := io.ReadFull(r.want, wantBytes)
		e.same(n, m, "bytes read from %d", want)
		e.same(err, wantErr, "error of a read from %d", want)
		if !bytes.Equal(b, wantBytes) {
			e.Fatalf("bytes from %d are other ones", want)
		}
	}
	for _, r := range readers {
		e.ok(r.got.Close(), "Close")
	}
}

func deleteBlobs(e *env) {
	staged, promoted := e.stage(alice, "staged"), e.promoted(alice, "promoted")
	e.promoted(alice, "stays")
	e.promoted(bob, "promoted")
	for range 2 { // a missing one is no error
		e.ok(e.Blobs.Delete(e.ctx, alice, staged.CID), "Delete")
		e.ok(e.Blobs.Delete(e.ctx, alice, promoted.CID), "Delete")
	}
	e.blob(e.Blobs, alice, "staged", "missing")
	e.blob(e.Blobs, alice, "promoted", "missing")
	e.blob(e.Blobs, alice, "stays", "promoted")
	e.blob(e.Blobs, bob, "promoted", "promoted")
	e.stage(alice, "promoted")
	e.blob(e.Blobs, alice, "promoted", "staged")
	for range 2 {
		e.ok(e.Blobs.DeleteAll(e.ctx, alice), "DeleteAll")
	}
	e.ok(e.Blobs.DeleteAll(e.ctx, "did:web:nobody.example"), "DeleteAll")
	e.blob(e.Blobs, alice, "stays", "missing")
	e.blob(e.Blobs, alice, "promoted", "missing")
	e.blob(e.Blobs, bob, "promoted", "promoted")
	e.same(len(e.listed(alice, cid.Undef)), 0, "blobs after DeleteAll")
	e.promoted(alice, "stays")
	e.blob(e.Blobs, alice, "stays", "promoted")
}

func listBlobs(e *env) {
	var want []cid.Cid
	for i := range 40 {
		content := fmt.Sprint("blob ", i)
		if i%4 == 0 {
			e.stage(alice, content)
			continue
		}
		info := e.promoted(alice, content)
		want = append(want, info.CID)
		e.promoted(bob, content+" of bob")
	}
	slices.SortFunc(want, func(x, y cid.Cid) int { return strings.Compare(x.KeyString(), y.KeyString()) })
	e.same(e.listed(alice, cid.Undef), want, "List")
	for i, c := range want {
		e.same(e.listed(alice, c), want[i+1:], "List after %s", c)
	}
	between := dag.Sum(dag.Raw, []byte("between"))
	after := slices.IndexFunc(want, func(c cid.Cid) bool { return c.KeyString() > between.KeyString() })
	e.same(e.listed(alice, between), want[after:], "List after a CID that is not there")
	for info, err := range e.Blobs.List(e.ctx, alice, cid.Undef) {
		e.ok(err, "List")
		stat, _, err := e.Blobs.Stat(e.ctx, alice, info.CID)
		e.ok(err, "Stat")
		e.same(info, stat, "List and Stat")
	}
	for range e.Blobs.List(e.ctx, alice, cid.Undef) {
		break
	}
	e.same(len(e.listed("did:web:nobody.example", cid.Undef)), 0, "blobs of nobody")
}

func (e *env) collectBefore(t time.Time, want int) {
	e.Helper()
	n, err := e.Blobs.Collect(e.ctx, t)
	e.ok(err, "Collect")
	e.same(n, want, "blobs collected")
}

func collectBlobs(e *env) {
	e.stage(alice, "old")
	e.stage(bob, "old")
	e.promoted(alice, "old and promoted")
	e.collectBefore(time.Now().Add(-time.Hour), 0)
	limit := waitForClock()
	e.stage(alice, "new")
	e.collectBefore(limit, 2)
	e.blob(e.Blobs, alice, "old", "missing")
	e.blob(e.Blobs, bob, "old", "missing")
	e.blob(e.Blobs, alice, "new", "staged")
	e.blob(e.Blobs, alice, "old and promoted", "promoted")
	e.collectBefore(limit, 0)
	e.collectBefore(time.Now().Add(time.Hour), 1)
	e.blob(e.Blobs, alice, "new", "missing")
	e.blob(e.Blobs, alice, "old and promoted", "promoted")
}

// collectFresh: a blob that is staged again is not old any more.
func collectFresh(e *env) {
	e.stage(alice, "again")
	e.stage(alice, "once")
	e.promoted(alice, "promoted")
	limit := waitForClock()
	e.stage(alice, "again")
	e.stage(alice, "promoted")
	e.collectBefore(limit, 1)
	e.blob(e.Blobs, alice, "again", "staged")
	e.blob(e.Blobs, alice, "once", "missing")
	e.collectBefore(time.Now().Add(time.Hour), 1)
	e.blob(e.Blobs, alice, "promoted", "promoted")
}

// raceForBlobs: a blob that was promoted while blobs are collected is there.
func raceForBlobs(e *env) {
	handles := e.racers()
	done := make(chan struct{})
	var collectors, wg sync.WaitGroup
	collectors.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				runtime.Gosched() // some platforms have one thread and no preemption
				if _, err := handles[0].Blobs.Collect(e.ctx, time.Now().Add(time.Hour)); err != nil {
					e.Errorf("Collect: %v", err)
					return
				}
			}
		}
	})
	kept := make([][]string, 4)
	for i := range kept {
		blobs := handles[i%len(handles)].Blobs
		wg.Go(func() {
			for n := range 40 {
				content := fmt.Sprint("blob ", (n*7+i)%20) // of all
				if n%2 == 0 {
					content = fmt.Sprint("blob ", i*40+n, " of one")
				}
				info, err := blobs.Stage(e.ctx, alice, "text/plain", strings.NewReader(content), storage.BlobLimits{})
				if err != nil {
					e.Errorf("Stage: %v", err)
					return
				}
				switch err := blobs.Promote(e.ctx, alice, info.CID); {
				case err == nil:
					kept[i] = append(kept[i], content)
				case !errors.Is(err, storage.ErrNotFound): // collected
					e.Errorf("Promote: %v", err)
					return
				}
			}
		})
	}
	e.within("racing uploads", wg.Wait)
	close(done)
	e.within("racing collectors", collectors.Wait)
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(kept...))))
	for _, content := range all {
		e.blob(e.Blobs, alice, content, "promoted")
	}
	e.same(len(e.listed(alice, cid.Undef)), len(all), "blobs after the race")
}

func canceledBlobs(e *env) {
	staged, promoted := e.stage(alice, "staged"), e.promoted(alice, "promoted")
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.canceled(map[string]func() error{
		"Stage": func() error {
			_, err := e.Blobs.Stage(ctx, alice, "", strings.NewReader("new"), storage.BlobLimits{})
			return err
		},
		"Usage":     func() error { _, err := e.Blobs.Usage(ctx, alice); return err },
		"Stat":      func() error { _, _, err := e.Blobs.Stat(ctx, alice, staged.CID); return err },
		"SetMIME":   func() error { return e.Blobs.SetMIME(ctx, alice, staged.CID, "image/png") },
		"Promote":   func() error { return e.Blobs.Promote(ctx, alice, staged.CID) },
		"Open":      func() error { _, _, err := e.Blobs.Open(ctx, alice, staged.CID); return err },
		"Delete":    func() error { return e.Blobs.Delete(ctx, alice, staged.CID) },
		"DeleteAll": func() error { return e.Blobs.DeleteAll(ctx, alice) },
		"List":      func() error { _, err := collect(e.Blobs.List(ctx, alice, cid.Undef)); return err },
		"Collect":   func() error { _, err := e.Blobs.Collect(ctx, time.Now().Add(time.Hour)); return err },
	})
	// It ends in the middle of an upload that never does.
	ctx, cancel = context.WithCancel(e.ctx)
	defer cancel()
	n := 0
	e.within("a canceled upload", func() {
		_, err := e.Blobs.Stage(ctx, alice, "", readerFunc(func(b []byte) (int, error) {
			if n++; n == 3 {
				cancel()
			}
			b[0] = 'x'
			return 1, nil
		}), storage.BlobLimits{Size: 1 << 20, Quota: 1 << 20})
		e.fails(err, context.Canceled, "a canceled upload")
	})
	e.blob(e.Blobs, alice, "new", "missing")
	e.blob(e.Blobs, alice, "staged", "staged")
	e.blob(e.Blobs, alice, "promoted", "promoted")
	e.same(e.listed(alice, cid.Undef), []cid.Cid{promoted.CID}, "List")
}

// blobSteps are uploads of all kinds, with the states that they lead to.
func (e *env) blobSteps() []func() map[string]string {
	return []func() map[string]string{
		func() map[string]string { e.stage(alice, "a"); return map[string]string{"a": "staged"} },
		func() map[string]string {
			e.promoted(alice, "b")
			return map[string]string{"a": "staged", "b": "promoted"}
		},
		func() map[string]string {
			for _, content := range []string{"a", "b"} {
				e.ok(e.Blobs.SetMIME(e.ctx, alice, dag.Sum(dag.Raw, []byte(content)), "image/png"), "SetMIME")
			}
			return map[string]string{"a": "staged", "b": "promoted"}
		},
		func() map[string]string {
			e.stage(alice, "b")
			return map[string]string{"a": "staged", "b": "promoted"}
		},
		func() map[string]string {
			e.collectBefore(time.Now().Add(time.Hour), 1)
			return map[string]string{"a": "missing", "b": "promoted"}
		},
		func() map[string]string {
			e.ok(e.Blobs.Delete(e.ctx, alice, dag.Sum(dag.Raw, []byte("b"))), "Delete")
			return map[string]string{"a": "missing", "b": "missing"}
		},
		func() map[string]string { e.promoted(alice, "a"); return map[string]string{"a": "promoted"} },
		func() map[string]string {
			e.ok(e.Blobs.DeleteAll(e.ctx, alice), "DeleteAll")
			return map[string]string{"a": "missing"}
		},
	}
}

// blobStates compares the states that steps have led to, and how many bytes that makes.
func (e *env) blobStates(s storage.Blobs, want map[string]string) {
	e.Helper()
	used := 0
	for content, state := range want {
		e.blob(s, alice, content, state)
		if state != "missing" {
			used += len(content)
		}
	}
	e.used(s, alice, used, "after a step")
}

func reopenBlobs(e *env) {
	for _, step := range e.blobSteps() {
		want := step()
		e.reopen()
		e.blobStates(e.Blobs, want)
	}
}

func killBlobs(e *env) {
	for _, step := range e.blobSteps() {
		want := step()
		s, closeIt := e.backend.Open(e.TB, e.copyFiles())
		e.blobStates(s.Blobs, want)
		e.ok(closeIt(), "close the copy")
	}
}

func sharedBlobs(e *env) {
	other := e.another()
	for _, step := range e.blobSteps() {
		want := step()
		e.blobStates(other.Blobs, want)
		e.blobStates(e.Blobs, want)
	}
}
