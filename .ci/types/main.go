// Types type-checks all packages and tests of the current folder for other systems:
//
//	go run -C .ci/types . ../.. windows/amd64 darwin/arm64
//
// It reads everything from source, so it takes a fraction of the time of compiling for each system.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	failed := false
	for _, platform := range os.Args[2:] {
		system, arch, _ := strings.Cut(platform, "/")
		all, err := packages.Load(&packages.Config{
			Mode:  packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesSizes | packages.NeedModule,
			Dir:   os.Args[1],
			Env:   append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0"),
			Tests: true,
		}, "./...")
		if err != nil {
			fmt.Fprintln(os.Stderr, platform, err)
			os.Exit(1)
		}
		fmt.Println(platform, len(all), "packages")
		failed = packages.PrintErrors(all) > 0 || failed
	}
	if failed {
		os.Exit(1)
	}
}
