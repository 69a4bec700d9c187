package main

import (
	"testing"

	"github.com/pdskit/pdskit/mst/msttest"
)

// Every contender does its work and checks its own result, so that the race is about
// the same thing.
func TestContendersAgree(t *testing.T) {
	for _, w := range append(works([]int{1000}), lexiconWorks()...) {
		for name, c := range map[string]contender{"floor": w.floor, "pdskit": w.ours, "atmos": w.atmos, "indigo": w.indigo} {
			if c == nil {
				continue
			}
			t.Run(w.name+"/"+name, func(t *testing.T) {
				run := c()
				run()
				run()
			})
		}
	}
}

// The known trees of msttest have the same roots everywhere.
func TestKnownTreesAgree(t *testing.T) {
	for _, law := range msttest.Laws() {
		if law.Name == "known trees" || law.Name == "build" {
			if err := law.Check(msttest.PackageMST(false), msttest.Options{}); err != nil {
				t.Error(err)
			}
		}
	}
	r := newRepository(10_000)
	r.atmosBuild()()
	r.indigoBuild()()
}
