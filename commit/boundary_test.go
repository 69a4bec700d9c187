package commit_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/internal/cbor"
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
