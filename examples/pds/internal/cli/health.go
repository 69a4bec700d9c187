package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/xrpc"
)

const healthHelp = `
It asks once. With -wait, it asks again until the server is healthy, for at most that time: for
scripts that have just started the server.
`

func healthFlags(c *call) {
	adminFlags(c)
	c.DurationVar(&c.values.wait, "wait", 0, "wait until the server is healthy, for at most this `time`, such as 1m")
}

// health asks for /xrpc/_health. It needs no password.
func health(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	host, err := c.server(cfg)
	if err != nil {
		return err
	}
	var out struct {
		Version string `json:"version"`
	}
	cl := &xrpc.Client{Host: host, HTTP: &http.Client{Timeout: 10 * time.Second}, Retries: -1}
	if c.values.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.values.wait)
		defer cancel()
	}
	err = cl.Query(ctx, "_health", nil, &out)
	for pause := 50 * time.Millisecond; err != nil && c.values.wait > 0; pause = min(2*pause, time.Second) {
		switch ended := sleep.For(ctx, pause); {
		case errors.Is(ended, context.DeadlineExceeded):
			return fmt.Errorf("not well after %s: %w", c.values.wait, explain(err))
		case ended != nil:
			return ended
		}
		if last := cl.Query(ctx, "_health", nil, &out); last == nil || ctx.Err() == nil {
			err = last
		}
	}
	if err != nil {
		return explain(err)
	}
	return c.result(out, "%s is well: version %s.", host, out.Version)
}
