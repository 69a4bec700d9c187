package main

import (
	"math"
	"math/rand/v2"
	"slices"
)

// class is a kind of call: how many come in a second, and how many seconds of a processor one
// takes.
type class struct{ rate, seconds float64 }

// wait is how likely a call waits for one of c processors, and how long it then waits on average:
// Erlang's C formula, with the correction of Allen and Cunneen for calls of unlike length.
func wait(c int, calls []class) (likely, seconds float64) {
	var rate, work, square float64
	for _, k := range calls {
		rate += k.rate
		work += k.rate * k.seconds
		square += k.rate * 2 * k.seconds * k.seconds // each class is exponential
	}
	if work == 0 {
		return 0, 0
	}
	if work >= float64(c) {
		return 1, math.Inf(1)
	}
	b := 1.0 // Erlang's B formula
	for n := 1; n <= c; n++ {
		b = work * b / (float64(n) + work*b)
	}
	busy := work / float64(c)
	likely = b / (1 - busy*(1-b))
	mean := work / rate
	unlike := square / rate / (mean * mean) // 2 for one class
	return likely, unlike / 2 * mean / (float64(c) - work)
}

// groups says how steps become durable: in groups, one at a time for each node.
type groups struct {
	nodes    int
	rate     float64 // steps a second of each node
	most     int     // in a group
	exchange float64 // seconds before the first step of a group
	step     float64 // seconds for each
	flush    float64 // seconds on average; the nodes take turns in it
}

// latencies simulates n steps, and is how long each took from its arrival until it was durable.
func (g groups) latencies(n int, rng *rand.Rand) []float64 {
	arrived := make([][]float64, g.nodes) // when; times that are due come first
	last := make([]float64, g.nodes)
	free := make([]float64, g.nodes)
	var flushed float64 // until when the flush is taken
	next := func(i int) {
		last[i] += rng.ExpFloat64() / g.rate
		arrived[i] = append(arrived[i], last[i])
	}
	for i := range g.nodes {
		next(i)
	}
	took := make([]float64, 0, n)
	for len(took) < n {
		// The node whose next group is ready first for the flush goes on.
		node, size, ready := 0, 0, math.Inf(1)
		for i := range g.nodes {
			start := max(free[i], arrived[i][0])
			for last[i] <= start {
				next(i)
			}
			k, _ := slices.BinarySearch(arrived[i], math.Nextafter(start, math.Inf(1)))
			k = min(k, g.most)
			if r := start + g.exchange + float64(k)*g.step; r < ready {
				node, size, ready = i, k, r
			}
		}
		flushed = max(flushed, ready) + rng.ExpFloat64()*g.flush
		free[node] = flushed
		for _, at := range arrived[node][:size] {
			took = append(took, flushed-at)
		}
		arrived[node] = arrived[node][size:]
		if len(arrived[node]) == 0 {
			next(node)
		}
	}
	return took[:n]
}
