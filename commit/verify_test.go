package commit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// A follower accepts everything that an account commits, in order.
func TestVerifierFollows(t *testing.T) {
	a := newAccount(t, "alice")
	v := verifier(a)
	var state commit.State
	paths := somePaths(300)
	for step := range 60 {
		texts := make(map[string]string)
		for i := range 1 + step%7 {
			p := paths[(step*37+i*11)%len(paths)]
			texts[p] = fmt.Sprintf("step %d", step)
			if _, ok := a.records[p]; ok && i%2 == 1 {
				texts[p] = ""
			}
		}
		if step == 40 { // down to nothing
			clear(texts)
			for p := range a.records {
				texts[p] = ""
			}
		}
		if step%10 == 9 {
			clear(texts) // an empty commit
		}
		e, err := commit.DecodeEvent(a.write(t, texts).Payload())
		if err != nil {
			t.Fatal(err)
		}
		next, records, err := v.Commit(context.Background(), state, e)
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if next != a.state() {
			t.Fatalf("step %d: state %v, want %v", step, next, a.state())
		}
		for p, text := range texts {
			if data, ok := records[p]; ok != (text != "") || ok && !bytes.Equal(data, record(text).Data) {
				t.Fatalf("step %d: record %s is %x", step, p, data)
			}
		}
		// The same event for someone who has not seen the repository yet.
		if _, _, err := v.Commit(context.Background(), commit.State{}, e); err != nil {
			t.Fatalf("step %d, first seen: %v", step, err)
		}
		state = next
	}
	s := &commit.Sync{DID: a.did, Rev: a.commit.Rev, Commit: a.block, Time: now}
	if next, err := v.Sync(context.Background(), state, s); err != nil || next != state {
		t.Errorf("sync: %v, %v", next, err)
	}
}

