package readafter_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/identity"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/auth"
	"github.com/pdskit/pdskit/xrpc/proxy"
	"github.com/pdskit/pdskit/xrpc/proxy/readafter"
)

// Alice has written a post that the AppView has not seen. It is in her timeline all the same.
func Example() {
	ctx := context.Background()
	alice := syntax.DID("did:web:alice.example")
	key, err := crypto.GenerateKey(crypto.K256)
	if err != nil {
		panic(err)
	}
	signer := func(context.Context, syntax.DID) (crypto.Signer, error) { return key, nil }
	host := repo.NewHost(repo.Config{Store: memory.New(memory.Config{}), Signer: signer})
	write := func(collection syntax.NSID, record map[string]any) syntax.TID {
		b, err := data.Encode(record)
		if err != nil {
			panic(err)
		}
		w := repo.Write{Action: repo.Create, Collection: collection, RKey: host.NextRecordKey(), Record: b}
		res, err := host.Apply(ctx, alice, repo.Batch{Writes: []repo.Write{w}})
		if err != nil {
			panic(err)
		}
		return res.Head.Rev
	}
	if _, err := host.Create(ctx, alice, repo.Batch{}); err != nil {
		panic(err)
	}
	like := map[string]any{"uri": "at://did:web:bob.example/app.bsky.feed.post/3jzfcijpj2z2a", "cid": "bafyreiaa7hpjt4mxahxvi27xd77amkl44ihlot4ykfbzivcxqrsxyd53jq"}
	seen := write("app.bsky.feed.like", map[string]any{"$type": "app.bsky.feed.like", "subject": like, "createdAt": "2026-01-01T00:00:00Z"})
	write("app.bsky.feed.post", map[string]any{"$type": "app.bsky.feed.post", "text": "just written", "createdAt": "2026-01-01T00:00:01Z"})

	// An AppView, which has come as far as the like.
	appView := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Atproto-Repo-Rev", string(seen))
		io.WriteString(w, `{"feed":[]}`)
	}))
	defer appView.Close()

	service := proxy.Service{DID: "did:web:api.example.com", ID: "bsky_appview", URL: appView.URL}
	p := &proxy.Proxy{
		Resolver: &identity.Resolver{},
		Signer:   signer,
		Auth: func(*xrpc.Request) (auth.Principal, error) { // a server looks at the request's token
			return auth.Principal{Role: auth.User, DID: alice, Permissions: auth.Everything()}, nil
		},
		Known:   []proxy.Service{service},
		Default: func(syntax.NSID) (proxy.Service, bool) { return service, true },
	}
	merger := &readafter.Merger{
		Repos:   host,
		Handle:  func(context.Context, syntax.DID) (syntax.Handle, error) { return "alice.example", nil },
		AppView: &readafter.Queries{Service: service, Signer: signer},
		Images:  readafter.Images{Host: "https://pds.example.com"},
	}
	merger.Attach(p)
	server := httptest.NewServer(&xrpc.Server{Fallback: p.Route()})
	defer server.Close()

	resp, err := http.Get(server.URL + "/xrpc/app.bsky.feed.getTimeline")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.Status, strings.Contains(string(body), "just written"))
	// Output: 200 OK true
}
