package commit_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

// now is the time of all tests.
var now = time.Date(2026, 3, 4, 5, 6, 7, 8_000_000, time.UTC)

// account is a repository in memory that commits and announces like a PDS does.
type account struct {
	did     syntax.DID
	key     *crypto.PrivateKey
	tree    *mst.Tree
	records map[string]car.Block
	commit  commit.Commit
	block   car.Block // of the commit
	ticks   int
}

func testKey(t testing.TB, alg crypto.Algorithm, name string) *crypto.PrivateKey {
	t.Helper()
	scalar := sha256.Sum256([]byte(name))
	key, err := crypto.ParsePrivateKey(alg, scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAccount(t testing.TB, name string) *account {
	return &account{
		did:     syntax.DID("did:web:" + name + ".test"),
		key:     testKey(t, crypto.K256, name),
		tree:    mst.Empty(),
		records: make(map[string]car.Block),
	}
}

// record makes the block of a record with a text.
func record(text string) car.Block {
	b := cbor.AppendText(cbor.AppendText(cbor.AppendMap(nil, 1), "text"), text)
	return car.Block{CID: dag.Sum(dag.CBOR, b), Data: b}
}

// write sets records to texts, or deletes those whose text is empty, in one commit.
func (a *account) write(t testing.TB, texts map[string]string) *commit.Event {
	t.Helper()
	return a.writeWithin(t, texts, commit.Limits{})
}

// writeWithin is write within other limits than the protocol's.
func (a *account) writeWithin(t testing.TB, texts map[string]string, lim commit.Limits) *commit.Event {
	t.Helper()
	a.ticks++
	e := &commit.Event{Repo: a.did, Since: a.commit.Rev, PrevData: a.commit.Data, Time: now}
	var ops []mst.Op
	var records []car.Block
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		op := commit.Op{Action: commit.Update, Path: path, Prev: a.records[path].CID}
		if text := texts[path]; text == "" {
			op.Action = commit.Delete
			delete(a.records, path)
		} else {
			r := record(text)
			a.records[path] = r
			records = append(records, r)
			op.CID = r.CID
			if !op.Prev.Defined() {
				op.Action = commit.Create
			}
		}
		e.Ops = append(e.Ops, op)
		ops = append(ops, mst.Op{Key: path, Value: op.CID})
	}
	change, err := a.tree.Apply(ops)
	if err != nil {
		t.Fatal(err)
	}
	a.tree = change.Tree
	a.sign(t, a.rev(0), change.Root)
	e.Rev, e.Commit = a.commit.Rev, a.block.CID
	if err := e.SetBlocks(a.block, change, records, lim); err != nil {
		t.Fatal(err)
	}
	return e
}

// rev is the revision of the present tick, some ticks on.
func (a *account) rev(ticks int) syntax.TID {
	return syntax.NewTID(now.Add(time.Duration(a.ticks+ticks)*time.Millisecond), 1)
}

func (a *account) sign(t testing.TB, rev syntax.TID, data cid.Cid) {
	t.Helper()
	var err error
	if a.commit, a.block, err = commit.Sign(context.Background(), a.did, rev, data, a.key); err != nil {
		t.Fatal(err)
	}
}

func (a *account) state() commit.State { return commit.State{Rev: a.commit.Rev, Data: a.commit.Data} }

// blocks are those of the whole repository in pre-order.
func (a *account) blocks(t testing.TB) []car.Block {
	t.Helper()
	list := []car.Block{a.block}
	for it, err := range a.tree.PreOrder() {
		if err != nil {
			t.Fatal(err)
		}
		if it.Node.CID.Defined() {
			list = append(list, it.Node)
		} else {
			list = append(list, a.records[it.Key])
		}
	}
	return list
}

// export is the whole repository's CAR file.
func (a *account) export(t testing.TB) []byte {
	return car.Append(nil, []cid.Cid{a.block.CID}, a.blocks(t)...)
}

// verifier knows accounts' keys.
func verifier(accounts ...*account) *commit.Verifier {
	return &commit.Verifier{
		Now: func() time.Time { return now.Add(time.Minute) },
		Key: func(_ context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
			for _, a := range accounts {
				if a.did == did {
					return a.key.PublicKey(), nil
				}
			}
			return nil, fmt.Errorf("%w: %s", commit.ErrNoKey, did)
		},
	}
}

// somePaths makes n paths in some collections.
func somePaths(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("com.example.%c/%013d", "abc"[i%3], i)
	}
	return list
}

// filled is an account with n records.
func filled(t testing.TB, name string, n int) *account {
	a := newAccount(t, name)
	for list := range slices.Chunk(somePaths(n), 200) {
		texts := make(map[string]string)
		for _, p := range list {
			texts[p] = "text of " + p
		}
		a.write(t, texts)
	}
	return a
}
