package mst_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// wanted says which error refuses a hostile tree: that of the longest name that
// its own begins with.
var wanted = map[string]error{
	"":                       mst.ErrEncoding,
	"cut short":              mst.ErrLink,
	"tree link":              mst.ErrLink,
	"left link":              mst.ErrLink,
	"value link":             mst.ErrLink,
	"root: ":                 mst.ErrLink,
	"root: not there":        mst.ErrPartial,
	"inner node is not":      mst.ErrPartial,
	"block does not match":   mst.ErrHash,
	"block with a byte too":  mst.ErrHash,
	"inner block does not":   mst.ErrHash,
	"prefix ":                mst.ErrPrefix,
	"no prefix":              mst.ErrPrefix,
	"prefix length":          mst.ErrEncoding,
	"prefix of 2^40":         mst.ErrEncoding,
	"repeated key, spelled":  mst.ErrPrefix,
	"repeated key":           mst.ErrOrder,
	"keys in descending":     mst.ErrOrder,
	"keys not in order":      mst.ErrOrder,
	"key that is a prefix":   mst.ErrOrder,
	"empty key":              mst.ErrInvalidKey,
	"key ":                   mst.ErrInvalidKey,
	"key suffix":             mst.ErrEncoding,
	"key of 70,000 bytes":    mst.ErrEncoding,
	"key of a left":          mst.ErrOrder,
	"key of a right":         mst.ErrOrder,
	"key between":            mst.ErrOrder,
	"key beyond":             mst.ErrOrder,
	"key before":             mst.ErrOrder,
	"last key of a left":     mst.ErrOrder,
	"first key of a right":   mst.ErrOrder,
	"one subtree":            mst.ErrOrder,
	"the key of a node":      mst.ErrOrder,
	"keys of two heights":    mst.ErrHeight,
	"a taller key":           mst.ErrHeight,
	"a leaf with all":        mst.ErrHeight,
	"child ":                 mst.ErrHeight,
	"a layer":                mst.ErrHeight,
	"three layers":           mst.ErrHeight,
	"link below the lowest":  mst.ErrHeight,
	"root without":           mst.ErrEmptyNode,
	"two roots without":      mst.ErrEmptyNode,
	"empty node":             mst.ErrEmptyNode,
	"node without keys":      mst.ErrEmptyNode,
	"deep chain of 200":      mst.ErrEmptyNode,
	"deep chain of 5000":     mst.ErrEmptyNode,
	"deep chain of leaves":   mst.ErrHeight,
	"shared-subtree bomb":    mst.ErrHeight,
	"shared-subtree bomb of": mst.ErrOrder,
	"flat node":              mst.ErrTooManyEntries,
	"flat node of 40,000":    mst.ErrTooLarge,

	"deep chain of 200 nodes below a key":  mst.ErrHeight,
	"deep chain of 5000 nodes below a key": mst.ErrHeight,
}

func wantedError(name string) error {
	for n := len(name); ; n-- {
		if err, ok := wanted[name[:n]]; ok {
			return err
		}
	}
}

// Every hostile tree is refused with the same error by all three readers.
func TestHostileTrees(t *testing.T) {
	vectors := msttest.Vectors()
	for name := range wanted {
		used := false
		for _, v := range vectors {
			used = used || strings.HasPrefix(v.Name, name)
		}
		if !used {
			t.Errorf("no vector's name begins with %q", name)
		}
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			want := wantedError(v.Name)
			readers := map[string]func(src mst.Source, root cid.Cid) error{"Load": loadAll, "Open": openAll, "StreamVerifier": streamAll}
			for name, read := range readers {
				src := &msttest.Bounded{Source: v.Blocks, Most: int64(len(v.Blocks) + 1)}
				err := read(src, v.Root)
				var e *mst.Error
				if !errors.Is(err, want) || !errors.As(err, &e) {
					t.Errorf("%s: %v, want %v", name, err, want)
					continue
				}
				if data := v.Blocks[e.Node]; e.Node.Defined() && (e.Offset < 0 || e.Offset > len(data)) {
					t.Errorf("%s: offset %d of %d: %v", name, e.Offset, len(data), err)
				}
				if len(err.Error()) > 500 {
					t.Errorf("%s: the message has %d bytes", name, len(err.Error()))
				}
			}
		})
	}
}

func loadAll(src mst.Source, root cid.Cid) error {
	_, err := mst.Load(src, root, mst.Limits{})
	return err
}

func openAll(src mst.Source, root cid.Cid) error {
	t, err := mst.Open(src, root, mst.Limits{})
	if err != nil {
		return err
	}
	for _, err := range t.PreOrder() {
		if err != nil {
			return err
		}
	}
	return nil
}

