package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/browser"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// What the administrator's methods say.
type (
	hostAnswer struct {
		Status   string           `json:"status"`
		Policy   string           `json:"policy"`
		Accounts int64            `json:"accounts"`
		Cursor   int64            `json:"cursor"`
		Passed   int64            `json:"passed"`
		TooMany  int64            `json:"throttledAccounts"`
		Rules    map[string]int64 `json:"rules"`
		Limits   struct {
			Accounts int64   `json:"accounts"`
			Rate     float64 `json:"rate"`
		} `json:"limits"`
	}
	accountAnswer struct {
		Status    string `json:"status"`
		TakenDown bool   `json:"takenDown"`
		Rev       string `json:"rev"`
	}
	consumersAnswer struct {
		Consumers []struct {
			ID   int64 `json:"id"`
			JSON bool  `json:"json"`
		} `json:"consumers"`
	}
)

func (p *program) host(name string) (h hostAnswer) {
	p.t.Helper()
	p.ask("GET", "/admin/api/host?host="+url.QueryEscape(name), nil, &h)
	return h
}

func (p *program) account(a *account) (x accountAnswer) {
	p.t.Helper()
	p.ask("GET", "/admin/api/account?did="+url.QueryEscape(string(a.did)), nil, &x)
	return x
}

// What an administrator does with hosts has its effect.
func TestAdminHosts(t *testing.T) {
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	alice.write(t, 2)
	p := w.relay("-closed", "-accounts", "1")
	f := w.follow(p.url)
	if err := api.SyncRequestCrawl(t.Context(), &xrpc.Client{Host: p.url}, api.SyncRequestCrawlInput{Hostname: h.name}); err == nil {
		t.Error("a closed relay took a host of a stranger's")
	}
	p.do("addHost", map[string]any{"host": h.name})
	f.until("alice", func() bool { return f.revs[alice.did] == alice.rev })
	testenv.Until(t, "the host's cursor", func() bool {
		x := p.host(h.name)
		return x.Status == "active" && x.Cursor > 0 && x.Passed >= 3 && x.Accounts == 1
	})

	// The second account is one too many, until there may be more.
	bob := h.account("bob")
	bob.write(t, 3)
	testenv.Until(t, "bob is throttled", func() bool { return p.host(h.name).TooMany == 1 && p.account(bob).Status == "throttled" })
	if n := p.host(h.name).Rules["limit"]; n == 0 {
		t.Error("nothing was counted as over the limit")
	}
	p.do("setLimits", map[string]any{"host": h.name, "accounts": 5, "rate": 2.5})
	if l := p.host(h.name).Limits; l.Accounts != 5 || l.Rate != 2.5 {
		t.Errorf("%+v", l)
	}
	p.do("setLimits", map[string]any{"host": h.name, "accounts": 5})
	bob.write(t, 1)
	testenv.Until(t, "bob is caught up", func() bool { x := p.account(bob); return x.Status == "active" && x.Rev == string(bob.rev) })

	p.do("setPolicy", map[string]any{"host": h.name, "policy": "observe"})
	if x := p.host(h.name).Policy; x != "observe" {
		t.Error(x)
	}
	p.do("setPolicy", map[string]any{"host": h.name, "policy": "default"})
	if x := p.host(h.name).Policy; x != "strict" {
		t.Error(x)
	}

	// A banned host is not read, and is read on when the ban has ended.
	p.do("ban", map[string]any{"name": h.name, "reason": "a test"})
	if x := p.host(h.name).Status; x != "banned" {
		t.Error(x)
	}
	if status := p.ask("POST", "/admin/api/addHost", map[string]any{"host": h.name}, nil); status != http.StatusConflict {
		t.Errorf("a banned host was added: %d", status)
	}
	alice.write(t, 2)
	p.do("unban", map[string]any{"name": h.name})
	f.until("what came during the ban", func() bool { return f.revs[alice.did] == alice.rev })

	p.do("reconnect", map[string]any{"host": h.name})
	p.do("compare", map[string]any{"host": h.name})
	p.do("resetCursor", map[string]any{"host": h.name})
	alice.write(t, 1)
	f.until("what came after the reset", func() bool { return f.revs[alice.did] == alice.rev })
	testenv.Until(t, "something is read again", func() bool { return p.host(h.name).Rules["stale"] > 0 })
}

