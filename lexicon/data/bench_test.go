package data_test

import (
	"testing"

	"github.com/pdskit/pdskit/lexicon/data"
)

// Targets and what was measured (AMD EPYC, 2 cores shared with other work; Go 1.26), with
//
//	go test -run '^$' -bench . -benchmem ./lexicon/data/
//
//	                 target      measured
//	scan             300 MB/s    1000 MB/s, 0 allocs
//	JSON to CBOR     4 µs        2.4 µs, 6 allocs
//	JSON to value    -           5.5 µs, 47 allocs
//	value to CBOR    -           2.5 µs, 2 allocs
//	CBOR to value    6 µs        4.9 µs, 41 allocs
//	CBOR to JSON     -           2.5 µs, 2 allocs
//
// Throughput counts the 704 bytes of the post's CBOR.
func BenchmarkPost(b *testing.B) {
	text := []byte(post)
	v, err := data.FromJSON(text, data.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	enc, err := data.Encode(v)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, fn func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(enc)))
			for b.Loop() {
				fn()
			}
		})
	}
	run("scan", func() { _ = data.Valid(enc, data.Limits{}) })
	run("JSON to CBOR", func() { _, _ = data.AppendCBOR(nil, text, data.Limits{}) })
	run("JSON to value", func() { _, _ = data.FromJSON(text, data.Limits{}) })
	run("value to CBOR", func() { _, _ = data.Encode(v) })
	run("CBOR to value", func() { _, _ = data.Decode(enc, data.Limits{}) })
	run("CBOR to JSON", func() { _, _ = data.AppendJSON(nil, enc) })
}
