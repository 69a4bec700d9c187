package server

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/session"
)

// outbox is an Outbox whose messages are sent at once.
type outbox struct{ *mailbox }

func (outbox) HasRoom(context.Context, int) error                           { return nil }
func (outbox) Announce(context.Context, syntax.DID) (end func(), err error) { return func() {}, nil }
func (outbox) Stats(context.Context) (MailStats, error)                     { return MailStats{}, nil }
func (o outbox) Write(_ *repo.Step, m Mail) error                           { return o.Send(context.Background(), m) }

// later are the notices of a service that is made later.
type later struct{ of *credential.Notices }

func (l later) Announce(ctx context.Context, did syntax.DID) (end func(), err error) {
	return (*l.of).Announce(ctx, did)
}

func (l later) Write(ctx context.Context, step *repo.Step, x credential.Notice) error {
	return (*l.of).Write(ctx, step, x)
}

// Whoever has an account made with the address of another does not have the server flood it, by
// whatever the owner of an account is told of.
func TestAddressesThatAreNotConfirmedAreNotFlooded(t *testing.T) {
	for _, kept := range []bool{false, true} {
		var notices credential.Notices
		b := newBench(t, func(s *session.Config, c *Config) {
			if kept {
				s.Credentials = credential.New(credential.Config{Accounts: s.Credentials.Accounts(), Notices: later{&notices}, Now: s.Now})
				c.Outbox = outbox{c.Mailer.(*mailbox)}
			}
		})
		if kept {
			notices = b.Notices()
		}
		alice := b.register("alice")
		who, ctx := account.Trusted(alice.DID), t.Context()
		sent := func() int {
			b.mail.mu.Lock()
			defer b.mail.mu.Unlock()
			return len(b.mail.sent)
		}
		app := func(name string) {
			_, p, err := b.credentials.CreateAppPassword(ctx, who, name, false)
			if err != nil {
				t.Fatal(err)
			}
			if !kept {
				a, err := b.accounts.ByDID(ctx, alice.DID)
				if err != nil {
					t.Fatal(err)
				}
				b.Changed(ctx, credential.Change{Event: credential.AppPasswordMade, Account: a, AppPassword: p.Name})
				b.drain()
			}
		}
		deletion := func() int {
			return b.send("POST", "com.atproto.server.requestAccountDelete", "Bearer "+alice.AccessJWT, "", nil, nil).Status
		}
		if status := deletion(); status != 200 {
			t.Fatal(status)
		}
		for i := range 2 * unconfirmedMails {
			app(fmt.Sprint("app ", i))
		}
		if n := sent(); n != unconfirmedMails {
			t.Errorf("kept %v: %d messages", kept, n)
		}
		if status := deletion(); status != http.StatusTooManyRequests || sent() != unconfirmedMails {
			t.Errorf("kept %v: a code: %d, %d messages", kept, status, sent())
		}
		// Who has forgotten the password is not shut out by that.
		if b.mailReset(ctx, "alice@example.com"); sent() != unconfirmedMails+1 {
			t.Errorf("kept %v: no code to reset the password", kept)
		}
		n := sent()
		b.clock.pass(unconfirmedTime)
		if app("another day"); sent() != n+1 {
			t.Errorf("kept %v: another day: %d messages", kept, sent()-n)
		}
		// The owner of a confirmed address is told of all.
		_, err := b.accounts.Update(ctx, who, func(a *account.Account, _ *repo.Step) error { a.EmailConfirmedAt = b.clock.Now(); return nil })
		if err != nil {
			t.Fatal(err)
		}
		n = sent()
		for i := range 2 * unconfirmedMails {
			app(fmt.Sprint("confirmed ", i))
		}
		if got := sent() - n; got != 2*unconfirmedMails {
			t.Errorf("kept %v: %d messages to an address that is confirmed", kept, got)
		}
	}
}
