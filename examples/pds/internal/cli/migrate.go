package cli

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/xrpc/migrate/cmdline"
)

func migrateFlags(c *call) { c.values.migrate.Register(c.FlagSet) }

// runMigrate moves an account. Neither of the servers need be this one.
func runMigrate(ctx context.Context, c *call) error {
	env, _, err := config.Environment(c.Environ, c.envFile)
	if err != nil {
		return fmt.Errorf("%w: %w", errConfig, err)
	}
	return c.values.migrate.Run(ctx, cmdline.IO{In: c.In, Stdout: c.Stdout, Stderr: c.Stderr, JSON: c.json, Env: env}, c.args[0], c.args[1])
}
