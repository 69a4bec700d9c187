package limit_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// A server whose clients cannot hold more than their share of anything.
func Example() {
	methods := &xrpc.Server{}
	// methods.Handle(…)

	classes := limit.NewMethods()
	classes.Export.Gate.Total = 8                    // a small machine
	classes.Set("com.example.search", &classes.Tree) // a query of our own that is expensive
	relay := netip.MustParsePrefix("192.0.2.0/24")   // who always gets in
	limits := &limit.Limiter{
		Class:      classes.Class,
		Privileged: relay.Contains,
		Refused: func(r *http.Request, e *limit.Error) {
			log.Printf("%s from %s: %v", r.URL.Path, r.RemoteAddr, e)
		},
	}

	srv := &http.Server{Handler: limits.Handler(methods)}
	limit.Harden(srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(&limit.Listener{Listener: l})

	resp, err := http.Get("http://" + l.Addr().String() + "/xrpc/com.example.search")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	srv.Close()
	// Output: 501 Not Implemented
}

// A bound on work inside of a handler, shared fairly between networks.
func ExampleGate() {
	hashing := &limit.Gate{Name: "passwords", Total: 4, Queue: 256, QueuePerNetwork: 32, Wait: 5 * time.Second}
	check := func(ctx context.Context, password string) (bool, error) {
		leave, err := hashing.Enter(ctx, limit.ClientOf(ctx)) // ends when the client hangs up
		if err != nil {
			return false, err
		}
		defer leave()
		return password == "correct horse", nil // after a slow hash
	}
	fmt.Println(check(context.Background(), "correct horse"))
	// Output: true <nil>
}

// Bytes that a handler keeps for a client count towards its class's budget.
func ExampleHold() {
	spool := func(ctx context.Context, part []byte) error {
		if err := limit.Hold(ctx, int64(len(part))); err != nil {
			return err
		}
		// … write it to a file, and call limit.Hold(ctx, -int64(len(part))) when it has been read …
		return nil
	}
	fmt.Println(spool(context.Background(), make([]byte, 1000)))
	// Output: <nil>
}
