// Lexgen generates Go code for Lexicon schemas. See package gen.
//
//	go get -tool github.com/pdskit/pdskit/lexicon/gen/lexgen
//	go tool lexgen -package api -out ./api -schemas ./lexicons -trim com.example com.example.*
//
// Without -schemas it knows the schemas in the program: com.atproto.* and the records of
// app.bsky.*. With -schemas, those of the folder take precedence.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/gen"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lexgen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("lexgen", flag.ContinueOnError)
	var cfg gen.Config
	out := flags.String("out", ".", "folder to write to; generated files in it are removed before")
	schemas := flags.String("schemas", "", "folder with schemas, besides those in the binary")
	trim := flags.String("trim", "", "prefixes of NSIDs to leave out of names, separated by commas")
	raw := flags.String("raw", "", "definitions whose values are kept in JSON as they are, separated by commas")
	flags.StringVar(&cfg.Package, "package", "api", "name of the Go package")
	flags.BoolVar(&cfg.Client, "client", true, "write functions that call methods")
	flags.BoolVar(&cfg.Handlers, "handlers", false, "write functions that make routes of implementations")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: lexgen [flags] NSID…\nAn NSID may end in \".*\" for all below it.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.Schemas = flags.Args(); len(cfg.Schemas) == 0 {
		return fmt.Errorf("which schemas? Name NSIDs, such as com.example.*")
	}
	if *trim != "" {
		cfg.Trim = strings.Split(*trim, ",")
	}
	if *raw != "" {
		cfg.Raw = strings.Split(*raw, ",")
	}
	catalog := lexicon.Builtin()
	if *schemas != "" {
		if err := catalog.AddFS(os.DirFS(*schemas)); err != nil {
			return err
		}
	}
	files, err := gen.Generate(catalog, cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o777); err != nil {
		return err
	}
	if err := removeGenerated(*out); err != nil {
		return err
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(*out, name), b, 0o666); err != nil {
			return err
		}
	}
	return nil
}

// removeGenerated removes what a run before has written: it may be about schemas that are no more.
func removeGenerated(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(b, []byte(gen.Header+"\n")) {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}
