package browser

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
)

// listen notes what happens in the tab. The browser calls it for every event, in order.
func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	bad := func(format string, args ...any) { tab.problems = append(tab.problems, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument {
			tab.documents[e.RequestID] = true
		}
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			tab.status, tab.header = int(e.Response.Status), make(map[string]string)
			for name, value := range e.Response.Headers {
				tab.header[strings.ToLower(name)] = fmt.Sprint(value)
			}
		}
	case *log.EventEntryAdded:
		// The status of a page is no fault, since a test reads it; nor is an icon that nobody has
		// named.
		page, icon := tab.documents[e.Entry.NetworkRequestID], strings.HasSuffix(e.Entry.URL, "/favicon.ico")
		if e.Entry.Level == log.EntryLevelError && !page && !icon {
			bad("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		bad("exception: %s (%s)", text, e.ExceptionDetails.URL)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var text []string
			for _, a := range e.Args {
				if a.Description != "" {
					text = append(text, a.Description)
				} else {
					text = append(text, string(a.Value))
				}
			}
			bad("console: %s", strings.Join(text, " "))
		}
	}
}

// Problems returns what went wrong in pages since it was last called. It does not fail the test
// then.
func (tab *Tab) Problems() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	list := tab.problems
	tab.problems = nil
	return list
}

// report fails the test for the problems that it has not asked for.
func (tab *Tab) report() {
	for _, p := range tab.Problems() {
		tab.t.Errorf("browser: in a page: %s", p)
	}
}

// Cookies returns the cookies that the browser sends to the page.
func (tab *Tab) Cookies() []*http.Cookie {
	tab.t.Helper()
	var list []*http.Cookie
	for _, c := range do(tab, network.GetCookies, network.GetCookiesParams{}).Cookies {
		list = append(list, &http.Cookie{Name: c.Name, Value: c.Value, Domain: c.Domain, Path: c.Path, Secure: c.Secure, HttpOnly: c.HTTPOnly})
	}
	return list
}

// Cookie returns the value of a cookie that the browser sends to the page, empty if there is none.
func (tab *Tab) Cookie(name string) string {
	tab.t.Helper()
	for _, c := range tab.Cookies() {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// SetCookie gives the browser a cookie for the whole site of the page, as an attacker who can
// would.
func (tab *Tab) SetCookie(name, value string) {
	tab.t.Helper()
	yes := true
	do(tab, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: tab.URL(), Path: "/", Secure: &yes, HTTPOnly: &yes})
}

// ForgetCookies removes all cookies of the profile.
func (tab *Tab) ForgetCookies() {
	tab.t.Helper()
	do(tab, network.ClearBrowserCookies, struct{}{})
}
