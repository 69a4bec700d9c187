package commit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// Fields that do not exist yet are passed over, and a file of blocks may have some others, not many.
func TestSyncOfTheFuture(t *testing.T) {
	a := filled(t, "alice", 1)
	holding := func(others int) []byte {
		blocks := []car.Block{a.block}
		for i := range others {
			blocks = append(blocks, record(fmt.Sprint(i)))
		}
		return message(
			field{"did", text(string(a.did))}, field{"rev", text(string(a.commit.Rev))}, field{"time", timeText(now)},
			field{"blocks", string(cbor.AppendBytes(nil, car.Append(nil, []cid.Cid{a.block.CID}, blocks...)))},
			field{"future", "\xa1\x61a\x82\x01\x02"}, field{"x", "\xf6"},
		)
	}
	s, err := commit.DecodeSync(holding(15))
	if err != nil || s.DID != a.did || s.Rev != a.commit.Rev || !s.Time.Equal(now) || s.Commit.CID != a.block.CID {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := commit.DecodeSync(holding(16)); !errors.Is(err, commit.ErrMessage) {
		t.Errorf("17 blocks: %+v, %v", s, err)
	}
}

func TestRecordsOfTheGreatestSize(t *testing.T) {
	a := filled(t, "alice", 3)
	path := somePaths(3)[1]
	file, size := a.proofFile(t, path), 0
	if p, err := commit.VerifyRecord(file, a.ask(path)); err != nil {
		t.Fatal(err)
	} else {
		size = len(p.Data)
	}
	for limit, want := range map[int]error{size: nil, size - 1: commit.ErrRecord} {
		ask := a.ask(path)
		ask.Record = limit
		if _, err := commit.VerifyRecord(file, ask); !errors.Is(err, want) {
			t.Errorf("a record of %d bytes, limit %d: %v", size, limit, err)
		}
	}
	for limit, want := range map[int]error{len(file): nil, len(file) - 1: commit.ErrSize} {
		ask := a.ask(path)
		ask.CAR.TotalBytes = int64(limit)
		if _, err := commit.VerifyRecord(file, ask); !errors.Is(err, want) {
			t.Errorf("a file of %d bytes, limit %d: %v", len(file), limit, err)
		}
	}
	before := commit.State{Rev: a.commit.Rev, Data: a.commit.Data}
	const other = "com.example.bounds/1"
	e := a.write(t, map[string]string{other: "a record at the limit"})
	size = len(a.records[other].Data)
	for limit, want := range map[int]error{size: nil, size - 1: commit.ErrRecord} {
		v := verifier(a)
		v.Limits.Record = limit
		if _, _, err := v.Commit(t.Context(), before, e); !errors.Is(err, want) {
			t.Errorf("an event with a record of %d bytes, limit %d: %v", size, limit, err)
		}
	}
}

// When times end, there is an error, and no revision that others would refuse.
func TestNoRevisionFollowsTheLast(t *testing.T) {
	c := commit.Clock{Now: func() time.Time { return time.Date(2256, 1, 1, 0, 0, 0, 0, time.UTC) }}
	if next, err := c.Next("jzzzzzzzzzzzz"); err == nil || next != "" {
		t.Errorf("%q, %v", next, err)
	}
}

// Without limits of its own, a verifier keeps to those of the protocol.
func TestLimitsOfTheProtocol(t *testing.T) {
	a := newAccount(t, "alice")
	a.write(t, nil)
	last := a.state()
	around := len(record(strings.Repeat("x", 1_000)).Data) - 1_000 + 2 // a longer text has a longer length
	for size, want := range map[int]error{commit.MaxRecord: nil, commit.MaxRecord + 1: commit.ErrRecord} {
		a := *a
		a.records = map[string]car.Block{}
		const path = "com.example.a/1"
		text := strings.Repeat("x", size-around)
		e := a.writeWithin(t, map[string]string{path: text}, commit.Limits{Record: 2 * commit.MaxRecord})
		if got := len(a.records[path].Data); got != size {
			t.Fatalf("%d bytes, want %d", got, size)
		}
		if _, _, err := verifier(&a).Commit(t.Context(), last, e); !errors.Is(err, want) {
			t.Errorf("a record of %d bytes: %v", size, err)
		}
	}
	for n, want := range map[int]error{commit.MaxOps: nil, commit.MaxOps + 1: commit.ErrSize} {
		a := *a
		a.records = map[string]car.Block{}
		texts := map[string]string{}
		for _, p := range somePaths(n) {
			texts[p] = "text"
		}
		e := a.writeWithin(t, texts, commit.Limits{Ops: 2 * commit.MaxOps})
		if _, _, err := verifier(&a).Commit(t.Context(), last, e); !errors.Is(err, want) {
			t.Errorf("%d operations: %v", n, err)
		}
	}
}

// A proof may have as many bytes and blocks as the documentation says.
func TestProofsOfTheGreatestSize(t *testing.T) {
	if got := (&commit.RecordOptions{}).MaxFile(); got != 1_000_000+1_048_576 {
		t.Errorf("a file of %d bytes", got)
	}
	if got := (&commit.RecordOptions{Record: 7}).MaxFile(); got != 7+1_048_576 {
		t.Errorf("a file of %d bytes for a record of 7", got)
	}
	a := filled(t, "alice", 40)
	path := somePaths(40)[7]
	root, blocks := a.proofOf(t, path)
	for n, want := range map[int]error{1024: nil, 1025: commit.ErrSize} {
		file := car.Append(nil, []cid.Cid{root}, append(slices.Clone(blocks), slices.Repeat([]car.Block{record("x")}, n-len(blocks))...)...)
		if _, err := commit.VerifyRecord(file, a.ask(path)); !errors.Is(err, want) {
			t.Errorf("%d blocks: %v", n, err)
		}
	}
}

// A slice may be as long as the limit says, for those who make it and those who check it.
func TestSlicesOfTheGreatestSize(t *testing.T) {
	a := filled(t, "alice", 3)
	last := a.state()
	e := a.write(t, map[string]string{"com.example.a/new": "new"})
	for limit, want := range map[int]error{len(e.Blocks): nil, len(e.Blocks) - 1: commit.ErrSize} {
		v := verifier(a)
		v.Limits.Blocks = limit
		if _, _, err := v.Commit(t.Context(), last, e); !errors.Is(err, want) {
			t.Errorf("%d bytes, limit %d: %v", len(e.Blocks), limit, err)
		}
		checks := []commit.Check{{Event: e}}
		v.CommitAll(t.Context(), checks, func(context.Context, syntax.DID) (commit.State, error) { return last, nil })
		if err := checks[0].Err; !errors.Is(err, want) {
			t.Errorf("%d bytes in a batch, limit %d: %v", len(e.Blocks), limit, err)
		}
	}
	change, err := a.tree.Apply([]mst.Op{{Key: "com.example.a/new2", Value: record("x").CID}})
	if err != nil {
		t.Fatal(err)
	}
	made := &commit.Event{}
	if err := made.SetBlocks(a.block, change, []car.Block{record("x")}, commit.Limits{}); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]error{len(made.Blocks): nil, len(made.Blocks) - 1: commit.ErrTooLarge} {
		if err := new(commit.Event).SetBlocks(a.block, change, []car.Block{record("x")}, commit.Limits{Blocks: limit}); !errors.Is(err, want) {
			t.Errorf("a slice of %d bytes, limit %d: %v", len(made.Blocks), limit, err)
		}
	}
}

