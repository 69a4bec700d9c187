package main

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Block is a piece of code in a page of the guide.
type Block struct {
	// Page and Name say where it is: install.md and package, for instance.
	Page, Name string
	// Why it is not run. Empty: it is.
	Why  string
	Text string
}

// Key is how a plan names the block: install/package.
func (b Block) Key() string { return strings.TrimSuffix(b.Page, ".md") + "/" + b.Name }

var marker = regexp.MustCompile(`^<!-- (run|not run): (.+) -->$`)

// readGuide reads the code of all pages: indented lines, after a comment that names them or says
// why they are not run. The table of contents has commands for developers, and is left out.
func readGuide(guide fs.FS) (list []Block, err error) {
	pages, err := fs.Glob(guide, "*.md")
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		if page == "README.md" {
			continue
		}
		text, err := fs.ReadFile(guide, page)
		if err != nil {
			return nil, err
		}
		blocks, err := readPage(page, string(text))
		if err != nil {
			return nil, err
		}
		list = append(list, blocks...)
	}
	return list, nil
}

// readPage reads the code of one page.
func readPage(page, text string) (list []Block, err error) {
	lines := strings.Split(text, "\n")
	var next *Block // what the last comment is about
	seen := map[string]bool{}
	for i := 0; i < len(lines); i++ {
		if m := marker.FindStringSubmatch(lines[i]); m != nil {
			if next != nil {
				return nil, fmt.Errorf("%s:%d: a comment without code before it", page, i+1)
			}
			next = &Block{Page: page, Name: m[2]}
			if m[1] == "not run" {
				next.Name, next.Why = "", m[2]
			} else if seen[m[2]] || !nameOfBlock.MatchString(m[2]) {
				return nil, fmt.Errorf("%s:%d: the name %q is there twice, or is none", page, i+1, m[2])
			}
			seen[m[2]] = true
			continue
		}
		if !strings.HasPrefix(lines[i], "    ") {
			if next != nil && lines[i] != "" {
				return nil, fmt.Errorf("%s:%d: text between a comment and its code", page, i+1)
			}
			continue
		}
		if next == nil {
			return nil, fmt.Errorf("%s:%d: code without a comment that names it: <!-- run: NAME --> or <!-- not run: WHY -->", page, i+1)
		}
		for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == ""); i++ {
			next.Text += strings.TrimPrefix(lines[i], "    ") + "\n"
		}
		i--
		next.Text = strings.TrimRight(next.Text, "\n") + "\n"
		list, next = append(list, *next), nil
	}
	if next != nil {
		return nil, fmt.Errorf("%s: a comment without code at the end", page)
	}
	return list, nil
}

var nameOfBlock = regexp.MustCompile(`^[a-z][a-z-]*$`)

// Names are what a reader of the guide puts in place of its examples. It is the only change that is
// made to the text of a command.
type Names map[string]string

// Apply puts the names in, the longest ones first.
func (n Names) Apply(text string) string {
	old := make([]string, 0, len(n))
	for name := range n {
		old = append(old, name)
	}
	slices.SortFunc(old, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, name := range old {
		pairs = append(pairs, name, n[name])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// guideOf returns the folder of the guide in a checkout.
func guideOf(root string) string { return path.Join(root, "examples/pds/guide") }
