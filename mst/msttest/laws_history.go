package msttest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
)

// step is one batch of a random history.
type step struct {
	rng           *rand.Rand
	before, after Model
	old           Tree // the tree before
	ops           []mst.Op
	inverse       []mst.InvertOp
}

// everyStep runs all random histories. do makes the tree after a step.
func (c *checker) everyStep(do func(s *step) (Tree, error)) error {
	for n := range c.opt.Histories {
		s := &step{rng: c.rng(n, 1), after: make(Model)}
		keys := Keys(s.rng, 5+s.rng.IntN(60))
		tree, err := c.lib.Empty()
		if err != nil {
			return err
		}
		for i := range c.opt.Steps {
			c.testing(fmt.Sprintf("seed %d, history %d, step %d", c.opt.Seed, n, i))
			s.before, s.old = maps.Clone(s.after), tree
			s.ops, s.inverse = Step(s.rng, keys, s.after, c.opt.Batch)
			if tree, err = do(s); err != nil {
				return fmt.Errorf("seed %d, history %d, step %d: %w; the tree had: %s; operations: %s", c.opt.Seed, n, i, err, describe(puts(s.before)), describe(s.ops))
			}
		}
	}
	return nil
}

// puts are operations that make the tree of a model.
func puts(m Model) (ops []mst.Op) {
	for _, e := range m.Entries() {
		ops = append(ops, mst.Op(e))
	}
	return ops
}

func describe(ops []mst.Op) string {
	var list []string
	for _, op := range ops {
		verb := "put"
		if !op.Value.Defined() {
			verb = "delete"
		}
		list = append(list, fmt.Sprintf("%s %q (height %d)", verb, op.Key, Height(op.Key)))
	}
	return strings.Join(list, "; ")
}

// known are the roots of trees of n keys, "com.example.known/0000" and so on, with
// Value(0) under all of them. Three independent implementations agree on them.
var known = []struct {
	n    int
	root string
}{
	{0, "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"},
	{1, "bafyreicji4773kw7maw3ncgpuwbvzhzfz5iyaxc3qgrm76mjy43todpx4i"},
	{2, "bafyreifpgsbpsdbphmgd2tipqqcsxfjom5rh7ox62y34ur4f27xujhnjvm"},
	{10, "bafyreicdbpymn6qwodsvdl2lp2tqv7gtivpwzn2tnlacfke3r54evg6oyy"},
	{100, "bafyreihq3shwx6kpatechokqtunyztjx6n67eczmhmawsvmijv5gbkggou"},
	{1000, "bafyreihtc5ijscfvzrclu3vb5npkl5zexdecjp4cdny5u4r4unag5knp64"},
	{10000, "bafyreibpdlh354s4gcj5mo52d46jjypwtshbig5lk7e4vi5cbefcrxgeba"},
}

func knownTrees(c *checker) error {
	for _, k := range known {
		m := make(Model)
		for i := range k.n {
			m[fmt.Sprintf("com.example.known/%04d", i)] = Value(0)
		}
		t, err := c.lib.Empty()
		for ops := range slices.Chunk(puts(m), 100) {
			if err == nil {
				t, err = t.Apply(ops)
			}
		}
		if err == nil {
			err = sameRoot(t, cid.MustParse(k.root))
		}
		if err == nil {
			err = same(t, m)
		}
		if err != nil {
			return fmt.Errorf("tree of %d keys: %w", k.n, err)
		}
	}
	return nil
}

func histories(c *checker) error {
	return c.everyStep(func(s *step) (Tree, error) {
		t, err := s.old.Apply(s.ops)
		if err != nil {
			return nil, err
		}
		if err := same(t, s.after); err != nil {
			return nil, err
		}
		for _, op := range s.ops {
			if v, err := t.Get(op.Key); err != nil || v != op.Value {
				return nil, fmt.Errorf("%q has value %v, want %v: %v", op.Key, v, op.Value, err)
			}
		}
		return t, nil
	})
}

func anyOrder(c *checker) error {
	for n := range c.opt.Histories {
		rng := c.rng(n, 2)
		m, keys := randomModel(rng, 60)
		ops := puts(m)
		for _, k := range keys { // some come and go
			if !m[k].Defined() && rng.IntN(2) == 0 {
				ops = append(ops, mst.Op{Key: k, Value: Value(1)})
			}
		}
		rng.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
		t, err := c.lib.Empty()
		for i := 0; i < len(ops) && err == nil; i++ {
			t, err = t.Apply(ops[i : i+1])
		}
		for i := len(ops) - 1; i >= 0 && err == nil; i-- {
			if !m[ops[i].Key].Defined() {
				t, err = t.Apply([]mst.Op{{Key: ops[i].Key}})
			}
		}
		if err == nil {
			err = same(t, m)
		}
		if err != nil {
			return fmt.Errorf("seed %d, history %d: %w; keys: %s", c.opt.Seed, n, err, describe(ops))
		}
	}
	return nil
}

