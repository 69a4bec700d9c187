package admin

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/relay"
)

//go:embed templates/*.html
var files embed.FS

//go:embed templates/own.css
var ownStyle string

func pageHost(name string) string       { return Root + "/host?host=" + url.QueryEscape(name) }
func pageAccount(did syntax.DID) string { return Root + "/account?did=" + url.QueryEscape(string(did)) }

var functions = template.FuncMap{
	"num": number, "bytes": size, "ago": ago, "rate": func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) },
	"host": pageHost, "account": pageAccount, "limit": func(v int64) string { return limitText(float64(v)) }, "ratelimit": limitText,
	"iso": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"link": func(here, to, text string) map[string]any {
		return map[string]any{"To": to, "Text": text, "Here": here == to}
	},
}

// number writes a number with commas.
func number(v any) string {
	text := fmt.Sprint(v)
	digits := strings.TrimPrefix(text, "-")
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return strings.TrimSuffix(text, digits) + b.String()
}

func limitText(v float64) string {
	if v < 0 {
		return "no limit"
	}
	if v == float64(int64(v)) {
		return number(int64(v))
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}

// size writes a number of bytes.
func size(v any) string {
	var n float64
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case uint64:
		n = float64(v)
	}
	for _, unit := range []string{"bytes", "KiB", "MiB"} {
		if n < 1024 {
			return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + " " + unit
		}
		n /= 1024
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " GiB"
}

// ago says how long ago, or in how long, something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := time.Since(t).Round(time.Second)
	if d < 0 {
		return "in " + short(-d)
	}
	return short(d) + " ago"
}

func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// page is what all pages have.
type page struct {
	Title, Path string // Path is that of the page in the navigation
	Done        string // what was done
	Data        any
}

// render is a page's content.
type render func(ctx context.Context, q url.Values) (title string, content any, err error)

// mountPages adds the pages.
func (a *Admin) mountPages() {
	for _, p := range []struct {
		path, name string
		render     render
	}{
		{"", "hosts", a.pageHosts}, {"/host", "host", a.pageHost}, {"/account", "account", a.pageAccount},
		{"/consumers", "consumers", a.pageConsumers}, {"/bans", "bans", a.pageBans},
	} {
		t := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/"+p.name+".html"))
		a.mux.HandleFunc("GET "+Root+p.path, func(w http.ResponseWriter, r *http.Request) {
			title, content, err := p.render(r.Context(), r.URL.Query())
			if err != nil {
				a.fail(w, err)
				return
			}
			a.show(w, t, http.StatusOK, &page{Title: title, Path: Root + p.path, Done: acts[r.URL.Query().Get("done")].done, Data: content})
		})
	}
	a.mux.HandleFunc("GET "+Root+"/style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		w.Write([]byte(a.style))
	})
	a.mux.HandleFunc("POST "+Root+"/do/{act}", a.form)
	a.mux.HandleFunc(Root+"/", func(w http.ResponseWriter, _ *http.Request) {
		a.failWith(w, http.StatusNotFound, "There is no such page.")
	})
}

var problemPage = template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/problem.html"))

func (a *Admin) fail(w http.ResponseWriter, err error) {
	status, text := explain(err)
	a.failWith(w, status, text)
}

func (a *Admin) failWith(w http.ResponseWriter, status int, text string) {
	a.show(w, problemPage, status, &page{Title: "That did not work", Data: text})
}

func (a *Admin) show(w http.ResponseWriter, t *template.Template, status int, p *page) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout", p); err != nil {
		a.cfg.Logger.Error("a page cannot be shown", "page", p.Path, "err", err)
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// form does what a form says, and leads to the page that shows it.
func (a *Admin) form(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		a.failWith(w, http.StatusBadRequest, "The form cannot be read.")
		return
	}
	f := r.PostForm
	text := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	in := input{Host: text("host"), Name: text("name"), Reason: text("reason"), DID: text("did"), Policy: text("policy")}
	in.ID, _ = strconv.ParseInt(text("id"), 10, 64)
	for name, to := range map[string]**float64{"accounts": &in.Accounts, "rate": &in.Rate, "burst": &in.Burst} {
		if text(name) == "" {
			continue
		}
		v, err := strconv.ParseFloat(text(name), 64)
		if err != nil {
			a.failWith(w, http.StatusBadRequest, "A limit is a number.")
			return
		}
		*to = &v
	}
	name := r.PathValue("act")
	x, err := a.run(r.Context(), r.RemoteAddr, name, in)
	if err != nil {
		a.fail(w, err)
		return
	}
	to := x.page(in)
	sign := "?"
	if strings.Contains(to, "?") {
		sign = "&"
	}
	http.Redirect(w, r, to+sign+"done="+name, http.StatusSeeOther)
}

type hostsPage struct {
	Status   statusView
	Hosts    []hostView
	Text     string
	Wanted   string // status
	Statuses []relay.HostStatus
	Next     string // address of the next page
}

func (a *Admin) pageHosts(ctx context.Context, q url.Values) (string, any, error) {
	p := hostsPage{Text: q.Get("q"), Wanted: q.Get("status"), Statuses: []relay.HostStatus{relay.HostActive, relay.HostIdle, relay.HostOffline, relay.HostThrottled, relay.HostBanned}}
	list, total, err := a.hosts(ctx, q.Get("after"), p.Text, p.Wanted, pageUsual)
	if err != nil {
		return "", nil, err
	}
	p.Hosts = list
	if total.More {
		p.Next = Root + "?" + url.Values{"q": {p.Text}, "status": {p.Wanted}, "after": {list[len(list)-1].Host}}.Encode()
	}
	p.Status, err = a.status(ctx, total)
	return "Hosts", p, err
}

type hostPage struct {
	Host     hostView
	Accounts accountsPage
	Policies []string
	Next     string
}

func (a *Admin) pageHost(ctx context.Context, q url.Values) (string, any, error) {
	h, err := a.cfg.Relay.Host(ctx, q.Get("host"))
	if err != nil {
		return "", nil, err
	}
	p := hostPage{Host: a.hostView(h), Policies: []string{"strict", "lenient", "observe"}}
	if p.Accounts, err = a.accounts(ctx, h.Name, q.Get("after"), pageUsual); err != nil {
		return "", nil, err
	}
	if p.Accounts.After != "" {
		p.Next = pageHost(h.Name) + "&after=" + url.QueryEscape(string(p.Accounts.After))
	}
	return h.Name, p, nil
}

type accountPage struct {
	DID     string
	Account *accountView
	Taken   []syntax.DID
	Next    string
}

func (a *Admin) pageAccount(ctx context.Context, q url.Values) (string, any, error) {
	p := accountPage{DID: strings.TrimSpace(q.Get("did"))}
	if p.DID != "" {
		v, err := a.account(ctx, p.DID)
		if err != nil {
			return "", nil, err
		}
		p.Account = &v
		return "Account", p, nil
	}
	taken, err := a.cfg.Relay.Takedowns(ctx, syntax.DID(q.Get("after")), pageUsual)
	if len(taken) == pageUsual {
		p.Next = Root + "/account?after=" + url.QueryEscape(string(taken[pageUsual-1]))
	}
	p.Taken = taken
	return "Accounts", p, err
}

func (a *Admin) pageConsumers(context.Context, url.Values) (string, any, error) {
	return "Consumers", a.consumers(), nil
}

func (a *Admin) pageBans(ctx context.Context, _ url.Values) (string, any, error) {
	list, err := a.cfg.Relay.Bans(ctx)
	return "Bans", list, err
}
