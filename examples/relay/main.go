// Command relay follows many hosts of the AT Protocol, verifies their messages, and passes them on
// as one stream: as the firehose of com.atproto.sync.subscribeRepos, and as JSON like Jetstream.
//
//	go run ./examples/relay
//
// serves on http://localhost:2470 with its data in ./relay-data and prints what to do next. "-help"
// lists the settings, which can also be environment variables. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}
