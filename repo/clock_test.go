package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/storage/sqlite"
)

// testClock is a clock that tests set.
type testClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// revOf creates an account or writes to it, and returns how far its revision is ahead of noon.
func revOf(t *testing.T, h *repo.Host, did syntax.DID, key syntax.RecordKey) time.Duration {
	t.Helper()
	if _, err := h.Head(ctx, did); errors.Is(err, repo.ErrRepoNotFound) {
		create(t, h, did)
	}
	res, err := h.Apply(ctx, did, one(repo.Create, key, note(t, "x"), nil))
	if err != nil {
		t.Fatal(err)
	}
	return res.Head.Rev.Time().Sub(noon)
}

// TestAClockThatWasAheadOnce: the host writes while its clock is two hours ahead; then the clock is
// right. Only the account that was written follows its own revision.
func TestAClockThatWasAheadOnce(t *testing.T) {
	for _, restart := range []bool{false, true} {
		stores(t, func(t *testing.T, store storage.Store) {
			k := &keys{}
			clock := &testClock{t: noon.Add(2 * time.Hour)}
			cfg := repo.Config{Store: store, Signer: k.signer, Now: clock.now}
			h := repo.NewHost(cfg)
			create(t, h, bob)
			clock.add(-2 * time.Hour)
			if restart {
				h = repo.NewHost(cfg)
			}
			if ahead := revOf(t, h, alice, "a"); ahead > time.Second {
				t.Errorf("the revision of a new account is %s ahead", ahead)
			}
			before, _ := h.Head(ctx, bob)
			if ahead := revOf(t, h, bob, "a"); ahead < 2*time.Hour || ahead > 2*time.Hour+time.Second {
				t.Errorf("the revision of the account that is ahead is %s ahead", ahead)
			}
			if after, _ := h.Head(ctx, bob); after.Rev <= before.Rev {
				t.Errorf("revision %s after %s", after.Rev, before.Rev)
			}
			if ahead := revOf(t, h, alice, "b"); ahead > time.Second {
				t.Errorf("the revision of the other account is %s ahead", ahead)
			}
			if key := syntax.TID(h.NextRecordKey()); key.Time().Sub(noon) > time.Second {
				t.Errorf("record key %s is of %s", key, key.Time())
			}
		})
	}
}

// TestRecordKeysOfAClockThatJumps: keys stay unique whatever the clock does, and none stays ahead.
func TestRecordKeysOfAClockThatJumps(t *testing.T) {
	clock := &testClock{t: noon}
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: (&keys{}).signer, Now: clock.now})
	seen := make(map[syntax.RecordKey]bool)
	for _, jump := range []time.Duration{0, 2 * time.Hour, -2 * time.Hour, 2 * time.Hour, -2 * time.Hour, -30 * time.Second, 20 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour} {
		clock.add(jump)
		for range 100 {
			key := h.NextRecordKey()
			if seen[key] {
				t.Fatalf("%s twice, after a jump of %s", key, jump)
			}
			seen[key] = true
			if ahead := syntax.TID(key).Time().Sub(clock.now()); ahead > time.Minute || ahead < 0 {
				t.Fatalf("%s is %s ahead after a jump of %s", key, ahead, jump)
			}
		}
	}
}

// TestKeysOfClientsMoveNoClock: a client that names a record key of the far future moves nothing.
func TestKeysOfClientsMoveNoClock(t *testing.T) {
	clock := &testClock{t: noon}
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: (&keys{}).signer, Now: clock.now})
	far := syntax.RecordKey(syntax.NewTID(noon.AddDate(100, 0, 0), 1))
	if ahead := revOf(t, h, alice, far); ahead > time.Second {
		t.Errorf("the revision is %s ahead", ahead)
	}
	if key := syntax.TID(h.NextRecordKey()); key.Time().Sub(noon) > time.Second {
		t.Errorf("record key %s is of %s", key, key.Time())
	}
}

// TestAClockBeforeItsTime: a clock before 1970, as of a machine without one, or beyond 2255 makes
// no revision that an account is stuck with.
func TestAClockBeforeItsTime(t *testing.T) {
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 0)} {
		clock := &testClock{t: at}
		h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: (&keys{}).signer, Now: clock.now})
		create(t, h, alice)
		clock.mu.Lock()
		clock.t = noon
		clock.mu.Unlock()
		if ahead := revOf(t, h, alice, "a"); ahead > time.Second {
			t.Errorf("after a clock of %s, the revision is %s ahead", at, ahead)
		}
	}
	clock := &testClock{t: time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)}
	h := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: (&keys{}).signer, Now: clock.now})
	create(t, h, alice)
	if _, err := h.Apply(ctx, alice, one(repo.Create, "a", note(t, "x"), nil)); !errors.Is(err, commit.ErrFuture) {
		t.Errorf("a write after the last revision of all: %v", err)
	}
}

