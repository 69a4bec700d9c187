// Slim makes programs for GOOS=js smaller, by a quarter. Before the build, it writes an overlay of
// the standard library without the code for other platforms, and prints the name of the file for
// the flag -overlay. After the build, it packs the program, which then works as before.
//
//	overlay=$(go run github.com/pdskit/pdskit/storage/cloudflare/slim "$(go env GOROOT)" DIR)
//	GOOS=js GOARCH=wasm go build -overlay "$overlay" -o main.wasm …
//	go run github.com/pdskit/pdskit/storage/cloudflare/slim -pack "$overlay" main.wasm
//
// Run it for the machine that builds, not for js, with the GOROOT of the build. Templates of such a
// program can read fields, but can call only those methods that pdskit's own templates call. With
// -nolines, stack traces of a packed program have no files and lines. See the README of package
// cloudflare.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/pdskit/pdskit/internal/slim"
)

func main() {
	overlay := flag.String("pack", "", "packs a program that was built with this `overlay`")
	noLines := flag.Bool("nolines", false, "with -pack: leaves out files and lines of traces")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: slim GOROOT DIR\n       slim -pack OVERLAY [-nolines] PROGRAM")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch {
	case *overlay != "" && flag.NArg() == 1:
		err = pack(flag.Arg(0), *overlay, !*noLines)
	case *overlay == "" && !*noLines && flag.NArg() == 2:
		err = prepare(flag.Arg(0), flag.Arg(1))
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "slim:", err)
		os.Exit(1)
	}
}

func prepare(goroot, dir string) error {
	overlay, missed, err := slim.Write(goroot, dir)
	if err != nil {
		return err
	}
	for _, m := range missed {
		fmt.Fprintln(os.Stderr, "slim: this release of Go is not known here, so the program is larger:", m)
	}
	fmt.Println(overlay)
	return nil
}

func pack(file, overlay string, lines bool) error {
	program, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	packed, err := slim.Pack(program, overlay, lines)
	if err != nil {
		return err
	}
	return os.WriteFile(file, packed, 0o755)
}
