// Command scaling computes what servers of growing size carry, from what has been measured of
// pdskit: one node, several nodes on one PostgreSQL database, several databases, several hosts
// behind an entryway. docs/scaling.md explains the table.
//
//	go run ./examples/scaling
//	go run ./examples/scaling -facts
//	go run ./examples/scaling -commits 20 -calls 100 -flush 3
//
// Each input is a flag; -facts prints them, with the document that each is from. Processors are a
// queue with several servers (Erlang C, corrected for calls of unlike length), the steps that share
// a flush are simulated, with a fixed seed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		os.Exit(2)
	}
}

func run(args []string, w io.Writer) error {
	v := defaults()
	flags := flag.NewFlagSet("scaling", flag.ContinueOnError)
	flags.SetOutput(w)
	for _, f := range facts {
		usage := fmt.Sprintf("%s (default %s %s)", f.why, number(f.value), f.unit)
		flags.Func(f.name, usage, func(s string) error {
			x, err := strconv.ParseFloat(s, 64)
			switch {
			case err != nil:
				return fmt.Errorf("%q is no number", s)
			case x < 0 || x > 1e9 || math.IsNaN(x):
				return fmt.Errorf("%v is not between 0 and a billion", x)
			case x < 1e-3 && needed[f.name]:
				return errors.New("must be at least 0.001")
			}
			v[f.name] = x
			return nil
		})
	}
	seed := flags.Uint64("seed", 1, "of the simulation")
	inputs := flags.Bool("facts", false, "print the inputs and where they are from")
	uses := flags.Bool("uses", false, "print how full each resource is, too")
	limits := flags.Bool("limits", false, "print only what each step carries at most")
	cores := flags.Int("cores", 0, "processors of every node and database server (default: those of the steps)")
	disk := flags.Float64("disk", 0, "GB of a node or a database server, full after 12 months at the earliest (default: those of the steps)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("nothing is known about %q", flags.Arg(0))
	case *cores < 0 || *cores > 1024:
		return fmt.Errorf("-cores: %d is not between 0 and 1,024", *cores)
	case !(*disk >= 0 && *disk <= 1e9):
		return fmt.Errorf("-disk: %v is not between 0 and a billion", *disk)
	}
	if *inputs {
		printFacts(w, v)
		return nil
	}
	list := slices.Clone(plans)
	for i := range list {
		if *cores > 0 {
			list[i].cores = *cores
		}
		if *disk > 0 {
			list[i].disk = *disk
		}
	}
	printTable(w, list, v, *seed, *limits, *uses)
	return nil
}

// needed are the inputs without which nothing is bounded.
var needed = map[string]bool{
	"write": true, "serial": true, "pg-serial": true, "group": true, "commits": true, "peak": true, "cache": true, "tree": true, "records": true,
	"network": true, "merge": true, "limit": true,
}

// printTable prints the table: each step with the accounts that it is meant for, and with the most
// that it carries.
func printTable(w io.Writer, list []plan, v values, seed uint64, limits, uses bool) {
	fmt.Fprintln(w, "| step | accounts | commits/s | fullest | p50, p99 of a write | memory of a node | databases, a month | blobs, a month | to subscribers |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, p := range list {
		for i, p := range []plan{p, most(p, v)} {
			if limits && i == 0 {
				continue
			}
			o := evaluate(p, v)
			o.times(v, seed)
			name := p.name
			if i > 0 && !limits {
				name = "at its limit"
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s %.0f %% | %s, %s | %.0f MiB | %s | %s | %s Mbit/s |\n", name, count(p.accounts), number(o.rate),
				o.fullest.what, 100*o.fullest.part, duration(o.p50), duration(o.p99), o.memory/(1<<20), size(o.growth), size(o.blobs), number(o.egress/1e6))
			if uses {
				for _, u := range o.uses {
					fmt.Fprintf(w, "|   %s | | | %.1f %% |\n", u.what, 100*u.part)
				}
			}
		}
	}
}

func printFacts(w io.Writer, v values) {
	fmt.Fprintln(w, "| flag | value | from | what it is |")
	fmt.Fprintln(w, "|---|---|---|---|")
	for _, f := range facts {
		from := "assumed"
		if f.from != "" {
			from = f.from
		}
		fmt.Fprintf(w, "| `-%s` | %s %s | %s | %s |\n", f.name, number(v[f.name]), f.unit, from, f.why)
	}
}

// number has three digits that count.
func number(x float64) string {
	switch {
	case x >= 1000:
		unit := math.Pow(10, math.Floor(math.Log10(x))-2)
		return commas(int64(math.Round(x/unit) * unit))
	default:
		return fmt.Sprintf("%.3g", x)
	}
}

// count is a number of accounts, with two digits.
func count(x float64) string {
	if x < 100 {
		return fmt.Sprint(int64(x))
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	return commas(int64(math.Floor(x/unit+1e-6) * unit))
}

func commas(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func duration(seconds float64) string {
	if math.IsInf(seconds, 1) {
		return "no end"
	}
	return fmt.Sprintf("%.1f ms", seconds*1e3)
}

func size(x float64) string {
	switch {
	case x >= 1e12:
		return number(x/1e12) + " TB"
	case x >= 1e9:
		return number(x/1e9) + " GB"
	}
	return number(x/1e6) + " MB"
}
