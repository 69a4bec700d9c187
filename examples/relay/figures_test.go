package main

import (
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/testenv"
)

// TestFigures measures what the README says: with PDSKIT_RELAY_FIGURES=1.
func TestFigures(t *testing.T) {
	if os.Getenv("PDSKIT_RELAY_FIGURES") == "" {
		t.Skip("PDSKIT_RELAY_FIGURES is not set")
	}
	const commits = 4000
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	p := w.relay()
	idle := p.metric("process_resident_memory_bytes")
	empty := p.metric("relay_database_bytes")
	alice.write(t, commits)
	start, cpu := time.Now(), p.metric("process_cpu_seconds_total")
	p.do("addHost", map[string]any{"host": h.name})
	testenv.Until(t, "all commits", func() bool { return p.account(alice).Rev == string(alice.rev) })
	took, cpu := time.Since(start), p.metric("process_cpu_seconds_total")-cpu
	t.Logf("memory: %.0f MiB idle, %.0f MiB afterwards", idle/(1<<20), p.metric("process_resident_memory_bytes")/(1<<20))
	t.Logf("disk: %.0f bytes for each commit of a small record", (p.metric("relay_database_bytes")-empty)/commits)
	t.Logf("catching up: %.0f commits a second of one account, %.2f ms of processor for each", commits/took.Seconds(), 1000*cpu/commits)
}

// metric is the value of a metric without labels.
func (p *program) metric(name string) float64 {
	p.t.Helper()
	_, b := p.request("GET", "/metrics", nil)
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(b)
	if m == nil {
		p.t.Fatalf("no %s", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}
