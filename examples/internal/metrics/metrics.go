// Package metrics counts events of a server and shows the counts in the Prometheus text exposition
// format, version 0.0.4.
//
// It has counters and histograms with labels, and gauges that are computed when the metrics are
// read. That is all that the servers in this repository need, in a few hundred lines without a
// dependency. Label values must come from a fixed set, since a series is never removed.
package metrics

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Registry holds metrics. Make them before it is served; it and they are then safe for
// concurrent use. The zero value is empty.
type Registry struct {
	mu       sync.Mutex
	families []*family
}

// family is a metric with its series.
type family struct {
	name, help, kind string
	labels           []string
	bounds           []float64 // of a histogram
	read             func() (value float64, ok bool)
	each             func(add func(value float64, labels ...string))

	series sync.Map // of strings (the text of the labels) to *series
}

// series is the values of a family for one set of labels.
type series struct {
	count   atomic.Uint64 // of a counter, or of observations
	sum     atomic.Uint64 // bits of a float64; the number itself for a Level
	buckets []atomic.Uint64
}

func (r *Registry) add(f *family) *family {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.families, func(g *family) bool { return g.name == f.name }) {
		panic("metrics: two metrics of the name " + f.name)
	}
	r.families = append(r.families, f)
	return f
}

// Counter is a number that grows, for each set of labels.
type Counter struct{ f *family }

// Counter makes a counter. Its name ends in _total.
func (r *Registry) Counter(name, help string, labels ...string) Counter {
	return Counter{r.add(&family{name: name, help: help, kind: "counter", labels: labels})}
}

// Add adds n for the labels' values.
func (c Counter) Add(n uint64, values ...string) { c.f.of(values).count.Add(n) }

// Histogram counts observations by size, for each set of labels.
type Histogram struct{ f *family }

// Histogram makes a histogram with the upper bounds of its buckets in ascending
// order; what is larger is counted too.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...string) Histogram {
	return Histogram{r.add(&family{name: name, help: help, kind: "histogram", bounds: bounds, labels: labels})}
}

// Observe counts a value for the labels' values.
func (h Histogram) Observe(v float64, values ...string) {
	s := h.f.of(values)
	if i, _ := slices.BinarySearch(h.f.bounds, v); i < len(s.buckets) {
		s.buckets[i].Add(1)
	}
	s.count.Add(1)
	for {
		old := s.sum.Load()
		if s.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Level is a number that is set, for each set of labels.
type Level struct{ f *family }

// Level makes a gauge that is set.
func (r *Registry) Level(name, help string, labels ...string) Level {
	return Level{r.add(&family{name: name, help: help, kind: "gauge", labels: labels})}
}

// Set sets the number for the labels' values.
func (l Level) Set(v float64, values ...string) { l.f.of(values).sum.Store(math.Float64bits(v)) }

// Gauge makes a number that may go up and down. read is called for each look; ok is
// false when the number is not known.
func (r *Registry) Gauge(name, help string, read func() (value float64, ok bool)) {
	r.add(&family{name: name, help: help, kind: "gauge", read: read})
}

// Gauges makes a number for each set of labels. read is called for each look, and calls add for
// each number that is known, in the order in which they are shown.
func (r *Registry) Gauges(name, help string, labels []string, read func(add func(value float64, labels ...string))) {
	r.add(&family{name: name, help: help, kind: "gauge", labels: labels, each: read})
}

// Total makes a counter that is kept elsewhere.
func (r *Registry) Total(name, help string, read func() (value float64, ok bool)) {
	r.add(&family{name: name, help: help, kind: "counter", read: read})
}

// of returns the series of the labels' values.
func (f *family) of(values []string) *series {
	key := f.text(values)
	if s, ok := f.series.Load(key); ok {
		return s.(*series)
	}
	s, _ := f.series.LoadOrStore(key, &series{buckets: make([]atomic.Uint64, len(f.bounds))})
	return s.(*series)
}

// text is the labels as they are shown, without braces.
func (f *family) text(values []string) string {
	if len(values) != len(f.labels) {
		panic("metrics: " + f.name + " has other labels")
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(f.labels[i])
		b.WriteString(`="`)
		b.WriteString(escape(v, true))
		b.WriteByte('"')
	}
	return b.String()
}

// escape writes a label's value, or a help text, in one line.
func escape(s string, quotes bool) string {
	if !strings.ContainsAny(s, "\\\"\n") {
		return s
	}
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
	if quotes {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}

// Write writes all metrics, in the order they were made.
func (r *Registry) Write(w io.Writer) error {
	r.mu.Lock()
	families := slices.Clone(r.families)
	r.mu.Unlock()
	b := bufio.NewWriter(w)
	for _, f := range families {
		f.write(b)
	}
	return b.Flush()
}

func (f *family) write(w *bufio.Writer) {
	var value float64
	if f.read != nil {
		var ok bool
		if value, ok = f.read(); !ok {
			return
		}
	}
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", f.name, escape(f.help, false), f.name, f.kind)
	if f.each != nil {
		f.each(func(v float64, labels ...string) {
			fmt.Fprintf(w, "%s %s\n", sample(f.name, f.text(labels), ""), number(v))
		})
		return
	}
	if f.read != nil {
		fmt.Fprintf(w, "%s %s\n", f.name, number(value))
		return
	}
	var keys []string
	f.series.Range(func(key, _ any) bool { keys = append(keys, key.(string)); return true })
	slices.Sort(keys)
	for _, key := range keys {
		v, _ := f.series.Load(key)
		s := v.(*series)
		if f.kind == "counter" {
			fmt.Fprintf(w, "%s %d\n", sample(f.name, key, ""), s.count.Load())
			continue
		}
		if f.kind == "gauge" {
			fmt.Fprintf(w, "%s %s\n", sample(f.name, key, ""), number(math.Float64frombits(s.sum.Load())))
			continue
		}
		// Observations go on: what is shown must still add up.
		var n uint64
		for i, bound := range f.bounds {
			n += s.buckets[i].Load()
			fmt.Fprintf(w, "%s %d\n", sample(f.name+"_bucket", key, `le="`+number(bound)+`"`), n)
		}
		count := max(s.count.Load(), n)
		fmt.Fprintf(w, "%s %d\n", sample(f.name+"_bucket", key, `le="+Inf"`), count)
		fmt.Fprintf(w, "%s %s\n", sample(f.name+"_sum", key, ""), number(math.Float64frombits(s.sum.Load())))
		fmt.Fprintf(w, "%s %d\n", sample(f.name+"_count", key, ""), count)
	}
}

// sample is a name with its labels.
func sample(name, labels, more string) string {
	if labels != "" && more != "" {
		labels += ","
	}
	if labels += more; labels == "" {
		return name
	}
	return name + "{" + labels + "}"
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// ServeHTTP shows the metrics.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	r.Write(w) // who looked has gone if it fails
}
