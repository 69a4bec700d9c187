// Command benchmarks compares pdskit with the other Go libraries for repositories, data and schemas
// of the AT Protocol, in one run on the same data, and prints tables.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/mst"
)

func main() {
	rounds := flag.Int("rounds", 7, "rounds of each race; the best one counts")
	slice := flag.Duration("slice", 200*time.Millisecond, "how long one contender runs in one round")
	large := flag.Bool("large", false, "also with 1,000,000 keys")
	only := flag.String("only", "", "a regular expression: only works whose names match")
	readme := flag.String("readme", "", "replace the tables in this file, too")
	plot := flag.String("plot", "", "write a picture of how costs grow with the number of keys to this SVG file")
	flag.Parse()
	slog.SetDefault(slog.New(slog.DiscardHandler)) // one of the contenders logs

	sizes := []int{1000, 10_000, 100_000}
	if *large {
		sizes = append(sizes, 1_000_000)
	}
	var text strings.Builder
	out := io.MultiWriter(os.Stdout, &text)
	fmt.Fprintf(out, "%s, %s/%s, %s, %d CPUs; best of %d rounds.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, cpu(), runtime.NumCPU(), *rounds)
	re := regexp.MustCompile(*only)
	took := run(out, "repositories", matching(re, works(sizes)), *rounds, *slice)
	run(out, "data and schemas", matching(re, lexiconWorks()), *rounds, *slice)
	if re.MatchString("memory") {
		memoryTable(out, sizes)
	}
	fmt.Fprint(out, "Versions: ")
	fmt.Fprintln(out, strings.Join(versions(), ", ")+".")
	if *plot != "" {
		check(os.WriteFile(*plot, growth(took, sizes), 0o644))
	}
	if *readme != "" {
		check(replaceTables(*readme, text.String()))
	}
}

func matching(re *regexp.Regexp, works []*work) (list []*work) {
	for _, w := range works {
		if re.MatchString(w.name) {
			list = append(list, w)
		}
	}
	return list
}

// memoryTable says what a loaded tree keeps alive, with the blocks it was loaded from
// where it needs them.
func memoryTable(out io.Writer, sizes []int) {
	fmt.Fprint(out, "| memory of a loaded tree, bytes per key | pdskit | atmos | indigo |\n|---|---|---|---|\n")
	for _, n := range sizes {
		r := newRepository(n)
		perKey := func(makeIt func() any) float64 { return memory(makeIt) / float64(n) }
		fmt.Fprintf(out, "| %dk | **%.0f** | %.0f | %.0f |\n", n/1000,
			perKey(func() any { return must(mst.Load(cloned{r.blocks}, r.tree.Root(), mst.Limits{})) }),
			perKey(func() any { _, t := r.atmosTree(); return t }),
			perKey(func() any { return r.indigoTree() }))
		runtime.KeepAlive(r)
	}
	fmt.Fprintln(out)
}

// cloned has blocks of its own, so that a tree that keeps them is charged for them.
type cloned struct{ mst.BlockMap }

// Block implements mst.Source.
func (m cloned) Block(c cid.Cid) ([]byte, error) {
	data, err := m.BlockMap.Block(c)
	return bytes.Clone(data), err
}

const (
	begin = "<!-- begin: made by the command above -->\n"
	end   = "<!-- end -->\n"
)

// replaceTables puts the tables into a file, between two marks.
func replaceTables(name, tables string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no marks", name)
	}
	return os.WriteFile(name, []byte(before+begin+tables+end+after), 0o644)
}

// cpu is the processor's name, where the system tells.
func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if name, value, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// versions are those of the contenders.
func versions() (list []string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/jcalabro/atmos" || m.Path == "github.com/bluesky-social/indigo" {
			list = append(list, m.Path+" "+m.Version)
		}
	}
	return list
}
