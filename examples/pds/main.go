// Command pds is the reference server: an AT Protocol Personal Data Server composed of pdskit's
// packages.
//
// Without configuration it is a development server on http://localhost:2583, with its data in
// ./pds-data and its own did:plc directory. Environment variables configure it like the official
// server: see guide/README.md. "pds help" lists its other commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pdskit/pdskit/examples/pds/internal/cli"
	"github.com/pdskit/pdskit/examples/pds/internal/memlimit"
)

func main() {
	memlimit.Set()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := cli.Run(ctx, os.Args[1:], cli.IO{Environ: os.Environ(), In: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(code)
}
