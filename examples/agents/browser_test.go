package main

import (
	"testing"

	"github.com/pdskit/pdskit/internal/browser"
)

// supervised starts the program in a child, which is started again when it was killed.
func supervised(t *testing.T, o options) (url string) {
	t.Helper()
	var err error
	o.data = t.TempDir()
	if o.listen, err = address("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := contextOf(t)
	ended := make(chan error, 1)
	go func() { ended <- supervise(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	waitFor(t, o.listen)
	return "http://" + o.listen
}

// TestBrowserPage: the page shows what goes on, in a real browser; an agent and the process are killed by
// their buttons, and the page goes on by itself.
func TestBrowserPage(t *testing.T) {
	if browser.Find() == "" {
		chromium.Tab(t, browser.Options{}) // skips the test, before it has done much
	}
	o, err := parse([]string{"-every", "250ms", "-pace", "300ms", "-lease", "1s"})
	if err != nil {
		t.Fatal(err)
	}
	url := supervised(t, o)
	p := chromium.Tab(t, browser.Options{Width: 1280, Height: 900})
	p.Goto(url + "/")
	p.WaitFor("Live")
	p.WaitFor("acceptance")
	p.WaitFor("#task-list img")
	p.Click("Kill Bo")
	p.WaitFor(".cards .killed")
	p.WaitFor("given up after")
	p.Fill("Words, or something like them", "harbour waves")
	p.Click("Search")
	p.WaitFor("#hits mark")
	p.Screenshot("agents")
	p.SetDark(true)
	p.Screenshot("agents")
	p.Resize(390, 844)
	p.Screenshot("agents-phone")
	p.SetDark(false)
	p.Screenshot("agents-phone")
	if wide := p.TooWide(); len(wide) > 0 {
		t.Error(wide)
	}
	p.Resize(1280, 900)
	for _, f := range p.TabOrder() {
		if !f.Visible || f.Name == "" {
			t.Errorf("the focus is on %+v", f)
		}
	}
	if problems := p.Axe(); len(problems) > 0 {
		t.Error(problems)
	}
	p.SetDark(true)
	if problems := p.Axe(); len(problems) > 0 {
		t.Error(problems)
	}
	var before, after string
	p.Eval("document.getElementById('process').textContent", &before)
	p.Click("Kill the process")
	p.WaitFor("it comes back")
	p.WaitFor("Live")
	p.Problems() // the connection broke, as it was to
	eventually(t, func() bool {
		p.Eval("document.getElementById('process').textContent", &after)
		return len(after) > 0 && after[:14] != before[:14]
	})
}
