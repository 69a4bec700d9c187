package msttest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// accounts checks a change against the nodes before and after it.
func accounts(c *checker) error {
	return c.everyStep(func(s *step) (Tree, error) {
		ch, err := s.old.(Changer).Change(s.ops)
		if err != nil {
			return nil, err
		}
		if err := same(ch.Tree, s.after); err != nil {
			return nil, err
		}
		if len(ch.Prev) != len(s.ops) {
			return nil, fmt.Errorf("%d values before %d operations", len(ch.Prev), len(s.ops))
		}
		for i, op := range s.ops {
			if ch.Prev[i] != s.before[op.Key] {
				return nil, fmt.Errorf("the value of %q before is %v, want %v", op.Key, ch.Prev[i], s.before[op.Key])
			}
		}
		had, has := BlockMap(s.before.Nodes()), BlockMap(s.after.Nodes())
		fresh := make(map[cid.Cid]bool)
		for _, b := range ch.New {
			if fresh[b.CID] || had[b.CID] != nil || has[b.CID] == nil {
				return nil, fmt.Errorf("new node %s comes twice, is not new or not in the tree", b.CID)
			}
			fresh[b.CID] = true
		}
		gone := make(map[cid.Cid]bool)
		for _, r := range ch.Removed {
			if gone[r] || had[r] == nil || has[r] != nil {
				return nil, fmt.Errorf("removed node %s comes twice, was not there or still is", r)
			}
			gone[r] = true
		}
		if len(had)-len(gone)+len(fresh) != len(has) {
			return nil, fmt.Errorf("%d nodes, %d of them removed, %d new, are not %d", len(had), len(gone), len(fresh), len(has))
		}
		for _, b := range ch.Proof {
			if fresh[b.CID] || has[b.CID] == nil {
				return nil, fmt.Errorf("node %s of the proof is new, comes twice or is not in the tree", b.CID)
			}
			fresh[b.CID] = true
		}
		return ch.Tree, nil
	})
}

// invertOneByOne undoes operations in single steps.
func invertOneByOne(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
	t, err := mst.Open(src, root, mst.Limits{})
	for i := 0; i < len(ops) && err == nil; i++ {
		t, err = mst.Invert(t, ops[i:i+1])
	}
	if err != nil {
		return cid.Undef, err
	}
	return t.Root(), nil
}

func invertAtOnce(src mst.Source, root cid.Cid, ops []mst.InvertOp) (cid.Cid, error) {
	t, err := mst.Open(src, root, mst.Limits{})
	if err == nil {
		t, err = mst.Invert(t, ops)
	}
	if err != nil {
		return cid.Undef, err
	}
	return t.Root(), nil
}

func slicesInvert(c *checker) error {
	return c.everyStep(func(s *step) (Tree, error) {
		ch, err := s.old.(Changer).Change(s.ops)
		if err != nil {
			return nil, err
		}
		slice := BlockMap(append(slices.Clone(ch.New), ch.Proof...))
		backward := slices.Clone(s.inverse)
		slices.Reverse(backward)
		ways := map[string]func() (cid.Cid, error){
			"at once":              func() (cid.Cid, error) { return invertAtOnce(slice, s.after.Root(), s.inverse) },
			"one by one, forward":  func() (cid.Cid, error) { return invertOneByOne(slice, s.after.Root(), s.inverse) },
			"one by one, backward": func() (cid.Cid, error) { return invertOneByOne(slice, s.after.Root(), backward) },
		}
		if c.lib.Invert != nil {
			ways["by the library"] = func() (cid.Cid, error) { return c.lib.Invert(slice, s.after.Root(), s.inverse) }
		}
		for way, invert := range ways {
			if was, err := invert(); err != nil || was != s.before.Root() {
				return nil, fmt.Errorf("undone %s, the tree is %v, not %v: %v", way, was, s.before.Root(), err)
			}
		}
		return ch.Tree, nil
	})
}

