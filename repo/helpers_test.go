package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	notes = syntax.NSID("com.example.note")
)

var ctx = context.Background()

// keys are the signing keys of test accounts.
type keys struct {
	mu sync.Mutex
	m  map[syntax.DID]*crypto.PrivateKey
}

func (k *keys) key(did syntax.DID) *crypto.PrivateKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.m == nil {
		k.m = map[syntax.DID]*crypto.PrivateKey{}
	}
	if k.m[did] == nil {
		key, err := crypto.GenerateKey(crypto.K256)
		if err != nil {
			panic(err)
		}
		k.m[did] = key
	}
	return k.m[did]
}

func (k *keys) signer(_ context.Context, did syntax.DID) (crypto.Signer, error) {
	return k.key(did), nil
}

// stores runs a test over each backend.
func stores(t *testing.T, fn func(t *testing.T, store storage.Store)) {
	t.Run("memory", func(t *testing.T) { fn(t, memory.New(memory.Config{})) })
	t.Run("sqlite", func(t *testing.T) {
		testenv.NotOnJS(t, "SQLite has no files")
		db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		fn(t, db.Store())
	})
}

// allStores is stores with the backend of one database per account.
func allStores(t *testing.T, fn func(t *testing.T, store storage.Store)) {
	stores(t, fn)
	t.Run("durable", func(t *testing.T) {
		testenv.NotOnJS(t, "SQLite has no files")
		db, err := files.Open(ctx, t.TempDir(), durable.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		fn(t, db.Store())
	})
}

// record makes the CBOR of a record.
func record(t testing.TB, v map[string]any) []byte {
	t.Helper()
	b, err := data.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func note(t testing.TB, text string) []byte {
	return record(t, map[string]any{"$type": string(notes), "text": text})
}

// check replays the store's events, each verified and inverted, and holds the result against
// the records, a fresh host's tree, and a verified export.
func check(t *testing.T, store storage.Store, k *keys, want map[syntax.DID]map[string]string) {
	t.Helper()
	verify := commit.Verifier{Key: func(_ context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
		return k.key(did).PublicKey(), nil
	}}
	states := map[syntax.DID]commit.State{}
	replay := map[syntax.DID]map[string]string{}
	lost := map[syntax.DID]bool{} // what was imported is not in the events
	seq := int64(0)
	for ev, err := range store.Events.Since(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Seq <= seq {
			t.Fatalf("sequence number %d after %d", ev.Seq, seq)
		}
		seq = ev.Seq
		switch ev.Kind {
		case commit.KindCommit:
			e, err := commit.DecodeEvent(ev.Payload)
			if err != nil {
				t.Fatal(err)
			}
			next, _, err := verify.Commit(ctx, states[e.Repo], e)
			if err != nil {
				t.Fatalf("event %d: %v", ev.Seq, err)
			}
			states[e.Repo] = next
			if replay[e.Repo] == nil {
				replay[e.Repo] = map[string]string{}
			}
			for _, op := range e.Ops {
				if op.CID.Defined() {
					replay[e.Repo][op.Path] = op.CID.String()
				} else {
					delete(replay[e.Repo], op.Path)
				}
			}
		case commit.KindSync:
			s, err := commit.DecodeSync(ev.Payload)
			if err != nil {
				t.Fatal(err)
			}
			next, err := verify.Sync(ctx, states[s.DID], s)
			if err != nil {
				t.Fatalf("event %d: %v", ev.Seq, err)
			}
			if next != states[s.DID] { // followers fetch the repository again
				states[s.DID] = next
				lost[s.DID] = true
			}
		}
	}
	fresh := repo.NewHost(repo.Config{Store: store, Signer: k.signer})
	for did, records := range want {
		if replay[did] != nil && !lost[did] {
			if diff := cmp.Diff(records, replay[did]); diff != "" {
				t.Errorf("events of %s (-want +replayed):\n%s", did, diff)
			}
		}
		var file bytes.Buffer
		if err := fresh.Export(ctx, did, "", &file); err != nil {
			t.Fatal(err)
		}
		rd, err := commit.ReadRepo(&file, commit.RepoOptions{DID: did, Key: k.key(did).PublicKey(), Stream: true})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for rec, err := range rd.Records() {
			if err != nil {
				t.Fatal(err)
			}
			got[rec.Path] = rec.CID.String()
		}
		rd.Close()
		if diff := cmp.Diff(records, got); diff != "" {
			t.Errorf("export of %s (-want +exported):\n%s", did, diff)
		}
		if st, ok := states[did]; ok && (rd.Commit().Rev != st.Rev || rd.Commit().Data != st.Data) {
			t.Errorf("head of %s is %v, the last event says %v", did, rd.Commit(), st)
		}
	}
}

// faulty is a store whose Apply fails, before or after it has taken effect.
type faulty struct {
	storage.Repos
	mu            sync.Mutex
	before, after bool
}

var errInjected = errors.New("injected")

func (f *faulty) set(before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *faulty) Apply(ctx context.Context, did syntax.DID, c *storage.Change) (int64, error) {
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	if before {
		return 0, errInjected
	}
	seq, err := f.Repos.Apply(ctx, did, c)
	if after {
		return 0, errInjected
	}
	return seq, err
}

func memoryStore() storage.Store { return memory.New(memory.Config{}) }

// apply is Host.Apply with the results kept in a model.
func apply(t testing.TB, h *repo.Host, did syntax.DID, model map[string]string, b repo.Batch) repo.Result {
	t.Helper()
	res, err := h.Apply(ctx, did, b)
	if err != nil {
		t.Fatal(err)
	}
	keep(model, res)
	return res
}

func keep(model map[string]string, res repo.Result) {
	for _, r := range res.Records {
		if r.CID.Defined() {
			model[r.Path] = r.CID.String()
		} else {
			delete(model, r.Path)
		}
	}
}

func create(t testing.TB, h *repo.Host, did syntax.DID) {
	t.Helper()
	if _, err := h.Create(ctx, did, repo.Batch{Sync: true}); err != nil {
		t.Fatal(err)
	}
}

func keyN(i int) syntax.RecordKey { return syntax.RecordKey(fmt.Sprintf("key%04d", i)) }

func clone(m map[string]string) map[string]string { return maps.Clone(m) }

// all returns all records of a repository.
func all(t *testing.T, h *repo.Host, did syntax.DID) (list []storage.Record) {
	t.Helper()
	err := h.View(ctx, did, func(r storage.Reader) error {
		for rec, err := range r.Records(ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			list = append(list, rec)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