// What an administrator does with accounts and consumers has its effect.
func TestAdminAccounts(t *testing.T) {
	w := newWorld(t)
	h := w.host()
	alice, bob := h.account("alice"), h.account("bob")
	alice.write(t, 2)
	p := w.relay("-hosts", h.name, "-verbose")
	f := w.follow(p.url)
	f.until("alice", func() bool { return f.revs[alice.did] == alice.rev })

	p.do("takedown", map[string]any{"did": alice.did})
	f.until("the takedown", func() bool { return f.status[alice.did] == "takendown" })
	if x := p.account(alice); !x.TakenDown || x.Status != "takendown" {
		t.Errorf("%+v", x)
	}
	alice.write(t, 1)
	bob.write(t, 1)
	f.until("bob", func() bool { return f.revs[bob.did] == bob.rev })
	f.until("", func() bool {
		if f.revs[alice.did] == alice.rev {
			t.Error("a commit of a taken-down account was passed on")
		}
		return true
	})
	late := w.follow(p.url)
	late.until("bob", func() bool { return late.revs[bob.did] == bob.rev })
	late.until("", func() bool {
		if len(late.records[alice.did]) > 0 {
			t.Error("old events of a taken-down account were passed on")
		}
		return true
	})
	var taken struct {
		Takedowns []string `json:"takedowns"`
	}
	if p.ask("GET", "/admin/api/takedowns", nil, &taken); len(taken.Takedowns) != 1 {
		t.Errorf("%+v", taken)
	}
	p.do("restore", map[string]any{"did": alice.did})
	testenv.Until(t, "alice is back", func() bool { x := p.account(alice); return x.Status == "active" && x.Rev == string(alice.rev) })
	p.do("repair", map[string]any{"did": bob.did})
	testenv.Until(t, "bob is compared", func() bool { return p.account(bob).Status == "active" })

	// A consumer whose connection is ended comes back, with its cursor.
	var before, after consumersAnswer
	p.ask("GET", "/admin/api/consumers", nil, &before)
	if len(before.Consumers) != 2 {
		t.Fatalf("%+v", before)
	}
	p.do("endConsumer", map[string]any{"id": before.Consumers[0].ID})
	testenv.Until(t, "it comes back", func() bool {
		p.ask("GET", "/admin/api/consumers", nil, &after)
		return len(after.Consumers) == 2 && after.Consumers[0].ID != before.Consumers[0].ID
	})
	bob.write(t, 1)
	f.until("bob", func() bool { return f.revs[bob.did] == bob.rev })
	if status := p.ask("POST", "/admin/api/endConsumer", map[string]any{"id": before.Consumers[0].ID}, nil); status != http.StatusBadRequest {
		t.Errorf("it was ended twice: %d", status)
	}
	checkMetrics(t, p, h)
}

// checkMetrics looks at what Prometheus would.
func checkMetrics(t *testing.T, p *program, h *host) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", testPassword)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`relay_messages_total{kind="#commit",result="passed",rule=""} `, `relay_messages_total{kind="#commit",result="dropped",rule="takedown"} 1`,
		`relay_host_messages_total{host="` + h.name + `",result="passed"} `, `relay_hosts{status="active"} 1`, `relay_accounts{kind="all"} 2`,
		`relay_subscribers{form="firehose"} 2`, "relay_store_writable 1", "relay_event_newest_sequence ", "relay_database_bytes ",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

// What is wrong is refused, with a word.
func TestAdminRefuses(t *testing.T) {
	w := newWorld(t)
	p := w.relay()
	for _, x := range []struct {
		method, path string
		in           any
		want         int
	}{
		{"GET", "/admin/api/host?host=pds.example.com", nil, 404},
		{"GET", "/admin/api/account?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", nil, 404},
		{"GET", "/admin/api/account?did=alice", nil, 400},
		{"GET", "/admin/api/hosts?limit=0", nil, 400},
		{"GET", "/admin/api/nothing", nil, 404},
		{"POST", "/admin/api/nothing", map[string]any{}, 400},
		{"POST", "/admin/api/addHost", map[string]any{"host": "10.0.0.1"}, 400},
		{"POST", "/admin/api/addHost", map[string]any{"host": 1}, 400},
		{"POST", "/admin/api/addHost", strings.Repeat("x", 1<<17), 400},
		{"POST", "/admin/api/setPolicy", map[string]any{"host": "pds.example.com", "policy": "none"}, 400},
		{"POST", "/admin/api/setLimits", map[string]any{"host": "pds.example.com", "accounts": 0}, 400},
		{"POST", "/admin/api/setLimits", map[string]any{"host": "pds.example.com", "accounts": 1}, 404},
		{"POST", "/admin/api/takedown", map[string]any{"did": "x"}, 400},
		{"GET", "/admin/host?host=pds.example.com", nil, 404},
		{"GET", "/admin/nothing", nil, 404},
	} {
		if got := p.ask(x.method, x.path, x.in, nil); got != x.want {
			t.Errorf("%s %s %.80v: %d, not %d", x.method, x.path, x.in, got, x.want)
		}
	}
	// A form that another site has sent, with the password that the browser adds.
	post := func(header, value string) int {
		req, err := http.NewRequestWithContext(t.Context(), "POST", p.url+"/admin/do/ban", strings.NewReader("name=example.com"))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", testPassword)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set(header, value)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := post("Sec-Fetch-Site", "cross-site"); got != http.StatusForbidden {
		t.Errorf("another site's form: %d", got)
	}
	if got := post("Origin", "https://attacker.example"); got != http.StatusForbidden {
		t.Errorf("another site's form: %d", got)
	}
	if got := post("Sec-Fetch-Site", "same-origin"); got != http.StatusSeeOther {
		t.Errorf("our own form: %d", got)
	}
	wrong, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/admin", nil)
	if err != nil {
		t.Fatal(err)
	}
	wrong.SetBasicAuth("admin", "another password")
	res, err := http.DefaultClient.Do(wrong)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d", res.StatusCode)
	}
}

