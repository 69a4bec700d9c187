package mst_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// wantChange fails unless the nodes of a change are what one tree has and the other does not.
func wantChange(t *testing.T, name string, before msttest.Model, ops []mst.Op) {
	t.Helper()
	tree, err := mst.BuildSorted(before.Entries())
	if err != nil {
		t.Fatal(err)
	}
	change, err := tree.Apply(ops)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	after := make(msttest.Model)
	for k, v := range before {
		after[k] = v
	}
	if err := after.Apply(ops); err != nil {
		t.Fatal(err)
	}
	old, now := msttest.BlockMap(before.Nodes()), msttest.BlockMap(after.Nodes())
	added, removed := make(mst.BlockMap), make(map[cid.Cid]bool)
	for _, b := range change.New {
		if _, twice := added[b.CID]; twice || old[b.CID] != nil || !bytes.Equal(now[b.CID], b.Data) {
			t.Errorf("%s: %s is given twice, or is no new node", name, b.CID)
		}
		added[b.CID] = b.Data
	}
	for _, c := range change.Removed {
		if removed[c] || now[c] != nil || old[c] == nil {
			t.Errorf("%s: %s is given twice, or was not removed", name, c)
		}
		removed[c] = true
	}
	for c := range now {
		if old[c] == nil && added[c] == nil {
			t.Errorf("%s: the new node %s is missing", name, c)
		}
	}
	for c := range old {
		if now[c] == nil && !removed[c] {
			t.Errorf("%s: the removed node %s is missing", name, c)
		}
	}
}

// Each change of each small tree says which nodes came and went.
func TestChangesOfSmallTrees(t *testing.T) {
	const keys, heights = 4, 3
	for shape := range 1 << (2 * keys) {
		var miner msttest.Miner
		before := make(msttest.Model)
		var all []string
		for i := range keys {
			height := shape >> (2 * i) & 3
			if height == heights { // this key is not there
				height = 1
			}
			key := miner.Key(height)
			all = append(all, key)
			if shape>>(2*i)&3 < heights {
				before[key] = msttest.Value(i)
			}
		}
		for _, key := range all {
			op := mst.Op{Key: key}
			if !before[key].Defined() {
				op.Value = msttest.Value(99)
			}
			wantChange(t, fmt.Sprintf("shape %o, %s", shape, key), before, []mst.Op{op})
		}
	}
}

// Large batches do too, though they take apart many nodes that come out the same.
func TestChangesOfLargeBatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	keys := msttest.Keys(rng, 800)
	for n := range 12 {
		m := make(msttest.Model)
		for i, k := range keys {
			if rng.IntN(3) > 0 {
				m[k] = msttest.Value(i)
			}
		}
		before := make(msttest.Model)
		for k, v := range m {
			before[k] = v
		}
		ops, _ := msttest.Step(rng, keys, m, 20+40*n)
		for i := range ops { // some change nothing
			if v := before[ops[i].Key]; v.Defined() && ops[i].Value.Defined() && rng.IntN(2) == 0 {
				ops[i].Value = v
			}
		}
		wantChange(t, fmt.Sprintf("batch %d of %d", n, len(ops)), before, ops)
	}
}

// longKeys returns n keys of a height in a collection, in order. They are 200 bytes long and differ
// in their last eight.
func longKeys(collection string, height, n int) (keys []string) {
	for i := 0; len(keys) < n; i++ {
		if k := "com.example." + collection + "/" + strings.Repeat("x", 178) + fmt.Sprintf("%08d", i); mst.HeightForKey(k) == height {
			keys = append(keys, k)
		}
	}
	return keys
}

// A block that ends early is no node, wherever it ends.
func TestNodesCutShort(t *testing.T) {
	var entries []mst.Entry
	for i, k := range longKeys("a", 0, 30) {
		entries = append(entries, mst.Entry{Key: k, Value: msttest.Value(i)})
	}
	tree, err := mst.BuildSorted(entries)
	if err != nil {
		t.Fatal(err)
	}
	node := blocks(t, tree)[tree.Root()]
	for n := range len(node) + 1 {
		block := bytes.Clone(node[:n])
		root := dag.Sum(dag.CBOR, block)
		_, err := mst.Load(mst.BlockMap{root: block}, root, mst.Limits{})
		if whole := n == len(node); (err == nil) != whole {
			t.Errorf("%d of %d bytes: %v", n, len(node), err)
		}
	}
}

