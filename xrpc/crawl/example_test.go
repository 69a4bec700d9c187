package crawl_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/pdskit/pdskit/storage/memory"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/stream"
)

func Example() {
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Printf("%s %s\n", r.URL.Path, body)
	}))
	defer relay.Close()
	store := memory.New(memory.Config{})
	outbox := &stream.Outbox{Events: store.Events}
	ctx, stop := context.WithCancel(context.Background())
	n := &crawl.Notifier{
		Hostname:    "pds.example.com",
		Relays:      []string{relay.URL},
		Events:      store.Events,
		Subscribers: outbox.Subscribers,
		HTTP:        http.DefaultClient, // this relay has no public address
		Asked: func(r crawl.Request) {
			fmt.Println(r.Reason, r.Err)
			stop()
		},
	}
	outbox.Empty = n.Left
	fmt.Println(n.Run(ctx))
	// Output:
	// /xrpc/com.atproto.sync.requestCrawl {"hostname":"pds.example.com"}
	// start <nil>
	// context canceled
}
