package browser

import (
	"strings"

	"github.com/chromedp/cdproto/input"
)

// keys are those that Press knows: name, code of Windows, text.
var keys = map[string]struct {
	code int64
	text string
}{
	"Tab": {9, ""}, "Enter": {13, "\r"}, "Escape": {27, ""}, "Space": {32, " "}, "Delete": {46, ""},
	"ArrowLeft": {37, ""}, "ArrowUp": {38, ""}, "ArrowRight": {39, ""}, "ArrowDown": {40, ""},
}

// Press presses a key: "Tab", "Shift+Tab", "Enter", "Space", "Escape", "Delete" or "ArrowDown" and
// its like.
func (tab *Tab) Press(key string) {
	tab.t.Helper()
	name, shift := strings.CutPrefix(key, "Shift+")
	k, ok := keys[name]
	if !ok {
		tab.fatalf("no such key: %s", key)
	}
	p := input.DispatchKeyEventParams{Key: name, Code: name, WindowsVirtualKeyCode: k.code, NativeVirtualKeyCode: k.code, Text: k.text, Type: input.DispatchKeyEventTypeKeyDown}
	if name == "Space" {
		p.Key = " "
	}
	if k.text == "" {
		p.Type = input.DispatchKeyEventTypeRawKeyDown
	}
	if shift {
		p.Modifiers = 8
	}
	do(tab, input.DispatchKeyEvent, p)
	p.Type, p.Text = input.DispatchKeyEventTypeKeyUp, ""
	do(tab, input.DispatchKeyEvent, p)
}

// Type writes where the focus is.
func (tab *Tab) Type(text string) {
	tab.t.Helper()
	do(tab, input.InsertText, input.InsertTextParams{Text: text})
}

// Enter presses Enter and returns when the page that follows is there.
func (tab *Tab) Enter() {
	tab.t.Helper()
	tab.load(func() { tab.t.Helper(); tab.Press("Enter") })
}

// Focus is what has the focus.
type Focus struct {
	// Name is that of the element, empty if nothing has the focus.
	Name string
	// Tag is its HTML element, as "input".
	Tag string
	// Visible is whether a person can see that it has the focus: it is in the window, and has an
	// outline.
	Visible bool
}

// Focus returns what has the focus.
func (tab *Tab) Focus() Focus {
	tab.t.Helper()
	var f Focus
	tab.Eval(js(`const el = document.activeElement;
if (!el || el === document.body || el === document.documentElement) return { Name: '', Tag: '', Visible: false };
const r = el.getBoundingClientRect(), s = getComputedStyle(el);
return { Name: nameOf(el), Tag: el.tagName.toLowerCase(),
  Visible: r.width > 0 && r.height > 0 && r.bottom > 0 && r.right > 0 && r.top < innerHeight && r.left < innerWidth &&
    (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== 'none') }`), &f)
	return f
}

// FocusStart takes the focus away, so that the tabulator key leads to the first element of the
// page.
func (tab *Tab) FocusStart() {
	tab.t.Helper()
	tab.Eval("void (document.body.tabIndex = -1, document.body.focus(), document.body.blur(), document.body.removeAttribute('tabindex'))", nil)
}

// TabOrder presses the tabulator key through the whole page, and returns what had the focus.
func (tab *Tab) TabOrder() []Focus {
	tab.t.Helper()
	tab.FocusStart()
	var list []Focus
	first := ""
	for range 200 {
		tab.Press("Tab")
		f := tab.Focus()
		var at string
		tab.Eval(`(() => { let el = document.activeElement, path = ''; for (; el && el !== document.body; el = el.parentElement) path = [...el.parentElement.children].indexOf(el) + '/' + path; return path })()`, &at)
		if at == "" || at == first {
			return list
		}
		if first == "" {
			first = at
		}
		list = append(list, f)
	}
	tab.fatalf("the tabulator key comes to no end")
	return nil
}
