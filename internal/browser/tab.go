package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/pdskit/pdskit/internal/exactjson"
)

// patience is how long a method waits for what it needs.
const patience = time.Minute

// Options say what a tab is like.
type Options struct {
	// Dial connects to the sites of a test's network, which speak HTTP without TLS at the other
	// end; the browser reaches them at https://. Loopback addresses lead to this machine all the
	// same. Nil: the browser uses the network of the machine.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Width and Height are those of the window in CSS pixels. Zero: 1000 × 900.
	Width, Height int
	// Dark is whether the person prefers dark pages.
	Dark bool
	// NoScript turns JavaScript off.
	NoScript bool
	// Language is the person's, as "de". Empty: English.
	Language string
}

// Tab is a tab of a browser. Its methods fail the test if they can't do what they say. A Tab is not
// safe for concurrent use; several are.
type Tab struct {
	t       testing.TB
	ctx     context.Context
	options Options

	mu        sync.Mutex
	documents map[network.RequestID]bool // requests for documents
	status    int                        // of the last document
	header    map[string]string
	problems  []string
	loads     int // how many pages were asked for
}

// Tab opens a tab of a new profile. It is closed when the test ends.
func (c *Chromium) Tab(t testing.TB, o Options) *Tab {
	t.Helper()
	if o.Width == 0 {
		o.Width = 1000
	}
	if o.Height == 0 {
		o.Height = 900
	}
	parent := c.started(t)
	profile := func(*target.CreateBrowserContextParams) {}
	if o.Dial != nil {
		address := serveProxy(t, o.Dial)
		profile = func(p *target.CreateBrowserContextParams) { p.ProxyServer = "http://" + address }
	}
	return open(t, parent, o, chromedp.WithNewBrowserContext(profile))
}

// Another opens another tab of the same profile.
func (tab *Tab) Another() *Tab {
	tab.t.Helper()
	return open(tab.t, tab.ctx, tab.options)
}

