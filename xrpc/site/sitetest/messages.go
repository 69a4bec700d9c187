// Package sitetest tests packages of pages: they must be complete in every language, and
// accessible. Its [Tab] is a browser that shows everything to a test.
package sitetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/xrpc/site"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// Languages checks that all languages of a set have the same messages with the same placeholders.
func Languages(t *testing.T, set *site.Set) {
	t.Helper()
	english := set.Languages()[0]
	for _, l := range set.Languages()[1:] {
		for _, key := range english.Keys() {
			if !l.Has(key) {
				t.Errorf("%s lacks %s", l.Tag, key)
				continue
			}
			a, b := placeholder.FindAllString(english.Message(key), -1), placeholder.FindAllString(l.Message(key), -1)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: %s has %q, not %q", l.Tag, key, b, a)
			}
		}
		for _, key := range l.Keys() {
			if !english.Has(key) {
				t.Errorf("%s has %s, which English has not", l.Tag, key)
			}
		}
	}
}

var asked = regexp.MustCompile(`\.T "([^"]*)"`)

// Messages checks the pages in the current folder, whose files site.NewSet reads. Each message that
// the templates use must exist, and each existing message must be used by a template or by a string
// in the program. made lists messages whose keys the program composes.
func Messages(t *testing.T, set *site.Set, files fs.FS, made ...string) {
	t.Helper()
	if err := set.Check(); err != nil {
		t.Fatal(err)
	}
	english := set.Languages()[0]
	used := make(map[string]bool)
	for _, key := range made {
		used[key] = true
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range asked.FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
			if !english.Has(m[1]) {
				t.Errorf("%s asks for %s", name, m[1])
			}
		}
	}
	sources, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range sources {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				used[text] = true
			}
			return true
		})
	}
	text, err := fs.ReadFile(files, "messages/en.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if key, _, ok := strings.Cut(line, " = "); ok && line[0] != '#' && !used[key] {
			t.Errorf("nobody asks for %s", key)
		}
	}
}
