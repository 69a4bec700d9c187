package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
	"github.com/pdskit/pdskit/storage/durable/files"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

const notes, likes = syntax.NSID("com.example.note"), syntax.NSID("com.example.like")

var ctx = context.Background()

// stores runs a test over each backend.
func stores(t *testing.T, fn func(t *testing.T, store storage.Store)) {
	t.Run("memory", func(t *testing.T) { fn(t, memory.New(memory.Config{})) })
	t.Run("sqlite", func(t *testing.T) {
		testenv.NotOnJS(t, "SQLite has no files")
		db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{Relaxed: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		fn(t, db.Store())
	})
	t.Run("durable", func(t *testing.T) {
		cfg := durable.Config{MaxOpen: 2}
		if runtime.GOOS == "js" { // where SQLite has no files
			cfg.Shared, cfg.Objects = memory.New(memory.Config{}), new(durable.Memory)
			db, err := durable.New(ctx, cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			fn(t, db.Store())
			return
		}
		db, err := files.Open(ctx, t.TempDir(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		fn(t, db.Store())
	})
}

// world is a host, with a clock that the test moves.
type world struct {
	*testing.T
	store storage.Store
	host  *repo.Host
	key   *crypto.PrivateKey
	mu    sync.Mutex
	now   time.Time
}

func newWorld(t *testing.T, store storage.Store) *world {
	key, err := crypto.GenerateKey(crypto.P256)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: store, key: key, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.host = repo.NewHost(repo.Config{
		Store: store, TempDir: t.TempDir(),
		Now:    func() time.Time { return w.tick(time.Millisecond) },
		Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil },
	})
	return w
}

func (w *world) tick(d time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
	return w.now
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func did(i int) syntax.DID { return syntax.DID(fmt.Sprintf("did:web:%d.example", i)) }

func (w *world) record(collection syntax.NSID, text string) []byte {
	b, err := data.Encode(map[string]any{"$type": string(collection), "text": text})
	w.ok(err)
	return b
}

func (w *world) put(collection syntax.NSID, rkey, text string) repo.Write {
	return repo.Write{Action: repo.Put, Collection: collection, RKey: syntax.RecordKey(rkey), Record: w.record(collection, text)}
}

func (w *world) apply(did syntax.DID, b repo.Batch) {
	w.Helper()
	_, err := w.host.Apply(ctx, did, b)
	w.ok(err)
}

// statusKey is where accounts of the test have their status.
const statusKey = "status"

func status(ctx context.Context, r storage.Reader) (string, error) {
	b, err := r.Get(ctx, statusKey)
	if errors.Is(err, storage.ErrNotFound) {
		err = nil
	}
	return string(b), err
}

// setStatus changes the status of an account, with its event.
func (w *world) setStatus(did syntax.DID, status string) {
	kv := storage.KVWrite{Key: statusKey}
	if status != "" {
		kv.Value = []byte(status)
	}
	w.apply(did, repo.Batch{KV: []storage.KVWrite{kv}, Events: []storage.Event{w.host.AccountEvent(did, status)}})
}

func (w *world) delete(did syntax.DID) {
	_, err := w.store.Repos.Delete(ctx, did, []storage.Event{w.host.AccountEvent(did, commit.Deleted)})
	w.ok(err)
}

// reimport replaces a repository with what another host has, where it was written too.
func (w *world) reimport(did syntax.DID, in repo.Import, extra ...repo.Write) {
	var file bytes.Buffer
	w.ok(w.host.Export(ctx, did, "", &file))
	other := newWorld(w.T, memory.New(memory.Config{}))
	other.now = w.now
	keys := []*crypto.PublicKey{w.key.PublicKey()}
	_, err := other.host.Import(ctx, did, &file, repo.Import{Keys: keys})
	w.ok(err)
	other.apply(did, repo.Batch{Writes: extra})
	file.Reset()
	w.ok(other.host.Export(ctx, did, "", &file))
	in.Keys, in.Sync = append(keys, other.key.PublicKey()), true
	_, err = w.host.Import(ctx, did, &file, in)
	w.ok(err)
}

// errIdle is what a drained log says instead of waiting.
var errIdle = errors.New("nothing more")

type drained struct{ storage.Events }

func (d drained) Wait(ctx context.Context, seq int64) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if d.Events.Wait(ctx, seq) == nil {
		return nil
	}
	return errIdle
}

// index is what a caller keeps: rows, revisions, statuses and the position, changed in
// transactions.
type index struct {
	t        *testing.T
	position string
	revs     map[syntax.DID]syntax.TID
	status   map[syntax.DID]string
	rows     map[string]string // DID, space, path → CID
	resets   int
}

func newIndex(t *testing.T) *index {
	return &index{t: t, revs: map[syntax.DID]syntax.TID{}, status: map[syntax.DID]string{}, rows: map[string]string{}}
}

func (x *index) feed(store storage.Store) follow.Feed {
	return follow.Feed{
		Store:    store,
		Position: func(context.Context) (string, error) { return x.position, nil },
		Revision: func(_ context.Context, did syntax.DID) (syntax.TID, error) { return x.revs[did], nil },
		Status:   status,
	}
}

// apply carries out a step and commits it. An operation that does not fit shows that a step came
// twice or that one is missing.
func (x *index) apply(s *follow.Step) error {
	rows := maps.Clone(x.rows)
	if s.Reset {
		x.resets++
		maps.DeleteFunc(rows, func(key, _ string) bool { return key[:len(s.DID)+1] == string(s.DID)+" " })
	}
	for op, err := range s.Ops {
		if err != nil {
			return err
		}
		key := string(s.DID) + " " + op.Path()
		if _, there := rows[key]; there != (op.Action != commit.Create) {
			return fmt.Errorf("step %s: %s of %s, which is there: %v", s.Position, op.Action, key, there)
		}
		if op.Action == commit.Delete {
			delete(rows, key)
			continue
		}
		value, err := op.Value()
		if err != nil || value["$type"] != string(op.Collection) || data.CID(op.Record) != op.CID {
			return fmt.Errorf("step %s: record of %s: %v, %v", s.Position, key, value, err)
		}
		rows[key] = op.CID.String()
	}
	x.rows, x.position, x.revs[s.DID] = rows, s.Position, s.Rev
	if s.Account != nil {
		x.status[s.DID] = s.Account.Status
	}
	if s.Rev == "" {
		delete(x.status, s.DID)
		delete(x.revs, s.DID)
	}
	return nil
}

// run feeds the index until it has caught up, or for most steps. The step after that is begun and
// not committed.
func (x *index) run(store storage.Store, most int) error {
	store.Events = drained{store.Events}
	n := 0
	for s, err := range x.feed(store).Steps(ctx) {
		if err != nil {
			if errors.Is(err, errIdle) {
				return nil
			}
			return err
		}
		if n++; n > most {
			for range s.Ops { // the process dies here
			}
			return nil
		}
		if err := x.apply(s); err != nil {
			return err
		}
	}
	return errors.New("the steps have ended without an error")
}

// compare holds the index against the store.
func (x *index) compare(store storage.Store, what string) {
	x.t.Helper()
	rows, revs, states := map[string]string{}, map[syntax.DID]syntax.TID{}, map[syntax.DID]string{}
	for info, err := range store.Repos.List(ctx, "") {
		if err != nil {
			x.t.Fatal(err)
		}
		revs[info.DID] = info.Head.Rev
		err := store.Repos.View(ctx, info.DID, func(r storage.Reader) (err error) {
			for rec, err := range r.Records(ctx, storage.Range{}) {
				if err != nil {
					return err
				}
				rows[string(info.DID)+" "+rec.Path] = rec.CID.String()
			}
			if states[info.DID], err = status(ctx, r); states[info.DID] == "" {
				delete(states, info.DID)
			}
			return err
		})
		if err != nil {
			x.t.Fatal(err)
		}
	}
	got := maps.Clone(x.status)
	maps.DeleteFunc(got, func(_ syntax.DID, status string) bool { return status == "" })
	if diff := cmp.Diff(rows, x.rows) + cmp.Diff(states, got); diff != "" {
		x.t.Fatalf("%s: the index differs (-store +index):\n%s", what, diff)
	}
	for did, rev := range x.revs {
		if rev > revs[did] {
			x.t.Fatalf("%s: %s has revision %q in the index, %q in the store", what, did, rev, revs[did])
		}
	}
}
