package agent

import (
	"testing"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/host"
)

// BenchmarkStart makes a hundred agents.
func BenchmarkStart(b *testing.B) {
	const n = 100
	for b.Loop() {
		h, err := host.Open(b.Context(), host.Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if _, err := New(b.Context(), Config{Host: h, N: n}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds())/n, "ms/agent")
		h.Close()
	}
}
