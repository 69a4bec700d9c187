package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// TestLaws runs msttest on every contender, through the adapters in this folder, and prints how many
// laws hold. It fails if an adapter is at fault, not if a contender does not hold a law.
// PDSKIT_FINDINGS=1 prints what msttest finds, one line each, for the contenders' authors.
func TestLaws(t *testing.T) {
	var table strings.Builder
	for _, contender := range libraries() {
		holds, about := 0, 0
		for _, law := range msttest.Laws() {
			if law.Missing(contender.lib) != "" {
				continue
			}
			about++
			err := law.Check(contender.lib, msttest.Options{Histories: 20, Timeout: time.Minute})
			if err == nil {
				holds++
				continue
			}
			for finding := range strings.SplitSeq(err.Error(), "\n") {
				if os.Getenv("PDSKIT_FINDINGS") != "" {
					t.Logf("%s: %s: %s", contender.name, law.Name, finding)
				}
				if law.Name == "known trees" || contender.module == "" || strings.Contains(finding, ", in main.") {
					t.Errorf("%s: %s: %s", contender.name, law.Name, finding)
				}
			}
		}
		fmt.Fprintf(&table, "| %s | %d | %d |\n", cmp.Or(strings.TrimSpace(contender.module+" "+version(contender.module)), contender.name), about, holds)
	}
	t.Logf("\n| library | laws about it | of these hold |\n|---|--:|--:|\n%s", table.String())
}

// library is a contender's tree, and where it comes from.
type library struct {
	name, module string
	lib          msttest.Library
}

func libraries() []library {
	return []library{
		{"pdskit", "", msttest.PackageMST(false)},
		{"atmos", "github.com/jcalabro/atmos", atmosLibrary()},
		{"indigo", "github.com/bluesky-social/indigo", indigoLibrary()},
	}
}

// version is the version of a module that this program is built with.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return ""
}

// TestAdapters uses each contender's tree for ordinary things, through all that its adapter offers.
func TestAdapters(t *testing.T) {
	for _, contender := range libraries() {
		t.Run(contender.name, func(t *testing.T) { testAdapter(t, contender.lib) })
	}
}

func testAdapter(t *testing.T, lib msttest.Library) {
	before := make(msttest.Model)
	keys := msttest.RealisticKeys(300)
	var puts []mst.Op
	for i, k := range keys[1:] {
		puts = append(puts, mst.Op{Key: k, Value: msttest.Value(i)})
	}
	check(before.Apply(puts))
	tree, err := must(lib.Empty()).Apply(puts)
	sameTree(t, tree, err, before)
	tree, err = lib.Load(msttest.BlockMap(before.Nodes()), before.Root())
	sameTree(t, tree, err, before)

	ops := []mst.Op{{Key: keys[0], Value: msttest.Value(1)}, {Key: keys[100], Value: msttest.Value(2)}, {Key: keys[200]}}
	var inverse []mst.InvertOp
	for _, op := range ops {
		inverse = append(inverse, mst.InvertOp{Key: op.Key, Value: op.Value, Prev: before[op.Key]})
	}
	after := maps.Clone(before)
	check(after.Apply(ops))
	tree, err = tree.Apply(ops)
	sameTree(t, tree, err, after)
	if lib.Invert != nil {
		root, err := lib.Invert(msttest.BlockMap(after.Nodes()), after.Root(), inverse)
		if err != nil || root != before.Root() {
			t.Errorf("inverted, the root is %v: %v", root, err)
		}
	}
	if lib.Diff != nil {
		old := must(lib.Load(msttest.BlockMap(before.Nodes()), before.Root()))
		var got []mst.DiffEntry
		for d, err := range lib.Diff(old, tree) {
			check(err)
			got = append(got, d)
		}
		for i, op := range inverse {
			if len(got) != len(inverse) || got[i] != (mst.DiffEntry{Key: op.Key, Old: op.Prev, New: op.Value}) {
				t.Fatalf("differences: %v", got)
			}
		}
	}
}

// sameTree compares all that can be read of a tree with a model.
func sameTree(t *testing.T, tree msttest.Tree, err error, m msttest.Model) {
	t.Helper()
	check(err)
	if root := must(tree.Root()); root != m.Root() {
		t.Fatalf("root %v, want %v", root, m.Root())
	}
	var entries []mst.Entry
	for e, err := range tree.Entries() {
		check(err)
		entries = append(entries, e)
		if v := must(tree.Get(e.Key)); v != m[e.Key] {
			t.Fatalf("%q has the value %v", e.Key, v)
		}
	}
	var nodes []car.Block
	for b, err := range tree.Nodes() {
		check(err)
		nodes = append(nodes, b)
	}
	if !slices.Equal(entries, m.Entries()) || !reflect.DeepEqual(nodes, m.Nodes()) {
		t.Fatal("other entries or nodes")
	}
}
