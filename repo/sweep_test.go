package repo_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// stopped is a process's way to blobs, at which it can stand still for as long as others do
// something.
type stopped struct {
	storage.Blobs
	stat, delete func() // after Stat, before Delete; nil: nothing
}

func (s *stopped) Stat(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
	info, promoted, err := s.Blobs.Stat(ctx, did, c)
	if fn := s.stat; fn != nil && err == nil {
		s.stat = nil
		fn()
	}
	return info, promoted, err
}

func (s *stopped) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if fn := s.delete; fn != nil {
		s.delete = nil
		fn()
	}
	return s.Blobs.Delete(ctx, did, c)
}

// One process sweeps blobs while another one writes a record, or imports one, that refers to a blob
// that nothing has referred to for long. Either the blob stays, or the record does not come. Each of
// them may stand still at the worst moment.
func TestSweepBesideAnotherProcess(t *testing.T) {
	for name, imports := range map[string]bool{"write": false, "import": true} {
		for _, sweepStops := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { sweepBeside(t, imports, sweepStops) })
			})
		}
	}
}

// An import with conditions of its own is not refused because of a sweep: it looks again. It is
// refused when a condition does not hold.
func TestImportWithChecksBesideASweep(t *testing.T) {
	k := &keys{}
	store, writing := memoryStore(), &stopped{}
	writing.Blobs = store.Blobs
	s := store
	s.Blobs = writing
	writer := repo.NewHost(repo.Config{Store: s, Signer: k.signer})
	sweeper := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	create(t, writer, alice)
	info, err := writer.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0)
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: info.CID, MIME: "text/plain", Size: 5}.Value()})
	apply(t, writer, alice, map[string]string{}, one(repo.Create, "first", rec, nil))
	apply(t, writer, alice, map[string]string{}, one(repo.Delete, "first", nil, nil))
	if _, err := writer.Step(ctx, alice, func(s *repo.Step) error { s.Set("mine", []byte("1"), time.Time{}); return nil }); err != nil {
		t.Fatal(err)
	}
	export := file(madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{string(notes) + "/second": block(rec)}))
	for _, c := range []struct {
		checks []storage.KVCheck
		want   error
	}{
		{[]storage.KVCheck{{Key: "mine", Value: []byte("2")}}, storage.ErrConflict},
		{[]storage.KVCheck{{Key: "mine"}}, storage.ErrConflict},
		{[]storage.KVCheck{{Key: "other", Value: []byte{}}}, storage.ErrConflict},
		{[]storage.KVCheck{{Key: "mine", Value: []byte("1")}, {Key: "other"}}, nil},
	} {
		writing.stat = func() {
			if n, err := sweeper.SweepBlobs(ctx, alice, time.Now().Add(time.Hour)); n != 1 || err != nil {
				t.Errorf("the sweep deleted %d blobs, %v", n, err)
			}
		}
		if _, err := writer.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true, Checks: c.checks}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.checks, err, c.want)
		}
		if _, err := writer.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0); err != nil {
			t.Fatal(err)
		}
		if c.want != nil {
			if err := store.Blobs.Promote(ctx, alice, info.CID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func sweepBeside(t *testing.T, imports, sweepStops bool) {
	k := &keys{}
	store, writing, sweeping := memoryStore(), &stopped{}, &stopped{}
	writing.Blobs, sweeping.Blobs = store.Blobs, store.Blobs
	host := func(blobs storage.Blobs) *repo.Host {
		s := store
		s.Blobs = blobs
		return repo.NewHost(repo.Config{Store: s, Signer: k.signer})
	}
	writer, sweeper := host(writing), host(sweeping)
	create(t, writer, alice)
	info, err := writer.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0)
	if err != nil {
		t.Fatal(err)
	}
	rec := record(t, map[string]any{"$type": string(notes), "b": data.Blob{Ref: info.CID, MIME: "text/plain", Size: 5}.Value()})
	apply(t, writer, alice, map[string]string{}, one(repo.Create, "first", rec, nil))
	apply(t, writer, alice, map[string]string{}, one(repo.Delete, "first", nil, nil))
	time.Sleep(48 * time.Hour)

	write := func() {
		if !imports {
			_, err = writer.Apply(ctx, alice, one(repo.Create, "second", rec, nil))
			return
		}
		export := file(madeRepo(t, alice, k.key(alice), aTime, map[string]car.Block{string(notes) + "/second": block(rec)}))
		_, err = writer.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true})
	}
	sweep := func() {
		if _, err := sweeper.SweepBlobs(ctx, alice, time.Now().Add(-24*time.Hour)); err != nil {
			t.Error(err)
		}
	}
	if sweepStops {
		sweeping.delete = write
		sweep()
	} else {
		writing.stat = sweep
		write()
	}
	switch {
	case errors.Is(err, repo.ErrBlobNotFound), errors.Is(err, repo.ErrBusy), errors.Is(err, storage.ErrBusy): // nobody was told that it is there
	case err != nil:
		t.Error(err)
	default:
		r, _, err := writer.OpenBlob(ctx, alice, info.CID)
		if err != nil {
			if !imports || sweepStops { // an import may refer to blobs that are to come
				t.Fatalf("the record is there, its blob is not: %v", err)
			}
			missing, _, _ := writer.MissingBlobs(ctx, alice, cid.Undef, 10)
			if len(missing) != 1 {
				t.Fatal("the blob is missing, and nobody is told")
			}
			return
		}
		r.Close()
	}
	// What is written later has its blob, whatever the sweep has left.
	time.Sleep(time.Hour)
	if _, err := writer.UploadBlob(ctx, alice, "text/plain", strings.NewReader("hello"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Apply(ctx, alice, one(repo.Create, "third", rec, nil)); err != nil {
		t.Fatal(err)
	}
	sweep()
	r, _, err := writer.OpenBlob(ctx, alice, info.CID)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}
