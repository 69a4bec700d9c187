package main

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
)

// The picture's measures.
const (
	plotWidth, plotHeight     = 820, 420
	plotLeft, plotRight       = 70, 470
	plotTop, plotBottom       = 20, 370
	plotColours               = "#1f77b4 #d62728 #2ca02c #9467bd #ff7f0e #17becf #8c564b #e377c2 #7f7f7f"
	leastNanoseconds, decades = 10, 5 // the scale goes from 10 ns to 1 ms
)

// line is how one work's cost grows.
type line struct {
	name string
	ns   []float64 // for each size; 0: not measured
}

// lines groups costs, whose names end in ", " and a number of thousands, by work.
func lines(took map[string]float64, sizes []int) (list []line) {
	for i, n := range sizes {
		for name, ns := range took {
			base, ok := strings.CutSuffix(name, fmt.Sprintf(", %dk", n/1000))
			if !ok {
				continue
			}
			at := slices.IndexFunc(list, func(l line) bool { return l.name == base })
			if at < 0 {
				at = len(list)
				list = append(list, line{base, make([]float64, len(sizes))})
			}
			list[at].ns[i] = ns
		}
	}
	list = slices.DeleteFunc(list, func(l line) bool { return slices.Contains(l.ns, 0) })
	slices.SortFunc(list, func(a, b line) int { return int(b.ns[len(sizes)-1] - a.ns[len(sizes)-1]) })
	return list
}

// growth draws what pdskit takes per unit over the number of keys, both axes logarithmic.
func growth(took map[string]float64, sizes []int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintln(&b, `<title>Time of pdskit per key, change, diff or record, over the number of keys</title>`)
	fmt.Fprintln(&b, `<rect width="100%" height="100%" fill="#fff"/>`)
	x := func(i int) float64 {
		return plotLeft + (plotRight-plotLeft)*float64(i)/float64(max(len(sizes)-1, 1))
	}
	y := func(ns float64) float64 {
		return plotBottom - (plotBottom-plotTop)*math.Log10(max(ns, leastNanoseconds)/leastNanoseconds)/decades
	}
	for d, label := range []string{"10 ns", "100 ns", "1 µs", "10 µs", "100 µs", "1 ms"} {
		at := y(leastNanoseconds * math.Pow10(d))
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotLeft, at, plotRight, plotLeft-8, at+4, label)
	}
	for i, n := range sizes {
		fmt.Fprintf(&b, `<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(i), plotTop, plotBottom, x(i), plotBottom+18, n)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">keys</text>`+"\n", (plotLeft+plotRight)/2, plotBottom+38)
	colours := strings.Fields(plotColours)
	lowest := math.Inf(-1) // of the labels
	for i, l := range lines(took, sizes) {
		colour := colours[i%len(colours)]
		var points []string
		for j, ns := range l.ns {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(j), y(ns)))
		}
		lowest = max(lowest+15, y(l.ns[len(sizes)-1])+4)
		name, _, _ := strings.Cut(l.name, " (")
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/><text x="%d" y="%.1f" fill="%s">%s</text>`+"\n",
			strings.Join(points, " "), colour, plotRight+10, lowest, colour, name)
	}
	fmt.Fprintln(&b, `</svg>`)
	return b.Bytes()
}
