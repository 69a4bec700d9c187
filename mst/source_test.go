package mst_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// failingSource fails at one of its reads, and not before or after.
type failingSource struct {
	mst.BlockMap
	reads, failAt int
}

var errRead = errors.New("a read failed")

func (s *failingSource) Block(c cid.Cid) ([]byte, error) {
	if s.reads++; s.reads == s.failAt {
		return nil, errRead
	}
	return s.BlockMap.Block(c)
}

// A read that fails is the error of whatever needed it. Nothing is made up of what could be read, and the
// tree is as good as before: the same call succeeds afterwards.
func TestReadsThatFail(t *testing.T) {
	m, keys := tallTree(0, 1, 0, 2, 0, 1, 0, 3, 0, 2, 0, 1, 0)
	other, err := mst.BuildSorted(m.Entries()[1:])
	if err != nil {
		t.Fatal(err)
	}
	nodes := msttest.BlockMap(m.Nodes())
	for name, read := range map[string]func(tree *mst.Tree) (any, error){
		"Get": func(tree *mst.Tree) (any, error) {
			v, ok, err := tree.Get(keys[0])
			return fmt.Sprint(v, ok), err
		},
		"Get what is not there": func(tree *mst.Tree) (any, error) {
			v, ok, err := tree.Get(keys[4] + "0")
			return fmt.Sprint(v, ok), err
		},
		"Walk": func(tree *mst.Tree) (any, error) {
			n := 0
			for _, err := range tree.Walk(keys[4]) {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"PreOrder": func(tree *mst.Tree) (any, error) {
			n := 0
			for _, err := range tree.PreOrder() {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"Nodes": func(tree *mst.Tree) (any, error) {
			n := 0
			for _, err := range tree.Nodes() {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"Diff": func(tree *mst.Tree) (any, error) {
			n := 0
			for _, err := range mst.Diff(tree, other) {
				if err != nil {
					return nil, err
				}
				n++
			}
			return n, nil
		},
		"Stats": func(tree *mst.Tree) (any, error) { return tree.Stats() },
		"Map":   func(tree *mst.Tree) (any, error) { m, err := tree.Map(); return len(m), err },
		"Proof": func(tree *mst.Tree) (any, error) { path, err := tree.Proof(keys[6]); return len(path), err },
		"Apply": func(tree *mst.Tree) (any, error) {
			c, err := tree.Apply([]mst.Op{{Key: keys[3]}, {Key: keys[0], Value: msttest.Value(50)}, {Key: keys[7], Value: msttest.Value(51)}})
			if err != nil {
				return nil, err
			}
			return fmt.Sprint(c.Root, len(c.New), len(c.Removed), len(c.Proof)), nil
		},
		"Invert": func(tree *mst.Tree) (any, error) {
			was, err := mst.Invert(tree, []mst.InvertOp{{Key: keys[3], Value: m[keys[3]]}, {Key: keys[10], Value: m[keys[10]], Prev: msttest.Value(50)}})
			if err != nil {
				return nil, err
			}
			return was.Root(), nil
		},
		"InvertRoot": func(tree *mst.Tree) (any, error) {
			return mst.InvertRoot(tree, []mst.InvertOp{{Key: keys[5], Value: m[keys[5]]}})
		},
	} {
		open := func() (*mst.Tree, *failingSource) {
			src := &failingSource{BlockMap: nodes}
			tree, err := mst.Open(src, m.Root(), mst.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			src.reads = 0
			return tree, src
		}
		tree, src := open()
		want, err := read(tree)
		if err != nil || src.reads == 0 {
			t.Fatalf("%s: %v, %d reads", name, err, src.reads)
		}
		for n := range src.reads {
			tree, failing := open()
			failing.failAt = n + 1
			if got, err := read(tree); !errors.Is(err, errRead) {
				t.Errorf("%s, read %d of %d fails: %v, %v", name, n+1, src.reads, got, err)
			}
			if got, err := read(tree); err != nil || got != want {
				t.Errorf("%s, after read %d of %d failed: %v, %v, want %v", name, n+1, src.reads, got, err, want)
			}
		}
	}
	for n := range len(nodes) {
		src := &failingSource{BlockMap: nodes, failAt: n + 1}
		if tree, err := mst.Load(src, m.Root(), mst.Limits{}); tree != nil || !errors.Is(err, errRead) {
			t.Errorf("Load, read %d fails: %v", n+1, err)
		}
	}
	if _, err := mst.Open(&failingSource{BlockMap: nodes, failAt: 1}, m.Root(), mst.Limits{}); !errors.Is(err, errRead) {
		t.Errorf("Open: %v", err)
	}
}

// Whoever has seen enough gets no more, wherever that is.
func TestIteratorsThatAreLeft(t *testing.T) {
	m, keys := tallTree(0, 1, 0, 2, 0, 1, 0, 3, 0, 2, 0, 1, 0)
	tree, err := mst.BuildSorted(m.Entries())
	if err != nil {
		t.Fatal(err)
	}
	changed := make(msttest.Model)
	for i, k := range keys {
		switch i % 3 {
		case 0:
			changed[k] = m[k]
		case 1:
			changed[k] = msttest.Value(100 + i)
		}
	}
	changed[keys[12]+"0"] = msttest.Value(1)
	other, err := mst.BuildSorted(changed.Entries())
	if err != nil {
		t.Fatal(err)
	}
	for name, each := range map[string]func(seen func() bool){
		"Walk": func(seen func() bool) {
			for range tree.Walk("") {
				if !seen() {
					break
				}
			}
		},
		"Walk from a key": func(seen func() bool) {
			for range tree.Walk(keys[5]) {
				if !seen() {
					break
				}
			}
		},
		"PreOrder": func(seen func() bool) {
			for range tree.PreOrder() {
				if !seen() {
					break
				}
			}
		},
		"PreOrderOf": func(seen func() bool) {
			for range tree.PreOrderOf(func(cid.Cid) bool { return true }) {
				if !seen() {
					break
				}
			}
		},
		"Nodes": func(seen func() bool) {
			for range tree.Nodes() {
				if !seen() {
					break
				}
			}
		},
		"Diff": func(seen func() bool) {
			for range mst.Diff(tree, other) {
				if !seen() {
					break
				}
			}
		},
	} {
		all := 0
		each(func() bool { all++; return true })
		for most := 1; most <= all; most++ {
			n := 0
			each(func() bool { n++; return n < most })
			if n != most {
				t.Errorf("%s: %d of %d, when %d were enough", name, n, all, most)
			}
		}
	}
	taken := 0
	if _, err := mst.Build(func(yield func(mst.Entry, error) bool) {
		for taken < 3 && yield(mst.Entry{}, nil) { // no key
			taken++
		}
	}); !errors.Is(err, mst.ErrInvalidKey) || taken != 0 {
		t.Errorf("Build went on after an error: %v", err)
	}
}

// A stream is held to the same limits as a tree that is loaded, asks for nothing twice, and takes nothing
// that it has not asked for.
func TestLimitsOfStreams(t *testing.T) {
	m, _ := tallTree(0, 1, 0, 2, 0, 0, 0, 1)
	nodes := m.Nodes()
	longest := 0
	for _, b := range nodes {
		longest = max(longest, len(b.Data))
	}
	stream := func(lim mst.Limits) error {
		src := msttest.BlockMap(nodes)
		v, err := mst.NewStreamVerifier(m.Root(), lim)
		if err != nil {
			return err
		}
		for want, ok := v.Next(); ok; want, ok = v.Next() {
			if want.Key == "" {
				if err := v.Node(src[want.CID]); err != nil {
					return err
				}
			}
		}
		if err := v.Node(nodes[0].Data); err == nil {
			t.Error("a node after the last one")
		}
		return nil
	}
	for name, c := range map[string]struct {
		lim  mst.Limits
		want error
	}{
		"as many nodes as there are": {mst.Limits{Nodes: len(nodes)}, nil}, "one less": {mst.Limits{Nodes: len(nodes) - 1}, mst.ErrTooLarge},
		"as long as the longest": {mst.Limits{NodeBytes: longest}, nil}, "a byte less": {mst.Limits{NodeBytes: longest - 1}, mst.ErrTooLarge},
		"as high as the root": {mst.Limits{Height: 2}, nil}, "a level less": {mst.Limits{Height: 1}, mst.ErrTooLarge},
		"more height than there is": {mst.Limits{Height: 1000}, nil},
	} {
		if err := stream(c.lim); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The keys of a node that was skipped are not asked for; those beside it are.
	v, err := mst.NewStreamVerifier(m.Root(), mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Node(nodes[0].Data); err != nil {
		t.Fatal(err)
	}
	asked, skipped := 0, 0
	for want, ok := v.Next(); ok; want, ok = v.Next() {
		if want.Key != "" {
			asked++
			continue
		}
		if again, _ := v.Next(); again != want {
			t.Errorf("asked for %v, and then for %v", want, again)
		}
		skipped++
		v.Skip()
	}
	if asked != 1 || skipped != 2 {
		t.Errorf("asked for %d records of the root, skipped %d nodes", asked, skipped)
	}
	v, err = mst.NewStreamVerifier(m.Root(), mst.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if v.Skip(); v.Node(nodes[0].Data) == nil {
		t.Error("the root after it was skipped")
	}
}

// Keys have two parts and at most 1024 bytes. What is none is refused by all who take one.
func TestKeysThatAreNone(t *testing.T) {
	tree, err := mst.BuildSorted([]mst.Entry{{Key: "a/a", Value: msttest.Value(1)}})
	if err != nil {
		t.Fatal(err)
	}
	long := "a/" + strings.Repeat("x", mst.MaxKeyLen-2)
	for key, want := range map[string]bool{
		"a/b": true, "": false, "/": false, "a/": false, "/a": false, "a": false, "a/b/c": false, "a//b": false, "a/b c": false, "a/é": false, "a/\x00": false,
		"AZaz09_~.:-/AZaz09_~.:-": true, "a/@": false, "a/[": false, "a/`": false, "a/{": false, "a/;": false, "a/,": false, long: true, long + "x": false,
	} {
		errs := map[string]error{"ValidKey": mst.ValidKey(key)}
		_, errs["Apply"] = tree.Apply([]mst.Op{{Key: key, Value: msttest.Value(2)}})
		_, errs["Proof"] = tree.Proof(key)
		proof, err := tree.Proof("a/b")
		if err != nil {
			t.Fatal(err)
		}
		_, _, errs["VerifyProof"] = mst.VerifyProof(tree.Root(), key, proof)
		_, errs["Build"] = mst.BuildSorted([]mst.Entry{{Key: key, Value: msttest.Value(1)}})
		for name, err := range errs {
			if (err == nil) != want || err != nil && !errors.Is(err, mst.ErrInvalidKey) {
				t.Errorf("%s of %.30q: %v", name, key, err)
			}
		}
	}
	for name, v := range map[string]cid.Cid{"none": cid.Undef, "of another codec": dag.Sum(0x70, []byte("x")), "of version 0": cid.NewCidV0(dag.Sum(dag.Raw, nil).Hash())} {
		_, built := mst.BuildSorted([]mst.Entry{{Key: "a/a", Value: v}})
		var applied error
		if v.Defined() {
			_, applied = tree.Apply([]mst.Op{{Key: "a/b", Value: v}})
		} else {
			applied = built
		}
		if !errors.Is(built, mst.ErrLink) || !errors.Is(applied, mst.ErrLink) {
			t.Errorf("a value that is %s: %v, %v", name, built, applied)
		}
	}
	if _, err := tree.Apply([]mst.Op{{Key: "a/b", Value: msttest.Value(1)}, {Key: "a/b"}}); !errors.Is(err, mst.ErrDuplicateKey) {
		t.Errorf("a key twice: %v", err)
	}
	for name, ops := range map[string][]mst.Op{"of the tree": {{Key: "a/x"}}, "of the empty tree": {{Key: "a/a"}, {Key: "a/x"}}} {
		if _, err := tree.Apply(ops); !errors.Is(err, mst.ErrKeyNotFound) {
			t.Errorf("no key %s: %v", name, err)
		}
	}
	if _, err := mst.Empty().Apply([]mst.Op{{Key: "a/x"}}); !errors.Is(err, mst.ErrKeyNotFound) {
		t.Errorf("no key of nothing: %v", err)
	}
}

// An error says which node it is about, where, and which key.
func TestWhatErrorsSay(t *testing.T) {
	c := dag.Sum(dag.CBOR, []byte("x"))
	for want, e := range map[string]*mst.Error{
		"mst: invalid key":            {Err: mst.ErrInvalidKey},
		`mst: key "a/b": invalid key`: {Key: "a/b", Err: mst.ErrInvalidKey},
		"mst: node " + c.String() + `, byte 0: key "a/b": invalid key`: {Node: c, Key: "a/b", Err: mst.ErrInvalidKey},
		"mst: node " + c.String() + ", byte 7: invalid key":            {Node: c, Offset: 7, Err: mst.ErrInvalidKey},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if tree := mst.Empty(); !tree.IsEmpty() {
		t.Error("the empty tree has keys")
	}
	if s, err := mst.Empty().Stats(); err != nil || s != (mst.Stats{Height: -1}) {
		t.Errorf("%+v, %v", s, err)
	}
}
