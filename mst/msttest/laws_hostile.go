package msttest

import (
	"errors"
	"fmt"
	"maps"

	"github.com/pdskit/pdskit/mst"
)

// reader is a way to read a tree.
type reader func(src mst.Source, v *Vector) error

// hostileTrees reads every vector in all ways.
func hostileTrees(c *checker) error {
	var list findings
	for _, v := range Vectors() {
		c.testing(v.Name)
		if err := c.hostileTree(&v); err != nil {
			list = append(list, fmt.Errorf("%s: %w", v.Name, err))
		}
	}
	if list == nil {
		return nil
	}
	return list
}

func (c *checker) hostileTree(v *Vector) error {
	whole := func(src mst.Source, _ *Vector) error {
		t, err := c.lib.Load(src, v.Root)
		if err != nil {
			return err
		}
		return readAll(t, v)
	}
	if accepted, err := attack(v, whole); err != nil {
		return err
	} else if accepted && !v.Valid {
		return errors.New("is accepted")
	}
	// Operations that see a part of the tree may succeed, but neither panic nor
	// read for ever.
	for i, key := range v.Keys {
		for _, part := range []reader{
			func(src mst.Source, _ *Vector) error {
				t, err := c.lib.Load(src, v.Root)
				if err == nil {
					_, err = t.Get(key)
				}
				return err
			},
			func(src mst.Source, _ *Vector) error {
				t, err := c.lib.Load(src, v.Root)
				if err == nil {
					_, err = t.Apply([]mst.Op{{Key: key, Value: Value(i)}})
				}
				return err
			},
			func(src mst.Source, _ *Vector) error {
				t, err := c.lib.Load(src, v.Root)
				if err == nil {
					_, err = t.Apply([]mst.Op{{Key: key}})
				}
				return err
			},
			func(src mst.Source, _ *Vector) error {
				if c.lib.Invert == nil {
					return nil
				}
				_, err := c.lib.Invert(src, v.Root, []mst.InvertOp{{Key: key, Value: Value(i), Prev: Value(i + 1)}})
				return err
			},
		} {
			if _, err := attack(v, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// attack lets a reader at a vector, and returns an error if it panics or reads
// without end.
func attack(v *Vector, read reader) (accepted bool, err error) {
	src := &Bounded{Source: v.Blocks, Most: int64(4*len(v.Blocks) + 16)}
	var readErr error
	err = recovered(func() error {
		readErr = read(src, v)
		return nil
	})
	if err != nil {
		return false, err
	}
	if src.Exceeded() || errors.Is(readErr, errEntries) {
		return false, errors.New("is read without end")
	}
	return readErr == nil, nil
}

// errEntries says that a tree has more entries than its blocks can hold.
var errEntries = errors.New("more entries than there are in all blocks")

// readAll reads all entries, as many as there can be.
func readAll(t Tree, v *Vector) error {
	left := 1
	for _, data := range v.Blocks {
		left += len(data) / 40 // the length of a link and a little
	}
	for _, err := range t.Entries() {
		if err != nil {
			return err
		}
		if left--; left < 0 {
			return errEntries
		}
	}
	return nil
}

func lyingSource(c *checker) error {
	var m Miner
	low, high := m.Key(0), m.Key(3)
	for name, data := range map[string]string{
		"empty node":             rawNode(""),
		"leaf":                   rawNode("", spelled(low)...),
		"node that leads on":     rawNode(good(1), spelled(high)...),
		"node without keys":      rawNode(good(1)),
		"node with many a child": join(good(1), []string{low, high}, good(1), good(1)),
		"nothing":                "",
	} {
		read := func(src mst.Source, v *Vector) error {
			t, err := c.lib.Load(src, v.Root)
			if err != nil {
				return err
			}
			return readAll(t, v)
		}
		v := &Vector{Root: Value(1), Blocks: mst.BlockMap{Value(1): []byte(data)}}
		src := &Bounded{Source: Liar(data), Most: 100}
		accepted, err := attack(v, func(_ mst.Source, v *Vector) error { return read(src, v) })
		if err != nil || accepted || src.Exceeded() {
			return fmt.Errorf("a source that always answers with a %s is believed, or read without end: %v", name, err)
		}
	}
	return nil
}

func missingNodes(c *checker) error {
	for n := range min(c.opt.Histories, 10) {
		m, _ := randomModel(c.rng(n, 12), 60)
		if len(m) == 0 {
			continue // the empty node need not be read: its CID says it all
		}
		all := BlockMap(m.Nodes())
		for missing := range all {
			some := maps.Clone(all)
			delete(some, missing)
			t, err := c.lib.Load(some, m.Root())
			if err != nil {
				continue
			}
			for _, e := range t.Entries() {
				err = errors.Join(err, e)
			}
			if err == nil {
				return fmt.Errorf("a tree of %d nodes is read to its end without node %s", len(all), missing)
			}
			err = nil
			for _, e := range t.Nodes() {
				err = errors.Join(err, e)
			}
			if err == nil {
				return fmt.Errorf("the nodes of a tree of %d nodes are complete without node %s", len(all), missing)
			}
		}
	}
	return nil
}

// faults lets every read fail once, in each operation.
func faults(c *checker) error {
	rng := c.rng(0, 13)
	keys := Keys(rng, 80)
	m, b := make(Model), make(Model)
	for i, k := range keys[:60] {
		m[k] = Value(i)
		if i > 3 {
			b[k] = m[k]
		}
	}
	blocks, root := BlockMap(m.Nodes()), m.Root()
	ops, inverse := Step(rng, keys, maps.Clone(m), 10)
	after := maps.Clone(m)
	if err := after.Apply(ops); err != nil {
		return err
	}
	type operation struct {
		name string
		do   func(t Tree) error
	}
	operations := []operation{
		{"Get", func(t Tree) error {
			for _, k := range keys {
				if v, err := t.Get(k); err != nil {
					return err
				} else if v != m[k] {
					return fmt.Errorf("%q has value %v", k, v)
				}
			}
			return nil
		}},
		{"Entries", func(t Tree) error { return sameEntries(t, m) }},
		{"Nodes", func(t Tree) error {
			list, err := nodes(t)
			if err == nil && len(list) != len(blocks) {
				err = fmt.Errorf("%d nodes", len(list))
			}
			return err
		}},
		{"Apply", func(t Tree) error {
			t, err := t.Apply(ops)
			if err == nil {
				err = sameRoot(t, after.Root())
			}
			return err
		}},
	}
	if changes(&c.lib) == "" {
		operations = append(operations, operation{"Change", func(t Tree) error {
			ch, err := t.(Changer).Change(ops)
			if err != nil {
				return err
			}
			was, err := invertAtOnce(BlockMap(append(ch.New, ch.Proof...)), after.Root(), inverse)
			if err == nil && was != root {
				err = errors.New("the slice is another one")
			}
			return err
		}})
	}
	if walks(&c.lib) == "" {
		operations = append(operations, operation{"Walk", func(t Tree) error {
			n := 0
			for _, err := range t.(Walker).Walk("") {
				if n++; err != nil {
					return err
				}
			}
			if n != len(m) {
				return fmt.Errorf("%d entries", n)
			}
			return nil
		}})
	}
	if proves(&c.lib) == "" {
		operations = append(operations, operation{"Proof", func(t Tree) error {
			for _, k := range keys {
				if _, err := t.(Prover).Proof(k); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	if c.lib.Diff != nil {
		operations = append(operations, operation{"Diff", func(t Tree) error {
			other, err := c.of(b)
			if err != nil {
				return err
			}
			n := 0
			for _, err := range c.lib.Diff(t, other) {
				if n++; err != nil {
					return err
				}
			}
			if n != len(m)-len(b) {
				return fmt.Errorf("%d differences", n)
			}
			return nil
		}})
	}
	for _, op := range operations {
		for at := int64(1); ; at++ {
			src := &Faulty{Source: blocks, At: at}
			t, loadErr := c.lib.Load(src, root)
			err := loadErr
			if err == nil {
				err = op.do(t)
			}
			if src.Reads() < at {
				if err != nil {
					return fmt.Errorf("%s without a fault: %w", op.name, err)
				}
				break
			}
			if !errors.Is(err, ErrFault) {
				return fmt.Errorf("%s with a fault at read %d: the error is %v", op.name, at, err)
			}
			if loadErr != nil || c.lib.InPlace {
				continue
			}
			// The fault is over: the same tree must do it now, and be what it was.
			if err := op.do(t); err != nil {
				return fmt.Errorf("%s again, after a fault at read %d: %w", op.name, at, err)
			}
			if err := same(t, m); err != nil {
				return fmt.Errorf("after %s with a fault at read %d: %w", op.name, at, err)
			}
		}
	}
	if c.lib.Invert == nil {
		return nil
	}
	for at := int64(1); ; at++ {
		src := &Faulty{Source: BlockMap(after.Nodes()), At: at}
		was, err := c.lib.Invert(src, after.Root(), inverse)
		if src.Reads() < at {
			if err != nil || was != root {
				return fmt.Errorf("inverting without a fault: %v, %w", was, err)
			}
			return nil
		}
		if !errors.Is(err, ErrFault) {
			return fmt.Errorf("inverting with a fault at read %d: the error is %v", at, err)
		}
	}
}