func downToNothing(c *checker) error {
	var m Miner
	for height := range 6 {
		tall, low := m.Key(height), m.Key(0)
		t, err := c.lib.Empty()
		for _, ops := range [][]mst.Op{
			{{Key: tall, Value: Value(1)}}, {{Key: tall}}, {{Key: low, Value: Value(2)}},
			{{Key: tall, Value: Value(1)}, {Key: low}}, {{Key: tall}, {Key: low, Value: Value(2)}},
		} {
			if err == nil {
				t, err = t.Apply(ops)
			}
		}
		if err == nil {
			err = same(t, Model{low: Value(2)})
		}
		if err == nil {
			if t, err = t.Apply([]mst.Op{{Key: low}}); err == nil {
				err = same(t, Model{})
			}
		}
		if err != nil {
			return fmt.Errorf("after a key of height %d: %w", height, err)
		}
	}
	return nil
}

func preOrder(c *checker) error {
	for n := range min(c.opt.Histories, 20) {
		m, _ := randomModel(c.rng(n, 3), 60)
		t, err := c.of(m)
		if err != nil {
			return err
		}
		got, err := nodes(t)
		if err != nil {
			return err
		}
		for i, want := range m.Nodes() {
			if i == len(got) || got[i].CID != want.CID {
				return fmt.Errorf("node %d of %d keys is not %s", i, len(m), want.CID)
			}
		}
	}
	return nil
}

func treesAreValues(c *checker) error {
	type past struct {
		t Tree
		m Model
	}
	var all []past
	err := c.everyStep(func(s *step) (Tree, error) {
		t, err := s.old.Apply(s.ops)
		if err != nil {
			return nil, err
		}
		all = append(all, past{s.old, s.before})
		for range 2 { // two of the trees before, and another future for one of them
			p := all[s.rng.IntN(len(all))]
			if err := same(p.t, p.m); err != nil {
				return nil, fmt.Errorf("an older tree has changed: %w", err)
			}
			m := maps.Clone(p.m)
			ops, _ := Step(s.rng, append(p.m.Keys(), "com.example.more/1", "com.example.more/2"), m, 3)
			fork, err := p.t.Apply(ops)
			if err != nil {
				return nil, err
			}
			if err := same(fork, m); err != nil {
				return nil, fmt.Errorf("another tree made of an older one: %w", err)
			}
		}
		if len(all) > 20 {
			all = all[10:]
		}
		return t, nil
	})
	return err
}

func manyReaders(c *checker) error {
	m := make(Model)
	for i, k := range Keys(c.rng(0, 6), 300) {
		m[k] = Value(i)
	}
	t, err := c.of(m)
	if err == nil && c.lib.Load != nil {
		t, err = c.lib.Load(BlockMap(m.Nodes()), m.Root())
	}
	if err != nil {
		return err
	}
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for g := range cap(errs) {
		wg.Go(func() {
			rng := c.rng(g, 7)
			read := func() error {
				for key, want := range m {
					if v, err := t.Get(key); err != nil || v != want {
						return fmt.Errorf("%q has value %v, want %v: %v", key, v, want, err)
					}
					if rng.IntN(50) == 0 {
						after := maps.Clone(m)
						delete(after, key)
						fork, err := t.Apply([]mst.Op{{Key: key}})
						if err == nil {
							err = sameRoot(fork, after.Root())
						}
						if err != nil {
							return err
						}
					}
				}
				return same(t, m)
			}
			errs <- recovered(read)
		})
	}
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

func reload(c *checker) error {
	return c.everyStep(func(s *step) (Tree, error) {
		t, err := c.lib.Load(BlockMap(s.before.Nodes()), s.before.Root())
		if err != nil {
			return nil, fmt.Errorf("load: %w", err)
		}
		if s.rng.IntN(2) == 0 {
			if err := sameEntries(t, s.before); err != nil {
				return nil, fmt.Errorf("loaded: %w", err)
			}
		}
		if t, err = t.Apply(s.ops); err != nil {
			return nil, err
		}
		return t, same(t, s.after)
	})
}
