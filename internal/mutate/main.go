package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed equivalent.txt
var equivalentText string

// equivalents reads equivalent.txt: the key of a mutant on one line, and below it, indented, why no
// test can notice it.
func equivalents(text string) map[string]string {
	why := map[string]string{}
	key := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "\t"):
			why[key] = strings.TrimSpace(why[key] + " " + strings.TrimSpace(line))
		default:
			key = line
			why[key] = ""
		}
	}
	return why
}

type options struct {
	n     int
	seed  uint64
	jobs  int
	exec  string
	run   string
	all   bool
	only  int
	part  string
	match string
	least float64
	list  bool
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 40, "how many mutants of each package")
	flag.Uint64Var(&o.seed, "seed", 1, "which ones")
	flag.IntVar(&o.jobs, "j", 2, "how many at a time")
	flag.StringVar(&o.exec, "exec", "", "a `command` that runs the test binaries")
	flag.StringVar(&o.run, "run", "", "tests to run, as for go test")
	flag.BoolVar(&o.all, "v", false, "print those that were killed as well")
	flag.IntVar(&o.only, "only", 0, "run one mutant, by its number, and show what the tests print")
	flag.StringVar(&o.part, "part", "1/1", "the second third of the mutants is 2/3")
	flag.StringVar(&o.match, "match", "", "only mutants whose names match a regular `expression`")
	flag.Float64Var(&o.least, "least", 90, "fail if fewer percent of a package's mutants are killed")
	flag.BoolVar(&o.list, "list", false, "print all mutants as equivalent.txt names them, and run none")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: mutate [flags] PACKAGE...")
		os.Exit(2)
	}
	why, failed := equivalents(equivalentText), false
	for _, pattern := range flag.Args() {
		ok, err := o.mutate(pattern, why)
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			os.Exit(1)
		}
		failed = failed || !ok
	}
	if failed {
		os.Exit(1)
	}
}

// mutate tests the mutants of one package, and says whether enough were killed.
func (o options) mutate(pattern string, why map[string]string) (bool, error) {
	p, err := load(pattern)
	if err != nil {
		return false, err
	}
	name, err := regexp.Compile(o.match)
	if err != nil {
		return false, err
	}
	all := slices.DeleteFunc(find(p), func(m *mutant) bool { return !name.MatchString(m.key(p.short)) })
	if o.list {
		for _, m := range all {
			fmt.Println(m.key(p.short))
		}
		return true, nil
	}
	temp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, "test.exe")
	mutants, err := build(p, sample(all, o.n, o.seed), temp, binary)
	if err != nil {
		return false, err
	}
	begin := time.Now()
	if killed, out := o.test(p, binary, 0, 4*time.Minute); killed {
		return false, fmt.Errorf("the tests of %s fail without a mutant:\n%s", p.path, out)
	}
	limit := 3*time.Since(begin) + 10*time.Second
	if o.only != 0 {
		_, out := o.test(p, binary, o.only, limit)
		fmt.Println(out)
		return true, nil
	}
	if mutants, err = part(mutants, o.part); err != nil {
		return false, err
	}
	results := make([]string, len(mutants))
	places := make(chan struct{}, o.jobs)
	var wg sync.WaitGroup
	for i, m := range mutants {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			_, known := why[m.key(p.short)]
			killed, _ := o.test(p, binary, m.id, limit)
			switch {
			case killed && known:
				results[i] = "killed though equivalent"
			case killed:
				results[i] = "killed"
			case known:
				results[i] = "equivalent"
			default:
				results[i] = "SURVIVED"
			}
			if r := results[i]; o.all || r != "killed" && r != "equivalent" {
				fmt.Printf("%-8s %3d %s/%s\n", r, m.id, p.short, m)
			}
		})
	}
	wg.Wait()
	return o.report(p, len(all), results), nil
}

// part returns the mutants that a value of -part names.
func part(mutants []*mutant, of string) ([]*mutant, error) {
	var i, n int
	if _, err := fmt.Sscanf(of, "%d/%d", &i, &n); err != nil || i < 1 || i > n {
		return nil, fmt.Errorf("-part %q is not like 2/3", of)
	}
	return mutants[(i-1)*len(mutants)/n : i*len(mutants)/n], nil
}

// report prints how many were killed, and says whether they are enough.
func (o options) report(p *pkg, all int, results []string) bool {
	count := map[string]int{}
	for _, r := range results {
		count[r]++
	}
	of := len(results) - count["equivalent"]
	killed := of - count["SURVIVED"]
	percent := 100 * float64(killed) / float64(max(of, 1))
	fmt.Printf("%s: %d of %d killed (%.0f %%), %d equivalent, of %d mutants; seed %d\n",
		p.short, killed, of, percent, count["equivalent"], all, o.seed)
	return percent >= o.least
}

// test runs the tests on a mutant, and says whether they failed. A mutant without end is killed
// too.
func (o options) test(p *pkg, binary string, id int, limit time.Duration) (killed bool, out string) {
	args := []string{binary, "-test.short", "-test.failfast", "-test.timeout=" + limit.String()}
	if o.run != "" {
		args = append(args, "-test.run="+o.run)
	}
	if o.exec != "" {
		args = append(strings.Fields(o.exec), args...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, id))
	cmd.WaitDelay = 5 * time.Second
	var text head
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	return err != nil, string(text)
}

// head keeps the first bytes that are written.
type head []byte

func (t *head) Write(p []byte) (int, error) {
	const most = 64 << 10
	*t = append(*t, p[:min(len(p), most-len(*t))]...)
	return len(p), nil
}