func open(t testing.TB, parent context.Context, o Options, more ...chromedp.ContextOption) *Tab {
	t.Helper()
	tab := &Tab{t: t, options: o, documents: make(map[network.RequestID]bool)}
	ctx, cancel := chromedp.NewContext(parent, append(more, chromedp.WithListener(tab.listen))...)
	tab.ctx = ctx
	t.Cleanup(func() {
		tab.report()
		chromedp.Cancel(ctx)
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("browser: a tab: %v", err)
	}
	tab.Resize(o.Width, o.Height)
	tab.SetDark(o.Dark)
	if o.NoScript {
		do(tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	}
	if o.Language != "" {
		do(tab, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": o.Language}})
	}
	return tab
}

// do runs a command of the browser's protocol.
func do[P, R any](tab *Tab, command cdp.Command[P, R], params P) R {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	out, err := chromedp.Call(ctx, command, params)
	if err != nil {
		tab.fatalf("%s: %v", command.Method, err)
	}
	return out
}

// Resize sets the size of the window, in CSS pixels.
func (tab *Tab) Resize(width, height int) {
	tab.t.Helper()
	tab.options.Width, tab.options.Height = width, height
	do(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(width), Height: int64(height), DeviceScaleFactor: 1})
}

// SetDark sets whether the person prefers dark pages.
func (tab *Tab) SetDark(dark bool) {
	tab.t.Helper()
	tab.options.Dark = dark
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	do(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// Goto opens an address, and returns when the page is there.
func (tab *Tab) Goto(address string) {
	tab.t.Helper()
	tab.load(func() {
		tab.t.Helper()
		out := do(tab, page.Navigate, page.NavigateParams{URL: address})
		if out.ErrorText != "" {
			tab.fatalf("%s: %s", address, out.ErrorText)
		}
	})
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.load(func() { tab.t.Helper(); do(tab, page.Reload, page.ReloadParams{}) })
}

// Back goes to the page before this one.
func (tab *Tab) Back() {
	tab.t.Helper()
	tab.load(func() { tab.t.Helper(); tab.Eval("void history.back()", nil) })
}

// Submit clicks and returns when the page that follows is there.
func (tab *Tab) Submit(name string) {
	tab.t.Helper()
	tab.load(func() { tab.t.Helper(); tab.Click(name) })
}

// load waits until what f begins has led to another page.
func (tab *Tab) load(f func()) {
	tab.t.Helper()
	tab.loads++
	tab.Eval(fmt.Sprintf("void (globalThis.pageBefore = %d)", tab.loads), nil)
	f()
	var at string
	tab.until("the next page", fmt.Sprintf("globalThis.pageBefore !== %d && document.readyState === 'complete' && location.href", tab.loads), &at)
	if strings.HasPrefix(at, "chrome-error:") {
		tab.fatalf("the page cannot be loaded")
	}
}

// URL returns the address of the page.
func (tab *Tab) URL() string {
	tab.t.Helper()
	var at string
	tab.Eval("location.href", &at)
	return at
}

// Status returns the HTTP status of the page.
func (tab *Tab) Status() int {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.status
}

// Header returns a header of the page; its name is in lower case.
func (tab *Tab) Header(name string) string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return tab.header[name]
}

// Eval evaluates an expression of JavaScript in the page, waits if it is a promise, and reads the
// result as JSON into out, if that isn't nil.
func (tab *Tab) Eval(expression string, out any) {
	tab.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		text, err := tab.eval(expression)
		if leaving(err) && time.Now().Before(deadline) {
			time.Sleep(interval)
			continue
		}
		if err == nil && out != nil {
			err = exactjson.Unmarshal(text, out)
		}
		if err != nil {
			tab.fatalf("%.200s: %v", expression, err)
		}
		return
	}
}

// thrown is what an expression has thrown.
type thrown string

func (e thrown) Error() string { return string(e) }

// leaving reports whether an expression was not evaluated since the page is about to be another
// one.
func leaving(err error) bool {
	var js thrown
	return err != nil && !errors.As(err, &js) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (tab *Tab) eval(expression string) (json.RawMessage, error) {
	yes := true
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	out, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes, UserGesture: &yes})
	if err != nil {
		return nil, err
	}
	if e := out.ExceptionDetails; e != nil {
		text := e.Text
		if e.Exception != nil && e.Exception.Description != "" {
			text = e.Exception.Description
		}
		return nil, thrown(text)
	}
	if len(out.Result.Value) == 0 {
		return json.RawMessage("null"), nil
	}
	return json.RawMessage(out.Result.Value), nil
}

// interval is how often a condition is looked at.
const interval = 10 * time.Millisecond

// until evaluates an expression until it is neither null, false, 0 nor "", and reads it into out.
func (tab *Tab) until(what, expression string, out any) {
	tab.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		text, err := tab.eval(expression)
		switch {
		case err != nil && !leaving(err):
			tab.fatalf("%s: %v", what, err)
		case err != nil:
		case string(text) != "null" && string(text) != "false" && string(text) != "0" && string(text) != `""`:
			if out != nil {
				if err := exactjson.Unmarshal(text, out); err != nil {
					tab.fatalf("%s: %v", what, err)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			tab.fatalf("%s does not come (%v)", what, err)
		}
		time.Sleep(interval)
	}
}

// fatalf ends the test with what the tab shows.
func (tab *Tab) fatalf(format string, args ...any) {
	tab.t.Helper()
	message := "browser: " + fmt.Sprintf(format, args...)
	if text, err := tab.eval(`location.href + "\n" + document.documentElement.innerText`); err == nil {
		var shown string
		exactjson.Unmarshal(text, &shown)
		message += fmt.Sprintf("\nat %.3000s", shown)
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, p := range tab.problems {
		message += "\n" + p
	}
	tab.t.Fatal(message)
}
