package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/pdskit/pdskit/xrpc/site"
)

// view is what all pages of who has signed in have.
type view struct {
	site.Page
	p *Pages
	// Done is the name of the action that was just carried out, or "".
	Done string
}

// view begins a page.
func (p *Pages) view(c *call, title string, args ...any) *view {
	v := &view{Page: c.Page(title, args...), p: p}
	if done := c.R.URL.Query().Get("done"); acts[done] != nil {
		v.Done = done
	}
	return v
}

// item is an entry of the menu.
type item struct {
	Path, Key string
	Here      bool
}

// menu is what the template "menu" shows.
type menu struct {
	*view
	Items []item
}

// Menu returns the menu, with the current page marked.
func (v *view) Menu(here string) (m menu) {
	m.view = v
	cfg := v.p.cfg
	for _, x := range []struct {
		path, key string
		there     bool
	}{
		{Root, "overview", true},
		{pathChecks, "checks", cfg.Doctor != nil},
		{pathAccounts, "accounts", true},
		{pathTaken, "taken", true},
		{pathInvites, "invites", true},
		{pathStream, "stream", cfg.Subscribers != nil},
		{pathRelays, "relays", cfg.Relays != nil},
		{pathBackups, "backups", cfg.Backups != nil},
		{pathMail, "mail", cfg.Mail != nil},
		{pathErrors, "errors", cfg.Errors != nil},
		{pathTrail, "trail", cfg.Audit != nil},
	} {
		if x.there {
			m.Items = append(m.Items, item{x.path, "menu." + x.key, x.key == here})
		}
	}
	return m
}

// DoneText returns the message about the action that was just carried out.
func (v *view) DoneText() string { return v.T("done", "act", v.T("act."+v.Done)) }

// Time returns a time in a form for people.
func (v *view) Time(t time.Time) string {
	if t.IsZero() {
		return v.T("never")
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// Machine returns a time in a form for programs.
func (v *view) Machine(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Age returns the time since t, in its two greatest units.
func (v *view) Age(t time.Time) string { return span(v.p.now().Sub(t).Truncate(time.Second)) }

// Span returns a duration in its two greatest units.
func (v *view) Span(d time.Duration) string { return span(d) }

func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	switch {
	case 0 < d && d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// Bytes returns a number of bytes in a form for people.
func (v *view) Bytes(n any) string {
	var x float64
	switch n := n.(type) {
	case int:
		x = float64(n)
	case int64:
		x = float64(n)
	case uint64:
		x = float64(n)
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; x >= 1024 && i < len(units)-1; i++ {
		x /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", x)
	}
	return fmt.Sprintf("%.1f %s", x, units[i])
}

// short is a text of a stranger, of at most n bytes, on one line.
func short(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' {
			return ' '
		}
		return r
	}, site.Short(s, n))
}

// Short truncates a text for templates.
func (v *view) Short(s string) string { return short(s, 300) }

// Reference returns the reference of a takedown: a time, unless the moderator chose another one.
func (v *view) Reference(s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return v.Time(t)
	}
	return v.Short(s)
}