// TestNothingIsSignedByAClockInDoubt: no way of signing gets past CheckClock, nothing is written,
// and the refusal ends with its reason.
func TestNothingIsSignedByAClockInDoubt(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		doubt := errors.New("two hours ahead")
		var refuse error
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, CheckClock: func(context.Context) error { return refuse }})
		create(t, h, alice)
		var file bytes.Buffer
		if err := h.Export(ctx, alice, "", &file); err != nil {
			t.Fatal(err)
		}
		head, _ := h.Head(ctx, alice)
		_, newest, _ := store.Events.Bounds(ctx)

		refuse = doubt
		tests := map[string]func() error{
			"a write": func() error {
				_, err := h.Apply(ctx, alice, one(repo.Create, "a", note(t, "x"), nil))
				return err
			},
			"a new account": func() error {
				_, err := h.Create(ctx, bob, repo.Batch{})
				return err
			},
			"an import": func() error {
				_, err := h.Import(ctx, alice, bytes.NewReader(file.Bytes()), repo.Import{Unverified: true})
				return err
			},
		}
		for name, do := range tests {
			if err := do(); !errors.Is(err, repo.ErrClock) || !errors.Is(err, doubt) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if now, _ := h.Head(ctx, alice); now != head {
			t.Errorf("the head moved to %v", now)
		}
		if _, now, _ := store.Events.Bounds(ctx); now != newest {
			t.Errorf("the log grew")
		}
		if _, err := h.Head(ctx, bob); !errors.Is(err, repo.ErrRepoNotFound) {
			t.Errorf("the new account: %v", err)
		}
		// What needs no signature goes on.
		if _, err := h.Apply(ctx, alice, repo.Batch{KV: []storage.KVWrite{{Key: "k", Value: []byte("v")}}}); err != nil {
			t.Error(err)
		}
		refuse = nil
		for _, name := range []string{"a write", "a new account", "an import"} {
			if err := tests[name](); err != nil {
				t.Errorf("%s, later: %v", name, err)
			}
		}
	})
}

// TestNumbersOfAClockThatJumps: sequence numbers never go back, and follow the time again when it
// has caught up.
func TestNumbersOfAClockThatJumps(t *testing.T) {
	testenv.NotOnJS(t, "SQLite has no files")
	clock := &testClock{t: noon}
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "test.sqlite"), sqlite.Config{Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, store := range map[string]storage.Store{"memory": memory.New(memory.Config{Now: clock.now}), "sqlite": db.Store()} {
		k := &keys{}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, Now: clock.now})
		create(t, h, alice)
		last, i := int64(0), 0
		for _, at := range []time.Duration{0, 2 * time.Hour, 0, time.Minute, 3 * time.Hour, -1000 * time.Hour} {
			clock.mu.Lock()
			clock.t = noon.Add(at)
			clock.mu.Unlock()
			i++
			res, err := h.Apply(ctx, alice, one(repo.Create, keyN(i), note(t, "x"), nil))
			if err != nil {
				t.Fatal(err)
			}
			if want := max(last+1, clock.now().UnixMicro()); last > 0 && res.Seq != want {
				t.Errorf("%s: number %d after %d at %s, want %d", name, res.Seq, last, at, want)
			}
			last = res.Seq
		}
	}
}

