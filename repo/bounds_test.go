package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/memory"
)

const someone = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")

// logAs is an event log that says of every account what a test wants, the newest first.
type logAs struct {
	storage.Events
	events []storage.Event
	read   *int
}

func (l logAs) OfAccount(context.Context, syntax.DID) iter.Seq2[storage.Event, error] {
	return func(yield func(storage.Event, error) bool) {
		for _, ev := range l.events {
			if *l.read++; !yield(ev, nil) {
				return
			}
		}
	}
}

// The log is read back to the revision that was asked for, as long as each commit follows the one
// before, and as long as it is within its bounds: of events, bytes and operations.
func TestHowMuchOfTheLogIsRead(t *testing.T) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New(memory.Config{})
	read := 0
	log := func(events ...storage.Event) *Host {
		s := store
		s.Events = logAs{store.Events, events, &read}
		return NewHost(Config{Store: s, TempDir: t.TempDir(), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	}
	created, err := log().Create(t.Context(), someone, Batch{})
	if err != nil {
		t.Fatal(err)
	}
	head := created.Head
	// tid is the n-th revision before the head.
	tid := func(n int) syntax.TID {
		if n == 0 {
			return head.Rev
		}
		return syntax.NewTID(head.Rev.Time().Add(-time.Duration(n)*time.Second), 1)
	}
	value := dag.Sum(dag.CBOR, []byte("value"))
	event := func(n, ops int, change ...func(*commit.Event)) storage.Event {
		e := commit.Event{Repo: someone, Rev: tid(n), Since: tid(n + 1), PrevData: value, Commit: value, Time: time.Unix(1e9, 0), Blocks: []byte("x")}
		if n == 0 {
			e.Commit = head.Commit
		}
		for i := range ops {
			e.Ops = append(e.Ops, commit.Op{Action: commit.Create, Path: fmt.Sprintf("a.b.c/%d-%d", n, i), CID: value})
		}
		for _, fn := range change {
			fn(&e)
		}
		return EventOf(&e)
	}
	other := func(size int) storage.Event {
		return storage.Event{DID: someone, Kind: commit.KindIdentity, Payload: make([]byte, size)}
	}
	others := func(n int) (list []storage.Event) {
		for range n {
			list = append(list, other(1))
		}
		return list
	}
	many := func(ops ...int) (list []storage.Event) {
		for n, ops := range ops {
			list = append(list, event(n, ops))
		}
		return list
	}
	room := maxHistoryBytes - len(event(0, 1).Payload)
	thousands := []int{2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000}
	for name, c := range map[string]struct {
		since  syntax.TID
		events []storage.Event
		want   extent
	}{
		"one commit":                   {tid(1), many(1), covered},
		"three commits":                {tid(3), many(1, 2, 0), covered},
		"no more is read than needed":  {tid(1), append(many(1), other(maxHistoryBytes)), covered},
		"between two commits":          {syntax.NewTID(tid(1).Time().Add(time.Microsecond), 1), many(1, 1), strange},
		"not far enough":               {tid(4), many(1, 2, 0), unknown},
		"no revision":                  {"", many(1), unknown},
		"the head":                     {tid(0), many(1), unknown},
		"beyond the head":              {tid(-1), many(1), unknown},
		"a newer commit than the head": {tid(1), append([]storage.Event{event(-1, 1)}, many(1)...), covered},
		"a gap":                        {tid(3), []storage.Event{event(0, 1), event(2, 1)}, unknown},
		"another newest commit":        {tid(1), []storage.Event{event(0, 1, func(e *commit.Event) { e.Commit = value })}, unknown},
		"no event of this kind":        {tid(1), append([]storage.Event{{DID: someone, Kind: commit.KindCommit, Payload: []byte("\xa0")}}, many(1)...), unknown},
		"as many events as there may":  {tid(1), append(others(maxHistoryEvents-1), event(0, 1)), covered},
		"one event more":               {tid(1), append(others(maxHistoryEvents), event(0, 1)), unknown},
		"as many bytes as there may":   {tid(1), []storage.Event{other(room), event(0, 1)}, covered},
		"one byte more":                {tid(1), []storage.Event{other(room + 1), event(0, 1)}, unknown},
		"as many operations":           {tid(10), many(thousands...), covered},
		"one operation more":           {tid(11), many(append(thousands, 1)...), unknown},
	} {
		read = 0
		was, err := log(c.events...).historySince(t.Context(), someone, c.since)
		if err != nil || was.extent != c.want || was.head != head {
			t.Errorf("%s: %d, want %d; %v", name, was.extent, c.want, err)
		}
		if (was.extent == covered) != (was.values != nil && was.data == value) {
			t.Errorf("%s: %d values, root %s", name, len(was.values), was.data)
		}
		if c.since == "" || c.since >= head.Rev {
			if read != 0 {
				t.Errorf("%s: %d events were read", name, read)
			}
		}
	}
	// The oldest event says what there was before.
	first := func(e *commit.Event) { e.Ops[0].Path, e.Ops[0].Prev = "a.b.c/x", head.Data }
	second := func(e *commit.Event) { e.Ops[0].Path = "a.b.c/x" }
	was, err := log(event(0, 1, second), event(1, 1, first)).historySince(t.Context(), someone, tid(2))
	if err != nil || len(was.values) != 1 || was.values["a.b.c/x"] != head.Data {
		t.Errorf("the values are %v, %v", was.values, err)
	}
}

// A tree that is larger than the cache is let go of a minute after its last use, and no sooner.
func TestLargeTreesAreKeptForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &treeCache{limit: 10_000}
		st := stateOf(t, 1, 100_000)
		c.put(someone, st)
		for i := range 3 {
			time.Sleep(largeIdle)
			if c.expire(); c.large.state.tree != st.tree {
				t.Fatalf("it is gone after use %d", i)
			}
			c.get(someone)
		}
		time.Sleep(largeIdle + 1)
		if c.get("did:web:other.test"); c.large.state.tree != nil {
			t.Error("it is kept")
		}
		if len(c.evicted) != 1 {
			t.Errorf("%d trees are remembered", len(c.evicted))
		}
	})
}

