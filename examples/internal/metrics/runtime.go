package metrics

import (
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"
	"time"
)

// Runtime adds numbers of the Go runtime and, on Linux, of the process, under
// the names that Prometheus clients give them.
func (r *Registry) Runtime() {
	for _, m := range []struct {
		total              bool
		name, source, help string
	}{
		{false, "go_goroutines", "/sched/goroutines:goroutines", "Number of goroutines."},
		{false, "go_gomaxprocs_threads", "/sched/gomaxprocs:threads", "Processors that goroutines run on."},
		{false, "go_memory_heap_objects_bytes", "/memory/classes/heap/objects:bytes", "Memory of objects that are live or not yet swept."},
		{false, "go_memory_mapped_bytes", "/memory/classes/total:bytes", "Memory that the Go runtime has mapped."},
		{true, "go_gc_cycles_total", "/gc/cycles/total:gc-cycles", "Garbage collections."},
		{true, "go_gc_allocated_bytes_total", "/gc/heap/allocs:bytes", "Memory allocated since the start."},
	} {
		read := func() (float64, bool) {
			s := []metrics.Sample{{Name: m.source}}
			metrics.Read(s)
			if s[0].Value.Kind() != metrics.KindUint64 {
				return 0, false
			}
			return float64(s[0].Value.Uint64()), true
		}
		if m.total {
			r.Total(m.name, m.help, read)
		} else {
			r.Gauge(m.name, m.help, read)
		}
	}
	start := float64(time.Now().UnixMilli()) / 1000
	r.Gauge("process_start_time_seconds", "When the process began, in Unix time.", func() (float64, bool) { return start, true })
	r.Gauge("process_resident_memory_bytes", "Memory of the process that is in RAM.", func() (float64, bool) { return ResidentBytes(os.Getpid()) })
	r.Gauge("process_open_fds", "Open file descriptors.", func() (float64, bool) {
		list, err := os.ReadDir("/proc/self/fd")
		return float64(len(list)), err == nil
	})
	r.Total("process_cpu_seconds_total", "Time that the process has used processors, in user and system mode.", func() (float64, bool) { return CPUSeconds(os.Getpid()) })
}

// ResidentBytes is the memory of a process that is in RAM.
func ResidentBytes(pid int) (float64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	return pages * float64(os.Getpagesize()), err == nil
}

// CPUSeconds is the time for which a process has used processors. It stands in ticks of
// 1/100 s on every Linux that Go runs on.
func CPUSeconds(pid int) (float64, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The second field is the program's name, which may have spaces in it.
	_, rest, ok := bytes.Cut(text, []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseFloat(string(fields[11]), 64)
	system, err2 := strconv.ParseFloat(string(fields[12]), 64)
	return (user + system) / 100, err1 == nil && err2 == nil
}
