package site

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"sync"
)

//go:embed templates/*.html messages/*.txt
var sharedFiles embed.FS

// tags are the languages that there are; the first one is that of browsers that want none of them.
var tags = []string{"en", "de", "fr", "es", "ja", "pt"}

// Set has the pages of one package: its templates and messages, and those of this package. Pages
// and languages are parsed at their first use, since most programs show only few of them. It is
// safe for concurrent use.
type Set struct {
	files     fs.FS
	languages func() []Language

	mu        sync.Mutex
	templates map[string]*template.Template // that have been read
}

// NewSet returns the pages of a package. files has
//
//	templates/NAME.html   a page: {{define "body"}}…{{end}}
//	templates/parts.html  templates that its pages share; it may be missing
//	messages/TAG.txt      the messages in a language, for each of the six
//
// The layout is that of this package, with its templates "hidden" and "wrong". A page, or
// parts.html, may define "wide" as ` class="wide"`, and "nav" as the part before the main part.
//
// The first use panics if a file is malformed, a language is missing, or a message has the key of a
// message of this package. Files are embedded, so that is a fault of the program. [Set.Check] finds
// it in a test.
func NewSet(files fs.FS) *Set {
	set := &Set{files: files, templates: make(map[string]*template.Template)}
	set.languages = sync.OnceValue(func() []Language {
		list, err := readLanguages(files)
		if err != nil {
			panic("site: " + err.Error())
		}
		return list
	})
	return set
}

func readLanguages(files fs.FS) (list []Language, err error) {
	for _, tag := range tags {
		l, err := readLanguage(files, tag)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

// Check reads all files, and returns an error that says what is wrong.
func (s *Set) Check() error {
	if _, err := readLanguages(s.files); err != nil {
		return err
	}
	names, err := fs.Glob(s.files, "templates/*.html")
	if err != nil {
		return err
	}
	for _, path := range append(names, errorPath) {
		if _, err := s.read(path); err != nil {
			return err
		}
	}
	return nil
}

// errorPath comes without a package's parts, which may show what it has not.
const (
	errorPath = "templates/error.html"
	partsPath = "templates/parts.html"
)

// template returns the template of a page, or nil if there is none of that name.
func (s *Set) template(name string) *template.Template {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, read := s.templates[name]; read {
		return t
	}
	t, err := s.read("templates/" + name + ".html")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		panic("site: " + err.Error())
	}
	s.templates[name] = t
	return t
}

// read reads the template of a page.
func (s *Set) read(path string) (*template.Template, error) {
	layout, err := template.ParseFS(sharedFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	if path == errorPath {
		return layout.ParseFS(sharedFiles, path)
	}
	if _, err := fs.Stat(s.files, path); err != nil {
		return nil, err
	}
	if _, err := fs.Stat(s.files, partsPath); err == nil {
		if layout, err = layout.ParseFS(s.files, partsPath); err != nil {
			return nil, err
		}
	}
	if path == partsPath {
		return layout, nil
	}
	return layout.ParseFS(s.files, path)
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

// Languages returns the languages of the set, English first.
func (s *Set) Languages() []Language { return s.languages() }
