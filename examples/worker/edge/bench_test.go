package edge

import (
	"testing"

	"github.com/pdskit/pdskit/storage/memory"
)

// BenchmarkStart is a start of the server, as it is done each time that an object is woken.
func BenchmarkStart(b *testing.B) {
	cfg, err := read(variables(b))
	if err != nil {
		b.Fatal(err)
	}
	p := Platform{Store: memory.New(memory.Config{})}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(cfg, "alice.example.com", p); err != nil {
			b.Fatal(err)
		}
	}
}