// The pages in a real browser: hosts are added, limited and banned, accounts taken down.
func TestBrowserPages(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	if browser.Find() == "" {
		chromium.Tab(t, browser.Options{}) // skips the test, before it has done much
	}
	w := newWorld(t)
	h := w.host()
	alice := h.account("alice")
	alice.write(t, 3)
	p := w.relay()
	f := w.follow(p.url)
	tab := chromium.Tab(t, browser.Options{Width: 1280, Height: 900})
	tab.Goto(strings.Replace(p.url, "http://", "http://admin:"+url.QueryEscape(testPassword)+"@", 1) + "/admin")
	tab.WaitFor("There is none.")
	if csp := tab.Header("content-security-policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self';") {
		t.Error(csp)
	}
	tab.Fill("Name of the host", h.name)
	tab.Submit("Follow")
	tab.WaitFor("The host is followed.")
	f.until("alice", func() bool { return f.revs[alice.did] == alice.rev })
	w.offline(p)
	tab.Goto(p.url + "/admin")
	tab.Audit("relay-hosts")
	tab.Submit(h.name)
	tab.Fill("Accounts", "7")
	tab.Submit("Set the limits")
	tab.WaitFor("The limits were changed.")
	tab.WaitFor("of 7")
	tab.Select("What becomes of messages that break a rule", "lenient")
	tab.Submit("Set the policy")
	tab.WaitFor("The policy was changed.")
	p.do("resetCursor", map[string]any{"host": h.name})
	testenv.Until(t, "drops", func() bool { return p.host(h.name).Rules["stale"] > 0 })
	tab.Reload()
	tab.Audit("relay-host")
	tab.Submit(string(alice.did))
	tab.Submit("Take it down")
	tab.WaitFor("The account is taken down.")
	f.until("the takedown", func() bool { return f.status[alice.did] == "takendown" })
	phone(t, tab)
	tab.Submit("Accounts")
	tab.WaitFor(string(alice.did))
	tab.Submit("Consumers")
	phone(t, tab)
	tab.Submit("Bans")
	tab.Fill("Host or domain", "<b>bad</b>.example")
	tab.Submit("Ban")
	tab.WaitFor("That did not work")
	phone(t, tab)
	tab.Back()
	tab.Fill("Host or domain", "bad.example")
	tab.Fill("Reason", "<script>alert(1)</script>")
	tab.Submit("Ban")
	tab.WaitFor("<script>alert(1)</script>")
	tab.Audit("relay-bans")
	tab.Submit("Unban bad.example")
	tab.WaitFor("There is no ban.")
	tab.Problems()
}

// phone looks whether a page fits on one.
func phone(t *testing.T, tab *browser.Tab) {
	t.Helper()
	tab.Resize(320, 900)
	for _, wide := range tab.TooWide() {
		t.Errorf("%s: %s", tab.URL(), wide)
	}
	tab.Resize(1280, 900)
}

// offline adds a host that cannot be reached, for the pages to show.
func (w *world) offline(p *program) {
	w.t.Helper()
	p.do("addHost", map[string]any{"host": "localhost:1"})
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		var h struct {
			Error string `json:"error"`
		}
		if p.ask("GET", "/admin/api/host?host=localhost:1", nil, &h); h.Error != "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Error("a host that is not there was reached")
}
