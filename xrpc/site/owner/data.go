package owner

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/site"
)

// maxMissing is how many missing blobs are listed.
const maxMissing = 50

// data shows what the account has here, and what the network sees of it.
func (p *Pages) data(c *call) (err error) {
	v := p.view(c, "data.title")
	if err := p.site.Limit(c.R, "account-data"); err != nil {
		return err
	}
	if v.Status, err = p.service.Status(c.Context(), c.account.DID); err != nil {
		return err
	}
	v.Elsewhere = v.Status.Endpoint != "" && v.Status.Endpoint != p.site.Origin()
	if v.Status.Missing > 0 {
		list, _, err := p.accounts.Host().MissingBlobs(c.Context(), c.account.DID, cid.Undef, maxMissing)
		if err != nil {
			return err
		}
		for _, x := range list {
			v.Missing = append(v.Missing, x.Blob.String())
		}
	}
	return c.Show("data", v)
}

// export sends the repository as a CAR file.
func (p *Pages) export(c *call) error {
	if err := p.site.Limit(c.R, "export"); err != nil {
		return err
	}
	h := c.W.Header()
	h.Set("Content-Type", "application/vnd.ipld.car")
	h.Set("Content-Disposition", `attachment; filename="`+fileName(string(c.account.Handle))+`.car"`)
	w := &counted{w: c.W}
	err := p.accounts.Host().Export(c.Context(), c.account.DID, "", w)
	if err != nil && w.n > 0 {
		if c.Context().Err() == nil {
			p.site.Logger().ErrorContext(c.Context(), "export of a repository", "did", c.account.DID, "err", err)
		}
		panic(http.ErrAbortHandler) // so that nobody takes the half for the whole
	}
	if err != nil {
		h.Del("Content-Disposition")
	}
	return err
}

// counted counts what is written.
type counted struct {
	w http.ResponseWriter
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// fileName is a name that is good for a file, and in a header.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return -1
	}, strings.ToLower(s))
	if s = strings.Trim(s, ".-"); s == "" {
		return "repository"
	}
	return s
}

// closing shows how to leave.
func (p *Pages) closing(c *call) error { return c.Show("close", p.view(c, "close.title")) }

// close deactivates, activates or deletes the account.
func (p *Pages) close(c *call) error {
	ctx := c.Context()
	v := p.view(c, "close.title")
	switch c.Form.Get("action") {
	case "deactivate":
		if err := p.accounts.Deactivate(ctx, c.who, time.Time{}); err != nil {
			return err
		}
		return p.to(c, "close", "done.deactivated")
	case "activate":
		if err := p.service.Activate(ctx, c.who); err != nil {
			return err
		}
		return p.to(c, "close", "done.activated")
	case "send":
		if err := p.mail(c, func() error { return p.service.RequestDeletion(ctx, c.who) }); err != nil {
			return err
		}
		v.Sent = true
		return c.Show("close", v)
	case "delete":
		v.Sent = true
		if c.Form.Get("sure") == "" {
			v.Add("sure", "close.notSure")
			return c.Show("close", v)
		}
		err := p.credentials.CloseAccount(ctx, c.who, strings.TrimSpace(c.Form.Get("code")))
		if p.wrongCode(v, err) {
			return c.Show("close", v)
		} else if err != nil {
			return err
		}
		if err := p.site.Leave(ctx, c.Browser, c.account.DID); err != nil && !errors.Is(err, account.ErrNotFound) {
			return err
		}
		return c.Show("deleted", &view{Page: c.Page("deleted.title")})
	}
	return site.ErrForm
}
