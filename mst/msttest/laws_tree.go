package msttest

import (
	"errors"
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
			s.before, s.old = maps.Clone(s.after), tree
			s.ops, s.inverse = Step(s.rng, keys, s.after, c.opt.Batch)
			if tree, err = do(s); err != nil {
				return fmt.Errorf("seed %d, history %d, step %d: %w\nthe tree had: %s\noperations: %s", c.opt.Seed, n, i, err, describe(puts(s.before)), describe(s.ops))
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
			return fmt.Errorf("seed %d, history %d: %w\nkeys: %s", c.opt.Seed, n, err, describe(ops))
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

// someTree is a tree with its model.
func (c *checker) someTree(n int) (Tree, Model, error) {
	m := make(Model)
	for i, k := range Keys(c.rng(n, 4), n) {
		m[k] = Value(i)
	}
	t, err := c.of(m)
	return t, m, err
}

func illegalKeys(c *checker) error {
	for _, key := range []string{
		"", "/", "a", "a/", "/a", "com.example.a//b", "com.example.a/b/c", "com.example.a/b c", "com.example.a/\x00", "com.example.a/é", "com.example.a/\xff",
		"com.example.a/b%", "com.example.a/b@c", "com.example.a/b\n", "com.example.a/" + strings.Repeat("x", 1011), "com.example.a/" + strings.Repeat("x", 100_000),
	} {
		t, m, err := c.someTree(30)
		if err != nil {
			return err
		}
		for _, v := range []cid.Cid{Value(1), cid.Undef} {
			if _, err := t.Apply([]mst.Op{{Key: key, Value: v}}); err == nil {
				return fmt.Errorf("key %.40q is accepted by Apply", key)
			}
		}
		if v, err := t.Get(key); err == nil && v.Defined() {
			return fmt.Errorf("key %.40q has a value", key)
		}
		if c.lib.Build != nil {
			if _, err := c.lib.Build([]mst.Entry{{Key: key, Value: Value(1)}}); err == nil {
				return fmt.Errorf("key %.40q is accepted by Build", key)
			}
		}
		if !c.lib.InPlace {
			if err := same(t, m); err != nil {
				return fmt.Errorf("after key %.40q: %w", key, err)
			}
		}
	}
	return nil
}

func illegalValues(c *checker) error {
	hash := Value(1).Hash()
	identity, err := cid.Prefix{Version: 1, Codec: cid.DagCBOR, MhType: 0, MhLength: -1}.Sum([]byte("identity"))
	if err != nil {
		return err
	}
	for name, v := range map[string]cid.Cid{
		"of CID version 0": cid.NewCidV0(hash), "of codec dag-pb": cid.NewCidV1(cid.DagProtobuf, hash), "of the identity hash": identity,
	} {
		t, err := c.lib.Empty()
		if err != nil {
			return err
		}
		if _, err := t.Apply([]mst.Op{{Key: "com.example.a/b", Value: v}}); err == nil {
			return fmt.Errorf("a value %s is accepted by Apply", name)
		}
		if c.lib.Build != nil {
			if _, err := c.lib.Build([]mst.Entry{{Key: "com.example.a/b", Value: v}}); err == nil {
				return fmt.Errorf("a value %s is accepted by Build", name)
			}
		}
	}
	t, err := c.lib.Empty()
	if err == nil {
		_, err = t.Apply([]mst.Op{{Key: "com.example.a/b", Value: cid.NewCidV1(cid.Raw, hash)}})
	}
	return err
}

func missingKey(c *checker) error {
	var m Miner
	t, err := c.lib.Empty()
	if err != nil {
		return err
	}
	if _, err := t.Apply([]mst.Op{{Key: m.Key(0)}}); err == nil {
		return errors.New("a key was deleted from the empty tree")
	}
	for height := range 6 {
		t, _, err := c.someTree(40)
		if err != nil {
			return err
		}
		if _, err := t.Apply([]mst.Op{{Key: m.Key(height)}}); err == nil {
			return fmt.Errorf("a key of height %d that is not there was deleted", height)
		}
	}
	return nil
}

func failedBatches(c *checker) error {
	for n := range c.opt.Histories {
		rng := c.rng(n, 5)
		m, keys := randomModel(rng, 40)
		t, err := c.of(m)
		if err != nil {
			return err
		}
		ops, _ := Step(rng, keys, maps.Clone(m), 10)
		bad := mst.Op{Key: "com.example.nowhere/1"}
		switch rng.IntN(3) {
		case 0:
			bad.Key = "com.example.0/1" // before all others
		case 1:
			bad.Key = "no key"
		}
		if _, err := t.Apply(slices.Insert(ops, rng.IntN(len(ops)+1), bad)); err == nil {
			return fmt.Errorf("a batch with %q succeeded", bad.Key)
		}
		if err := same(t, m); err != nil {
			return fmt.Errorf("seed %d, history %d: after a batch that failed: %w", c.opt.Seed, n, err)
		}
	}
	return nil
}

func flatNodes(c *checker) error {
	for _, n := range []int{200, 513, 2000, 8193, 10_001, 20_000} {
		var miner Miner
		m := make(Model)
		for i := range n {
			m[miner.Key(0)] = Value(i)
		}
		makers := map[string]func() (Tree, error){"Apply": func() (Tree, error) { return c.of(m) }}
		if c.lib.Build != nil {
			makers["Build"] = func() (Tree, error) { return c.lib.Build(m.Entries()) }
		}
		for name, makeTree := range makers {
			t, err := makeTree()
			if err != nil {
				continue // as it may
			}
			list, err := nodes(t)
			if err != nil {
				return fmt.Errorf("%d keys in one node: %w", n, err)
			}
			t, err = c.lib.Load(BlockMap(list), list[0].CID)
			if err == nil {
				err = same(t, m)
			}
			if err != nil {
				return fmt.Errorf("%s accepts %d keys in one node, which cannot be read again: %w", name, n, err)
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
			errs <- read()
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

func build(c *checker) error {
	for n := range 3 * c.opt.Histories {
		rng := c.rng(n, 8)
		m, _ := randomModel(rng, 1+n)
		entries := m.Entries()
		t, err := c.lib.Build(entries)
		if err == nil {
			err = same(t, m)
		}
		if err != nil {
			return fmt.Errorf("%d entries: %w", len(m), err)
		}
		if len(entries) < 2 {
			continue
		}
		i := rng.IntN(len(entries) - 1)
		entries[i], entries[i+1] = entries[i+1], entries[i]
		if _, err := c.lib.Build(entries); err == nil {
			return fmt.Errorf("%d entries are accepted with entry %d after the next", len(entries), i)
		}
		entries[i] = entries[i+1]
		if _, err := c.lib.Build(entries); err == nil {
			return fmt.Errorf("%d entries are accepted with entry %d twice", len(entries), i)
		}
	}
	return nil
}

func walk(c *checker) error {
	for n := range c.opt.Histories {
		rng := c.rng(n, 9)
		m, keys := randomModel(rng, 80)
		t, err := c.of(m)
		if err != nil {
			return err
		}
		sorted := m.Entries()
		for _, from := range append(keys, "", "com.example.b", "zzz", "com.example.b/", "A") {
			at, _ := slices.BinarySearchFunc(sorted, from, func(e mst.Entry, from string) int { return strings.Compare(e.Key, from) })
			want := sorted[at:]
			for e, err := range t.(Walker).Walk(from) {
				if err != nil {
					return err
				}
				if len(want) == 0 || e != want[0] {
					return fmt.Errorf("the walk of %d keys from %q comes to %q too early, too late or twice", len(m), from, e.Key)
				}
				want = want[1:]
				if rng.IntN(200) == 0 {
					want = nil
					break // must not go on
				}
			}
			if len(want) > 0 {
				return fmt.Errorf("the walk of %d keys from %q ends before %q", len(m), from, want[0].Key)
			}
		}
	}
	return nil
}

func differences(c *checker) error {
	for n := range 2 * c.opt.Histories {
		rng := c.rng(n, 10)
		a, keys := randomModel(rng, 80)
		b := maps.Clone(a)
		for range rng.IntN(12) {
			Step(rng, keys, b, 5)
		}
		ta, err := c.of(a)
		if err != nil {
			return err
		}
		tb, err := c.of(b)
		if err != nil {
			return err
		}
		got, last := maps.Clone(a), ""
		for d, err := range c.lib.Diff(ta, tb) {
			if err != nil {
				return err
			}
			if d.Key <= last || d.Old != a[d.Key] || d.New != b[d.Key] || d.Old == d.New {
				return fmt.Errorf("seed %d, history %d: difference %q from %v to %v after %q", c.opt.Seed, n, d.Key, d.Old, d.New, last)
			}
			if last = d.Key; d.New.Defined() {
				got[d.Key] = d.New
			} else {
				delete(got, d.Key)
			}
		}
		if !maps.Equal(got, b) {
			return fmt.Errorf("seed %d, history %d: some differences are missing", c.opt.Seed, n)
		}
	}
	return nil
}
