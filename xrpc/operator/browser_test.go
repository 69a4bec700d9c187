package operator_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
	"github.com/pdskit/pdskit/xrpc/crawl"
	"github.com/pdskit/pdskit/xrpc/operator"
	"github.com/pdskit/pdskit/xrpc/pds"
	"github.com/pdskit/pdskit/xrpc/site/sitetest"
	"github.com/pdskit/pdskit/xrpc/stream"
)

// network is what relays and subscribers may be like.
type network struct{ now time.Time }

func (n network) Subscriptions() []stream.Subscription {
	cursor := n.now.Add(-time.Hour).UnixMicro()
	return []stream.Subscription{
		{ID: 1, Address: "198.51.100.20", Agent: "indigo-relay/1.4 (go)", Since: n.now.Add(-50 * time.Hour), Seq: n.now.UnixMicro()},
		{ID: 2, Address: "2001:db8::aaaa:bbbb:cccc:dddd", Agent: "jetstream-reader", JSON: true, Since: n.now.Add(-time.Minute), Cursor: &cursor, Seq: cursor, Waiting: 12_345_678, Past: true},
	}
}
func (network) End(int64) bool { return true }

func (n network) Status() []crawl.RelayStatus {
	seq, accounts := n.now.UnixMicro(), int64(12)
	return []crawl.RelayStatus{
		{Relay: "https://relay.example.net", AskedAt: n.now.Add(-time.Hour), CheckedAt: n.now.Add(-time.Minute), Check: crawl.Check{Status: api.SyncGetHostStatusOutput{Seq: &seq, AccountCount: &accounts}}, Planned: n.now.Add(time.Minute)},
		{Relay: "https://other.example.net", AskedAt: n.now, Request: crawl.Request{Err: errors.New("dial tcp 198.51.100.1:443: connection refused")}, CheckedAt: n.now, Check: crawl.Check{Problem: crawl.Behind}},
		{Relay: "https://third.example.net", CheckedAt: n.now, Check: crawl.Check{Err: &xrpc.Error{Name: "MethodNotImplemented"}}},
	}
}
func (network) Ask(context.Context, string) (crawl.Request, error) { return crawl.Request{}, nil }
func (network) Look(context.Context, string) (crawl.Check, error)  { return crawl.Check{}, nil }

// everyPage returns all pages by name, as a person would see them.
func everyPage(t *testing.T, lang string) (all map[string]page) {
	var problem string
	w := newWorld(t, func(c *pds.Config) {
		c.Operator.BackupHelp = "pds backup /backups"
		c.Operator.Sizes = func(context.Context) []operator.Size {
			return []operator.Size{{Name: "pds.sqlite", Bytes: 123_456_789}}
		}
		now := c.Now
		c.Operator.Change = func(o *operator.Config) {
			o.Relays, o.Subscribers = network{now()}, network{now()}
			overview := o.Overview
			o.Overview = func(ctx context.Context) operator.Overview {
				x := overview(ctx)
				x.Clock = &operator.Clock{Time: now(), Offset: 1500 * time.Millisecond, Of: 2}
				x.Statuses, x.CountedAt = account.Statuses{account.Active: 2, account.TakenDown: 1}, now()
				if x.Problem = problem; problem != "" {
					x.Clock.Problem = "the clock is 3 minutes ahead"
				}
				return x
			}
		}
	})
	all = make(map[string]page)
	b := w.tab()
	b.Language = lang
	save := func(name string) { all[name] = b.Last }
	see := func(name, path string) {
		t.Helper()
		if b.get(path); b.Last.Status != 200 && b.Last.Status != 422 {
			t.Fatalf("%s: %d %s", path, b.Last.Status, b.Last.Text)
		}
		save(name)
	}
	b.get("/admin/sign-in")
	save("signin")
	b.Submit("/admin/sign-in", url.Values{"password": {"wrong"}})
	save("signin-wrong")
	b.Submit("/admin/sign-in", url.Values{"password": {"the administrator's password"}})
	uri := string(w.alice.Create("com.example.note", map[string]any{"text": "hello"}).URI)
	did := url.QueryEscape(string(w.alice.DID))
	b.act("takedown-part", uri, "case 12")
	save("subject")
	b.act("takedown", string(w.bob.DID), "case 13")
	see("accounts", "/admin/accounts")
	see("account", "/admin/account?did="+did)
	see("account-down", "/admin/account?did="+url.QueryEscape(string(w.bob.DID)))
	see("act-delete", "/admin/act/delete?of="+did)
	b.Submit("/admin/act/delete", url.Values{"value": {"x"}})
	save("act-wrong")
	see("act-takedown", "/admin/act/takedown?of="+did)
	see("act-email", "/admin/act/email?of="+did)
	see("act-relay", "/admin/act/ask-relay?of=https://relay.example.net")
	see("act-mail", "/admin/act/test-mail")
	see("taken", "/admin/taken-down")
	see("subject-wrong", "/admin/subject?of=x")
	see("invites-none", "/admin/invites")
	see("new", "/admin/invites/new")
	b.Submit("/admin/invites/new", url.Values{"count": {"0"}})
	save("new-wrong")
	see("new", "/admin/invites/new")
	b.Submit("/admin/invites/new", url.Values{"count": {"30"}, "uses": {"3"}, "for": {string(w.alice.DID)}})
	save("new-made")
	see("invites", "/admin/invites")
	see("stream", "/admin/stream")
	see("relays", "/admin/relays")
	see("backups-none", "/admin/backups")
	notes := operator.Backups{KV: w.pds.Store().KV}
	for i, x := range []operator.Backup{{Path: "/backups/generations/2026-01-15T03-00-00Z", Bytes: 3 << 20, Good: true}, {Path: "/mnt/backups", Problem: "no space left on device"}} {
		x.At = w.Clock.Now().Add(time.Duration(-26*i-3) * time.Hour)
		if err := notes.Note(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	see("backups", "/admin/backups")
	see("mail", "/admin/mail")
	see("errors-none", "/admin/errors")
	log := slog.New(w.pds.Server().Errors.Handler(slog.DiscardHandler))
	log.Warn("request", "method", "com.atproto.repo.createRecord", "status", 500)
	for range 3 {
		log.Error("send mail", "kind", "reset_password", "err", errors.New("dial tcp 192.0.2.5:25: connect: connection refused"))
	}
	see("errors", "/admin/errors")
	see("trail", "/admin/trail")
	see("overview", "/admin")
	problem = "The disk is full: nothing can be written"
	see("overview-broken", "/admin")
	see("signout", "/admin/sign-out")
	b.Post("/admin/sign-out", url.Values{})
	save("error")
	b.get("/admin/account?did=did:web:nobody.example.com")
	save("error-account")
	return all
}

// Every page, in every language, has what a screen reader needs, no script, and tags that match.
func TestPagesAreAccessible(t *testing.T) {
	for _, lang := range []string{"en", "de", "fr", "es", "ja", "pt"} {
		all := everyPage(t, lang)
		for name, p := range all {
			sitetest.Accessible(t, lang+" "+name, lang, p.Text)
		}
	}
}
