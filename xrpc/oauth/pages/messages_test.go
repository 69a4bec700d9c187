package pages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// All languages have the same messages with the same placeholders.
func TestLanguagesAreComplete(t *testing.T) {
	english := languages[0]
	for _, l := range languages[1:] {
		for key, text := range english.messages {
			other, ok := l.messages[key]
			if !ok {
				t.Errorf("%s lacks %s", l.Tag, key)
				continue
			}
			a, b := placeholder.FindAllString(text, -1), placeholder.FindAllString(other, -1)
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%s: %s has %q, not %q", l.Tag, key, b, a)
			}
		}
		for key := range l.messages {
			if _, ok := english.messages[key]; !ok {
				t.Errorf("%s has %s, which English has not", l.Tag, key)
			}
		}
	}
	if len(languages) != 6 {
		t.Errorf("%d languages", len(languages))
	}
}

// Every message that is asked for is there, and every message is asked for.
func TestMessagesAreUsed(t *testing.T) {
	used := map[string]bool{"language": true}
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := templateFiles.ReadFile("templates/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\.T "([^"]*)"`).FindAllStringSubmatch(string(text), -1) {
			used[m[1]] = true
			if _, ok := languages[0].messages[m[1]]; !ok {
				t.Errorf("%s asks for %s", f.Name(), m[1])
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
	for _, key := range []string{"action.create", "action.update", "action.delete"} { // made of what is granted
		used[key] = true
	}
	for key := range languages[0].messages {
		if !used[key] {
			t.Errorf("nobody asks for %s", key)
		}
	}
}

func TestChooseLanguage(t *testing.T) {
	for _, x := range []struct{ locales, accept, want string }{
		{"", "", "en"}, {"", "de-DE,de;q=0.9,en;q=0.8", "de"}, {"", "sv,ja;q=0.5", "ja"}, {"", "fr;q=0.2, es;q=0.7", "es"}, {"", "pt-BR", "pt"},
		{"", "sv", "en"}, {"", "de;q=0", "en"}, {"fr-CA en", "de", "fr"}, {"sv", "de", "de"}, {"", "de;q=x,;;,=,fr", "fr"}, {"", "*", "en"},
		{"", strings.Repeat("x,", 100000) + "de", "en"},
	} {
		if got := chooseLanguage(x.locales, x.accept); got.Tag != x.want {
			t.Errorf("%q %.40q: %s, want %s", x.locales, x.accept, got.Tag, x.want)
		}
	}
}

func TestParseMessages(t *testing.T) {
	for _, bad := range []string{"x", "a = 1\na = 2", "a=1"} {
		if _, err := parseMessages(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// The colours of the style sheet have the contrast that WCAG 2 AA asks for, in both schemes.
func TestContrast(t *testing.T) {
	for i, block := range regexp.MustCompile(`:root\{[^}]*\}`).FindAllString(styleSheet, -1) {
		c := make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--([a-z-]+):(#[0-9a-f]{6})`).FindAllStringSubmatch(block, -1) {
			c[m[1]], _ = parseColour(m[2])
		}
		for _, x := range []struct {
			text, on string
			least    float64
		}{
			{"text", "bg", 4.5}, {"text", "card", 4.5}, {"soft", "card", 4.5}, {"soft", "bg", 4.5}, {"link", "card", 4.5}, {"link", "bg", 4.5}, {"bad", "card", 4.5},
			{"bad", "bad-bg", 4.5}, {"warn", "warn-bg", 4.5}, {"good", "card", 4.5}, {"line", "card", 3}, {"line", "bg", 3},
		} {
			if got := contrast(c[x.text], c[x.on]); got < x.least {
				t.Errorf("scheme %d: %s on %s has %.2f, less than %.1f", i, x.text, x.on, got, x.least)
			}
		}
	}
	for _, accent := range []string{"#000000", "#ffffff", "#1d4ed8", "#ffcc00", "#808080", "#ff0000"} {
		l := newLook(Brand{Accent: accent})
		on := regexp.MustCompile(`--on-accent:(#[0-9a-f]{6})`).FindStringSubmatch(l.style)
		a, _ := parseColour(accent)
		b, _ := parseColour(on[1])
		if got := contrast(a, b); got < 4.5 {
			t.Errorf("%s: %.2f", accent, got)
		}
	}
}

func TestBrandMisuse(t *testing.T) {
	for _, b := range []Brand{{Accent: "red"}, {Accent: "#12345"}, {Accent: "#12345g"}, {Logo: "javascript:x"}, {Terms: "example.com"}, {Home: "mailto:x@example.com"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is taken", b)
				}
			}()
			newLook(b)
		}()
	}
}
