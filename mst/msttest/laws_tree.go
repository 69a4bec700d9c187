package msttest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
)

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
