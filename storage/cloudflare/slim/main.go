// Slim prepares builds of smaller programs for GOOS=js, by a fifth: it writes an overlay of the
// standard library, without what only other systems need, and prints the name of the file for the
// flag -overlay.
//
//	go build -overlay "$(go run github.com/pdskit/pdskit/storage/cloudflare/slim "$(go env GOROOT)" DIR)" …
//
// It must run for the machine that builds, not for js, with the GOROOT of the build. Templates of a
// program that is built so read fields; of methods they call only those that pdskit's own do. See
// the README of package cloudflare.
package main

import (
	"fmt"
	"os"

	"github.com/pdskit/pdskit/internal/slim"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: slim GOROOT DIR")
		os.Exit(2)
	}
	overlay, missed, err := slim.Write(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "slim:", err)
		os.Exit(1)
	}
	for _, m := range missed {
		fmt.Fprintln(os.Stderr, "slim: this release of Go is not known here, so the program is larger:", m)
	}
	fmt.Println(overlay)
}
