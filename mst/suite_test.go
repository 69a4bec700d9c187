package mst_test

import (
	"os"
	"testing"
	"time"

	"github.com/pdskit/pdskit/mst/msttest"
)

// The suite, on trees that are loaded at once and on trees that are read as needed.
// PDSKIT_LONG=1 makes a million random operations of it.
func TestSuite(t *testing.T) {
	for name, lazy := range map[string]bool{"loaded": false, "lazy": true} {
		opt := msttest.Options{}
		if os.Getenv("PDSKIT_LONG") != "" {
			opt.Histories, opt.Timeout = 5000, time.Hour
		}
		t.Run(name, func(t *testing.T) { msttest.Run(t, msttest.PackageMST(lazy), opt) })
	}
}

func BenchmarkTree(b *testing.B) { msttest.Benchmark(b, msttest.PackageMST(false)) }
