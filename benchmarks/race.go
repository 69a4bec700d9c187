package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"time"
)

// contender is one library's way to do a piece of work. It is called to prepare, and
// returns what is measured.
type contender func() (run func())

// work is something that all libraries do, in one race.
type work struct {
	name string
	per  int // units of one run: keys, records
	unit string
	// floor is what cannot be left out, on this machine: hashing, a signature. May be nil.
	floor     contender
	floorName string
	// ours and theirs do the work. A nil contender cannot do it.
	ours, atmos, indigo contender
}

// result is the outcome for one contender, per unit.
type result struct {
	ns     float64
	allocs float64
	bytes  float64 // allocated
}

// race lets contenders run in turns, so that a noisy neighbour hits all of them, and
// keeps each one's best round.
func race(w *work, rounds int, slice time.Duration) (floor, ours, atmos, indigo *result) {
	list := []contender{w.floor, w.ours, w.atmos, w.indigo}
	results := make([]*result, len(list))
	runs := make([]func(), len(list))
	for i, c := range list {
		if c != nil {
			results[i] = &result{ns: math.Inf(1)}
			runs[i] = c()
			runs[i]() // warm up
		}
	}
	for range rounds {
		for i, run := range runs {
			if run == nil {
				continue
			}
			runtime.GC()
			n := 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for time.Since(start) < slice || n == 0 {
				run()
				n++
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			r, per := results[i], float64(n*w.per)
			r.ns = min(r.ns, float64(took.Nanoseconds())/per)
			r.allocs = float64(after.Mallocs-before.Mallocs) / per
			r.bytes = float64(after.TotalAlloc-before.TotalAlloc) / per
		}
	}
	return results[0], results[1], results[2], results[3]
}

// header is that of the table that row makes, about a subject.
const header = `| %s | pdskit | atmos | indigo | × atmos | × indigo | floor | × floor | allocations: pdskit / atmos / indigo | bytes allocated |
|---|---|---|---|---|---|---|---|---|---|
`

// row is the outcome of a race as a row of a Markdown table.
func row(w *work, floor, ours, atmos, indigo *result) string {
	ratio := func(a, b *result) string {
		if a == nil || b == nil {
			return "–"
		}
		return fmt.Sprintf("%.1f", a.ns/b.ns)
	}
	each := func(f func(r *result) string) string {
		var list []string
		for _, r := range []*result{ours, atmos, indigo} {
			if r == nil {
				list = append(list, "–")
			} else {
				list = append(list, f(r))
			}
		}
		return strings.Join(list, " / ")
	}
	name := w.name
	floorText := duration(floor)
	if w.floorName != "" {
		floorText += " (" + w.floorName + ")"
	}
	return fmt.Sprintf("| %s, per %s | **%s** | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, w.unit, duration(ours), duration(atmos), duration(indigo),
		ratio(atmos, ours), ratio(indigo, ours), floorText, ratio(ours, floor),
		each(func(r *result) string { return number(r.allocs) }), each(func(r *result) string { return number(r.bytes) }))
}

func duration(r *result) string {
	switch {
	case r == nil:
		return "–"
	case r.ns < 1000:
		return fmt.Sprintf("%.0f ns", r.ns)
	case r.ns < 1e6:
		return fmt.Sprintf("%.1f µs", r.ns/1e3)
	default:
		return fmt.Sprintf("%.2f ms", r.ns/1e6)
	}
}

func number(n float64) string {
	switch {
	case n < 0.01:
		return "0"
	case n < 10:
		return fmt.Sprintf("%.2f", n)
	default:
		return fmt.Sprintf("%.0f", n)
	}
}

// memory measures what a value keeps alive, in bytes, after make has returned it and
// forgotten what it was made of.
func memory(makeIt func() any) float64 {
	before := heap()
	v := makeIt()
	after := heap()
	runtime.KeepAlive(v)
	return float64(after - before)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// run races all works and writes their table, if there are any.
// It returns what pdskit took, per unit, by the works' names.
func run(out io.Writer, subject string, works []*work, rounds int, slice time.Duration) map[string]float64 {
	took := make(map[string]float64)
	if len(works) == 0 {
		return took
	}
	fmt.Fprintf(out, header, subject)
	for _, w := range works {
		floor, ours, atmos, indigo := race(w, rounds, slice)
		fmt.Fprint(out, row(w, floor, ours, atmos, indigo))
		if ours != nil {
			took[w.name] = ours.ns
		}
	}
	fmt.Fprintln(out)
	return took
}