func smallestSlices(c *checker) error {
	n := c.opt.Histories
	c.opt.Histories = max(min((n+1)/2, 12), n/5) // each step is undone many times
	return c.everyStep(func(s *step) (Tree, error) {
		list := orders(s.rng, s.inverse, 6)
		sets := make([]mst.BlockMap, len(list))
		common := make(map[cid.Cid]int)
		for i, order := range list {
			sets[i] = needed(s.after, order)
			for n := range sets[i] {
				common[n]++
			}
		}
		for i, few := range sets {
			wire := slices.Clone(list[i])
			if slices.Reverse(wire); i == 0 { // the normalised order, whatever the other one is
				s.rng.Shuffle(len(wire), func(i, j int) { wire[i], wire[j] = wire[j], wire[i] })
			}
			if was, err := c.lib.Invert(few, s.after.Root(), wire); err != nil || was != s.before.Root() {
				return nil, fmt.Errorf("undone with the %d nodes that the order %s needs, the tree is %v, not %v: %v",
					len(few), describeUndo(list[i]), was, s.before.Root(), err)
			}
			for missing := range few {
				if common[missing] < len(list) {
					continue
				}
				fewer := maps.Clone(few)
				delete(fewer, missing)
				if was, err := c.lib.Invert(fewer, s.after.Root(), wire); !errors.Is(err, mst.ErrPartial) {
					return nil, fmt.Errorf("undone in the order %s without node %s, which every order needs, the tree is %v: %v",
						describeUndo(list[i]), missing, was, err)
				}
			}
		}
		return s.old.Apply(s.ops)
	})
}

// describeUndo describes operations by what it takes to undo them.
func describeUndo(ops []mst.InvertOp) string {
	var list []mst.Op
	for _, op := range ops {
		list = append(list, mst.Op{Key: op.Key, Value: op.Prev})
	}
	return "[" + describe(list) + "]"
}

func falseClaims(c *checker) error {
	return c.everyStep(func(s *step) (Tree, error) {
		src, root := BlockMap(s.after.Nodes()), s.after.Root()
		i := s.rng.IntN(len(s.inverse))
		for name, spoil := range map[string]func(op *mst.InvertOp){
			"another value":     func(op *mst.InvertOp) { op.Value = Value(5000) },
			"a value or none":   func(op *mst.InvertOp) { op.Value, op.Prev = op.Prev, op.Value },
			"another key":       func(op *mst.InvertOp) { op.Key += "x"; op.Value = Value(1) },
			"an illegal key":    func(op *mst.InvertOp) { op.Key = "x" },
			"another key again": func(op *mst.InvertOp) { op.Key = op.Key[:len(op.Key)-1] + "x"; op.Value = Value(1) },
		} {
			ops := slices.Clone(s.inverse)
			if spoil(&ops[i]); ops[i] == s.inverse[i] || ops[i].Value == s.after[ops[i].Key] {
				continue
			}
			if was, err := c.lib.Invert(src, root, ops); err == nil {
				return nil, fmt.Errorf("an operation claims %s, and is undone to %v: %+v instead of %+v", name, was, ops[i], s.inverse[i])
			}
		}
		if s.inverse[i].Value != s.inverse[i].Prev {
			fewer := slices.Delete(slices.Clone(s.inverse), i, i+1)
			if was, err := c.lib.Invert(src, root, fewer); err == nil && was == s.before.Root() {
				return nil, errors.New("an operation can be left out")
			}
		}
		return s.old.Apply(s.ops)
	})
}

func proofs(c *checker) error {
	for n := range min(c.opt.Histories, 20) {
		rng := c.rng(n, 11)
		m, keys := randomModel(rng, 100)
		t, err := c.of(m)
		if err != nil {
			return err
		}
		root, top := m.Root(), 0
		for key := range m {
			top = max(top, Height(key))
		}
		for _, key := range keys {
			proof, err := t.(Prover).Proof(key)
			if err != nil {
				return err
			}
			verify := func(root cid.Cid, proof []car.Block) (cid.Cid, error) { return c.lib.VerifyProof(root, key, proof) }
			backward := slices.Clone(proof)
			slices.Reverse(backward)
			for _, p := range [][]car.Block{proof, backward, append(slices.Clone(proof), Model{"com.example.x/y": Value(1)}.Nodes()...)} {
				if v, err := verify(root, p); err != nil || v != m[key] {
					return fmt.Errorf("the proof of %q shows %v, want %v: %v", key, v, m[key], err)
				}
			}
			for i := range proof {
				// A key that is not there could not be below its own height.
				spare := !m[key].Defined() && i > 0 && top-i < Height(key)
				if _, err := verify(root, slices.Delete(slices.Clone(proof), i, i+1)); err == nil && !spare {
					return fmt.Errorf("the proof of %q verifies without block %d of %d", key, i, len(proof))
				}
				forged := slices.Clone(proof)
				forged[i].Data = Model{key: Value(6000)}.Nodes()[0].Data
				if v, err := verify(root, forged); err == nil && v != m[key] {
					return fmt.Errorf("a proof of %q with a forged block %d verifies", key, i)
				}
			}
			if _, err := verify(Value(1), proof); err == nil {
				return fmt.Errorf("the proof of %q verifies for another root", key)
			}
		}
	}
	return nil
}
