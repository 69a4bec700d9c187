package commit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
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

// reslice takes an event's CAR slice apart and lets change put it together again.
func reslice(t testing.TB, e *commit.Event, change func(roots []cid.Cid, blocks []car.Block) ([]cid.Cid, []car.Block)) {
	t.Helper()
	roots, blocks, err := car.ReadAll(e.Blocks, car.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	roots, blocks = change(roots, blocks)
	e.Blocks = car.Append(nil, roots, blocks...)
}

// drop leaves a block out of an event.
func drop(t testing.TB, e *commit.Event, c cid.Cid) {
	reslice(t, e, func(roots []cid.Cid, blocks []car.Block) ([]cid.Cid, []car.Block) {
		return roots, slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == c })
	})
}

// recommit replaces the commit of an event with one that its account signs.
func recommit(t testing.TB, a *account, e *commit.Event, rev syntax.TID, data cid.Cid, more ...car.Block) {
	old := e.Commit
	a.sign(t, rev, data)
	e.Rev, e.Commit = rev, a.block.CID
	reslice(t, e, func(_ []cid.Cid, blocks []car.Block) ([]cid.Cid, []car.Block) {
		blocks = slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == old })
		return []cid.Cid{a.block.CID}, append(append([]car.Block{a.block}, blocks...), more...)
	})
}

// forgery is a way to spoil an event, and the rule that it breaks.
type forgery struct {
	name  string
	rule  error
	spoil func(t testing.TB, a *account, e *commit.Event, last *commit.State)
}

