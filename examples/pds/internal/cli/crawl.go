package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

const crawlHelp = `
Without arguments, it asks the relays in PDS_CRAWLERS. A running server asks those by itself: when
it starts, when something is new, and when nobody reads its events. Use this command for other
relays, or to see a relay's answer at once.
`

func crawlFlags(c *call) {
	c.BoolVar(&c.values.status, "status", false, "only show what the relays know about this server")
}

// relayAnswer is what came of a question to a relay.
type relayAnswer struct {
	Relay  string                       `json:"relay"`
	Status *api.SyncGetHostStatusOutput `json:"status,omitempty"`
	Error  string                       `json:"error,omitempty"`
}

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
	answers := []relayAnswer{}
	var errs []error
	for _, relay := range relays {
		if !strings.Contains(relay, "://") {
			relay = "https://" + relay
		}
		a, err := c.askRelay(ctx, strings.TrimSuffix(relay, "/"), cfg.Hostname)
		if err != nil {
			a.Error = err.Error()
			errs = append(errs, fmt.Errorf("%s: %w", a.Relay, err))
		}
		answers = append(answers, a)
	}
	if c.json {
		errs = append(errs, c.writeJSON(answers))
	}
	return errors.Join(errs...)
}

// askRelay asks one relay, and says what it answers.
func (c *call) askRelay(ctx context.Context, relay, hostname string) (a relayAnswer, err error) {
	a.Relay = relay
	cl := &xrpc.Client{Host: relay, HTTP: &http.Client{Timeout: 30 * time.Second}}
	var text string
	if c.values.status {
		s, err := api.SyncGetHostStatus(ctx, cl, api.SyncGetHostStatusParams{Hostname: hostname})
		if err != nil {
			return a, err
		}
		a.Status = &s
		text = fmt.Sprintf("%s: status %s", relay, s.Status)
		if s.AccountCount != nil {
			text += fmt.Sprintf(", %d accounts", *s.AccountCount)
		}
		if s.Seq != nil {
			text += fmt.Sprintf(", newest event %d", *s.Seq)
			if *s.Seq > 0 {
				text += fmt.Sprintf(" (%s)", time.UnixMicro(*s.Seq).UTC().Format("2006-01-02 15:04:05 MST"))
			}
		}
	} else {
		if err := api.SyncRequestCrawl(ctx, cl, api.SyncRequestCrawlInput{Hostname: hostname}); err != nil {
			return a, err
		}
		text = fmt.Sprintf("%s has been asked to read %s.", relay, hostname)
	}
	if !c.json {
		_, err = fmt.Fprintln(c.Stdout, text)
	}
	return a, err
}
