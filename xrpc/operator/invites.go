package operator

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// invitesView is a page of invite codes.
type invitesView struct {
	*view
	ByUse bool
	Codes []code
	Next  string
}

// code is an invite code.
type code struct {
	api.ServerInviteCode
	Disable link
	// Owner is the path of its account's page; empty: it has none.
	Owner string
	Used  []codeUse // the last ones
}

// codeUse is a use of a code.
type codeUse struct {
	Account, Path string
	At            time.Time
}

// Made returns when the code was made.
func (x code) Made() time.Time { return timeOf(x.CreatedAt) }

// timeOf is a time of a method; zero if it is none.
func timeOf(s syntax.Datetime) time.Time {
	t, _ := time.Parse(time.RFC3339, string(s))
	return t
}

// shownUses is how many uses of a code are listed.
const shownUses = 10

func accountLink(did string) string {
	if !strings.HasPrefix(did, "did:") {
		return ""
	}
	return pathAccount + "?" + url.Values{"did": {did}}.Encode()
}

func (p *Pages) showInvites(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	v := &invitesView{view: p.view(c, "invites.title"), ByUse: q.Get("sort") == "usage"}
	in := api.AdminGetInviteCodesParams{Sort: "recent", Cursor: q.Get("cursor"), Limit: pageSize}
	if v.ByUse {
		in.Sort = "usage"
	}
	out, err := c.admin.Invites(c.Context(), in)
	if err != nil {
		return err
	}
	for _, x := range out.Codes {
		shown := code{ServerInviteCode: x, Disable: actLink("disable-code", x.Code), Owner: accountLink(x.ForAccount)}
		for _, use := range x.Uses[max(0, len(x.Uses)-shownUses):] {
			shown.Used = append(shown.Used, codeUse{string(use.UsedBy), accountLink(string(use.UsedBy)), timeOf(use.UsedAt)})
		}
		v.Codes = append(v.Codes, shown)
	}
	if len(out.Codes) > 0 && out.Cursor != "" {
		v.Next = next(pathInvites, url.Values{"sort": {in.Sort}}, out.Cursor)
	}
	return c.Show("invites", v)
}

// Left returns how many uses a code has left.
func (x code) Left() int64 { return max(0, x.Available-int64(len(x.Uses))) }

// newView is the page to make invite codes.
type newView struct {
	*view
	Count, Uses, For string
	Made             []string
}

func (p *Pages) showNewInvites(c *call) error {
	return c.Show("newinvites", &newView{view: p.view(c, "new.title"), Count: "1", Uses: "1"})
}

// maxUses is how often a code may be used that is made here.
const maxUses = 100_000

func (p *Pages) newInvites(c *call) error {
	v := &newView{view: p.view(c, "new.title"), Count: short(c.Form.Get("count"), 20), Uses: short(c.Form.Get("uses"), 20), For: short(strings.TrimSpace(c.Form.Get("for")), maxName)}
	in := api.ServerCreateInviteCodesInput{}
	for _, x := range []struct {
		field, text string
		most        int64
		to          *int64
	}{{"count", v.Count, 100, &in.CodeCount}, {"uses", v.Uses, maxUses, &in.UseCount}} {
		n, err := strconv.ParseInt(strings.TrimSpace(x.text), 10, 64)
		if err != nil || n < 1 || n > x.most {
			v.Add(x.field, "new.number", "most", x.most)
		}
		*x.to = n
	}
	if v.For != "" {
		did, err := syntax.ParseDID(v.For)
		if err != nil {
			v.Add("for", "error.name")
		}
		in.ForAccounts = []syntax.DID{did}
	}
	if len(v.Problems) > 0 {
		return c.Show("newinvites", v)
	}
	out, err := c.admin.CreateInvites(c.Context(), in)
	var xerr *xrpc.Error
	switch {
	case errors.As(err, &xerr) && xerr.Status < http.StatusInternalServerError:
		v.Add("for", "act.refused", "why", short(cmp.Or(xerr.Message, xerr.Name), 400))
		return c.Show("newinvites", v)
	case err != nil:
		return err
	}
	for _, x := range out.Codes {
		v.Made = append(v.Made, x.Codes...)
	}
	return c.Show("newinvites", v)
}
