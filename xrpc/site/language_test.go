package site

import (
	"strings"
	"testing"
	"testing/fstest"
)

// shared is a set without messages of its own.
var shared = func() *Set {
	files := fstest.MapFS{"templates/page.html": {Data: []byte(`{{define "body"}}{{end}}`)}}
	for _, tag := range tags {
		files["messages/"+tag+".txt"] = &fstest.MapFile{Data: []byte("title = x {name}\n")}
	}
	return NewSet(files)
}()

func TestChooseLanguage(t *testing.T) {
	for _, x := range []struct{ locales, accept, want string }{
		{"", "", "en"}, {"", "de-DE,de;q=0.9,en;q=0.8", "de"}, {"", "sv,ja;q=0.5", "ja"}, {"", "fr;q=0.2, es;q=0.7", "es"}, {"", "pt-BR", "pt"},
		{"", "sv", "en"}, {"", "de;q=0", "en"}, {"fr-CA en", "de", "fr"}, {"sv", "de", "de"}, {"", "de;q=x,;;,=,fr", "fr"}, {"", "*", "en"},
		{"", strings.Repeat("x,", 100000) + "de", "en"},
	} {
		if got := shared.Language(x.locales, x.accept); got.Tag != x.want {
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

func FuzzChooseLanguage(f *testing.F) {
	f.Add("en de", "fr;q=0.5, de")
	f.Fuzz(func(t *testing.T, locales, accept string) {
		if l := shared.Language(locales, accept); l.Tag == "" {
			t.Errorf("no language for %q %q", locales, accept)
		}
	})
}
