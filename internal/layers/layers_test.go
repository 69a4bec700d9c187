package layers

import (
	"bufio"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/pdskit/pdskit/"

// rule is a line of allow.txt.
type rule struct {
	layer   int
	pattern string // of packages below the module; "…/..." includes all below
	outside []string
	without []string // packages of ours
}

func (r rule) matches(pkg string) bool {
	prefix, all := strings.CutSuffix(r.pattern, "/...")
	return pkg == prefix || all && strings.HasPrefix(pkg, prefix+"/")
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	f, err := os.Open("allow.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		layer, err := strconv.Atoi(fields[0])
		if err != nil || len(fields) < 2 {
			t.Fatalf("allow.txt: %q", lines.Text())
		}
		r := rule{layer: layer, pattern: fields[1]}
		for _, f := range fields[2:] {
			if name, not := strings.CutPrefix(f, "!"); not {
				r.without = append(r.without, name)
			} else {
				r.outside = append(r.outside, f)
			}
		}
		rules = append(rules, r)
	}
	return rules
}

// ruleOf is the first rule that matches.
func ruleOf(rules []rule, pkg string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.matches(pkg) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

// pkg is a package of ours, or one that ours depend on.
type pkg struct {
	module  string // empty: the standard library's
	imports []string
}

// packages are all of them, by import path.
var packages = sync.OnceValues(func() (map[string]pkg, error) {
	cmd := exec.Command("go", "list", "-deps", "-f", `{{.ImportPath}} {{with .Module}}{{.Path}}{{else}}-{{end}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	all := map[string]pkg{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		all[f[0]] = pkg{strings.TrimPrefix(f[1], "-"), f[2:]}
	}
	return all, err
})

func list(t *testing.T) map[string]pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ours are the packages of the module that a pattern, such as "repo/...", matches.
func ours(t *testing.T, pattern string) (paths []string) {
	t.Helper()
	r := rule{pattern: pattern}
	for path, p := range list(t) {
		if p.module+"/" == module && (pattern == "..." || r.matches(strings.TrimPrefix(path, module))) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("there is no package %s", pattern)
	}
	return paths
}

// deps are the packages that those of the patterns depend on, and they themselves.
func deps(t *testing.T, patterns ...string) map[string]bool {
	t.Helper()
	all, found := list(t), map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		if found[path] {
			return
		}
		found[path] = true
		for _, i := range all[path].imports {
			visit(i)
		}
	}
	for _, pattern := range patterns {
		for _, path := range ours(t, pattern) {
			visit(path)
		}
	}
	return found
}

// standard reports whether an import path is of the standard library.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// TestImports holds every package's imports against allow.txt: of ours only
// those of layers above it (or of its own, which Go keeps free of cycles), of
// others' only those that its line names.
func TestImports(t *testing.T) {
	rules := readRules(t)
	for _, path := range ours(t, "...") {
		pkg := strings.TrimPrefix(path, module)
		own, ok := ruleOf(rules, pkg)
		if !ok {
			t.Errorf("%s is not in allow.txt", pkg)
			continue
		}
		for _, path := range list(t)[path].imports {
			if below, ours := strings.CutPrefix(path, module); ours {
				if r, _ := ruleOf(rules, below); r.layer > own.layer {
					t.Errorf("%s (layer %d) imports %s (layer %d)", pkg, own.layer, below, r.layer)
				}
			} else if !standard(path) && !slices.ContainsFunc(own.outside, func(o string) bool { return path == o || strings.HasPrefix(path, o+"/") }) {
				t.Errorf("%s imports %s, which allow.txt does not give it", pkg, path)
			}
		}
	}
}

// TestArrows checks that packages do not depend, by whatever way, on what allow.txt keeps from
// them.
func TestArrows(t *testing.T) {
	for _, r := range readRules(t) {
		if len(r.without) == 0 {
			continue
		}
		for _, name := range r.without {
			ours(t, name) // fails if it does not exist
		}
		for dep := range deps(t, r.pattern) {
			if name, ours := strings.CutPrefix(dep, module); ours && slices.Contains(r.without, name) {
				t.Errorf("%s depends on %s", r.pattern, name)
			}
		}
	}
}

// TestHeartIsLight checks that the heart pulls in neither HTTP, WebSockets nor a
// database, by whatever way.
func TestHeartIsLight(t *testing.T) {
	for _, pkg := range []string{"mst", "car", "commit", "crypto", "lexicon", "lexicon/resolve", "lexicon/data", "lexicon/syntax", "storage", "storage/memory", "storage/durable", "repo", "xrpc/atproto/api"} {
		have := deps(t, pkg)
		for _, heavy := range []string{"net/http", "database/sql", "github.com/coder/websocket", "github.com/ncruces/go-sqlite3", "github.com/ipld/go-car/v2"} {
			if have[heavy] {
				t.Errorf("%s depends on %s", pkg, heavy)
			}
		}
	}
}

// TestModules bounds how many modules of others come along with ours: each is code that somebody has
// to trust. Who raises a number says in the commit what for.
func TestModules(t *testing.T) {
	for what, most := range map[string]int{
		"mst car commit crypto lexicon repo/... storage storage/memory": 16,
		"xrpc/...":    28,
		"storage/...": 39,
		"...":         80, // with all examples and tools
	} {
		modules := map[string]bool{}
		for path := range deps(t, strings.Fields(what)...) {
			if m := list(t)[path].module; m != "" && m+"/" != module {
				modules[m] = true
			}
		}
		if len(modules) > most {
			t.Errorf("%s needs %d modules, at most %d", what, len(modules), most)
		}
	}
}
