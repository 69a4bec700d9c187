package atproto_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// BenchmarkMethods calls methods without a network, over a store in memory. Most of a write is its
// signature.
//
//	go test -run '^$' -bench Methods -benchmem ./xrpc/atproto
func BenchmarkMethods(b *testing.B) {
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		b.Fatal(err)
	}
	host := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }})
	if _, err := host.Create(b.Context(), alice, repo.Batch{}); err != nil {
		b.Fatal(err)
	}
	srv := &xrpc.Server{Catalog: schemas}
	(&atproto.Service{
		Host: host, Accounts: accounts{alice: {DID: alice, Handle: "alice.test"}}, Schemas: schemas,
		Auth: atproto.Auth{User: func(*xrpc.Request) (auth.Principal, error) {
			return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
		}},
	}).Mount(srv)
	const record = `{"$type":"app.bsky.feed.post","text":"A post of the usual length, as people write them all day long.","createdAt":"2026-01-01T00:00:00.000Z","langs":["en"]}`
	put := `{"repo":"` + alice + `","collection":"app.bsky.feed.post","rkey":"self","validate":false,"record":` + record + `}`
	write := `{"$type":"com.atproto.repo.applyWrites#create","collection":"app.bsky.feed.post","value":` + record + `}`
	apply := `{"repo":"` + alice + `","writes":[` + strings.Repeat(write+",", 9) + write + `]}`
	call(b, srv, "com.atproto.repo.putRecord", put)
	for _, c := range []struct{ name, method, body string }{
		{"applyWrites10", "com.atproto.repo.applyWrites", apply},
		{"getRecord", "com.atproto.repo.getRecord?repo=" + alice + "&collection=app.bsky.feed.post&rkey=self", ""},
		{"listRecords50", "com.atproto.repo.listRecords?repo=" + alice + "&collection=app.bsky.feed.post", ""},
		{"getLatestCommit", "com.atproto.sync.getLatestCommit?did=" + alice, ""},
		{"resolveHandle", "com.atproto.identity.resolveHandle?handle=alice.test", ""},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call(b, srv, c.method, c.body)
			}
		})
	}
}

// call calls a method and drops the answer, which must be a success.
func call(b *testing.B, srv http.Handler, method, body string) {
	verb := "GET"
	if body != "" {
		verb = "POST"
	}
	r, err := http.NewRequest(verb, "http://pds.test/xrpc/"+method, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := dropped{header: make(http.Header)}
	if srv.ServeHTTP(&w, r); w.status != http.StatusOK {
		b.Fatalf("%s: status %d", method, w.status)
	}
}

// dropped is an answer of which only the status is kept.
type dropped struct {
	header http.Header
	status int
}

func (w *dropped) Header() http.Header         { return w.header }
func (w *dropped) WriteHeader(status int)      { w.status = status }
func (w *dropped) Write(p []byte) (int, error) { return len(p), nil }