// The height of a root is that of its first key, also if that is a long one. Its other keys have the
// same.
func TestRootsOfLongKeys(t *testing.T) {
	for height := range 4 {
		m := make(msttest.Model)
		for _, collection := range []string{"a", "b", "c"} {
			m[longKeys(collection, height, 1)[0]] = msttest.Value(height)
		}
		nodes := msttest.BlockMap(m.Nodes())
		tree, err := mst.Load(nodes, m.Root(), mst.Limits{})
		if err != nil {
			t.Fatalf("height %d: %v", height, err)
		}
		if s, err := tree.Stats(); err != nil || s.Height != height {
			t.Errorf("height %d: %+v, %v", height, s, err)
		}
		for _, collection := range []string{"a", "b", "c"} {
			key, other := longKeys(collection, height, 1)[0], longKeys(collection, height+1, 1)[0]
			// From the collection on, the key is spelled out in the node.
			forged := bytes.Clone(nodes[m.Root()])
			at := len("com.example.")
			copy(forged[bytes.Index(forged, []byte(key[at:])):], other[at:])
			root := dag.Sum(dag.CBOR, forged)
			if _, err := mst.Load(mst.BlockMap{root: forged}, root, mst.Limits{}); !errors.Is(err, mst.ErrHeight) {
				t.Errorf("height %d, with %s: %v", height, other, err)
			}
		}
	}
}

