package metrics

import (
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	var r Registry
	c := r.Counter("requests_total", "Requests \\ by\nmethod.", "method", "status")
	h := r.Histogram("seconds", "Time.", []float64{0.1, 1}, "method")
	r.Gauge("subscribers", "Now.", func() (float64, bool) { return 2.5, true })
	r.Gauge("unknown", "Not shown.", func() (float64, bool) { return 0, false })
	r.Total("seen_total", "Elsewhere.", func() (float64, bool) { return 1e6, true })
	n := r.Counter("plain_total", "Without labels.")
	r.Gauges("disk_free_bytes", "Asked.", []string{"disk"}, func(add func(float64, ...string)) {
		add(1, "data")
		add(2, "blobs")
	})
	l := r.Level("lag_seconds", "Set.", "relay")
	l.Set(3, "b")
	l.Set(-1.5, "b")
	l.Set(0, "a")
	c.Add(2, "b", "200")
	c.Add(1, "a\"\\\n", "500")
	c.Add(1, "b", "200")
	n.Add(7)
	for _, v := range []float64{0.05, 0.1, 0.5, 3} {
		h.Observe(v, "m")
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, nil)
	want := `# HELP requests_total Requests \\ by\nmethod.
# TYPE requests_total counter
requests_total{method="a\"\\\n",status="500"} 1
requests_total{method="b",status="200"} 3
# HELP seconds Time.
# TYPE seconds histogram
seconds_bucket{method="m",le="0.1"} 2
seconds_bucket{method="m",le="1"} 3
seconds_bucket{method="m",le="+Inf"} 4
seconds_sum{method="m"} 3.65
seconds_count{method="m"} 4
# HELP subscribers Now.
# TYPE subscribers gauge
subscribers 2.5
# HELP seen_total Elsewhere.
# TYPE seen_total counter
seen_total 1e+06
# HELP plain_total Without labels.
# TYPE plain_total counter
plain_total 7
# HELP disk_free_bytes Asked.
# TYPE disk_free_bytes gauge
disk_free_bytes{disk="data"} 1
disk_free_bytes{disk="blobs"} 2
# HELP lag_seconds Set.
# TYPE lag_seconds gauge
lag_seconds{relay="a"} 0
lag_seconds{relay="b"} -1.5
`
	if d := cmp.Diff(want, w.Body.String()); d != "" {
		t.Error(d)
	}
	if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Error(ct)
	}
}

func TestTwoOfOneNamePanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	var r Registry
	r.Counter("a_total", "")
	r.Counter("a_total", "")
}

func TestConcurrent(t *testing.T) {
	var r Registry
	c := r.Counter("c_total", "", "l")
	h := r.Histogram("h", "", []float64{1, 2, 3})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				c.Add(1, string(rune('a'+i%3)))
				h.Observe(float64(i % 5))
				if i%100 == 0 {
					r.Write(&strings.Builder{})
				}
			}
		})
	}
	all.Wait()
	var b strings.Builder
	r.Write(&b)
	for _, want := range []string{"h_count 8000\n", "h_sum 16000\n", `h_bucket{le="1"} 3200` + "\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %s", want, &b)
		}
	}
}

func TestRuntime(t *testing.T) {
	var r Registry
	r.Runtime()
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	names := []string{"go_goroutines", "go_memory_mapped_bytes", "go_gc_cycles_total", "process_start_time_seconds"}
	if runtime.GOOS == "linux" {
		names = append(names, "process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total")
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^` + name + ` [0-9.e+]+$`).MatchString(b.String()) {
			t.Errorf("no %s in:\n%s", name, &b)
		}
	}
	if bytes, ok := ResidentBytes(os.Getpid()); ok && bytes < 1<<20 {
		t.Errorf("%v bytes resident", bytes)
	}
}

func BenchmarkObserve(b *testing.B) {
	var r Registry
	c := r.Counter("c_total", "", "method", "status")
	h := r.Histogram("h", "", []float64{.001, .01, .1, 1}, "method")
	b.ReportAllocs()
	for b.Loop() {
		c.Add(1, "com.atproto.repo.createRecord", "200")
		h.Observe(0.004, "com.atproto.repo.createRecord")
	}
}
