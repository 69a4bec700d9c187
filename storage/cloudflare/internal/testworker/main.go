//go:build js

// Command testworker is the Go program in the Durable Objects of tests of package cloudflare.
package main

import (
	"context"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/storage/cloudflare"
)

func main() {
	host, err := cloudflare.Here()
	if err != nil {
		panic(err)
	}
	host.IdleBody, _ = time.ParseDuration(host.Env("IDLE_BODY"))
	mux := http.NewServeMux()
	requests(mux)
	w := newWorld(context.Background(), host, mux)
	host.Serve(w.faults.handler(mux))
}
