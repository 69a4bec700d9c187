package main

import (
	"strings"
	"testing"
)

// BenchmarkWorks runs each row of the tables for each contender:
//
//	go test -run '^$' -bench 'Works/get,_100k' -count 6 .
//
// Times are per run; divide by the work's units where a run has many.
func BenchmarkWorks(b *testing.B) {
	for _, w := range append(works([]int{1000, 10_000, 100_000}), lexiconWorks()...) {
		b.Run(strings.ReplaceAll(w.name, "/", " or "), func(b *testing.B) {
			for _, c := range []struct {
				name string
				make contender
			}{{"floor", w.floor}, {"pdskit", w.ours}, {"atmos", w.atmos}, {"indigo", w.indigo}} {
				if c.make == nil {
					continue
				}
				b.Run(c.name, func(b *testing.B) {
					run := c.make()
					run()
					b.ReportAllocs()
					for b.Loop() {
						run()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*w.per), "ns/"+w.unit)
				})
			}
		})
	}
}