// exportAt makes the CAR file of an empty repository with a revision.
func exportAt(t *testing.T, k *keys, did syntax.DID, rev syntax.TID) io.Reader {
	t.Helper()
	_, block, err := commit.Sign(ctx, did, rev, mst.Empty().Root(), k.key(did))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := car.NewWriter(&out, block.CID)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []car.Block{block, emptyNode(t)} {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func emptyNode(t *testing.T) (node car.Block) {
	for item, err := range mst.Empty().PreOrder() {
		if err != nil {
			t.Fatal(err)
		}
		node = item.Node
	}
	return node
}

// TestImportsWithRevisionsAhead: an import follows a revision that the network takes, and no other;
// neither moves another account.
func TestImportsWithRevisionsAhead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ahead  time.Duration
		follow bool
	}{
		{"of an hour ago", -time.Hour, false},
		{"four minutes ahead", 4 * time.Minute, true},
		{"six minutes ahead", 6 * time.Minute, false},
		{"two hours ahead", 2 * time.Hour, false},
		{"twenty years ahead", 20 * 365 * 24 * time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stores(t, func(t *testing.T, store storage.Store) {
				k := &keys{}
				clock := &testClock{t: noon}
				h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, Now: clock.now})
				rev := syntax.NewTID(noon.Add(tt.ahead), 3)
				res, err := h.Import(ctx, alice, exportAt(t, k, alice, rev), repo.Import{Keys: []*crypto.PublicKey{k.key(alice).PublicKey()}, Sync: true})
				if err != nil {
					t.Fatal(err)
				}
				got := res.Head.Rev.Time().Sub(noon)
				if tt.follow && got != tt.ahead+time.Microsecond || !tt.follow && got != 0 {
					t.Errorf("the revision is %s ahead", got)
				}
				if ignored := tt.ahead > commit.DefaultDrift; ignored != (res.Ahead == rev) || !ignored && res.Ahead != "" {
					t.Errorf("Ahead is %q", res.Ahead)
				}
				if ahead := revOf(t, h, bob, "a"); ahead > time.Second {
					t.Errorf("another account is %s ahead", ahead)
				}
			})
		})
	}
}

// TestRewind: an account whose revision lies in the future comes back, in the eyes of a follower
// that ignores such revisions, by an import with Rewind; without it, or for an account that is not
// ahead, revisions never go back.
func TestRewind(t *testing.T) {
	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		clock := &testClock{t: noon}
		h := repo.NewHost(repo.Config{Store: store, Signer: k.signer, Now: clock.now})
		want := map[string]string{}
		create(t, h, alice)
		apply(t, h, alice, want, one(repo.Create, "before", note(t, "x"), nil))
		known, _ := h.Head(ctx, alice) // what the network has seen
		clock.add(2 * time.Hour)
		apply(t, h, alice, want, one(repo.Create, "wrong", note(t, "x"), nil))
		clock.add(-2*time.Hour + time.Minute)
		resign := func(in repo.Import) syntax.TID {
			t.Helper()
			var file bytes.Buffer
			if err := h.Export(ctx, alice, "", &file); err != nil {
				t.Fatal(err)
			}
			in.Sync = true
			res, err := h.Import(ctx, alice, &file, in)
			if err != nil {
				t.Fatal(err)
			}
			return res.Head.Rev
		}
		if rev := resign(repo.Import{Unverified: true}); rev.Time().Sub(noon) < 2*time.Hour {
			t.Errorf("without Rewind, the revision went back to %s", rev.Time())
		}
		_, seq, _ := store.Events.Bounds(ctx)
		rev := resign(repo.Import{Unverified: true, Rewind: true})
		if got := rev.Time().Sub(noon); got != time.Minute {
			t.Errorf("the revision is %s after noon", got)
		}
		if again := resign(repo.Import{Unverified: true, Rewind: true}); again <= rev {
			t.Errorf("a revision that is not ahead went back from %s to %s", rev, again)
		}
		apply(t, h, alice, want, one(repo.Create, "after", note(t, "x"), nil))

		v := commit.Verifier{Now: clock.now, Key: func(_ context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
			return k.key(did).PublicKey(), nil
		}}
		st := commit.State{Rev: known.Rev, Data: known.Data}
		for ev, err := range store.Events.Since(ctx, seq) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Kind == commit.KindSync {
				m, _ := commit.DecodeSync(ev.Payload)
				st, err = v.Sync(ctx, st, m)
			} else {
				m, _ := commit.DecodeEvent(ev.Payload)
				st, _, err = v.Commit(ctx, st, m)
			}
			if err != nil {
				t.Errorf("the follower refuses event %d: %v", ev.Seq, err)
			}
		}
		if head, _ := h.Head(ctx, alice); st != (commit.State{Rev: head.Rev, Data: head.Data}) {
			t.Errorf("the follower is at %v, the head is %v", st, head)
		}
	})
}

