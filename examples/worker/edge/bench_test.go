package edge

import (
	"context"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/storage/durable"
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

// BenchmarkCreateRecord is a post, with its session, validation, commit and event, over a store in one
// object, which is in memory. For a profile of the program as WebAssembly:
//
//	GOOS=js GOARCH=wasm go test -c -o /tmp/edge.wasm ./examples/worker/edge
//	node --stack-size=8192 --cpu-prof "$(go env GOROOT)/lib/wasm/wasm_exec_node.js" /tmp/edge.wasm -test.run '^$' -test.bench CreateRecord
func BenchmarkCreateRecord(b *testing.B) {
	p := newPlace(b, "alice.example.com")
	objects := new(durable.Memory)
	solo, err := durable.OpenSolo(b.Context(), func(ctx context.Context) (durable.Object, error) {
		return objects.Open(ctx, "did:web:solo", true)
	}, durable.SoloConfig{Now: p.now})
	if err != nil {
		b.Fatal(err)
	}
	blobs := p.store.Blobs
	p.store = solo.Store()
	p.store.Blobs = blobs
	s := p.start()
	status, out := account(b, s, "alice.example.com", invite(b, s))
	if status != 200 {
		b.Fatal(status, out)
	}
	token := "Bearer " + out["accessJwt"].(string)
	record := map[string]any{"$type": "app.bsky.feed.post", "text": strings.Repeat("a word ", 20), "createdAt": "2026-01-02T03:04:05.678Z", "langs": []string{"en"}}
	in := map[string]any{"repo": out["did"], "collection": "app.bsky.feed.post", "record": record}
	b.ReportAllocs()
	for b.Loop() {
		if status, out := call(b, s, "POST", "/xrpc/com.atproto.repo.createRecord", token, in); status != 200 {
			b.Fatal(status, out)
		}
	}
}