// What is wrong with an entry is an error of Build and RootOf, and of every call of a Builder after
// it. A Builder has one result.
func TestBuildersErrors(t *testing.T) {
	good := []mst.Entry{{Key: "a/a", Value: msttest.Value(1)}, {Key: "a/b", Value: msttest.Value(2)}}
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		entry mst.Entry
		err   error
		want  error
	}{
		"a key that is none":       {mst.Entry{Key: "a", Value: msttest.Value(3)}, nil, mst.ErrInvalidKey},
		"a key again":              {mst.Entry{Key: "a/b", Value: msttest.Value(3)}, nil, mst.ErrOrder},
		"a key out of order":       {mst.Entry{Key: "a/aa", Value: msttest.Value(3)}, nil, mst.ErrOrder},
		"a value that is none":     {mst.Entry{Key: "a/c"}, nil, mst.ErrLink},
		"an error of the iterator": {mst.Entry{}, boom, boom},
	} {
		entries := func(yield func(mst.Entry, error) bool) {
			for _, e := range good {
				if !yield(e, nil) {
					return
				}
			}
			yield(c.entry, c.err)
		}
		if tree, err := mst.Build(entries); tree != nil || !errors.Is(err, c.want) {
			t.Errorf("Build, %s: %v, want %v", name, err, c.want)
		}
		if root, err := mst.RootOf(entries); root.Defined() || !errors.Is(err, c.want) {
			t.Errorf("RootOf, %s: %v, want %v", name, err, c.want)
		}
		if c.err != nil {
			continue
		}
		b := mst.NewBuilder()
		for _, e := range good {
			if err := b.Add(e.Key, e.Value); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Add(c.entry.Key, c.entry.Value); !errors.Is(err, c.want) {
			t.Errorf("Add, %s: %v", name, err)
		}
		if err := b.Add("a/d", msttest.Value(4)); !errors.Is(err, c.want) {
			t.Errorf("Add after %s: %v", name, err)
		}
		if tree, err := b.Tree(); tree != nil || !errors.Is(err, c.want) {
			t.Errorf("Tree after %s: %v", name, err)
		}
	}
	if tree, err := new(mst.Builder).Tree(); tree != nil || err == nil {
		t.Errorf("a Builder of roots made a tree: %v", err)
	}
	for name, take := range map[string]func(b *mst.Builder) error{
		"Tree": func(b *mst.Builder) error { _, err := b.Tree(); return err },
		"Root": func(b *mst.Builder) error { _, err := b.Root(); return err },
	} {
		b := mst.NewBuilder()
		if err := b.Add("a/a", msttest.Value(1)); err != nil {
			t.Fatal(err)
		}
		if err := take(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := take(b); err == nil {
			t.Errorf("%s a second time", name)
		}
		if err := b.Add("a/b", msttest.Value(2)); err == nil {
			t.Errorf("Add after %s", name)
		}
	}
}

// A look-up reads only the nodes of one path. Each must lie in its place: else a node from somewhere
// else would prove that a key is not there.
func TestLookUpsOfKeysOutOfPlace(t *testing.T) {
	var miner msttest.Miner
	before, middle, inside, upper, behind := miner.Key(0), miner.Key(2), miner.Key(0), miner.Key(1), miner.Key(0)
	leaf := func(key string) car.Block { return msttest.Model{key: msttest.Value(1)}.Nodes()[0] }
	for name, c := range map[string]struct {
		keys      []string
		from, to  string // the leaf of one key is exchanged for that of another
		asked     string
		wantError error
	}{
		"in its place":                {[]string{middle, inside, upper}, inside, inside, inside, nil},
		"before the key of its node":  {[]string{upper, behind}, behind, inside, behind, mst.ErrOrder},
		"behind the key of its node":  {[]string{inside, upper}, inside, behind, inside, mst.ErrOrder},
		"before a key further up":     {[]string{middle, inside, upper}, inside, before, inside, mst.ErrOrder},
		"behind a key of its node":    {[]string{middle, inside, upper}, inside, behind, inside, mst.ErrOrder},
		"the key that is left out":    {[]string{middle, inside, upper}, inside, before, inside, mst.ErrOrder},
		"behind the last of the tree": {[]string{middle, upper, behind}, behind, before, behind, mst.ErrOrder},
	} {
		m := make(msttest.Model)
		for _, k := range c.keys {
			m[k] = msttest.Value(1)
		}
		nodes := m.Nodes()
		from, to := leaf(c.from), leaf(c.to)
		src := mst.BlockMap{to.CID: to.Data}
		proof := []car.Block{to}
		// From below, each node gets the new links of those below it.
		renamed := map[cid.Cid]cid.Cid{from.CID: to.CID}
		root := cid.Undef
		for i := len(nodes) - 1; i >= 0; i-- {
			if nodes[i].CID == from.CID {
				continue
			}
			data := bytes.Clone(nodes[i].Data)
			for old, now := range renamed {
				data = bytes.ReplaceAll(data, old.Bytes(), now.Bytes())
			}
			root = dag.Sum(dag.CBOR, data)
			renamed[nodes[i].CID] = root
			src[root] = data
			proof = append(proof, car.Block{CID: root, Data: data})
		}
		tree, err := mst.Open(src, root, mst.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		v, found, err := tree.Get(c.asked)
		if !errors.Is(err, c.wantError) || (err == nil) != found || found != v.Defined() {
			t.Errorf("%s: %v, %v, %v", name, v, found, err)
		}
		for reader, read := range map[string]func(tree *mst.Tree) error{
			"Walk": func(tree *mst.Tree) (err error) {
				for _, err = range tree.Walk("") {
				}
				return err
			},
			"PreOrder": func(tree *mst.Tree) (err error) {
				for _, err = range tree.PreOrder() {
				}
				return err
			},
			"Nodes": func(tree *mst.Tree) (err error) {
				for _, err = range tree.Nodes() {
				}
				return err
			},
		} {
			tree, err := mst.Open(src, root, mst.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := read(tree); !errors.Is(err, c.wantError) {
				t.Errorf("%s, by %s: %v", name, reader, err)
			}
		}
		if _, found, err := mst.VerifyProof(root, c.asked, proof); (err == nil) != (c.wantError == nil) || found != (err == nil) {
			t.Errorf("%s, as a proof: %v, %v", name, found, err)
		}
	}
}
