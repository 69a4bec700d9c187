package mst_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

func fixture(t *testing.T, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(testenv.Shared(t, path))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func valueOf(i int) cid.Cid { return dag.Sum(dag.CBOR, fmt.Appendf(nil, "value %d", i)) }

// build makes the tree of a map with the Builder: sorted, in one pass.
func build(t testing.TB, m map[string]cid.Cid) *mst.Tree {
	t.Helper()
	var entries []mst.Entry
	for _, k := range slices.Sorted(maps.Keys(m)) {
		entries = append(entries, mst.Entry{Key: k, Value: m[k]})
	}
	tree, err := mst.BuildSorted(entries)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// blocks returns all nodes of a tree.
func blocks(t testing.TB, tree *mst.Tree) mst.BlockMap {
	t.Helper()
	m := make(mst.BlockMap)
	for b, err := range tree.Nodes() {
		if err != nil {
			t.Fatal(err)
		}
		m[b.CID] = b.Data
	}
	return m
}

func TestInteropKeyHeights(t *testing.T) {
	var cases []struct {
		Key    string
		Height int
	}
	fixture(t, "interop/mst/key_heights.json", &cases)
	for _, c := range cases {
		if got := mst.HeightForKey(c.Key); got != c.Height {
			t.Errorf("%q: height %d, want %d", c.Key, got, c.Height)
		}
	}
}

// The commit-proof fixtures: from one set of keys to another, with the roots on
// both sides and the blocks that a commit's slice must at least have.
func TestInteropCommitProofs(t *testing.T) {
	var cases []struct {
		Comment          string
		LeafValue        string
		Keys, Adds, Dels []string
		RootBeforeCommit string
		RootAfterCommit  string
		BlocksInProof    []string
	}
	fixture(t, "interop/firehose/commit-proof-fixtures.json", &cases)
	for _, c := range cases {
		t.Run(c.Comment, func(t *testing.T) {
			leaf := cid.MustParse(c.LeafValue)
			before := make(map[string]cid.Cid)
			for _, k := range c.Keys {
				before[k] = leaf
			}
			tree := build(t, before)
			if tree.Root().String() != c.RootBeforeCommit {
				t.Fatalf("root before: %s, want %s", tree.Root(), c.RootBeforeCommit)
			}
			var ops []mst.Op
			var inverse []mst.InvertOp
			for _, k := range c.Adds {
				ops = append(ops, mst.Op{Key: k, Value: leaf})
				inverse = append(inverse, mst.InvertOp{Key: k, Value: leaf})
			}
			for _, k := range c.Dels {
				ops = append(ops, mst.Op{Key: k})
				inverse = append(inverse, mst.InvertOp{Key: k, Prev: leaf})
			}
			change, err := tree.Apply(ops)
			if err != nil {
				t.Fatal(err)
			}
			if change.Root.String() != c.RootAfterCommit {
				t.Fatalf("root after: %s, want %s", change.Root, c.RootAfterCommit)
			}
			have := make(mst.BlockMap)
			for _, b := range append(change.New, change.Proof...) {
				have[b.CID] = b.Data
			}
			for _, want := range c.BlocksInProof {
				if _, ok := have[cid.MustParse(want)]; !ok {
					t.Errorf("block %s is missing from the proof", want)
				}
			}
			partial, err := mst.Open(have, change.Root, mst.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if was, err := mst.Invert(partial, inverse); err != nil || was.Root() != tree.Root() {
				t.Errorf("inverted to %v, %v", was, err)
			}
		})
	}
}

func TestInteropExampleKeys(t *testing.T) {
	f, err := os.Open(testenv.Shared(t, "interop/mst/example_keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := make(map[string]cid.Cid)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if k := strings.TrimSpace(sc.Text()); k != "" {
			m[k] = valueOf(len(m))
		}
	}
	want := build(t, m).Root()
	one := mst.Empty()
	for k, v := range m {
		c, err := one.Apply([]mst.Op{{Key: k, Value: v}})
		if err != nil {
			t.Fatal(err)
		}
		one = c.Tree
	}
	if one.Root() != want {
		t.Errorf("one by one: %s, in one pass: %s", one.Root(), want)
	}
}

func TestStreamVerifier(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := make(map[string]cid.Cid)
		for _, k := range msttest.Keys(rng, rng.IntN(200)) {
			m[k] = valueOf(rng.IntN(1000))
		}
		tree := build(t, m)
		v, err := mst.NewStreamVerifier(tree.Root(), mst.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]cid.Cid)
		last := ""
		for it, err := range tree.PreOrder() {
			if err != nil {
				t.Fatal(err)
			}
			want, ok := v.Next()
			if !ok {
				t.Fatal("the verifier is done early")
			}
			if it.Node.CID.Defined() {
				if want.Key != "" || want.CID != it.Node.CID {
					t.Fatalf("wants %v, the tree has node %v", want, it.Node.CID)
				}
				if err := v.Node(it.Node.Data); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if want.Key != it.Key || want.CID != it.Value || it.Key <= last {
				t.Fatalf("wants %v, the tree has %v after %q", want, it, last)
			}
			last = it.Key
			got[it.Key] = it.Value
		}
		if err := v.Node(nil); err == nil {
			t.Fatal("a node that was not asked for is taken")
		}
		if _, ok := v.Next(); ok || !maps.Equal(got, m) {
			t.Fatalf("seed %d: not complete", seed)
		}
	}
}

func TestGetWalkAndProofs(t *testing.T) {
	pool := msttest.Keys(rand.New(rand.NewPCG(1, 1)), 300)
	m := make(map[string]cid.Cid)
	for i, k := range pool[:150] {
		m[k] = valueOf(i)
	}
	tree := build(t, m)
	sorted := slices.Sorted(maps.Keys(m))
	for _, k := range pool {
		v, ok, err := tree.Get(k)
		if want, there := m[k]; err != nil || ok != there || v != want {
			t.Fatalf("Get(%s) = %v, %v, %v", k, v, ok, err)
		}
		proof, err := tree.Proof(k)
		if err != nil {
			t.Fatal(err)
		}
		v, ok, err = mst.VerifyProof(tree.Root(), k, proof)
		if want, there := m[k]; err != nil || ok != there || v != want {
			t.Fatalf("VerifyProof(%s) = %v, %v, %v", k, v, ok, err)
		}
		height := 0
		for key := range m {
			height = max(height, mst.HeightForKey(key))
		}
		for i := range proof {
			v, found, err := mst.VerifyProof(tree.Root(), k, slices.Delete(slices.Clone(proof), i, i+1))
			if !ok && i > 0 && height-i < mst.HeightForKey(k) { // below the height of a key that is not there
				if err != nil || found || v.Defined() {
					t.Fatalf("proof of %s without block %d, which is below its height: %v, %v", k, i, v, err)
				}
			} else if !errors.Is(err, mst.ErrProof) {
				t.Fatalf("proof of %s without block %d: %v", k, i, err)
			}
		}
		var walked []string
		for e, err := range tree.Walk(k) {
			if err != nil || e.Value != m[e.Key] {
				t.Fatal(e, err)
			}
			walked = append(walked, e.Key)
		}
		at, _ := slices.BinarySearch(sorted, k)
		if !slices.Equal(walked, sorted[at:]) {
			t.Fatalf("walk from %s: %d keys, want %d", k, len(walked), len(sorted)-at)
		}
	}
	s, err := tree.Stats()
	if err != nil || s.Keys != len(m) || s.Nodes != len(blocks(t, tree)) {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestFailedApplyLeavesTheTree(t *testing.T) {
	m := map[string]cid.Cid{}
	for i, k := range msttest.Keys(rand.New(rand.NewPCG(9, 9)), 50) {
		m[k] = valueOf(i)
	}
	tree := build(t, m)
	root := tree.Root()
	key := slices.Sorted(maps.Keys(m))[7]
	raw := cid.NewCidV0(valueOf(1).Hash())
	for name, c := range map[string]struct {
		ops  []mst.Op
		want error
	}{
		"missing key":   {[]mst.Op{{Key: key}, {Key: "com.example.zz/none"}}, mst.ErrKeyNotFound},
		"missing tall":  {[]mst.Op{{Key: new(msttest.Miner).Key(7)}}, mst.ErrKeyNotFound},
		"twice":         {[]mst.Op{{Key: key}, {Key: key, Value: valueOf(1)}}, mst.ErrDuplicateKey},
		"illegal key":   {[]mst.Op{{Key: key}, {Key: "no slash", Value: valueOf(1)}}, mst.ErrInvalidKey},
		"wrong CID":     {[]mst.Op{{Key: key, Value: raw}}, mst.ErrLink},
		"long key":      {[]mst.Op{{Key: "a/" + strings.Repeat("x", 1023), Value: valueOf(1)}}, mst.ErrInvalidKey},
		"two slashes":   {[]mst.Op{{Key: "a/b/c", Value: valueOf(1)}}, mst.ErrInvalidKey},
		"empty segment": {[]mst.Op{{Key: "/c", Value: valueOf(1)}}, mst.ErrInvalidKey},
	} {
		if change, err := tree.Apply(c.ops); change != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if tree.Root() != root || build(t, m).Root() != root {
		t.Error("the tree changed")
	}
	if got, err := tree.Map(); err != nil || !maps.Equal(got, m) {
		t.Errorf("the tree changed: %v", err)
	}
}

func ExampleTree_Apply() {
	record := dag.Sum(dag.CBOR, []byte{0xa0})
	change, err := mst.Empty().Apply([]mst.Op{{Key: "app.bsky.feed.post/3jzfcijpj2z2a", Value: record}})
	if err != nil {
		panic(err)
	}
	_, found, _ := change.Tree.Get("app.bsky.feed.post/3jzfcijpj2z2a")
	fmt.Println(len(change.New), len(change.Removed), found)
	// Output: 1 1 true
}

// A few blocks prove to a holder of the root what a repository has, or has not.
func ExampleVerifyProof() {
	record := dag.Sum(dag.CBOR, []byte{0xa0})
	change, err := mst.Empty().Apply([]mst.Op{{Key: "app.bsky.feed.post/3jzfcijpj2z2a", Value: record}})
	if err != nil {
		panic(err)
	}
	proof, err := change.Tree.Proof("app.bsky.feed.post/3jzfcijpj2z2b")
	if err != nil {
		panic(err)
	}
	_, found, err := mst.VerifyProof(change.Root, "app.bsky.feed.post/3jzfcijpj2z2b", proof)
	fmt.Println(found, err)
	// Output: false <nil>
}

// The nodes that a tree has and another has not, with all their keys, in the order of PreOrder.
func TestPreOrderOfNewNodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	pool := msttest.Keys(rng, 120)
	for range 50 {
		m := make(msttest.Model)
		for i, k := range pool[:rng.IntN(len(pool))] {
			m[k] = valueOf(i)
		}
		old := m.Nodes()
		tree := build(t, m)
		ops, _ := msttest.Step(rng, pool, m, 8)
		change, err := tree.Apply(ops)
		if err != nil {
			t.Fatal(err)
		}
		had := msttest.BlockMap(old)
		isNew := func(c cid.Cid) bool { return had[c] == nil }
		var got, want []mst.Item
		for it, err := range change.Tree.PreOrderOf(isNew) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, it)
		}
		// The same from PreOrder, leaving out keys whose proofs have no new last node.
		for it, err := range change.Tree.PreOrder() {
			if err != nil {
				t.Fatal(err)
			}
			keep := it.Node.CID.Defined() && isNew(it.Node.CID)
			if it.Key != "" {
				path, err := change.Tree.Proof(it.Key)
				if err != nil {
					t.Fatal(err)
				}
				keep = isNew(path[len(path)-1].CID)
			}
			if keep {
				want = append(want, it)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d items, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i].Node.CID != want[i].Node.CID || got[i].Key != want[i].Key || got[i].Value != want[i].Value {
				t.Fatalf("item %d is %v %q, want %v %q", i, got[i].Node.CID, got[i].Key, want[i].Node.CID, want[i].Key)
			}
		}
	}
	empty := 0
	for it := range mst.Empty().PreOrderOf(func(cid.Cid) bool { return true }) {
		if empty++; it.Node.CID != mst.Empty().Root() {
			t.Error(it)
		}
	}
	for range mst.Empty().PreOrderOf(func(cid.Cid) bool { return false }) {
		empty++
	}
	if empty != 1 {
		t.Errorf("%d nodes of the empty tree", empty)
	}
}
