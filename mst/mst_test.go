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

// keyPool has keys of all heights up to some 6, with many common prefixes.
func keyPool(n int, seed uint64) []string {
	rng := rand.New(rand.NewPCG(seed, 7))
	pool := make([]string, 0, n)
	for i := 0; len(pool) < n; i++ {
		key := fmt.Sprintf("com.example.%c/%s", 'a'+rng.IntN(4), strings.Repeat("k", rng.IntN(3))+fmt.Sprint(rng.IntN(1_000_000)))
		// Take tall keys gladly and low keys now and then.
		if mst.HeightForKey(key) >= rng.IntN(5) {
			pool = append(pool, key)
		}
	}
	return pool
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

// step is a random batch on a map: what it does to the map and the operations.
func step(rng *rand.Rand, pool []string, m map[string]cid.Cid, most int) (ops []mst.Op, inverse []mst.InvertOp) {
	used := make(map[string]bool)
	empty := rng.IntN(40) == 0
	n := 1 + rng.IntN(most)
	if empty { // down to nothing
		for k, v := range m {
			ops = append(ops, mst.Op{Key: k})
			inverse = append(inverse, mst.InvertOp{Key: k, Prev: v})
		}
		clear(m)
		return ops, inverse
	}
	for range n {
		k := pool[rng.IntN(len(pool))]
		if used[k] {
			continue
		}
		used[k] = true
		old, there := m[k]
		if there && rng.IntN(2) == 0 {
			ops = append(ops, mst.Op{Key: k})
			inverse = append(inverse, mst.InvertOp{Key: k, Prev: old})
			delete(m, k)
			continue
		}
		v := valueOf(rng.IntN(1000))
		ops = append(ops, mst.Op{Key: k, Value: v})
		inverse = append(inverse, mst.InvertOp{Key: k, Value: v, Prev: old})
		m[k] = v
	}
	return ops, inverse
}

// Random histories against the model: after each batch the tree must be the one
// that is built from the sorted map, its change must account for every node, and the
// slice must invert: in one batch, and one by one in both orders.
func TestRandomHistoriesAgainstModel(t *testing.T) {
	histories, steps := 60, 60
	if testing.Short() {
		histories = 10
	}
	if os.Getenv("PDSKIT_LONG") != "" {
		histories = 3000
	}
	for seed := range uint64(histories) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pool := keyPool(5+rng.IntN(60), seed)
		m := make(map[string]cid.Cid)
		tree := mst.Empty()
		for s := range steps {
			before := tree
			had := blocks(t, before)
			ops, inverse := step(rng, pool, m, 6)
			change, err := tree.Apply(ops)
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, s, err)
			}
			tree = change.Tree
			want := build(t, m)
			if tree.Root() != want.Root() || change.Root != want.Root() {
				t.Fatalf("seed %d step %d: %s, want %s", seed, s, tree.Root(), want.Root())
			}
			has := blocks(t, tree)
			checkChange(t, change, had, has)
			slice := make(mst.BlockMap)
			for _, b := range append(slices.Clone(change.New), change.Proof...) {
				slice[b.CID] = b.Data
			}
			checkInverts(t, slice, change.Root, before.Root(), inverse)
			if rng.IntN(4) == 0 { // go on with a tree that is read as needed
				if tree, err = mst.Open(has, want.Root(), mst.Limits{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := mst.Load(has, want.Root(), mst.Limits{}); err != nil {
				t.Fatalf("seed %d step %d: load: %v", seed, s, err)
			}
		}
	}
}

// checkChange compares a change with the nodes before and after.
func checkChange(t *testing.T, c *mst.Change, had, has mst.BlockMap) {
	t.Helper()
	fresh := make(map[cid.Cid]bool)
	for _, b := range c.New {
		if fresh[b.CID] || had[b.CID] != nil || has[b.CID] == nil {
			t.Fatalf("node %s is not new, or not in the tree", b.CID)
		}
		fresh[b.CID] = true
	}
	gone := make(map[cid.Cid]bool)
	for _, r := range c.Removed {
		if gone[r] || had[r] == nil || has[r] != nil {
			t.Fatalf("node %s was not there, or still is", r)
		}
		gone[r] = true
	}
	if len(had)-len(gone)+len(fresh) != len(has) {
		t.Fatalf("%d nodes - %d + %d != %d", len(had), len(gone), len(fresh), len(has))
	}
	for _, b := range c.Proof {
		if fresh[b.CID] || has[b.CID] == nil {
			t.Fatalf("proof node %s is new, or not in the tree", b.CID)
		}
	}
}

// checkInverts undoes operations on a tree of which only a slice is known.
func checkInverts(t *testing.T, slice mst.BlockMap, root, want cid.Cid, ops []mst.InvertOp) {
	t.Helper()
	open := func() *mst.Tree {
		tree, err := mst.Open(slice, root, mst.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	got, err := mst.Invert(open(), ops)
	if err != nil || got.Root() != want {
		t.Fatalf("inverted to %v, want %v: %v", got, want, err)
	}
	for _, order := range []string{"forward", "backward"} {
		if got, err := invertOneByOne(open(), ops, order == "backward"); err != nil || got != want {
			t.Fatalf("inverted one by one, %s, to %v, want %v: %v", order, got, want, err)
		}
	}
}

func invertOneByOne(tree *mst.Tree, ops []mst.InvertOp, backward bool) (cid.Cid, error) {
	ops = slices.Clone(ops)
	if backward {
		slices.Reverse(ops)
	}
	for _, op := range ops {
		var err error
		if tree, err = mst.Invert(tree, []mst.InvertOp{op}); err != nil {
			return cid.Undef, err
		}
	}
	return tree.Root(), nil
}

func TestStreamVerifier(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := make(map[string]cid.Cid)
		for _, k := range keyPool(rng.IntN(200), seed) {
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
		if _, ok := v.Next(); ok || !maps.Equal(got, m) {
			t.Fatalf("seed %d: not complete", seed)
		}
	}
}

func TestDiffAgainstMaps(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 3))
		pool := keyPool(100, seed)
		a := make(map[string]cid.Cid)
		for _, k := range pool[:rng.IntN(len(pool))] {
			a[k] = valueOf(rng.IntN(10))
		}
		b := maps.Clone(a)
		for range rng.IntN(10) {
			step(rng, pool, b, 5)
		}
		last := ""
		got := maps.Clone(a)
		for d, err := range mst.Diff(build(t, a), build(t, b)) {
			if err != nil {
				t.Fatal(err)
			}
			if d.Key <= last || d.Old != a[d.Key] || d.New != b[d.Key] || d.Old == d.New {
				t.Fatalf("seed %d: %+v after %q", seed, d, last)
			}
			last = d.Key
			if d.New.Defined() {
				got[d.Key] = d.New
			} else {
				delete(got, d.Key)
			}
		}
		if !maps.Equal(got, b) {
			t.Fatalf("seed %d: the difference does not lead from one to the other", seed)
		}
	}
}

func TestGetWalkAndProofs(t *testing.T) {
	pool := keyPool(300, 1)
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
		for i := range proof {
			if _, _, err := mst.VerifyProof(tree.Root(), k, slices.Delete(slices.Clone(proof), i, i+1)); !errors.Is(err, mst.ErrProof) {
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
	for i, k := range keyPool(50, 9) {
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
		"missing tall":  {[]mst.Op{{Key: tallKey(t, 9)}}, mst.ErrKeyNotFound},
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

// tallKey finds a key of at least a height.
func tallKey(t testing.TB, height int) string {
	for i := 0; ; i++ {
		if k := fmt.Sprintf("com.example.tall/%d", i); mst.HeightForKey(k) >= height {
			return k
		}
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
