package operator

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/xrpc/atproto/server"
	"github.com/pdskit/pdskit/xrpc/audit"
	"github.com/pdskit/pdskit/xrpc/doctor"
	"github.com/pdskit/pdskit/xrpc/recent"
)

// overviewView is the first page.
type overviewView struct {
	*view
	Overview
	Counts []count
	Mail   *server.MailStats
	Last   *Backup // nil: none is known
	Errors int
	// Checks is the doctor's last report; nil: none yet.
	Checks *doctor.Report
}

// count is how many accounts have a status.
type count struct {
	Name string
	N    int
}

func (p *Pages) showOverview(c *call) error {
	v := &overviewView{view: p.view(c, "overview.title")}
	v.Overview.Accounts = -1
	if p.cfg.Overview != nil {
		v.Overview = p.cfg.Overview(c.Context())
	}
	if v.Statuses != nil {
		for _, s := range []account.Status{account.Active, account.Deactivated, account.TakenDown} {
			v.Counts = append(v.Counts, count{v.StatusText(s), v.Statuses[s]})
		}
	}
	if p.cfg.Mail != nil {
		st := p.cfg.Mail()
		v.Mail = &st
	}
	if p.cfg.Backups != nil {
		list, err := p.cfg.Backups(c.Context())
		if err != nil {
			return err
		}
		for _, b := range list {
			if b.Good {
				v.Last = &b
				break
			}
		}
	}
	if p.cfg.Doctor != nil {
		if last := p.cfg.Doctor.Last(); !last.Time.IsZero() {
			v.Checks = &last
		}
	}
	if p.cfg.Errors != nil {
		v.Errors = len(p.cfg.Errors())
	}
	return c.Show("overview", v)
}

// HasBackups reports whether the pages have a list of backups.
func (v *overviewView) HasBackups() bool { return v.p.cfg.Backups != nil }

// backupsView is the page of backups.
type backupsView struct {
	*view
	Backups []Backup
	Help    string
}

func (p *Pages) showBackups(c *call) error {
	list, err := p.cfg.Backups(c.Context())
	if err != nil {
		return err
	}
	return c.Show("backups", &backupsView{p.view(c, "backups.title"), list[:min(len(list), keptBackups)], p.cfg.BackupHelp})
}

// mailView is the page of mail.
type mailView struct {
	*view
	server.MailStats
	Test link
}

func (p *Pages) showMail(c *call) error {
	return c.Show("mail", &mailView{p.view(c, "mail.title"), p.cfg.Mail(), actLink("test-mail", "")})
}

// errorsView is the page of errors.
type errorsView struct {
	*view
	Entries []recent.Entry
	Left    int // that are not shown
}

// shownErrors bounds how many are shown.
const shownErrors = 200

func (p *Pages) showErrors(c *call) error {
	list := p.cfg.Errors()
	n := min(len(list), shownErrors)
	return c.Show("errors", &errorsView{p.view(c, "errors.title"), list[:n], len(list) - n})
}

// trailView is a page of the audit trail.
type trailView struct {
	*view
	Entries []audit.Entry
	Next    string
}

func (p *Pages) showTrail(c *call) error {
	q, err := query(c)
	if err != nil {
		return err
	}
	before := int64(math.MaxInt64)
	if text := q.Get("cursor"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return errName
		}
	}
	list, err := p.cfg.Audit.List(c.Context(), before, pageSize)
	if err != nil {
		return err
	}
	v := &trailView{view: p.view(c, "trail.title"), Entries: list}
	if len(list) == pageSize {
		v.Next = next(pathTrail, url.Values{}, strconv.FormatInt(list[len(list)-1].Seq, 10))
	}
	return c.Show("trail", v)
}

// ActText returns the name of an action of the trail: the name of a page's action, or the last part
// of a method's name.
func (v *trailView) ActText(name string) string {
	if key := "act." + name; acts[name] != nil && v.Lang.Has(key) {
		return v.T(key)
	}
	return name[strings.LastIndexByte(name, '.')+1:]
}

// MethodOf returns the name of an action that is a method, or "".
func (v *trailView) MethodOf(name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return ""
}

// OutcomeText returns the name of an outcome.
func (v *trailView) OutcomeText(o audit.Outcome) string { return v.T("outcome." + string(o)) }
