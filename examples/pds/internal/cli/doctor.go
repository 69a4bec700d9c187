package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/datadir"
	"github.com/pdskit/pdskit/examples/pds/internal/selfcheck"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
)

const doctorHelp = `
It checks the server from outside, by its public address, and from inside, and says what is wrong
and what to do: DNS, certificate, WebSockets and X-Forwarded-For through the proxy, clock, mail,
each account's handle and DID document, what relays and the AppView know, backups, free space, file
modes, and settings that mislead. Run it on the server's machine, as its user, while the server
runs. It changes nothing, and sends mail only with -mail-to.

Each line has a level: ok, skipped (it cannot be checked), warning, problem. The exit code is 3 if
there are problems. The page /admin/checks and the metric pds_check show the same.
`

func doctorFlags(c *call) {
	adminFlags(c)
	c.BoolVar(&c.values.all, "all", false, "also show what is good")
	c.StringVar(&c.values.mailTo, "mail-to", "", "send a test message to this `address`")
	c.IntVar(&c.values.accounts, "accounts", selfcheck.Most, "check at most this `number` of accounts")
}

func runDoctor(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	in, done, err := c.doctorInput(ctx, cfg)
	if err != nil {
		return err
	}
	report := doctor.Run(ctx, selfcheck.Checks(in))
	if err := errors.Join(ctx.Err(), done()); err != nil {
		return err
	}
	if c.json {
		err = c.writeJSON(report)
	} else {
		c.showFindings(report)
	}
	if err == nil && report.Level == doctor.Problem {
		return fmt.Errorf("%w with this server", errProblems)
	}
	return err
}

// doctorInput is what the checks look at from beside the server. A server that has never started has no
// data yet.
func (c *call) doctorInput(ctx context.Context, cfg *config.Config) (in selfcheck.Input, done func() error, err error) {
	host, err := c.server(cfg)
	if err != nil {
		return in, nil, err
	}
	in = selfcheck.Input{
		Config: cfg, Target: doctor.Target{URL: cfg.PublicURL(cfg.Port), Direct: cfg.TLS.ACME, Development: cfg.DevMode}, PLC: cfg.PLC,
		Version: server.Version, MailTo: c.values.mailTo, Most: c.values.accounts,
		Local: func(ctx context.Context) error {
			cl := &xrpc.Client{Host: host, HTTP: &http.Client{Timeout: 10 * time.Second}, Retries: -1}
			return explain(cl.Query(ctx, "_health", nil, nil))
		},
	}
	if in.PLC == "" { // that of a development server
		in.PLC = "http://localhost:" + strconv.Itoa(datadir.ReadPort(cfg.DataDirectory, datadir.PLCPort))
	}
	done = func() error { return nil }
	_, secrets, d, err := c.open(ctx, false)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, config.ErrKeysMissing):
		return in, done, nil
	case errors.Is(err, fs.ErrPermission):
		return in, nil, fmt.Errorf("%w (run this as the user that the server runs as)", err)
	case err != nil:
		return in, nil, err
	}
	s, err := inDir(d, secrets.MasterKeys)
	if err != nil {
		return in, nil, errors.Join(err, d.Close())
	}
	in.Store, in.Accounts, in.EchoKey = d.Store, s.Accounts, selfcheck.EchoKey(secrets.MasterKeys)
	if d.Bucket == nil {
		in.Blobs = d.Blobs
	}
	in.DeadMail = func(ctx context.Context) (int, error) { return deadMail(ctx, d, secrets) }
	return in, d.Close, nil
}

// deadMail counts the messages that were given up.
func deadMail(ctx context.Context, d *datadir.Dir, secrets *config.Secrets) (n int, err error) {
	box, err := sealed.New(secrets.MasterKeys...)
	if err != nil {
		return 0, err
	}
	q, err := mailqueue.New(mailqueue.Config{Store: d.Store, Box: box})
	if err != nil {
		return 0, err
	}
	for l, err := range q.Letters(ctx) {
		if err != nil {
			return n, err
		}
		if l.State == queue.Buried {
			n++
		}
	}
	return n, nil
}

// showFindings shows what is to be done, and how many checks found nothing.
func (c *call) showFindings(r doctor.Report) {
	good := 0
	for _, f := range r.Findings {
		if f.Level == doctor.OK {
			if good++; !c.values.all {
				continue
			}
		}
		subject := ""
		if f.Subject != "" {
			subject = f.Subject + ": "
		}
		fmt.Fprintf(c.Stdout, "%-8s %-13s %s%s\n", f.Level, f.Check, subject, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(c.Stdout, "%-22s -> %s\n", "", f.Remedy)
		}
	}
	counts := map[doctor.Level]int{}
	for _, f := range r.Findings {
		counts[f.Level]++
	}
	fmt.Fprintf(c.Stdout, "%d good, %d not known, %d warnings, %d problems.\n", good, counts[doctor.Skipped], counts[doctor.Warning], counts[doctor.Problem])
}