func streamAll(src mst.Source, root cid.Cid) error {
	v, err := mst.NewStreamVerifier(root, mst.Limits{})
	if err != nil {
		return err
	}
	for want, ok := v.Next(); ok; want, ok = v.Next() {
		if want.Key != "" {
			continue
		}
		data, err := src.Block(want.CID)
		if err == nil && !dag.Matches(want.CID, data) {
			err = mst.ErrHash
		}
		if err != nil {
			return &mst.Error{Node: want.CID, Err: err}
		}
		if err := v.Node(data); err != nil {
			return err
		}
	}
	return nil
}

// A node that others wrote may have more entries than we would write. It can be
// read, its values can change and its keys can be deleted; it cannot grow.
func TestFlatNodeOfOthers(t *testing.T) {
	var miner msttest.Miner
	m := make(msttest.Model)
	for i := range 1000 {
		m[miner.Key(0)] = msttest.Value(i)
	}
	keys := m.Keys()
	tree, err := mst.Load(msttest.BlockMap(m.Nodes()), m.Root(), mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]mst.Op{
		"update": {Key: keys[3], Value: msttest.Value(5000)}, "delete": {Key: keys[500]}, "tall key within": {Key: keys[500] + taller(keys[500]), Value: msttest.Value(0)},
	} {
		after := make(msttest.Model)
		for k, v := range m {
			after[k] = v
		}
		if err := after.Apply([]mst.Op{op}); err != nil {
			t.Fatal(err)
		}
		c, err := tree.Apply([]mst.Op{op})
		if err != nil || c.Root != after.Root() {
			t.Errorf("%s: %v", name, err)
			continue
		}
		inverse := mst.InvertOp{Key: op.Key, Value: op.Value, Prev: m[op.Key]}
		if was, err := mst.Invert(c.Tree, []mst.InvertOp{inverse}); err != nil || was.Root() != m.Root() {
			t.Errorf("%s, undone: %v", name, err)
		}
	}
	if _, err := tree.Apply([]mst.Op{{Key: miner.Key(0), Value: msttest.Value(0)}}); !errors.Is(err, mst.ErrTooManyEntries) {
		t.Errorf("create: %v", err)
	}
}

// taller finds what to append to a key so that it becomes one of height 3.
func taller(key string) string {
	for i := 0; ; i++ {
		if s := strings.Repeat("a", i%7) + string(rune('a'+i/7%26)) + string(rune('a'+i/182%26)); mst.HeightForKey(key+s) == 3 {
			return s
		}
	}
}

func TestLimits(t *testing.T) {
	var miner msttest.Miner
	m := make(msttest.Model)
	for i := range 200 {
		m[miner.Key([]int{0, 0, 0, 1, 0, 2}[i%6])] = msttest.Value(i)
	}
	widest, longest := 0, 0
	for _, b := range m.Nodes() {
		longest = max(longest, len(b.Data))
	}
	tree, err := mst.BuildSorted(m.Entries())
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Stats()
	if err != nil {
		t.Fatal(err)
	}
	widest = s.Widest
	for name, c := range map[string]struct {
		at, over mst.Limits
		want     error
	}{
		"entries": {mst.Limits{Entries: widest}, mst.Limits{Entries: widest - 1}, mst.ErrTooManyEntries},
		"bytes":   {mst.Limits{NodeBytes: longest}, mst.Limits{NodeBytes: longest - 1}, mst.ErrTooLarge},
		"height":  {mst.Limits{Height: 2}, mst.Limits{Height: 1}, mst.ErrTooLarge},
	} {
		for reader, read := range map[string]func(lim mst.Limits) error{
			"Load": func(lim mst.Limits) error {
				_, err := mst.Load(msttest.BlockMap(m.Nodes()), m.Root(), lim)
				return err
			},
			"Open": func(lim mst.Limits) error {
				t, err := mst.Open(msttest.BlockMap(m.Nodes()), m.Root(), lim)
				if err == nil {
					_, err = t.Stats()
				}
				return err
			},
		} {
			if err := read(c.at); err != nil {
				t.Errorf("%s, %s at the limit: %v", reader, name, err)
			}
			if err := read(c.over); !errors.Is(err, c.want) {
				t.Errorf("%s, %s over the limit: %v", reader, name, err)
			}
		}
	}
	if _, err := mst.Load(msttest.BlockMap(m.Nodes()), m.Root(), mst.Limits{Nodes: s.Nodes}); err != nil {
		t.Error(err)
	}
	if _, err := mst.Load(msttest.BlockMap(m.Nodes()), m.Root(), mst.Limits{Nodes: s.Nodes - 1}); !errors.Is(err, mst.ErrTooLarge) {
		t.Error(err)
	}
}
