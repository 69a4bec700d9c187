//go:build !js

// Worker is a PDS in Cloudflare Durable Objects. Built for GOOS=js it is the program inside.
// Otherwise it has the commands that set up, check and fill such a server, like "pds worker": see
// README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pdskit/pdskit/examples/worker/command"
)

func main() {
	env := map[string]string{}
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	io := command.IO{In: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: env}
	if err := command.Main(context.Background(), os.Args[1:], io); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