// What has left the cache is found again while somebody uses its tree, and is forgotten with that.
func TestTreesInUseAreFound(t *testing.T) {
	for name, size := range map[string]int64{"small": 1000, "larger than the cache": 100_000} {
		c := &treeCache{limit: state{size: 1000}.bytes()}
		tree := func(n int) state {
			st := stateOf(t, n, size)
			change, err := st.tree.Apply([]mst.Op{{Key: "a.b.c/x", Value: dag.Sum(dag.CBOR, []byte{byte(n)})}})
			if err != nil {
				t.Fatal(err)
			}
			st.tree = change.Tree
			return st
		}
		const first, second, third = "did:web:a.test", "did:web:b.test", "did:web:c.test"
		used := tree(1)
		c.put(first, used)
		c.put(second, tree(2))
		if got, ok := c.get(first); !ok || got.tree != used.tree || got.head != used.head {
			t.Errorf("%s: the tree in use is not found", name)
		}
		if c.hits != 1 || c.misses != 0 {
			t.Errorf("%s: %d hits, %d misses", name, c.hits, c.misses)
		}
		runtime.GC() // nobody has the second tree, which the first one has pushed out
		runtime.GC()
		c.put(third, tree(3))
		if _, ok := c.evicted[second]; ok {
			t.Errorf("%s: a tree that nobody uses is remembered", name)
		}
		c.drop(first)
		if _, ok := c.get(first); ok {
			t.Errorf("%s: what was dropped is found", name)
		}
		runtime.KeepAlive(used)
	}
}

