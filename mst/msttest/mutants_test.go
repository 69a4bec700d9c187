package msttest

import (
	"strings"
	"testing"

	"github.com/pdskit/pdskit/mst"
)

func TestNaiveTree(t *testing.T) {
	Run(t, newNaive().library(), Options{Histories: 10, Steps: 30})
}

// Every mutant has one fault, and breaks a law.
func TestMutantsBreakTheLaw(t *testing.T) {
	mutants := []struct{ fault, law string }{
		{"the empty tree has no root", "known trees"},
		{"Get finds deleted keys", "histories"},
		{"the last entry is left out", "histories"},
		{"a node comes twice", "histories"},
		{"a node is left out", "histories"},
		{"the root stays tall", "any order"},
		{"the root stays tall", "down to nothing"},
		{"nodes come by size", "pre-order"},
		{"illegal keys are written", "illegal keys"},
		{"illegal keys are built", "illegal keys"},
		{"illegal values are written", "illegal values"},
		{"missing keys are deleted", "missing key"},
		{"half of a failed batch stays", "failed batches"},
		{"flat nodes are written that cannot be read", "flat nodes"},
		{"Apply changes the tree itself", "values"},
		{"readers share a place", "readers"},
		{"the last entry is lost when loaded", "reload"},
		{"unchecked: hash", "lying source"},
		{"a fault ends the tree", "missing nodes"},
		{"errors are hidden", "faults"},
		{"a fault lasts", "faults"},
		{"a fault ends the tree", "faults"},
		{"entries are built in any order", "build"},
		{"entries are built twice", "build"},
		{"a walk begins behind its key", "walk"},
		{"a walk cannot be stopped", "walk"},
		{"equal values differ", "differences"},
		{"deleted keys do not differ", "differences"},
		{"old nodes are called new", "changes"},
		{"a removed node is forgotten", "changes"},
		{"values before are forgotten", "changes"},
		{"no proof", "slices"},
		{"the proof has paths only", "slices"},
		{"only whole trees are inverted", "smallest slices"},
		{"the normalised order only", "smallest slices"},
		{"the order given backward only", "smallest slices"},
		{"what is missing is ignored", "smallest slices"},
		{"claims are not checked", "false claims"},
		{"proofs are believed", "proofs"},
		{"proofs end early", "proofs"},
		{"a missing block means a missing key", "proofs"},
	}
	for i, c := range checks {
		if !testing.Short() || i == 0 { // they take their time
			mutants = append(mutants, struct{ fault, law string }{"unchecked: " + c, "hostile trees"})
		}
	}
	laws := make(map[string]Law)
	for _, l := range Laws() {
		laws[l.Name] = l
	}
	tested := make(map[string]bool)
	for _, m := range mutants {
		tested[m.law] = true
		t.Run(m.fault+" against "+m.law, func(t *testing.T) {
			err := laws[m.law].Check(newNaive(m.fault).library(), Options{Histories: 20})
			if err == nil {
				t.Fatal("the law is kept")
			}
			finding, _, _ := strings.Cut(err.Error(), "\n")
			t.Log(finding)
		})
	}
	for name := range laws {
		if !tested[name] {
			t.Errorf("no mutant breaks the law %q", name)
		}
	}
}

// Every check that a reader makes has a vector that is refused for no other reason.
func TestVectorsAreWrongInOneWay(t *testing.T) {
	if testing.Short() {
		t.Skip("takes its time")
	}
	vectors := Vectors()
	reasons := make(map[string][]string)
	for _, check := range checks {
		lib := newNaive("unchecked: " + check).library()
		for _, v := range vectors {
			accepted, err := attack(&v, func(src mst.Source, v *Vector) error {
				t, err := lib.Load(src, v.Root)
				if err != nil {
					return err
				}
				return readAll(t, v)
			})
			if accepted || err != nil { // or read without end, or a panic
				reasons[v.Name] = append(reasons[v.Name], check)
			}
		}
	}
	only := make(map[string]int)
	for _, list := range reasons {
		if len(list) == 1 {
			only[list[0]]++
		}
	}
	for _, check := range checks {
		if only[check] == 0 {
			t.Errorf("no vector is refused for nothing but: %s", check)
		}
	}
	t.Logf("of %d vectors, for one check only: %v", len(vectors), only)
}

func TestVectorsAreTheSameEveryTime(t *testing.T) {
	a, b := Vectors(), Vectors()
	seen := make(map[string]bool)
	for i, v := range a {
		if v.Name != b[i].Name || v.Root != b[i].Root || len(v.Blocks) != len(b[i].Blocks) {
			t.Errorf("vector %d: %s and %s", i, v.Name, b[i].Name)
		}
		if seen[v.Name] {
			t.Errorf("two vectors are named %q", v.Name)
		}
		seen[v.Name] = true
	}
}
