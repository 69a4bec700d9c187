package sitetest

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/site"
)

var (
	inputTag  = regexp.MustCompile(`<(?:input|select|textarea)\b[^>]*>`)
	anyTag    = regexp.MustCompile(`<(/?)([a-z0-9]+)\b[^>]*?(/?)>`)
	idOf      = regexp.MustCompile(` id="([^"]*)"`)
	refersTo  = regexp.MustCompile(`(?:for|aria-describedby|aria-labelledby)="([^"]*)"`)
	localLink = regexp.MustCompile(`href="#([^"]*)"`)
)

// Accessible checks a page in a language: it must have what a screen reader needs, no script or
// style of its own, all its messages, and matching tags. name is the name of the page in errors.
func Accessible(t *testing.T, name, lang, text string) {
	t.Helper()
	// The one script that a page may have.
	text = strings.Replace(text, `<script src="`+site.PasskeyScript()+`" defer></script>`, "", 1)
	for want, n := range map[string]int{"<h1>": 1, "<main ": 1, "<title>": 1, `<html lang="` + lang + `">`: 1, "<script": 0, " style=": 0, " onclick": 0, "ZgotmplZ": 0, "{": 0} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%s: %d times %s, want %d", name, got, want, n)
		}
	}
	ids := make(map[string]bool)
	for _, m := range idOf.FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("%s: the id %s is there twice", name, m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range refersTo.FindAllStringSubmatch(text, -1) {
		for id := range strings.FieldsSeq(m[1]) {
			if !ids[id] {
				t.Errorf("%s: nothing has the id %s", name, id)
			}
		}
	}
	for _, m := range localLink.FindAllStringSubmatch(text, -1) {
		if !ids[m[1]] {
			t.Errorf("%s: a link to nothing: %s", name, m[1])
		}
	}
	for _, tag := range inputTag.FindAllString(text, -1) {
		id := idOf.FindStringSubmatch(tag)
		if !strings.Contains(tag, `type="hidden"`) && !strings.Contains(tag, "aria-label=") && (id == nil || !strings.Contains(text, `<label`) || !strings.Contains(text, `for="`+id[1]+`"`)) {
			t.Errorf("%s: no label for %s", name, tag)
		}
	}
	var open []string
	for _, m := range anyTag.FindAllStringSubmatch(text, -1) {
		switch {
		case m[3] == "/" || strings.Contains(" meta link input img br ", " "+m[2]+" "):
		case m[1] == "":
			open = append(open, m[2])
		case len(open) == 0 || open[len(open)-1] != m[2]:
			t.Errorf("%s: </%s> closes %v", name, m[2], open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("%s: open: %v", name, open)
	}
}
