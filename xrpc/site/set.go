package site

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"strings"
)

//go:embed templates/*.html messages/*.txt
var sharedFiles embed.FS

// tags are the languages that there are; the first one is that of browsers that want none of them.
var tags = []string{"en", "de", "fr", "es", "ja", "pt"}

// Set are the pages of one package: its templates and messages, with those that all packages have.
type Set struct {
	templates map[string]*template.Template
	languages []Language
}

// NewSet reads the pages of a package. files has
//
//	templates/NAME.html   a page: {{define "body"}}…{{end}}
//	templates/parts.html  templates that its pages have in common; it may be missing
//	messages/TAG.txt      the messages in a language, for each of the six
//
// The layout is that of this package, with its templates "hidden" and "wrong". A page, or
// parts.html, may define "wide" as ` class="wide"`, and "nav" as what comes before the main part.
// NewSet panics if a file is malformed, a language is missing, or a message has a key that is one of
// this package: files are embedded, so that is a mistake of the program.
func NewSet(files fs.FS) *Set {
	set, err := readSet(files)
	if err != nil {
		panic("site: " + err.Error())
	}
	return set
}

func readSet(files fs.FS) (*Set, error) {
	set := &Set{templates: make(map[string]*template.Template)}
	for _, tag := range tags {
		l, err := readLanguage(files, tag)
		if err != nil {
			return nil, err
		}
		set.languages = append(set.languages, l)
	}
	layout, err := template.ParseFS(sharedFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	add := func(files fs.FS, path string) error {
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(files, path)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "templates/"), ".html")
		set.templates[name] = t
		return err
	}
	// The page of an error comes without the parts, which may show what it has not.
	if err := add(sharedFiles, "templates/error.html"); err != nil {
		return nil, err
	}
	if _, err := fs.Stat(files, "templates/parts.html"); err == nil {
		if layout, err = layout.ParseFS(files, "templates/parts.html"); err != nil {
			return nil, err
		}
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	for _, path := range names {
		if path == "templates/parts.html" {
			continue
		}
		if err := add(files, path); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// readLanguage reads the messages of a language: ours and those of the package.
func readLanguage(files fs.FS, tag string) (l Language, err error) {
	path := "messages/" + tag + ".txt"
	text, err := sharedFiles.ReadFile(path)
	if err != nil {
		return l, err
	}
	messages, err := parseMessages(string(text))
	if err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	l = Language{Tag: tag, Name: messages["language"], messages: messages}
	if text, err = fs.ReadFile(files, path); err != nil {
		return l, err
	}
	own, err := parseMessages(string(text))
	if err != nil {
		return l, fmt.Errorf("%s: %w", path, err)
	}
	for key, text := range own {
		if _, twice := messages[key]; twice {
			return l, fmt.Errorf("%s: %s is a message that all pages have", path, key)
		}
		messages[key] = text
	}
	return l, nil
}

// Languages are the languages of the set, English first.
func (s *Set) Languages() []Language { return s.languages }
