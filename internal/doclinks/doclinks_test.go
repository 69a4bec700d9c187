package doclinks

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

var (
	// link matches [text](target), ![text](target), and the src and href of HTML.
	link    = regexp.MustCompile(`\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|(?:src|href|srcset)="([^"]+)"`)
	code    = regexp.MustCompile("`[^`]*`")
	heading = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)
	fence   = regexp.MustCompile("^\\s*(```|~~~)")
	// markup is what a heading's text has and its anchor does not.
	markup = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	other  = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

// page is what a Markdown file refers to and offers.
type page struct {
	links   []place
	anchors map[string]bool
}

type place struct {
	line   int
	target string
}

// parse reads links and anchors, without those in blocks and spans of code.
func parse(text string) page {
	p := page{anchors: map[string]bool{}}
	inCode := false
	for i, line := range strings.Split(text, "\n") {
		if fence.MatchString(line) {
			inCode = !inCode
			continue
		}
		if inCode || strings.HasPrefix(line, "    ") && !strings.Contains(line, "](") {
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			p.addAnchor(m[1])
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "`"), -1) {
			p.links = append(p.links, place{i + 1, m[1] + m[2]})
		}
	}
	return p
}

// addAnchor adds the anchor that GitHub gives a heading: lower case, without punctuation, spaces
// as hyphens, numbered if the page has had it.
func (p page) addAnchor(title string) {
	title = markup.ReplaceAllString(title, "$1")
	anchor := strings.ReplaceAll(other.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
	name := anchor
	for n := 1; p.anchors[name]; n++ {
		name = anchor + "-" + strconv.Itoa(n)
	}
	p.anchors[name] = true
}

// pages are the repository's Markdown files, by their path.
func pages(t *testing.T) map[string]page {
	t.Helper()
	all := map[string]page{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		all[path] = parse(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLinks follows the relative links of all Markdown files: to files, folders and headings.
func TestLinks(t *testing.T) {
	all, n := pages(t), 0
	for path, p := range all {
		for _, l := range p.links {
			u, err := url.Parse(l.target)
			if err != nil {
				t.Errorf("%s:%d: %v", path, l.line, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			n++
			file := path
			if u.Path != "" {
				file = filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path))
			}
			if rel, err := filepath.Rel(root, file); err != nil || strings.HasPrefix(rel, "..") {
				t.Errorf("%s:%d: %s is outside of the repository", path, l.line, l.target)
			} else if _, err := os.Stat(file); err != nil {
				t.Errorf("%s:%d: %s does not exist", path, l.line, l.target)
			} else if u.Fragment != "" && filepath.Ext(file) == ".md" && !all[file].anchors[u.Fragment] {
				t.Errorf("%s:%d: no heading of %s has the anchor #%s", path, l.line, file, u.Fragment)
			}
		}
	}
	if len(all) < 20 || n < 100 {
		t.Errorf("only %d pages with %d links: the test looks in the wrong place", len(all), n)
	}
}

// own matches an address of this repository: of a file of some version, or of a program that go can
// install.
var own = regexp.MustCompile(`github\.com/pdskit/pdskit/(?:(?:blob|tree)/[^/\s]+/([\w./-]+)|([\w/]+)@)`)

// TestOwnAddresses looks for what the Markdown files name in this repository by its address.
func TestOwnAddresses(t *testing.T) {
	n := 0
	for path := range pages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range own.FindAllStringSubmatch(string(text), -1) {
			n++
			if _, err := os.Stat(filepath.Join(root, m[1]+m[2])); err != nil {
				t.Errorf("%s: %s does not exist", path, m[0])
			}
			if programs, _ := filepath.Glob(filepath.Join(root, m[2], "main.go")); m[2] != "" && programs == nil {
				t.Errorf("%s: %s is no program", path, m[0])
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d addresses: the test looks for the wrong ones", n)
	}
}

func TestParse(t *testing.T) {
	p := parse("# Ein `Wort`, it's [here](a.md)\n\n## Twice\n## Twice\n" +
		"[a](b.md#c) `[no](no.md)` ![d](<e.png>)\n```\n[no](no.md)\n```\n<img src=\"f.png\" width=\"9\">\n")
	for _, a := range []string{"ein-wort-its-here", "twice", "twice-1"} {
		if !p.anchors[a] {
			t.Errorf("no anchor %q in %v", a, p.anchors)
		}
	}
	var got []string
	for _, l := range p.links {
		got = append(got, l.target)
	}
	if want := "a.md b.md#c e.png f.png"; strings.Join(got, " ") != want {
		t.Errorf("links %q, not %q", got, want)
	}
}