// An event may have the fewest nodes that one order of its operations needs: here without the node
// of an old record beside a created one, whose other side is emptied before the two sides join.
func TestVerifierAcceptsTheFewestNodes(t *testing.T) {
	// Keys in ascending order, with the heights that make the case.
	var paths []string
	next := 0
	for _, height := range []int{3, 1, 2, 1, 0} {
		for ; ; next++ {
			if p := fmt.Sprintf("com.example.a/%07d", next); mst.HeightForKey(p) == height {
				paths = append(paths, p)
				next++
				break
			}
		}
	}
	a := newAccount(t, "alice")
	a.write(t, map[string]string{paths[0]: "0", paths[3]: "3", paths[4]: "4"})
	last := a.state()
	e := a.write(t, map[string]string{paths[1]: "1", paths[2]: "2"})
	old, err := a.tree.Proof(paths[3])
	if err != nil {
		t.Fatal(err)
	}
	drop(t, e, old[len(old)-1].CID)
	v := verifier(a)
	for range 2 { // the operations may come in any order
		if next, _, err := v.Commit(context.Background(), last, e); err != nil || next != a.state() {
			t.Errorf("%v, %v", next, err)
		}
		e.Ops[0], e.Ops[1] = e.Ops[1], e.Ops[0]
	}
	// Without a node that every order needs, it proves nothing.
	path, err := a.tree.Proof(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	drop(t, e, path[len(path)-1].CID)
	if next, _, err := v.Commit(context.Background(), last, e); !errors.Is(err, commit.ErrTree) || !errors.Is(err, mst.ErrPartial) || next != last {
		t.Errorf("%v, %v", next, err)
	}
}

func TestVerifierRefusesForgeries(t *testing.T) {
	a, last, e := new(forgery).forged(t)
	if _, _, err := verifier(a).Commit(context.Background(), last, e); err != nil {
		t.Fatal("unspoiled:", err)
	}
	covered := make(map[error]bool)
	for _, f := range forgeries {
		covered[f.rule] = true
		t.Run(f.name, func(t *testing.T) {
			a, last, e := f.forged(t)
			next, records, err := verifier(a).Commit(context.Background(), last, e)
			var re *commit.RuleError
			if !errors.As(err, &re) || re.Rule != f.rule || !errors.Is(err, f.rule) {
				t.Fatalf("%v, want %v", err, f.rule)
			}
			if re.Repo != e.Repo || re.Rev != e.Rev || !strings.Contains(err.Error(), f.rule.Error()) {
				t.Errorf("%v", err)
			}
			if f.rule == commit.ErrOutOfSync {
				if next != a.state() || len(records) != 2 {
					t.Errorf("the new state is %v, want %v", next, a.state())
				}
			} else if next != last || records != nil {
				t.Errorf("the state changed to %v", next)
			}
		})
	}
	for _, rule := range []error{
		commit.ErrSize, commit.ErrBlocks, commit.ErrCommitBlock, commit.ErrFields, commit.ErrNoKey, commit.ErrBadSignature, commit.ErrStale,
		commit.ErrFuture, commit.ErrOp, commit.ErrRecord, commit.ErrTree, commit.ErrInversion, commit.ErrOutOfSync,
	} {
		if !covered[rule] {
			t.Errorf("no forgery breaks the rule: %v", rule)
		}
	}
}

func TestVerifierRefusesForgedSyncs(t *testing.T) {
	a := filled(t, "alice", 20)
	before := a.state()
	a.write(t, map[string]string{"com.example.a/new": "new"})
	good := commit.Sync{DID: a.did, Rev: a.commit.Rev, Commit: a.block, Time: now}
	if next, err := verifier(a).Sync(context.Background(), before, &good); err != nil || next != a.state() {
		t.Fatal(next, err)
	}
	resign := func(s *commit.Sync, did syntax.DID, rev syntax.TID, key *crypto.PrivateKey) {
		_, block, err := commit.Sign(context.Background(), did, rev, a.commit.Data, key)
		if err != nil {
			t.Fatal(err)
		}
		s.Rev, s.Commit = rev, block
	}
	for _, c := range []struct {
		name  string
		rule  error
		spoil func(s *commit.Sync, last *commit.State)
	}{
		{"replayed", commit.ErrStale, func(s *commit.Sync, last *commit.State) { last.Rev = a.rev(1) }},
		{"a revision known with another root", commit.ErrStale, func(s *commit.Sync, last *commit.State) { last.Rev = s.Rev }},
		{"from the future", commit.ErrFuture, func(s *commit.Sync, _ *commit.State) { s.Rev = syntax.NewTID(now.Add(time.Hour), 1) }},
		{"no commit", commit.ErrBlocks, func(s *commit.Sync, _ *commit.State) { s.Commit = car.Block{} }},
		{"a commit that does not match its CID", commit.ErrBlocks, func(s *commit.Sync, _ *commit.State) { s.Commit.CID = record("x").CID }},
		{"a record for a commit", commit.ErrCommitBlock, func(s *commit.Sync, _ *commit.State) { s.Commit = record("x") }},
		{"another revision", commit.ErrFields, func(s *commit.Sync, _ *commit.State) { s.Rev = a.rev(1) }},
		{"another account", commit.ErrFields, func(s *commit.Sync, _ *commit.State) { s.DID = "did:web:mallory.test" }},
		{"signed by someone else", commit.ErrBadSignature, func(s *commit.Sync, _ *commit.State) {
			resign(s, a.did, s.Rev, testKey(t, crypto.K256, "mallory"))
		}},
		{"an account without a key", commit.ErrNoKey, func(s *commit.Sync, _ *commit.State) {
			s.DID = "did:web:nobody.test"
			resign(s, s.DID, s.Rev, a.key)
		}},
	} {
		s, last := good, before
		c.spoil(&s, &last)
		next, err := verifier(a).Sync(context.Background(), last, &s)
		var re *commit.RuleError
		if !errors.As(err, &re) || re.Rule != c.rule || next != last {
			t.Errorf("%s: %v, want %v", c.name, err, c.rule)
		}
	}
}

// The key is asked for again, past any cache, before a signature is called bad.
func TestVerifierRefreshesTheKey(t *testing.T) {
	old, current := testKey(t, crypto.P256, "old"), testKey(t, crypto.K256, "alice")
	gone := fmt.Errorf("%w: tombstone", commit.ErrNoKey)
	offline := errors.New("directory is offline")
	for _, c := range []struct {
		name   string
		cached *crypto.PrivateKey
		fresh  *crypto.PrivateKey
		errs   [2]error
		want   error
		asked  int
	}{
		{"the cached key is right", current, nil, [2]error{}, nil, 1},
		{"the key was rotated", old, current, [2]error{}, nil, 2},
		{"the key is still the same", old, old, [2]error{}, commit.ErrBadSignature, 2},
		{"the fresh key is wrong too", old, testKey(t, crypto.K256, "x"), [2]error{}, commit.ErrBadSignature, 2},
		{"the account is gone", nil, nil, [2]error{gone, nil}, commit.ErrNoKey, 1},
		{"the account went meanwhile", old, nil, [2]error{nil, gone}, commit.ErrNoKey, 2},
		{"nobody can say", nil, nil, [2]error{offline, nil}, offline, 1},
	} {
		a := filled(t, "alice", 5)
		last := a.state()
		e := a.write(t, map[string]string{"com.example.a/x": "x"})
		v, asked := verifier(a), 0
		v.Key = func(_ context.Context, _ syntax.DID, refresh bool) (*crypto.PublicKey, error) {
			i, key := 0, c.cached
			if refresh {
				i, key = 1, c.fresh
			}
			if asked++; asked != i+1 {
				t.Errorf("%s: call %d with refresh %v", c.name, asked, refresh)
			}
			if c.errs[i] != nil {
				return nil, c.errs[i]
			}
			return key.PublicKey(), nil
		}
		if _, _, err := v.Commit(context.Background(), last, e); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || asked != c.asked {
			t.Errorf("%s: %v, want %v; asked %d times", c.name, err, c.want, asked)
		}
	}
}

// One large record that many operations point at is scanned once.
func TestRepeatedRecordBomb(t *testing.T) {
	a := newAccount(t, "alice")
	texts, large := make(map[string]string), strings.Repeat("x", 900_000)
	for _, p := range somePaths(commit.MaxOps) {
		texts[p] = large
	}
	e := a.write(t, texts)
	if len(e.Blocks) > 1_000_000 {
		t.Fatalf("%d bytes: the record is in the slice more than once", len(e.Blocks))
	}
	if _, records, err := verifier(a).Commit(context.Background(), commit.State{}, e); err != nil || len(records) != commit.MaxOps {
		t.Fatal(len(records), err)
	}
}

func TestSetBlocksLimits(t *testing.T) {
	a := newAccount(t, "alice")
	change, err := a.tree.Apply(nil)
	if err != nil {
		t.Fatal(err)
	}
	large := record(strings.Repeat("x", commit.MaxRecord))
	for name, c := range map[string]struct {
		ops     int
		records []car.Block
		lim     commit.Limits
		want    error
	}{
		"200 operations":          {ops: 200},
		"201 operations":          {ops: 201, want: commit.ErrTooLarge},
		"own limit of operations": {ops: 3, lim: commit.Limits{Ops: 2}, want: commit.ErrTooLarge},
		"a record too large":      {records: []car.Block{large}, want: commit.ErrTooLarge},
		"a record as allowed":     {records: []car.Block{record(strings.Repeat("x", commit.MaxRecord-11))}},
		"records too large":       {records: []car.Block{record(strings.Repeat("x", 900_000)), record(strings.Repeat("y", 900_000)), record(strings.Repeat("z", 900_000))}, want: commit.ErrTooLarge},
		"one record three times":  {records: []car.Block{record(strings.Repeat("x", 900_000)), record(strings.Repeat("x", 900_000)), record(strings.Repeat("x", 900_000))}},
	} {
		e := &commit.Event{Ops: make([]commit.Op, c.ops)}
		if err := e.SetBlocks(record("commit"), change, c.records, c.lim); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// FuzzSlice spoils a slice in any way: whatever is accepted must be what was
// signed, and everything else breaks a rule.
func FuzzSlice(f *testing.F) {
	_, last, e := new(forgery).forged(f)
	a := filled(f, "alice", 200)
	f.Add(e.Payload(), []byte(nil), uint16(0))
	for _, forgery := range forgeries {
		if _, _, e := forgery.forged(f); len(e.Blocks) < 100_000 && len(e.Ops) < 10 {
			f.Add(e.Payload(), []byte(nil), uint16(0))
		}
	}
	f.Add(e.Payload(), []byte{0xff}, uint16(700))
	v := verifier(a)
	f.Fuzz(func(t *testing.T, payload, patch []byte, at uint16) {
		e, err := commit.DecodeEvent(payload)
		if err != nil {
			return
		}
		if int(at)+len(patch) <= len(e.Blocks) {
			e.Blocks = bytes.Clone(e.Blocks)
			copy(e.Blocks[at:], patch)
		}
		roots, blocks, err := car.ReadAll(e.Blocks, car.Limits{})
		if err == nil && !bytes.Equal(car.Append(nil, roots, blocks...), e.Blocks) {
			t.Fatal("the slice, written again, is another one")
		}
		for _, state := range []commit.State{{}, last} {
			next, records, err := v.Commit(context.Background(), state, e)
			if err != nil {
				if re := (*commit.RuleError)(nil); !errors.As(err, &re) {
					t.Fatal(err)
				}
				continue
			}
			if next.Rev != e.Rev {
				t.Fatal(next, e.Rev)
			}
			for _, op := range e.Ops {
				if op.CID.Defined() && dag.Sum(dag.CBOR, records[op.Path]) != op.CID {
					t.Fatalf("record of %s is another one", op.Path)
				}
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	a := filled(b, "alice", 10_000)
	last := a.state()
	payload := a.write(b, map[string]string{"com.example.a/new": "new"}).Payload()
	v := verifier(a)
	for name, key := range map[string]bool{"signed": true, "unsigned": false} {
		if !key {
			v.Key = nil
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e, err := commit.DecodeEvent(payload)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := v.Commit(context.Background(), last, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
