package operator

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc"

	"errors"
)

// showTaken lists the accounts of which something is taken down.
func (p *Pages) showTaken(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	v := &listView{view: p.view(c, "taken.title")}
	list, cursor, err := c.admin.Search(c.Context(), account.Search{Moderated: true, Cursor: q.Get("cursor"), Limit: pageSize})
	if errors.Is(err, account.ErrSearch) {
		return errName
	} else if err != nil {
		return err
	}
	v.Accounts, v.Next = list, next(pathTaken, url.Values{}, cursor)
	return c.Show("taken", v)
}

// subjectView is the page of a record or a blob.
type subjectView struct {
	*view
	Of      string // empty: none was asked for
	Applied bool
	Ref     string
	Act     link
	Account string // address of its account's page
}

func (p *Pages) showSubject(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	v := &subjectView{view: p.view(c, "subject.title"), Of: strings.TrimSpace(q.Get("of"))}
	x, err := parseSubject(aPart, v.Of)
	if err != nil {
		v.Add("of", "subject.malformed")
		return c.Show("subject", v)
	}
	st, err := c.admin.SubjectStatus(c.Context(), x.status())
	var xerr *xrpc.Error
	switch {
	case errors.As(err, &xerr) && xerr.Status < http.StatusInternalServerError:
		v.Add("of", "subject.missing")
		return c.Show("subject", v)
	case err != nil:
		return err
	}
	v.Of = x.text
	v.Act = actLink("takedown-part", x.text)
	if st.Takedown != nil && st.Takedown.Applied {
		v.Applied, v.Ref, v.Act = true, st.Takedown.Ref, actLink("restore-part", x.text)
	}
	did := string(x.did)
	if x.uri != "" {
		did, _, _ = strings.Cut(strings.TrimPrefix(string(x.uri), "at://"), "/")
	}
	v.Account = pathAccount + "?" + url.Values{"did": {did}}.Encode()
	return c.Show("subject", v)
}
