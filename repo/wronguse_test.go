package repo_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
)

// An event that no subscriber could read would end every stream that comes to it, and a row of an
// index that the caller writes would make the index wrong. Neither goes along with a change.
func TestWhatMustNotGoAlongWithAChange(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
		create(t, h, alice)
		var file bytes.Buffer
		if err := h.Export(ctx, alice, "", &file); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		payload := (&commit.Identity{DID: alice, Time: now}).Payload()
		good := storage.Event{DID: alice, Kind: commit.KindIdentity, Time: now, Payload: payload}
		_, newest, err := store.Events.Bounds(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*storage.Event){
			"the zero event":               func(e *storage.Event) { *e = storage.Event{} },
			"no kind":                      func(e *storage.Event) { e.Kind = "" },
			"a kind without its sign":      func(e *storage.Event) { e.Kind = "identity" },
			"a kind of its own":            func(e *storage.Event) { e.Kind = "#poem" },
			"no account":                   func(e *storage.Event) { e.DID = "" },
			"another account's message":    func(e *storage.Event) { e.DID = bob },
			"no message":                   func(e *storage.Event) { e.Payload = nil },
			"a message that is no CBOR":    func(e *storage.Event) { e.Payload = []byte("{}") },
			"a message of another kind":    func(e *storage.Event) { e.Kind = commit.KindCommit },
			"a message with more after it": func(e *storage.Event) { e.Payload = append(bytes.Clone(payload), 0xa0) },
		} {
			ev := good
			change(&ev)
			events := []storage.Event{good, ev}
			for what, do := range map[string]func() error{
				"Apply":  func() error { _, err := h.Apply(ctx, alice, repo.Batch{Events: events}); return err },
				"Create": func() error { _, err := h.Create(ctx, bob, repo.Batch{Events: events}); return err },
				"Delete": func() error { return h.Delete(ctx, alice, events...) },
				"Import": func() error {
					_, err := h.Import(ctx, alice, bytes.NewReader(file.Bytes()), repo.Import{Unverified: true, Events: events})
					return err
				},
			} {
				if err := do(); !errors.Is(err, repo.ErrInvalidBatch) {
					t.Errorf("%s with %s: %v", what, name, err)
				}
			}
		}
		for _, key := range []string{"", "index/", "index/subject/x"} {
			if _, err := h.Apply(ctx, alice, repo.Batch{KV: []storage.KVWrite{{Key: key, Value: []byte("x")}}}); !errors.Is(err, repo.ErrInvalidBatch) {
				t.Errorf("key %q: %v", key, err)
			}
		}
		if _, now, err := store.Events.Bounds(ctx); err != nil || now != newest {
			t.Errorf("the log grew: %v", err)
		}
		if _, err := h.Apply(ctx, alice, repo.Batch{Events: []storage.Event{good}}); err != nil {
			t.Error(err)
		}
		// What is left out.
		for name, do := range map[string]func() error{
			"Import": func() error { _, err := h.Import(ctx, alice, nil, repo.Import{Unverified: true}); return err },
			"Import with a nil key": func() error {
				_, err := h.Import(ctx, alice, bytes.NewReader(file.Bytes()), repo.Import{Keys: []*crypto.PublicKey{nil}})
				return err
			},
			"Import with the zero key": func() error {
				_, err := h.Import(ctx, alice, bytes.NewReader(file.Bytes()), repo.Import{Keys: []*crypto.PublicKey{{}}})
				return err
			},
			"Export":       func() error { return h.Export(ctx, alice, "", nil) },
			"ExportBlocks": func() error { _, err := h.ExportBlocks(ctx, alice, nil, nil); return err },
			"UploadBlob":   func() error { _, err := h.UploadBlob(ctx, alice, "", nil, 1); return err },
		} {
			if err := do(); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
}
