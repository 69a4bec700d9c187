package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/oauth/pages"
	"github.com/pdskit/pdskit/xrpc/oauth/provider"
	"github.com/pdskit/pdskit/xrpc/site"
)

// sessionView is what is shown of something that lets somebody into an account.
type sessionView struct {
	ID   string `json:"id"`
	Kind string `json:"kind"` // app, browser, password or app-password
	// Name is the client_id, what the browser says of itself, or the name of the app password.
	Name    string    `json:"name,omitempty"`
	Address string    `json:"address,omitempty"`
	Scope   string    `json:"scope,omitempty"`
	May     []string  `json:"may,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Seen    time.Time `json:"seen"`
	Ends    time.Time `json:"ends,omitzero"`

	// end ends it, and whole all that is by the same name.
	end, whole func(context.Context) error
}

// entries are what lets somebody into an account: how they are listed, and ended all together.
type entries struct {
	list func(context.Context, stock, account.Caller) ([]sessionView, error)
	all  func(context.Context, stock, account.Caller) error // nil: each is ended
}

func endApps(ctx context.Context, s stock, who account.Caller) error {
	return provider.Apps{Accounts: s.Accounts}.EndAll(ctx, who)
}

// listApps are the sessions of apps by OAuth.
func listApps(ctx context.Context, s stock, who account.Caller) (list []sessionView, err error) {
	apps := provider.Apps{Accounts: s.Accounts}
	all, err := apps.Sessions(ctx, who)
	for _, x := range all {
		v := sessionView{
			ID: x.Name, Kind: "app", Name: x.Client, Scope: x.Granted.String(), Since: x.Created, Seen: x.Renewed, Ends: x.Ends,
			end:   func(ctx context.Context) error { return apps.EndSession(ctx, who, x.Name) },
			whole: func(ctx context.Context) error { return apps.EndClient(ctx, who, x.Client) },
		}
		for _, p := range (pages.Words{}).Of(ctx, x.Permissions.Scopes()) {
			v.May = append(v.May, p.String())
		}
		list = append(list, v)
	}
	return list, err
}

// listSessions are browsers in which somebody is signed in, and sessions by passwords.
func listSessions(ctx context.Context, s stock, who account.Caller) (list []sessionView, err error) {
	browsers := site.SignIns{Accounts: s.Accounts}
	in, err := browsers.List(ctx, who)
	for _, x := range in {
		list = append(list, sessionView{ID: x.ID, Kind: "browser", Name: x.Agent, Address: x.Address, Since: x.Since, Seen: x.Seen,
			end: func(ctx context.Context) error { return browsers.End(ctx, who, x.ID) }})
	}
	store := credential.New(credential.Config{Accounts: s.Accounts})
	open, failed := store.Sessions(ctx, who)
	for _, x := range open {
		v := sessionView{ID: x.Name, Kind: "password", Name: x.AppPassword, Since: x.Created, Seen: x.Renewed, Ends: x.Ends,
			end: func(ctx context.Context) error { return store.EndOpenSession(ctx, who, x.Name) }}
		if x.AppPassword != "" {
			v.Kind = "app-password"
		}
		list = append(list, v)
	}
	return list, errors.Join(err, failed)
}

// sessions shows the entries of the account that the first argument names, or ends them: those that the
// other arguments name by id, or apps by client_id; without other arguments, all.
func sessions(of entries, end bool) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) (err error) {
		names := c.args[1:]
		c.args = c.args[:1]
		s, accounts, d, err := c.openAccounts(ctx, false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		a := accounts[0]
		who := account.Trusted(a.DID)
		list, err := of.list(ctx, s, who)
		if err != nil {
			return err
		}
		if end {
			return c.endSessions(ctx, s, a, of, list, names)
		}
		if c.json {
			return c.writeJSON(append([]sessionView{}, list...))
		}
		day := func(t time.Time) string {
			if t.IsZero() {
				return "-"
			}
			return t.UTC().Format("2006-01-02 15:04")
		}
		var rows [][]string
		for _, v := range list {
			about := strings.TrimSpace(strings.Join([]string{v.Name, v.Address, v.Scope}, " "))
			rows = append(rows, []string{v.ID, v.Kind, day(v.Since), day(v.Seen), day(v.Ends), fmt.Sprintf("%.300q", about)})
		}
		return c.table("ID KIND SINCE SEEN ENDS WHAT", rows)
	}
}

// endSessions ends those of a list that are named, which the audit trail tells.
func (c *call) endSessions(ctx context.Context, s stock, a account.Account, of entries, list []sessionView, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(list, func(v sessionView) bool { return v.ID == name || v.whole != nil && v.Name == name }) {
			return fmt.Errorf("%s has nothing of the name %q: nothing was ended", a.Handle, name)
		}
	}
	ended := []string{}
	var ends []func(context.Context) error
	for _, v := range list {
		switch {
		case v.whole != nil && slices.Contains(names, v.Name):
			ends = append(ends, v.whole)
		case len(names) == 0 || slices.Contains(names, v.ID):
			ends = append(ends, v.end)
		default:
			continue
		}
		ended = append(ended, v.ID)
	}
	if len(names) == 0 && of.all != nil {
		ends = append(ends, func(ctx context.Context) error { return of.all(ctx, s, account.Trusted(a.DID)) })
	}
	trail := &audit.Log{KV: s.Accounts.Host().Store().KV}
	done, err := trail.Begin(ctx, audit.Entry{
		Actor: audit.Actor{By: "administrator", Through: "command line"}, Action: "pds " + c.Name(), Subject: string(a.DID),
		Detail: operator() + ": " + strings.Join(ended, " "),
	})
	if err != nil {
		return err
	}
	for _, end := range ends {
		if err = end(ctx); err != nil {
			break
		}
	}
	done(err)
	if err != nil {
		return err
	}
	return c.result(map[string]any{"did": a.DID, "ended": ended}, "Ended %d sessions of %s.", len(ended), a.Handle)
}

// operator is who runs the command, for what is noted of it.
func operator() string { return cmp.Or(os.Getenv("SUDO_USER"), os.Getenv("USER"), "operator") }