// A clock that is a little behind the last revision rewinds nothing: the new one follows it.
func TestRewindOfAClockThatIsALittleBehind(t *testing.T) {
	k := &keys{}
	clock := time.Now()
	h := repo.NewHost(repo.Config{Store: memoryStore(), Signer: k.signer, Now: func() time.Time { return clock }})
	create(t, h, alice)
	before, err := h.Head(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(-time.Minute)
	export := file(madeRepo(t, alice, k.key(alice), aTime, nil))
	res, err := h.Import(ctx, alice, bytes.NewReader(export), repo.Import{Unverified: true, Rewind: true})
	if err != nil || res.Head.Rev <= before.Rev {
		t.Errorf("%s after %s, %v", res.Head.Rev, before.Rev, err)
	}
}

// TestWrongUseFailsEarly: what a program leaves out or mixes up is said at once, and nothing is
// written.
func TestWrongUseFailsEarly(t *testing.T) {
	good := repo.Config{Store: memory.New(memory.Config{}), Signer: (&keys{}).signer}
	for name, change := range map[string]func(*repo.Config){
		"everything":   func(c *repo.Config) { *c = repo.Config{} },
		"Signer":       func(c *repo.Config) { c.Signer = nil },
		"Store":        func(c *repo.Config) { c.Store = storage.Store{} },
		"Store.Blobs":  func(c *repo.Config) { c.Store.Blobs = nil },
		"Store. Repos": func(c *repo.Config) { c.Store.Repos = nil },
	} {
		cfg := good
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %s: %v", name, err)
		}
		func() {
			defer func() {
				if v := recover(); v == nil {
					t.Errorf("NewHost without %s did not panic", name)
				}
			}()
			repo.NewHost(cfg)
		}()
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}

	stores(t, func(t *testing.T, store storage.Store) {
		k := &keys{}
		var noKey bool
		h := repo.NewHost(repo.Config{Store: store, Signer: func(ctx context.Context, did syntax.DID) (crypto.Signer, error) {
			if noKey {
				return nil, nil
			}
			return k.signer(ctx, did)
		}})
		create(t, h, alice)
		want := map[string]string{}
		apply(t, h, alice, want, one(repo.Create, "a", note(t, "x"), nil))
		head, _ := h.Head(ctx, alice)
		other := record(t, map[string]any{"$type": "com.example.other", "text": "y"})
		for _, tt := range []struct {
			name  string
			batch repo.Batch
			want  error
		}{
			{"no action", one(0, "a", note(t, "y"), nil), repo.ErrInvalidWrite},
			{"an action that is none", one(99, "a", note(t, "y"), nil), repo.ErrInvalidWrite},
			{"the action after the last", one(repo.Delete+1, "new", note(t, "y"), nil), repo.ErrInvalidWrite},
			{"no action, without a record", one(0, "a", nil, nil), repo.ErrInvalidWrite},
			{"the second of two", repo.Batch{Writes: []repo.Write{one(repo.Create, "b", note(t, "y"), nil).Writes[0], one(255, "a", note(t, "y"), nil).Writes[0]}}, repo.ErrInvalidWrite},
			{"create of another type", one(repo.Create, "b", other, nil), repo.ErrInvalidRecord},
			{"update to another type", one(repo.Update, "a", other, nil), repo.ErrInvalidRecord},
			{"put of another type", one(repo.Put, "a", other, nil), repo.ErrInvalidRecord},
			{"a type in other case", one(repo.Put, "a", record(t, map[string]any{"$type": "com.example.Note"}), nil), repo.ErrInvalidRecord},
			{"a type with a fragment", one(repo.Put, "a", record(t, map[string]any{"$type": "com.example.note#main"}), nil), repo.ErrInvalidRecord},
			{"a type that is no string", one(repo.Put, "a", record(t, map[string]any{"$type": int64(1)}), nil), repo.ErrInvalidRecord},
			{"no type", one(repo.Create, "b", record(t, map[string]any{"text": "y"}), nil), repo.ErrInvalidRecord},
			{"a type deeper down", one(repo.Create, "b", record(t, map[string]any{"v": map[string]any{"$type": string(notes)}}), nil), repo.ErrInvalidRecord},
		} {
			if _, err := h.Apply(ctx, alice, tt.batch); !errors.Is(err, tt.want) {
				t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
			}
			if now, _ := h.Head(ctx, alice); now != head {
				t.Fatalf("%s: the head moved", tt.name)
			}
		}
		var typ *repo.TypeError
		_, err := h.Apply(ctx, alice, one(repo.Put, "a", other, nil))
		if !errors.As(err, &typ) || typ.Type != "com.example.other" || typ.Collection != notes {
			t.Errorf("type error %+v", err)
		}
		noKey = true
		if _, err := h.Apply(ctx, alice, one(repo.Put, "a", note(t, "y"), nil)); err == nil {
			t.Error("a commit was signed with no key")
		}
		check(t, store, k, map[syntax.DID]map[string]string{alice: want})
	})
}
