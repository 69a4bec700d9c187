package commit_test

import (
	"bytes"
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