// What a value of a batch held before is not taken for a result.
func TestCommitAllOfUsedValues(t *testing.T) {
	a := filled(t, "alice", 1)
	e := a.write(t, map[string]string{"com.example.a/new": "new"})
	used := commit.Check{State: a.state(), Records: map[string][]byte{"x": nil}, Err: errors.New("of before")}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	state := func(context.Context, syntax.DID) (commit.State, error) { return commit.State{}, nil }
	for name, ctx := range map[string]context.Context{"good": t.Context(), "cancelled": ctx} {
		event, bad := used, used
		event.Event, bad.Payload = e, []byte("garbage")
		checks := []commit.Check{event, bad}
		verifier(a).CommitAll(ctx, checks, state)
		if c := checks[0]; name == "good" && (c.Err != nil || c.State != a.state() || len(c.Records) != 1) ||
			name != "good" && (!errors.Is(c.Err, context.Canceled) || c.State != commit.State{} || c.Records != nil) {
			t.Errorf("%s: %+v", name, c)
		}
		if c := checks[1]; !errors.Is(c.Err, commit.ErrMessage) || c.State != (commit.State{}) || c.Records != nil {
			t.Errorf("%s, no message: %+v", name, c)
		}
	}
}

// After a panic, no more is asked.
func TestCommitAllStopsAtAPanic(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var checks []commit.Check
	for i := range 5 {
		a := newAccount(t, fmt.Sprint("user", i))
		checks = append(checks, commit.Check{Event: a.write(t, map[string]string{"com.example.a/1": "x"})})
	}
	calls := 0
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "no store") || calls != 1 {
			t.Errorf("%.100s after %d calls", p, calls)
		}
	}()
	new(commit.Verifier).CommitAll(t.Context(), checks, func(context.Context, syntax.DID) (commit.State, error) {
		calls++
		panic("no store")
	})
}
