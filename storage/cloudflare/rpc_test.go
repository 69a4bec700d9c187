package cloudflare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/storagetest"
)

// The contract of repositories and events holds for accounts whose directory is behind calls.
func TestDirectoryByCalls(t *testing.T) {
	type kept struct {
		objects *durable.Memory
		shared  storage.Store
	}
	dirs := map[string]kept{}
	storagetest.RunRepos(t, storagetest.Backend{
		Open: func(tb testing.TB, dir string) (storage.Store, func() error) {
			k, ok := dirs[dir]
			if !ok {
				k = kept{new(durable.Memory), memory.New(memory.Config{})}
				dirs[dir] = k
			}
			answer := AnswerDirectory(durable.NewDirectory(k.shared))
			db, err := durable.New(tb.Context(), durable.Config{Shared: k.shared, Directory: directory{remote{answer}}, Objects: k.objects, MaxOpen: 2})
			if err != nil {
				tb.Fatal(err)
			}
			return db.Store(), db.Close
		},
		Exclusive: true, Buffers: true,
	})
}

// A directory that never answers a delivery does not keep the account for good: the change fails as one
// whose end is unknown, and whoever comes next finds out. What arrives late after all has no effect.
func TestDirectoryThatNeverAnswers(t *testing.T) {
	for _, arrives := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			shared := memory.New(memory.Config{})
			answer := AnswerDirectory(durable.NewDirectory(shared))
			var late func()
			hang := ""
			remote := RemoteDirectory(func(ctx context.Context, method string, body []byte) ([]byte, error) {
				if method != hang {
					return answer(ctx, method, body)
				}
				hang = ""
				late = func() { _, _ = answer(context.WithoutCancel(ctx), method, body) }
				if arrives {
					late()
				}
				<-ctx.Done()
				return nil, ctx.Err()
			})
			db, err := durable.New(t.Context(), durable.Config{Shared: shared, Directory: remote, Objects: new(durable.Memory)})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			const did = syntax.DID("did:plc:slow")
			head := func(n int) (h storage.Head) {
				if b := []byte{byte(n)}; n > 0 {
					h = storage.Head{Commit: dag.Sum(dag.CBOR, b), Data: dag.Sum(dag.CBOR, b), Rev: syntax.NewTID(time.UnixMicro(int64(n)), 0)}
				}
				return h
			}
			change := func(n int) error {
				_, err := db.Store().Repos.Apply(t.Context(), did, &storage.Change{
					Prev: head(n - 1), Head: head(n), Commit: []byte{byte(n)},
					Events: []storage.Event{{DID: did, Kind: "#commit", Time: time.UnixMilli(int64(n)), Payload: []byte{byte(n)}}},
				})
				return err
			}
			apply := func(n int) {
				t.Helper()
				if err := change(n); err != nil {
					t.Fatal(err)
				}
			}
			apply(1)
			for n, method := range []string{methodDeliver, methodEntry} {
				hang = method
				begin := time.Now()
				if method == methodEntry { // which is asked after a failure only
					err = db.Store().Repos.View(t.Context(), did, func(storage.Reader) error { return nil })
				} else {
					err = change(2)
				}
				var u interface{ Unavailable() bool }
				if !errors.Is(err, ErrNoAnswer) || !errors.As(err, &u) || !u.Unavailable() || time.Since(begin) != CallTime {
					t.Fatalf("%d: %v after %v", n, err, time.Since(begin))
				}
			}
			apply(3)
			late()
			apply(4)
			n := 0
			for _, err := range shared.Events.Since(t.Context(), 0) {
				if n++; err != nil {
					t.Fatal(err)
				}
			}
			if n != 4 {
				t.Errorf("%d events of 4 changes", n)
			}
		})
	}
}

// Errors keep their meaning on their way.
func TestRemoteErrors(t *testing.T) {
	for _, err := range append(sentinels, errors.New("another one")) {
		d := directory{remote{func(context.Context, string, []byte) ([]byte, error) {
			return appendError(fmt.Errorf("it failed: %w", err)), nil
		}}}
		_, _, got := d.Entry(t.Context(), "did:plc:x")
		for _, s := range sentinels {
			if errors.Is(got, s) != errors.Is(err, s) {
				t.Errorf("%v has become %v", err, got)
			}
		}
	}
	answer := AnswerDirectory(durable.NewDirectory(memory.New(memory.Config{})))
	if _, err := answer(t.Context(), "directory.other", nil); err == nil {
		t.Error("a method that there is not")
	}
	for _, m := range []string{methodEntry, methodDeliver, methodRemove, methodAnnounce} {
		d := directory{remote{func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			return answer(ctx, m, []byte{0x80, 0x01})
		}}}
		if _, _, err := d.Entry(t.Context(), "did:plc:x"); err == nil {
			t.Errorf("%s of nonsense", m)
		}
	}
}

// A call is read as it was written, and nonsense is an error.
func FuzzChange(f *testing.F) {
	f.Add(appendChange(nil, "did:plc:x", &storage.Change{}))
	f.Add(appendChange(nil, "did:plc:x", &storage.Change{
		Head:   storage.Head{Rev: "3jzfcijpj2z2a"},
		Commit: []byte("commit"), Events: []storage.Event{{DID: "did:plc:x", Kind: "#commit", Time: time.UnixMilli(5), Weight: 3, Payload: []byte{0xa0}}},
		Checks: []storage.KVCheck{{Key: "a"}, {Key: "b", Value: []byte{}}},
		KV:     []storage.KVWrite{{Key: "a", Value: []byte("x"), Expires: time.UnixMicro(7)}, {Key: "b"}},
	}))
	f.Add([]byte{0x87})
	f.Fuzz(func(t *testing.T, b []byte) {
		did, c, err := readChange(cbor.NewReader(b))
		if err != nil {
			return
		}
		if again := appendChange(nil, did, c); !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %s %+v, which is %x", b, syntax.DID(did), c, again)
		}
	})
}
