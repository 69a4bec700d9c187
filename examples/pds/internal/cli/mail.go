package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/storage/queue"
	"github.com/pdskit/pdskit/storage/sealed"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/mail"
	"github.com/pdskit/pdskit/xrpc/mailqueue"
)

func mailTest(ctx context.Context, c *call) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.Mail.SMTP == "" && cfg.Mail.Sink == "" {
		return fmt.Errorf("%w: PDS_EMAIL_SMTP_URL is not set: mail goes to the log", errConfig)
	}
	sender, err := mail.New(mail.Config{URL: cfg.Mail.SMTP, From: cfg.Mail.From, File: cfg.Mail.Sink})
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	err = sender.Send(ctx, mail.Message{To: c.args[0], Subject: "Test of " + cfg.Hostname, Text: "If you read this, mail of the PDS " + cfg.Hostname + " works. It was sent by the command mail-test on " + host + ".\n"})
	if err != nil {
		return err
	}
	if cfg.Mail.Sink != "" {
		return c.result(map[string]string{"writtenTo": cfg.Mail.Sink}, "A message to %s was written to %s. With PDS_EMAIL_SINK_FILE, mail is sent to nobody.", c.args[0], cfg.Mail.Sink)
	}
	return c.result(map[string]string{"sentTo": c.args[0]}, "The mail server has accepted a message to %s.", c.args[0])
}

const mailHelp = `
While the mail server does not accept a message, the message waits and is tried again: for 15
minutes if it contains a code, which is void after that, otherwise for two days. Then it is given up
(state "dead"), and kept for a week. If the mail server refuses it for good, it is given up at once.
These commands may be used while the server runs, on any node. The audit trail records retry and
drop.
`

// letters lists the messages that are kept, or those of some IDs, and closes what it has opened.
func (c *call) letters(ctx context.Context, do func(q *mailqueue.Queue, list []mailqueue.Letter, trail *audit.Log) error) (err error) {
	_, secrets, d, err := c.open(ctx, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	box, err := sealed.New(secrets.MasterKeys...)
	if err != nil {
		return err
	}
	q, err := mailqueue.New(mailqueue.Config{Store: d.Store, Box: box})
	if err != nil {
		return err
	}
	list := []mailqueue.Letter{}
	for l, err := range q.Letters(ctx) {
		if err != nil {
			return err
		}
		list = append(list, l)
	}
	return do(q, list, &audit.Log{KV: d.Store.KV})
}

func mailList(ctx context.Context, c *call) error {
	return c.letters(ctx, func(_ *mailqueue.Queue, list []mailqueue.Letter, _ *audit.Log) error {
		if c.json {
			return c.writeJSON(list)
		}
		var rows [][]string
		for _, l := range list {
			next := "-"
			if l.State != queue.Buried {
				next = l.Next.UTC().Format("15:04:05")
			}
			rows = append(rows, []string{
				l.ID, string(l.State), string(l.Kind), l.To, fmt.Sprint(l.Tries), l.Since.UTC().Format("2006-01-02 15:04"), next, fmt.Sprintf("%.200q", l.Error),
			})
		}
		return c.table("ID STATE KIND TO TRIES SINCE NEXT ERROR", rows)
	})
}

func allFlag(c *call) {
	c.BoolVar(&c.values.all, "all", false, "all messages that were given up, in place of IDs")
}

// mailDo changes the messages that the arguments name, or, with -all, all dead ones. The audit trail
// records it.
func mailDo(what string, act func(context.Context, *mailqueue.Queue, string) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		if len(c.args) == 0 != c.values.all {
			return fmt.Errorf("%w: give IDs, or -all", errUsage)
		}
		return c.letters(ctx, func(q *mailqueue.Queue, list []mailqueue.Letter, trail *audit.Log) error {
			done, failed := []string{}, []string{}
			ids := c.args
			if c.values.all {
				for _, l := range list {
					if l.State == queue.Buried {
						ids = append(ids, l.ID)
					}
				}
			}
			for _, id := range ids {
				if !slices.ContainsFunc(list, func(l mailqueue.Letter) bool { return l.ID == id }) {
					return fmt.Errorf("no message has the ID %.100q: nothing was done", id)
				}
			}
			noted, err := trail.Begin(ctx, audit.Entry{
				Actor: audit.Actor{By: "administrator", Through: "command line"}, Action: "pds " + c.Name(), Detail: operator() + ": " + strings.Join(ids, " "),
			})
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range ids {
				switch err := act(ctx, q, id); {
				case err == nil:
					done = append(done, id)
				case c.values.all && errors.Is(err, mailqueue.ErrExpired):
					failed = append(failed, id)
				default:
					errs = append(errs, fmt.Errorf("%s: %w", id, err))
				}
			}
			err = errors.Join(errs...)
			noted(err)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s: %d messages.", what, len(done))
			if len(failed) > 0 {
				text += fmt.Sprintf(" %d are too old to be sent: drop them.", len(failed))
			}
			return c.result(map[string]any{"done": done, "tooOld": failed}, "%s", text)
		})
	}
}

func retryMail(ctx context.Context, q *mailqueue.Queue, id string) error { return q.Retry(ctx, id) }
func dropMail(ctx context.Context, q *mailqueue.Queue, id string) error  { return q.Drop(ctx, id) }
