package lexicon_test

import (
	"net/url"
	"testing"

	"github.com/pdskit/pdskit/lexicon"
)

// Targets and what was measured (AMD EPYC, 2 cores shared with other work; Go 1.26), with
//
//	go test -run '^$' -bench . -benchmem ./lexicon/
//
//	                   target           measured
//	ValidatePost       2 µs, 4 allocs   1.1 µs, 1 alloc
//	Params             -                0.6 µs, 9 allocs
//	Builtin/Made       -                0.1 ms
//	Builtin/Post       -                0.8 ms
//	Builtin/All        -                3.0 ms
//
// As WebAssembly in Node, Builtin/All takes some 40 times as long as Builtin/Made.
//
// The post has two facets, a reply and 700 bytes of CBOR.
func BenchmarkValidatePost(b *testing.B) {
	c := lexicon.Builtin()
	post := parse(b, typicalPost)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", post); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParams(b *testing.B) {
	c := lexicon.Builtin()
	q := url.Values{"repo": {"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}, "collection": {"app.bsky.feed.post"}, "limit": {"100"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Params("com.atproto.repo.listRecords", q); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuiltin makes a catalog; one with the parameters of a method and a record checked; and one
// with all documents parsed, as a host did at its start before documents were parsed when asked for.
// A process pays for each document once, so each round is a new process's.
func BenchmarkBuiltin(b *testing.B) {
	post := parse(b, typicalPost)
	for name, use := range map[string]func(*lexicon.Catalog){
		"Made": func(*lexicon.Catalog) {},
		"Post": func(c *lexicon.Catalog) {
			if err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", post); err != nil {
				b.Fatal(err)
			}
		},
		"All": func(c *lexicon.Catalog) {
			for range c.Documents() {
			}
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				use(lexicon.FreshBuiltin())
			}
		})
	}
}
