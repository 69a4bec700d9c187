package msttest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// publicCase is a test case of type "mst-diff" of the public suite.
type publicCase struct {
	Type   string `json:"$type"`
	Inputs struct {
		A string `json:"mst_a"`
		B string `json:"mst_b"`
	}
	Results struct {
		Created   []string `json:"created_nodes"`
		Deleted   []string `json:"deleted_nodes"`
		Proof     []string `json:"proof_nodes"`
		Inductive []string `json:"inductive_proof_nodes"`
		Ops       []struct {
			Path string  `json:"rpath"`
			Old  *string `json:"old_value"`
			New  *string `json:"new_value"`
		} `json:"record_ops"`
	}
}

// publicTree is a CAR file of the public suite.
type publicTree struct {
	tree  *mst.Tree
	nodes mst.BlockMap
	model Model
}

// TestPublicSuite runs every case of the public mst-test-suite: our differences, nodes and proofs
// are those of the suite, and the suite's own proofs, which have no node more than they need, are
// accepted.
func TestPublicSuite(t *testing.T) {
	dir := os.Getenv("PDSKIT_MST_SUITE")
	if dir == "" {
		t.Skip("set PDSKIT_MST_SUITE to a folder with a checkout of github.com/DavidBuchanan314/mst-test-suite")
	}
	trees := make(map[string]*publicTree)
	load := func(name string) *publicTree {
		if p := trees[name]; p != nil {
			return p
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		roots, blocks, err := car.ReadAll(data, car.Limits{})
		if err != nil || len(roots) != 1 {
			t.Fatalf("%s: %d roots, %v", name, len(roots), err)
		}
		p := &publicTree{nodes: BlockMap(blocks), model: make(Model)}
		if p.tree, err = mst.Load(p.nodes, roots[0], mst.Limits{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for e, err := range p.tree.Walk("") {
			if err != nil {
				t.Fatal(err)
			}
			p.model[e.Key] = e.Value
		}
		if p.model.Root() != roots[0] {
			t.Fatalf("%s: the model's root is %s", name, p.model.Root())
		}
		trees[name] = p
		return p
	}
	var s publicFigures
	err := filepath.WalkDir(filepath.Join(dir, "tests"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var c publicCase
		if err := json.Unmarshal(data, &c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if c.Type != "mst-diff" {
			return fmt.Errorf("%s: unknown type %q", path, c.Type)
		}
		if err := s.check(load(c.Inputs.A), load(c.Inputs.B), &c); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.cases == 0 {
		t.Fatal("no test cases")
	}
	t.Logf("%d cases, %d trees: %d nodes in our slices, %d in the suite's proofs of inversion, %d in its proofs of records; "+
		"the suite's order needs the fewest nodes in %d cases", s.cases, len(trees), s.ours, s.inductive, s.proof, s.fewest)
}

type publicFigures struct {
	cases, ours, inductive, proof, fewest int
}

// check checks one case.
func (s *publicFigures) check(a, b *publicTree, c *publicCase) error {
	s.cases++
	var ops []mst.Op
	var undo []mst.InvertOp
	var diff []mst.DiffEntry
	for _, op := range c.Results.Ops {
		o := mst.InvertOp{Key: op.Path}
		for _, v := range []struct {
			text *string
			c    *cid.Cid
		}{{op.Old, &o.Prev}, {op.New, &o.Value}} {
			if v.text == nil {
				continue
			}
			parsed, err := cid.Decode(*v.text)
			if err != nil {
				return err
			}
			*v.c = parsed
		}
		ops = append(ops, mst.Op{Key: o.Key, Value: o.Value})
		undo = append(undo, o)
		diff = append(diff, mst.DiffEntry{Key: o.Key, Old: o.Prev, New: o.Value})
	}

	// The differences, and the nodes that come and go.
	for d, err := range mst.Diff(a.tree, b.tree) {
		if err != nil {
			return err
		}
		if len(diff) == 0 || diff[0] != d {
			return fmt.Errorf("%q differs, which is not the next", d.Key)
		}
		diff = diff[1:]
	}
	if len(diff) > 0 {
		return fmt.Errorf("%q does not differ", diff[0].Key)
	}
	change, err := a.tree.Apply(ops)
	if err != nil {
		return err
	}
	if change.Root != b.tree.Root() {
		return fmt.Errorf("the operations lead to %s", change.Root)
	}
	slice := BlockMap(change.New)
	if err := sameCIDs("created", slices.Collect(maps.Keys(slice)), c.Results.Created); err != nil {
		return err
	}
	if err := sameCIDs("deleted", change.Removed, c.Results.Deleted); err != nil {
		return err
	}

	// Our slice proves all that the suite's proofs do.
	for _, block := range change.Proof {
		slice[block.CID] = block.Data
	}
	s.ours += len(slice)
	inductive, err := b.pick(c.Results.Inductive)
	if err != nil {
		return err
	}
	proof, err := b.pick(c.Results.Proof)
	if err != nil {
		return err
	}
	s.inductive += len(inductive)
	s.proof += len(proof)
	for name, set := range map[string]mst.BlockMap{"inversion": inductive, "records": proof} {
		for n := range set {
			if slice[n] == nil {
				return fmt.Errorf("our slice lacks node %s of the proof of %s", n, name)
			}
		}
	}
	for name, set := range map[string]mst.BlockMap{"ours": slice, "the suite's": inductive} {
		if len(undo) == 0 {
			break // there is nothing to undo, and nothing needed
		}
		if was, err := invertAtOnce(set, b.tree.Root(), undo); err != nil || was != a.tree.Root() {
			return fmt.Errorf("inverted with %s, the tree is %v: %v", name, was, err)
		}
	}
	var blocks []car.Block
	for n, data := range proof {
		blocks = append(blocks, car.Block{CID: n, Data: data})
	}
	for _, op := range ops {
		if v, found, err := mst.VerifyProof(b.tree.Root(), op.Key, blocks); err != nil || v != op.Value || found != v.Defined() {
			return fmt.Errorf("the suite's proof of %q shows %v: %v", op.Key, v, err)
		}
	}

	// The suite undoes operations in the reverse order of their paths. Our model of what an order
	// needs agrees, and no node of it can be left out if this is the order that needs the fewest.
	backward := slices.Clone(undo)
	slices.Reverse(backward)
	want := needed(b.model, backward)
	if empty := mst.Empty().Root(); b.tree.IsEmpty() && len(undo) > 0 {
		want[empty] = b.nodes[empty] // the suite counts it
	}
	if err := sameCIDs("needed", slices.Collect(maps.Keys(want)), c.Results.Inductive); err != nil {
		return err
	}
	least := true
	for n := range inductive {
		fewer := maps.Clone(inductive)
		delete(fewer, n)
		if _, err := invertAtOnce(fewer, b.tree.Root(), undo); err == nil {
			least = false
		}
	}
	if least {
		s.fewest++
	}
	return nil
}

// pick returns nodes of a tree by their CIDs.
func (p *publicTree) pick(cids []string) (mst.BlockMap, error) {
	m := make(mst.BlockMap)
	for _, s := range cids {
		c, err := cid.Decode(s)
		if err != nil {
			return nil, err
		}
		if p.nodes[c] == nil {
			return nil, fmt.Errorf("node %s is not in the tree", c)
		}
		m[c] = p.nodes[c]
	}
	return m, nil
}

// sameCIDs compares two sets.
func sameCIDs(what string, got []cid.Cid, want []string) error {
	var list []string
	for _, c := range got {
		list = append(list, c.String())
	}
	slices.Sort(list)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(list, want) {
		return fmt.Errorf("%s nodes are\n%s\nwant\n%s", what, strings.Join(list, "\n"), strings.Join(want, "\n"))
	}
	return nil
}
