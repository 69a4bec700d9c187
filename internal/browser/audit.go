package browser

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/page"

	"github.com/pdskit/pdskit/internal/testenv"
)

// Axe looks with axe-core for what keeps people from using the page: all rules of WCAG 2.2 at the
// levels A and AA, and the best practices. It returns what it has found.
func (tab *Tab) Axe() []string {
	tab.t.Helper()
	var there bool
	if tab.Eval("'axe' in globalThis", &there); !there {
		source, err := os.ReadFile(filepath.Join(testenv.NodeModules(tab.t, "axe-core"), "axe-core", "axe.min.js"))
		if err != nil {
			tab.t.Fatal(err)
		}
		tab.Eval(string(source)+";void 0", nil)
	}
	var found []struct {
		ID     string `json:"id"`
		Impact string `json:"impact"`
		Help   string `json:"help"`
		Nodes  []struct {
			HTML    string `json:"html"`
			Summary string `json:"failureSummary"`
		} `json:"nodes"`
	}
	tab.Eval(`axe.run(document, { resultTypes: ['violations'] }).then(r => r.violations)`, &found)
	var list []string
	for _, f := range found {
		for _, n := range f.Nodes {
			list = append(list, fmt.Sprintf("%s (%s): %s: %.300s: %s", f.ID, f.Impact, f.Help, n.HTML, n.Summary))
		}
	}
	return list
}

// TooWide returns the elements that stick out of the window to the right, if the page can be
// scrolled sideways.
func (tab *Tab) TooWide() []string {
	tab.t.Helper()
	var list []string
	tab.Eval(`(() => {
const d = document.scrollingElement, out = [];
if (d.scrollWidth <= d.clientWidth) return out;
for (const el of document.querySelectorAll('body *')) if (el.getBoundingClientRect().right > d.clientWidth + 0.5) out.push(el.outerHTML.slice(0, 120));
return out.length ? out : ['the page is ' + d.scrollWidth + ' pixels wide'] })()`, &list)
	return list
}

// Audit looks at the page as people use it: light and dark, and 320 pixels wide. A problem fails
// the test, but does not end it. Name says which page it is; pictures are written as by
// [Tab.Screenshot].
func (tab *Tab) Audit(name string) {
	tab.t.Helper()
	old := tab.options
	for _, dark := range []bool{false, true} {
		tab.SetDark(dark)
		for _, v := range tab.Axe() {
			tab.t.Errorf("%s, %s: %s", name, tab.scheme(), v)
		}
		tab.Screenshot(name)
	}
	tab.Resize(320, old.Height)
	for _, v := range tab.TooWide() {
		tab.t.Errorf("%s, 320 pixels wide: %s", name, v)
	}
	for _, dark := range []bool{true, false} {
		tab.SetDark(dark)
		tab.Screenshot(name)
	}
	tab.SetDark(old.Dark)
	tab.Resize(old.Width, old.Height)
}

func (tab *Tab) scheme() string {
	if tab.options.Dark {
		return "dark"
	}
	return "light"
}

// Screenshot writes a picture of the whole page as NAME-SCHEME-WIDTH.png to the folder that the
// environment variable PDSKIT_SCREENSHOTS names. If it names none, nothing is done.
func (tab *Tab) Screenshot(name string) {
	tab.t.Helper()
	folder := os.Getenv("PDSKIT_SCREENSHOTS")
	if folder == "" {
		return
	}
	yes := true
	out := do(tab, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &yes})
	file := filepath.Join(folder, fmt.Sprintf("%s-%s-%d.png", name, tab.scheme(), tab.options.Width))
	if err := os.WriteFile(file, out.Data, 0o666); err != nil {
		tab.fatalf("%v", err)
	}
}
