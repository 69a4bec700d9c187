package browser

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/input"
)

//go:embed elements.js
var elements string

// js is an expression that has the functions of elements.js. The values stand for the variables a,
// b, … in it.
func js(body string, values ...any) string {
	var b strings.Builder
	b.WriteString("(() => {\n" + elements)
	for i, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "const %c = %s;\n", 'a'+i, text)
	}
	b.WriteString(body + "\n})()")
	return b.String()
}

// wait evaluates then once an element of a name is there, as the variable el, until it is true; the
// values are c, d, …
func (tab *Tab) wait(kind, name, then string, out any, values ...any) {
	tab.t.Helper()
	tab.until(fmt.Sprintf("%s %q", kind, name), js(`const el = find(a, b); if (!el) return null; `+then, append([]any{kind, name}, values...)...), out)
}

type position struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Click clicks a button, a link or a box. It does not wait for what follows: [Tab.Submit] does.
func (tab *Tab) Click(name string) {
	tab.t.Helper()
	var at position
	tab.wait("press", name, "return point(el)", &at)
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		do(tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at.X, Y: at.Y, Button: input.MouseButtonLeft, ClickCount: 1})
	}
}

// Fill writes into a field in the place of what is there.
func (tab *Tab) Fill(name, value string) {
	tab.t.Helper()
	tab.wait("field", name, `if (el.disabled || el.readOnly) throw new Error('the field is read-only');
el.scrollIntoView({ block: 'center', behavior: 'instant' }); el.focus(); el.select(); return document.activeElement === el`, nil)
	if value == "" {
		tab.Press("Delete")
		return
	}
	do(tab, input.InsertText, input.InsertTextParams{Text: value})
	var got string
	tab.Eval("document.activeElement.value", &got)
	if got != value {
		tab.fatalf("the field %q has %q, not %q", name, got, value)
	}
}

// Value returns what a field has.
func (tab *Tab) Value(name string) string {
	tab.t.Helper()
	var v []string
	tab.wait("field", name, "return [el.value]", &v)
	return v[0]
}

// Select chooses an item of a list by its text.
func (tab *Tab) Select(name, item string) {
	tab.t.Helper()
	tab.wait("field", name, `const o = [...el.options].find(o => tidy(o.textContent) === c); if (!o) throw new Error('no item ' + c);
el.value = o.value; el.dispatchEvent(new Event('input', {bubbles: true})); el.dispatchEvent(new Event('change', {bubbles: true})); return true`, nil, item)
}

// Check ticks a box, or unticks it.
func (tab *Tab) Check(name string, on bool) {
	tab.t.Helper()
	var state []bool
	tab.wait("field", name, "return [el.checked]", &state)
	if state[0] != on {
		tab.Click(name)
		tab.wait("field", name, "return el.checked === c", nil, on)
	}
}

// Has reports whether the page has a field, button or link of a name now.
func (tab *Tab) Has(name string) bool {
	tab.t.Helper()
	var has bool
	tab.Eval(js(`try { return !!(find('press', a) || find('field', a)) } catch { return true }`, name), &has)
	return has
}

// Names returns the names of the buttons, links and boxes of the page.
func (tab *Tab) Names() []string {
	tab.t.Helper()
	var list []string
	tab.Eval(js(`return names('press')`), &list)
	return list
}

// Text returns the text of the page that can be seen.
func (tab *Tab) Text() string {
	tab.t.Helper()
	var text string
	tab.Eval("document.body.innerText", &text)
	return text
}

// TextOf returns the text of the first element that a CSS selector finds.
func (tab *Tab) TextOf(selector string) string {
	tab.t.Helper()
	var text []string
	tab.until(fmt.Sprintf("an element %q", selector), js(`const el = document.querySelector(a); return el && [tidy(el.innerText)]`, selector), &text)
	return text[0]
}

// WaitFor waits until the page shows a text. A text that begins with one of "#", "." and "[" is a
// CSS selector, of an element that can be seen.
func (tab *Tab) WaitFor(text string) {
	tab.t.Helper()
	tab.until(fmt.Sprintf("%q", text), js(`return /^[#.[]/.test(a) ? [...document.querySelectorAll(a)].some(shown) : tidy(document.body?.innerText).includes(tidy(a))`, text), nil)
}

// WaitForURL waits until the page is one whose address begins with something.
func (tab *Tab) WaitForURL(prefix string) {
	tab.t.Helper()
	tab.until("the address "+prefix, js(`return document.readyState === 'complete' && location.href.startsWith(a)`, prefix), nil)
}
