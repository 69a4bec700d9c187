package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	worker "github.com/pdskit/pdskit/examples/worker/command"
)

// workerCommands are those for a PDS in a Cloudflare Worker.
func workerCommands() (list []command) {
	for _, w := range worker.Commands() {
		list = append(list, command{
			name: "worker " + w.Name, args: w.Args, short: w.Short, long: w.Long, min: w.Min, max: w.Max,
			flags: func(c *call) {
				c.values.worker = w.New()
				c.values.worker.Register(c.FlagSet)
			},
			run: runWorker,
		})
	}
	return list
}

func runWorker(ctx context.Context, c *call) error {
	env, _, err := config.Environment(c.Environ, c.envFile)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	err = c.values.worker.Run(ctx, worker.IO{In: c.In, Stdout: c.Stdout, Stderr: c.Stderr, JSON: c.json, Env: env}, c.args)
	if errors.Is(err, worker.ErrProblems) {
		err = fmt.Errorf("%w: %w", errProblems, err)
	}
	return err
}
