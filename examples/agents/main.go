// Agents is a small network of programs that work together over the AT Protocol. Each has a DID, a
// repository and a private memory of its own. They post tasks, claim them, answer them, and follow
// each other over a relay. If any part is killed at any time, no task is lost, and no task has its
// effect twice.
//
//	go run ./examples/agents                     # then open http://localhost:2600
//	go run ./examples/agents -chaos 5m           # kill it at random for five minutes, then check
//	go run ./examples/agents -check agents-data  # check both guarantees for a directory
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/examples/agents/internal/brain"
	"github.com/pdskit/pdskit/examples/agents/internal/check"
)

// options are what the command line says.
type options struct {
	data   string
	listen string
	agents int
	brain  string
	every  time.Duration
	pace   time.Duration
	lease  time.Duration
	finish bool

	chaos time.Duration
	kills int
	seed  uint64
	check string
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("agents", flag.ContinueOnError)
	f.StringVar(&o.data, "data", "agents-data", "directory with everything")
	f.StringVar(&o.listen, "listen", "localhost:2600", "address of the page; loopback only")
	f.IntVar(&o.agents, "agents", 5, "how many agents")
	f.StringVar(&o.brain, "brain", "scripted", "who thinks: scripted, an http(s):// address, or a command with its arguments")
	f.DurationVar(&o.every, "every", 1500*time.Millisecond, "how often the planner may post a task")
	f.DurationVar(&o.pace, "pace", 900*time.Millisecond, "how long the scripted brain thinks")
	f.DurationVar(&o.lease, "lease", 5*time.Second, "how long an agent may be silent about a task before another gets it")
	f.BoolVar(&o.finish, "finish", false, "post no new tasks, and end when all are done")
	f.DurationVar(&o.chaos, "chaos", 0, "kill the process and single agents at random for this long, then check")
	f.IntVar(&o.kills, "kills", 0, "with -chaos: end after so many kills of the process")
	f.Uint64Var(&o.seed, "seed", 0, "with -chaos: where the random numbers begin; 0: anywhere")
	f.StringVar(&o.check, "check", "", "check this directory, which no process has open")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.agents < 1 || o.agents > 10_000 || f.NArg() > 0 {
		return o, fmt.Errorf("1 to 10000 agents, and no arguments besides flags")
	}
	return o, nil
}

// thinker returns the brain that the command line names. The environment variable AGENTS_TOKEN is
// the bearer token of an endpoint.
func (o options) thinker() (brain.Brain, error) {
	fields := strings.Fields(o.brain)
	switch {
	case len(fields) == 0:
		return nil, fmt.Errorf("-brain is empty")
	case o.brain == "scripted":
		return brain.Scripted{Pace: o.pace}, nil
	case strings.HasPrefix(o.brain, "http://"), strings.HasPrefix(o.brain, "https://"):
		return brain.Endpoint{URL: o.brain, Token: os.Getenv("AGENTS_TOKEN")}, nil
	}
	return brain.Command{Path: fields[0], Args: fields[1:]}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agents:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	switch {
	case o.check != "":
		return runCheck(ctx, o.check)
	case o.chaos > 0:
		return chaos(ctx, o, os.Stdout)
	case os.Getenv(childVariable) != "":
		return serve(ctx, o)
	}
	return supervise(ctx, o)
}

// runCheck checks a directory, and prints what it found.
func runCheck(ctx context.Context, dir string) error {
	r, err := check.Dir(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d agents, %d tasks: %d done, %d failed, %d in progress\n", r.Agents, r.Tasks, r.Done, r.Failed, r.Tasks-r.Done-r.Failed)
	fmt.Printf("%d observations, %d messages, %d dead letters\n", r.Observations, r.Messages, r.Dead)
	for _, p := range r.Pending {
		fmt.Println("in progress:", p)
	}
	for _, p := range r.Problems {
		fmt.Println("WRONG:", p)
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("%d problems", len(r.Problems))
	}
	fmt.Println("No task is lost, and none is done twice.")
	return nil
}
