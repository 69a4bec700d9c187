package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc"
)

func requestCrawl(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	relays := c.args
	if len(relays) == 0 {
		relays = cfg.Crawlers
	}
	if len(relays) == 0 {
		return fmt.Errorf("%w: name a relay, or set PDS_CRAWLERS", errUsage)
	}
	if cfg.Hostname == "localhost" {
		return fmt.Errorf("%w: no relay can reach localhost; set PDS_HOSTNAME", errConfig)
	}
	type answer struct {
		Relay string `json:"relay"`
		Error string `json:"error,omitempty"`
	}
	answers := []answer{}
	var errs []error
	for _, relay := range relays {
		if !strings.Contains(relay, "://") {
			relay = "https://" + relay
		}
		cl := &xrpc.Client{Host: strings.TrimSuffix(relay, "/"), HTTP: &http.Client{Timeout: 30 * time.Second}}
		a := answer{Relay: relay}
		if err := cl.Procedure(ctx, "com.atproto.sync.requestCrawl", map[string]string{"hostname": cfg.Hostname}, nil); err != nil {
			a.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", relay, err))
		} else if !c.json {
			fmt.Fprintf(c.Stdout, "%s has been asked to read %s.\n", relay, cfg.Hostname)
		}
		answers = append(answers, a)
	}
	if c.json {
		errs = append(errs, c.writeJSON(answers))
	}
	return errors.Join(errs...)
}