// A lock exists only while somebody holds it or waits for it.
func TestLocksThatNobodyWants(t *testing.T) {
	var k keyedLocks
	unlock, err := k.lock(t.Context(), someone)
	if err != nil || len(k.locks) != 1 {
		t.Fatal(err, len(k.locks))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.lock(gone, someone); !errors.Is(err, context.Canceled) || len(k.locks) != 1 {
		t.Error(err, len(k.locks))
	}
	if unlock(); len(k.locks) != 0 {
		t.Errorf("%d locks", len(k.locks))
	}
}

// What is not set has a default.
func TestDefaultsOfAHost(t *testing.T) {
	good := Config{Store: memory.New(memory.Config{}), TempDir: t.TempDir(), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return nil, nil }}
	for imports, want := range map[int]int{-1: 2, 0: 2, 1: 1, 3: 3} {
		cfg := good
		cfg.Imports = imports
		if got := cap(NewHost(cfg).imports.slots); got != want {
			t.Errorf("Imports %d: %d at once", imports, got)
		}
	}
	for wait, want := range map[time.Duration]time.Duration{-1: time.Minute, 0: time.Minute, 1: 1} {
		cfg := good
		cfg.ImportWait = wait
		if got := NewHost(cfg).imports.wait; got != want {
			t.Errorf("ImportWait %v: %v", wait, got)
		}
	}
	for bytes, want := range map[int64]int64{-1: 0, 0: 2 << 30, 1: 1} {
		cfg := good
		cfg.SpoolBytes = bytes
		if got := spoolOf(&cfg).Limit; got != want {
			t.Errorf("SpoolBytes %d: %d bytes", bytes, got)
		}
	}
	for bytes, want := range map[int64]int64{-1: -1, 1: 1} {
		cfg := good
		cfg.CacheBytes = bytes
		if got := NewHost(cfg).cache.limit; got != want {
			t.Errorf("CacheBytes %d: %d bytes", bytes, got)
		}
	}
	for _, failure := range []error{nil, errors.New("no more files")} {
		cfg := good
		cfg.Temp = func(int64) (car.TempFile, error) { return nil, failure }
		if f, err := NewHost(cfg).temp(1); f != nil || err == nil || failure != nil && !errors.Is(err, failure) {
			t.Errorf("no file, and %v: %v, %v", failure, f, err)
		}
	}
	for imports, want := range map[ImportLimits]ImportLimits{
		{}:            {Expanded: 64<<20 + 80, Records: 2_500_000},
		{Expanded: 1}: {Expanded: 1, Records: 2_500_000},
		{Records: 1}:  {Expanded: 64<<20 + 80, Records: 1},
	} {
		if got := imports.withDefaults(10); got != want {
			t.Errorf("%+v: %+v", imports, got)
		}
	}
	for length, want := range map[int]int64{0: recordBytes, usualPath: recordBytes, usualPath + 1: recordBytes + 1} {
		if got := treeBytes(strings.Repeat("x", length)); got != want {
			t.Errorf("a path of %d bytes: %d", length, got)
		}
	}
}

// Whoever reads an error is told what it was, in so many words as fit, and whether to try again.
func TestWhatErrorsSay(t *testing.T) {
	long, longer := strings.Repeat("x", 120), strings.Repeat("y", 121)
	for want, e := range map[string]*ImportError{
		"repo: invalid import":                                       {},
		"repo: invalid import: " + longer:                            {Faults: []error{errors.New(longer)}},
		"repo: invalid import: " + long + "; " + longer[:120] + "…":  {Faults: []error{errors.New(long), errors.New(longer)}},
		"repo: invalid import: a; and 1 more":                        {Faults: []error{errors.New("a")}, More: 1},
		"repo: invalid import: " + longer[:120] + "…; a; and 2 more": {Faults: []error{errors.New(longer), errors.New("a")}, More: 2},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var e ImportError
	for range maxFaults + 2 {
		e.add(errors.New("a"))
	}
	if len(e.Faults) != 100 || e.More != 2 {
		t.Errorf("%d faults and %d more", len(e.Faults), e.More)
	}
	c := dag.Sum(dag.CBOR, []byte("x"))
	for want, err := range map[string]error{
		"Commit was at " + c.String(): &SwapError{Current: c},
		"Record was at null":          &SwapError{Path: "a.b.c/x"},
	} {
		if err.Error() != want || !errors.Is(err, ErrInvalidSwap) {
			t.Errorf("%q, want %q", err, want)
		}
	}
	var later interface{ Unavailable() bool }
	if err := roomError(fmt.Errorf("x: %w", spool.ErrFull)); !errors.Is(err, ErrBusy) || !errors.As(err, &later) || !later.Unavailable() {
		t.Errorf("a full spool: %v", err)
	}
	mine := errors.New("mine")
	if err := roomError(mine); err != mine {
		t.Errorf("another error: %v", err)
	}
}
