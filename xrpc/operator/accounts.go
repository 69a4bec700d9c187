package operator

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/site"
)

// pageSize is how many accounts, codes or entries a page shows.
const pageSize = 25

var errNoAccount = &site.Error{Status: http.StatusNotFound, Key: "error.noAccount"}

// listView is a page of accounts.
type listView struct {
	*view
	Query    string
	Accounts []account.Account
	Next     string // its address; empty: there is none
}

// next is the address of the next page.
func next(path string, q url.Values, cursor string) string {
	if cursor == "" {
		return ""
	}
	q.Set("cursor", cursor)
	return path + "?" + q.Encode()
}

// query reads the parameters of an address. Those that are not UTF-8, or too long, are an error.
func query(c *call) (url.Values, error) {
	q, err := url.ParseQuery(c.R.URL.RawQuery)
	if err != nil {
		return nil, errName
	}
	for name, list := range q {
		if len(list) != 1 || len(list[0]) > maxName || short(list[0], maxName) != list[0] || len(name) > 40 {
			return nil, errName
		}
	}
	return q, nil
}

func (p *Pages) showAccounts(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	v := &listView{view: p.view(c, "accounts.title"), Query: strings.TrimSpace(q.Get("q"))}
	list, cursor, err := c.admin.Search(c.Context(), account.Search{Text: v.Query, Cursor: q.Get("cursor"), Limit: pageSize})
	if errors.Is(err, account.ErrSearch) {
		return errName
	} else if err != nil {
		return err
	}
	v.Accounts, v.Next = list, next(pathAccounts, url.Values{"q": {v.Query}}, cursor)
	return c.Show("accounts", v)
}

// StatusText returns the name of a status.
func (v *view) StatusText(s account.Status) string {
	switch s {
	case account.Active:
		return v.T("status.active")
	case account.TakenDown:
		return v.T("status.takendown")
	case account.Deactivated:
		return v.T("status.deactivated")
	}
	return string(s)
}

// accountView is the page of an account.
type accountView struct {
	*view
	server.Standing
	Acts  []link
	Parts []partLink
	More  string // address of further parts
}

// link leads to an act.
type link struct {
	Path, Key string
	Danger    bool
}

// partLink leads to a record or blob that is taken down.
type partLink struct{ Path, Name, Ref string }

// actLink is the address of an act.
func actLink(name, of string) link {
	return link{pathAct + name + "?" + url.Values{"of": {of}}.Encode(), "act." + name, acts[name].danger}
}

func (p *Pages) showAccount(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	x, err := parseSubject(anAccount, q.Get("did"))
	if err != nil {
		return err
	}
	st, err := c.admin.Standing(c.Context(), x.did)
	if errors.Is(err, account.ErrNotFound) || errors.Is(err, &xrpc.Error{Name: "AccountNotFound"}) {
		return errNoAccount
	} else if err != nil {
		return err
	}
	v := &accountView{view: p.view(c, "account.title", "name", accountName(st.Account)), Standing: st}
	parts, cursor, err := c.admin.Takedowns(c.Context(), x.did, q.Get("cursor"), pageSize)
	if err != nil {
		return err
	}
	for _, part := range parts {
		v.Parts = append(v.Parts, partOf(x.did, part))
	}
	v.More = next(pathAccount, url.Values{"did": {x.text}}, cursor)
	for _, name := range actsFor(st) {
		if a := acts[name]; a.available == nil || a.available(&p.cfg) {
			v.Acts = append(v.Acts, actLink(name, x.text))
		}
	}
	return c.Show("account", v)
}

// accountName is what an account is called.
func accountName(a account.Account) string {
	if a.Handle != "" {
		return string(a.Handle)
	}
	return string(a.DID)
}

func partOf(did syntax.DID, part account.TakenDownPart) partLink {
	name := string(did) + " " + part.Blob.String()
	if part.Path != "" {
		name = "at://" + string(did) + "/" + part.Path
	}
	return partLink{pathSubject + "?" + url.Values{"of": {name}}.Encode(), name, part.Ref}
}

// actsFor are the acts that make sense for an account.
func actsFor(st server.Standing) (list []string) {
	add := func(when bool, name string) {
		if when {
			list = append(list, name)
		}
	}
	add(st.TakedownRef == "", "takedown")
	add(st.TakedownRef != "", "restore")
	add(st.DeactivatedAt.IsZero(), "deactivate")
	add(!st.DeactivatedAt.IsZero() && st.TakedownRef == "", "activate")
	list = append(list, "handle", "email")
	add(st.Email != "", "reset-mail")
	add(len(st.Factors.Factors) > 0, "reset-factors")
	list = append(list, "end-sessions")
	add(st.InvitesDisabled, "invites-on")
	add(!st.InvitesDisabled, "invites-off")
	return append(list, "delete")
}

// FactorText returns the name of a factor.
func (v *accountView) FactorText(k credential.FactorKind) string {
	if key := "factor." + string(k); v.Lang.Has(key) {
		return v.T(key)
	}
	return string(k)
}

// Resets returns the resets of its factors by administrators, latest first.
func (v *accountView) Resets() []credential.Reset {
	list := slices.Clone(v.Factors.Resets)
	slices.Reverse(list)
	return list
}
