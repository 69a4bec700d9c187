// Package command has the commands that set up, check and fill a PDS in a Cloudflare Worker. The
// reference server has them as "pds worker". So does the program of examples/worker, when it is not
// built for a Worker.
package command

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/pdskit/pdskit/xrpc/migrate/cmdline"
)

// IO is what a command is connected to.
type IO struct {
	In             io.Reader
	Stdout, Stderr io.Writer
	// JSON writes results as JSON.
	JSON bool
	// Env are environment variables.
	Env map[string]string
}

// ErrProblems is wrapped by the error of a check that has found some.
var ErrProblems = errors.New("there are problems")

// Command is one of the commands. Register makes its flags, and Run runs it, with the flags as they
// were parsed.
type Command interface {
	Register(flags *flag.FlagSet)
	Run(ctx context.Context, io IO, args []string) error
}

// Info says what a command is.
type Info struct {
	Name, Args, Short, Long string
	Min, Max                int // number of arguments; max -1: any
	New                     func() Command
}

// Commands are all there are.
func Commands() []Info {
	return []Info{
		{"init", "DIRECTORY", "Write a Worker with new secrets into a folder, ready to be deployed.", initHelp, 1, 1, func() Command { return &Init{} }},
		{"deploy-check", "URL", "Check a deployed PDS, and say what to do about each problem.", "", 1, 1, func() Command { return &Check{} }},
		{"migrate in", "ACCOUNT URL", "Move an account from its server into a Worker.", moveInHelp, 2, 2, func() Command { return &Move{in: true} }},
		{"migrate out", "ACCOUNT NEW-SERVER", "Move an account out of a Worker to another server.", cmdline.Help, 2, 2, func() Command { return &Move{} }},
	}
}

// Main runs a command line without a program's name.
func Main(ctx context.Context, args []string, io IO) error {
	for _, c := range Commands() {
		rest, ok := cut(args, c.Name)
		if !ok {
			continue
		}
		flags := flag.NewFlagSet(c.Name, flag.ContinueOnError)
		flags.SetOutput(new(bytes.Buffer)) // the package's own words are not for people
		flags.BoolVar(&io.JSON, "json", io.JSON, "write the result as JSON")
		cmd := c.New()
		cmd.Register(flags)
		err := flags.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(io.Stdout, "Usage: worker %s [flags] %s\n\n%s\n\n%s\n\nFlags:\n\n", c.Name, c.Args, c.Short, c.Long)
			flags.SetOutput(io.Stdout)
			flags.PrintDefaults()
			return nil
		}
		if n := flags.NArg(); err != nil || n < c.Min || c.Max >= 0 && n > c.Max {
			return fmt.Errorf("usage: worker %s [flags] %s: %w", c.Name, c.Args, errors.Join(err, errUsage))
		}
		return cmd.Run(ctx, io, flags.Args())
	}
	for _, c := range Commands() {
		fmt.Fprintf(io.Stderr, "    worker %-40s %s\n", c.Name+" "+c.Args, c.Short)
	}
	return errUsage
}

var errUsage = errors.New("wrong usage")

// cut cuts the words of a command off.
func cut(args []string, name string) (rest []string, ok bool) {
	for _, word := range bytes.Fields([]byte(name)) {
		if len(args) == 0 || args[0] != string(word) {
			return nil, false
		}
		args = args[1:]
	}
	return args, true
}