var forgeries = []forgery{
	{"more operations than allowed", commit.ErrSize, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		for len(e.Ops) <= commit.MaxOps {
			e.Ops = append(e.Ops, e.Ops[0])
		}
	}},
	{"more bytes of blocks than allowed", commit.ErrSize, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		reslice(t, e, func(r []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) {
			return r, append(b, record(strings.Repeat("x", 1_000_000)), record(strings.Repeat("y", 1_000_000)))
		})
	}},
	{"no blocks", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Blocks = nil }},
	{"blocks that are no CAR file", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Blocks = []byte("x") }},
	{"blocks cut short", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Blocks = e.Blocks[:len(e.Blocks)-1]
	}},
	{"a block that does not match its CID", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Blocks = bytes.Clone(e.Blocks)
		e.Blocks[len(e.Blocks)-1] ^= 1
	}},
	{"no root", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		reslice(t, e, func(_ []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) { return nil, b })
	}},
	{"the commit is the second root only", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		reslice(t, e, func(r []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) {
			return []cid.Cid{b[1].CID, r[0]}, b
		})
	}},
	{"another commit than the root", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Commit = record("x").CID }},
	{"no commit block", commit.ErrBlocks, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { drop(t, e, e.Commit) }},
	{"a record for a commit", commit.ErrCommitBlock, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		r := record("I am a commit")
		e.Commit = r.CID
		reslice(t, e, func(_ []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) { return []cid.Cid{r.CID}, append(b, r) })
	}},
	{"a commit with a field too many", commit.ErrCommitBlock, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		data := object(append(goodFields(), field{"z-extra", "\xf6"})...)
		e.Commit = dag.Sum(dag.CBOR, data)
		reslice(t, e, func(_ []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) {
			return []cid.Cid{e.Commit}, append(b, car.Block{CID: e.Commit, Data: data})
		})
	}},
	{"another account's commit", commit.ErrFields, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Repo = "did:web:mallory.test"
	}},
	{"another revision than the commit's", commit.ErrFields, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Rev = a.rev(1)
	}},
	{"an account without a key", commit.ErrNoKey, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		a.did = "did:web:nobody.test"
		recommit(t, a, e, e.Rev, a.commit.Data)
		e.Repo = a.did
		a.did = "did:web:alice.test"
	}},
	{"signed by someone else", commit.ErrBadSignature, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		own := a.key
		a.key = testKey(t, crypto.K256, "mallory")
		recommit(t, a, e, e.Rev, a.commit.Data)
		a.key = own
	}},
	{"the signature's twin with a high s", commit.ErrBadSignature, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		c := a.commit
		c.Sig = highS(crypto.K256, c.Sig)
		twin := car.Block{CID: dag.Sum(dag.CBOR, c.Encode()), Data: c.Encode()}
		e.Commit = twin.CID
		reslice(t, e, func(_ []cid.Cid, b []car.Block) ([]cid.Cid, []car.Block) { return []cid.Cid{twin.CID}, append(b, twin) })
	}},
	{"replayed", commit.ErrStale, func(t testing.TB, a *account, e *commit.Event, last *commit.State) { *last = a.state() }},
	{"older than the last", commit.ErrStale, func(t testing.TB, a *account, e *commit.Event, last *commit.State) {
		last.Rev = a.rev(1)
	}},
	{"from the future", commit.ErrFuture, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		recommit(t, a, e, syntax.NewTID(now.Add(time.Minute+5*time.Minute+time.Second), 1), a.commit.Data)
	}},
	{"from the end of time", commit.ErrFuture, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		recommit(t, a, e, "bzzzzzzzzzzzz", a.commit.Data)
	}},
	{"an operation without a collection", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops[0].Path = "a" }},
	{"an operation whose collection is no NSID", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].Path = "a/b"
	}},
	{"an operation with a slash too many", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].Path += "/x"
	}},
	{"an operation on the record key '..'", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].Path = "com.example.a/.."
	}},
	{"a path given twice", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops = append(e.Ops, e.Ops[0]) }},
	{"an unknown action", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops[0].Action = "upsert" }},
	{"a create with a value before", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].Prev = e.Ops[1].CID
	}},
	{"a create without a value", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].CID = cid.Undef
	}},
	{"an update without a value before", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[1].Prev = cid.Undef
	}},
	{"a delete with a value", commit.ErrOp, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops[2].CID = e.Ops[0].CID }},
	{"a record left out", commit.ErrRecord, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { drop(t, e, e.Ops[0].CID) }},
	{"a record that is an array", commit.ErrRecord, replaceRecord([]byte{0x80})},
	{"a record that is empty", commit.ErrRecord, replaceRecord(nil)},
	{"a record with a float", commit.ErrRecord, replaceRecord([]byte("\xa1\x61a\xfb\x40\x08\x00\x00\x00\x00\x00\x00"))},
	{"a record with unsorted keys", commit.ErrRecord, replaceRecord([]byte("\xa2\x61b\x00\x61a\x00"))},
	{"a record with trailing bytes", commit.ErrRecord, replaceRecord([]byte("\xa0\xa0"))},
	{"a record that is no CBOR", commit.ErrRecord, replaceRecord([]byte("{}"))},
	{"a record nested too deeply", commit.ErrRecord, replaceRecord([]byte(strings.Repeat("\xa1\x61a", 1000) + "\xa0"))},
	{"a record of more than 1,000,000 bytes", commit.ErrRecord, replaceRecord(record(strings.Repeat("x", 1_000_000)).Data)},
	{"the root node left out", commit.ErrTree, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { drop(t, e, a.commit.Data) }},
	{"a node of the path left out", commit.ErrTree, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		proof, err := a.tree.Proof(e.Ops[0].Path)
		if err != nil || len(proof) < 2 {
			t.Fatal(err)
		}
		drop(t, e, proof[len(proof)-1].CID)
	}},
	{"a record for a root node", commit.ErrTree, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		recommit(t, a, e, e.Rev, e.Ops[0].CID)
	}},
	{"a root node with trailing bytes", commit.ErrTree, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		proof, err := a.tree.Proof(e.Ops[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		data := append(bytes.Clone(proof[0].Data), 0)
		bad := car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}
		recommit(t, a, e, e.Rev, bad.CID, bad)
	}},
	{"an operation kept secret", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops = e.Ops[1:] }},
	{"all operations kept secret", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Ops = nil }},
	{"an operation made up", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops = append(e.Ops, commit.Op{Action: commit.Create, Path: e.Ops[0].Path + "x", CID: e.Ops[0].CID})
	}},
	{"a delete that the tree does not show", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0] = commit.Op{Action: commit.Delete, Path: e.Ops[0].Path, Prev: e.Ops[0].CID}
	}},
	{"another record than the tree's", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[0].CID = e.Ops[1].CID
	}},
	{"another record before than the tree's", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		e.Ops[1].Prev = e.Ops[0].CID
	}},
	{"another tree before", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.PrevData = e.Ops[0].CID }},
	{"no tree before", commit.ErrInversion, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.PrevData = cid.Undef }},
	{"a message was lost: another revision before", commit.ErrOutOfSync, func(t testing.TB, a *account, e *commit.Event, last *commit.State) {
		last.Rev = a.rev(-2)
	}},
	{"a message was lost: another tree before", commit.ErrOutOfSync, func(t testing.TB, a *account, e *commit.Event, last *commit.State) {
		last.Data = mst.Empty().Root()
	}},
	{"since left out", commit.ErrOutOfSync, func(t testing.TB, a *account, e *commit.Event, _ *commit.State) { e.Since = "" }},
}

// replaceRecord makes the event's first operation one on a block of other bytes, all
// the way up to the commit.
func replaceRecord(data []byte) func(testing.TB, *account, *commit.Event, *commit.State) {
	return func(t testing.TB, a *account, e *commit.Event, _ *commit.State) {
		b := car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}
		change, err := a.tree.Apply([]mst.Op{{Key: e.Ops[0].Path, Value: b.CID}})
		if err != nil {
			t.Fatal(err)
		}
		e.Ops[0].CID = b.CID
		recommit(t, a, e, e.Rev, change.Root, append(change.New, b)...)
	}
}

// forged is an event of a create, an update and a delete, spoiled, with the last
// state before it.
func (f *forgery) forged(t testing.TB) (a *account, last commit.State, e *commit.Event) {
	a = filled(t, "alice", 200)
	paths := somePaths(200)
	last = a.state()
	e = a.write(t, map[string]string{"com.example.a/new": "new", paths[100]: "updated", paths[150]: ""})
	slices.SortFunc(e.Ops, func(x, y commit.Op) int { return strings.Compare(string(x.Action), string(y.Action)) })
	slices.SortFunc(e.Ops, func(x, y commit.Op) int { // create, update, delete
		rank := map[commit.Action]int{commit.Create: 0, commit.Update: 1, commit.Delete: 2}
		return rank[x.Action] - rank[y.Action]
	})
	if f.spoil != nil {
		f.spoil(t, a, e, &last)
	}
	return a, last, e
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
