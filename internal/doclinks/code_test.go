package doclinks

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// guide has a test of its own, examples/pds/deploy/test, which runs its commands.
const guide = "examples/pds/guide/"

// otherPrograms are commands that no test runs as documents give them, and why.
var otherPrograms = map[string]string{
	".ci/fixtures": "loads files", ".ci/run": "runs the tests",
	"git": "loads repositories", "npm": "loads packages", "npx": "loads packages, and needs an account of Cloudflare",
	"apt-get": "changes the machine", "systemctl": "changes the machine", "editor": "asks", "docker": "needs Docker",
	"createuser": "needs PostgreSQL", "createdb": "needs PostgreSQL",
	"pg_basebackup": "needs PostgreSQL; TestPointInTimeRestore of examples/pds does the same",
	"pg_ctl":        "needs PostgreSQL; TestPointInTimeRestore of examples/pds does the same",
	"promtool":      "tests of examples/pds/internal/server give it the same files",
	"./build":       "tests of examples/worker/command run it",
	"pds":           "TestGuideCommands of examples/pds compares it with the program's help",
	"cat":           "changes nothing", "cp": "copies", "chmod": "of a copy", "date": "changes nothing", "install": "copies", "sed": "cuts an answer",
	"touch": "makes a file", "export": "sets a variable",
}

// noCommands are blocks that are no commands: page and first line, and what they are.
var noCommands = map[string]string{
	"ARCHITECTURE.md: createRecord            xrpc/atproto: who, what, valid?":                                                      "a drawing",
	"docs/groupcommit.md: A  ──step──┐ turn                          ┌─ returns":                                                    "a drawing",
	"docs/sync.md: tree after  +  inverse of the operations  =  tree before":                                                        "a formula",
	"docs/sync.md: known root ── message 1 ──▶ root ── message 2 ──▶ root …":                                                        "a drawing",
	"examples/agents/README.md: Ada's alarm is due ─► brain: what is to be done?":                                                   "a drawing",
	"examples/agents/README.md: $ go run ./examples/agents -chaos 5m":                                                               "what a command has printed",
	"examples/pds/nodes.md: archive_mode = on":                                                                                      "settings of PostgreSQL; TestPointInTimeRestore of examples/pds has the same",
	"examples/relay/README.md: relay.example.com {":                                                                                 "a Caddyfile, for a name with a certificate",
	"examples/statusphere/README.md: browser ──── GET /, POST /status ────► internal/web ── OAuth, createRecord ──► somebody's PDS": "a drawing",
	"examples/statusphere/README.md: status.example.com {":                                                                          "a Caddyfile, for a name with a certificate",
	"examples/worker/README.md: request ─▶ Worker (edge/worker.mjs) ─▶ the Durable Object of the host name":                         "a drawing",
	"examples/worker/README.md: ┌─▶ account (its DID) ──┐   records, blobs, sessions, keys of one account":                          "a drawing",
	`storage/cloudflare/README.md: import "./wasm_exec.js";`:                                                                        "a Worker; tests of storage/cloudflare run one of their own",
	"storage/cloudflare/README.md: slim=github.com/pdskit/pdskit/storage/cloudflare/slim":                                           "tests of storage/cloudflare build their programs in this way (internal/workerd)",
	"storage/cloudflare/README.md: GOOS=js GOARCH=wasm go build -trimpath -ldflags '-s -w' -o main.wasm .":                          "tests of storage/cloudflare build their programs in this way (internal/workerd)",
}

// block is code in a page: fenced, or indented after an empty line.
type block struct {
	line       int
	lang, text string
}

// first is the first line, as noCommands has it.
func (b block) first() string {
	line, _, _ := strings.Cut(b.text, "\n")
	return strings.TrimSpace(line)
}

func blocks(text string) (list []block) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		b := block{line: i + 1}
		switch {
		case fence.MatchString(lines[i]):
			b.lang = strings.TrimLeft(lines[i], " `~")
			for i++; i < len(lines) && !fence.MatchString(lines[i]); i++ {
				b.text += lines[i] + "\n"
			}
		case strings.HasPrefix(lines[i], "    ") && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			for ; i < len(lines) && (strings.HasPrefix(lines[i], "    ") || lines[i] == ""); i++ {
				b.text += lines[i] + "\n"
			}
			i--
		default:
			continue
		}
		list = append(list, b)
	}
	return list
}

// span matches a command of go between backquotes.
var span = regexp.MustCompile("`((?:[A-Z0-9_]+=[^\\s`]+\\s+)*(?:cd \\w+ && )?go\\s+(?:run|test|build|install|get)\\s[^`]+)`")

// sources are the repository's Go files by folder, without a slash at the end.
var sources = sync.OnceValues(func() (map[string][]string, error) {
	all := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch name := ""; {
		case err != nil:
			return err
		case d.IsDir():
			if name = d.Name(); name == "node_modules" || name == "testdata" || strings.HasPrefix(name, ".") && path != root {
				return fs.SkipDir
			}
		case strings.HasSuffix(path, ".go"):
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dir, _ := filepath.Rel(root, filepath.Dir(path))
			dir = filepath.ToSlash(dir)
			all[dir] = append(all[dir], string(text))
		}
		return nil
	})
	return all, err
})

// in are the sources of a folder, or of all below it.
func in(all map[string][]string, dir string, below bool) (list []string) {
	for d, files := range all {
		if d == dir || below && (dir == "." || strings.HasPrefix(d, dir+"/")) {
			list = append(list, files...)
		}
	}
	return list
}

// TestCode looks at all code of all pages. Go code is part of a program or test of the repository.
// Commands of go name packages, flags and tests that there are; calls with curl name methods that
// there are. What is neither has its reason above.
func TestCode(t *testing.T) {
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	var programs strings.Builder // on a line each, with single spaces
	for _, files := range all {
		for _, text := range files {
			for line := range strings.Lines(text) {
				programs.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
			}
		}
	}
	used, n := map[string]bool{}, 0
	for path := range pages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		var prose strings.Builder
		c := commands{t: t, all: all, page: rel, used: used}
		for _, b := range blocks(string(text)) {
			n++
			why := rel + ": " + b.first()
			switch {
			case noCommands[why] != "":
				used[why] = true
			case b.lang == "go":
				var code strings.Builder
				for line := range strings.Lines(b.text) {
					code.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
				}
				if !strings.Contains(programs.String(), code.String()) {
					t.Errorf("%s:%d: code that is in no program and no test", rel, b.line)
				}
			case b.lang == "json":
				for d := json.NewDecoder(strings.NewReader(b.text)); ; {
					var v any
					if err := d.Decode(&v); err == io.EOF {
						break
					} else if err != nil {
						t.Errorf("%s:%d: %v", rel, b.line, err)
						break
					}
				}
			case strings.HasPrefix(rel, guide) && rel != guide+"README.md":
			default:
				c.line = b.line
				c.block(b.text)
			}
		}
		fenced := false
		for line := range strings.Lines(string(text)) {
			if fence.MatchString(line) {
				fenced = !fenced
			} else if !fenced && !strings.HasPrefix(line, "    ") {
				prose.WriteString(line)
			}
		}
		for _, m := range span.FindAllStringSubmatch(prose.String(), -1) {
			n++
			before, _, _ := strings.Cut(string(text), m[0])
			c.line = 1 + strings.Count(before, "\n")
			c.block(strings.ReplaceAll(m[1], "\n", " "))
		}
	}
	for _, why := range []map[string]string{noCommands, otherPrograms} {
		for key := range why {
			if !used[key] {
				t.Errorf("no page has %q any more", key)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d pieces of code: the test looks in the wrong place", n)
	}
}

// commands looks at the commands of a page.
type commands struct {
	t    *testing.T
	all  map[string][]string
	page string
	line int
	used map[string]bool
}

func (c *commands) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s:%d: "+format, append([]any{c.page, c.line}, args...)...)
}

var (
	// environment are lines of an environment file of the reference server: TestGuideVariables of
	// examples/pds looks at their names.
	environment = regexp.MustCompile(`(?m)^\s*PDS_[A-Z0-9_]+=\S*$`)
	// assigns matches the variable before a command.
	assigns = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)
)

// variable sees that a variable of ours is one that a program reads.
func (c *commands) variable(assignment string) {
	name, _, _ := strings.Cut(assignment, "=")
	ours := regexp.MustCompile(`^(PDSKIT|TAP|RELAY|AGENTS)_`).MatchString(name)
	if ours && !slices.ContainsFunc(in(c.all, ".", true), func(s string) bool { return strings.Contains(s, name) }) {
		c.errorf("there is no variable %s", name)
	}
}

// block looks at lines of commands, or of an environment file.
func (c *commands) block(text string) {
	dir, built := ".", map[string]string{} // where go is, and the folders of programs that it has built
	for _, words := range split(environment.ReplaceAllString(text, "")) {
		for len(words) > 0 && assigns.MatchString(words[0]) {
			c.variable(words[0])
			words = words[1:]
		}
		switch {
		case len(words) == 0, strings.HasPrefix(words[0], "-"): // what comes after $()
		case words[0] == "cd":
			if len(in(c.all, words[1], true)) > 0 { // not that of a clone
				dir = words[1]
			}
		case words[0] == "go" && len(words) > 1:
			c.goCommand(dir, words[1:], built)
		case words[0] == "curl":
			c.curl(words[1:])
		case built[words[0]] != "":
			c.flags(built[words[0]], words[1:])
		case otherPrograms[words[0]] != "":
			c.used[words[0]] = true
		default:
			c.errorf("no test knows the command %q", words)
		}
	}
}

// goCommand looks at a command of go that is given in a folder.
func (c *commands) goCommand(dir string, words []string, built map[string]string) {
	var patterns [][2]string // a flag, and the names that it chooses
	var packages, rest []string
	output := ""
	command := words[0]
	for words = words[1:]; len(words) > 0; words = words[1:] {
		name, value, ok := strings.Cut(words[0], "=")
		if !strings.HasPrefix(name, "-") {
			packages = append(packages, words[0])
			if command == "run" {
				rest = words[1:]
				break
			}
			continue
		}
		if !slices.Contains([]string{"-v", "-short", "-race", "-trimpath"}, name) && !ok {
			if len(words) < 2 {
				c.errorf("%s without a value", name)
				return
			}
			words, value = words[1:], words[1]
		}
		switch name {
		case "-run", "-bench", "-fuzz", "-skip":
			patterns = append(patterns, [2]string{name, value})
		case "-o":
			output = value
		case "-v", "-short", "-race", "-trimpath", "-count", "-benchtime", "-fuzztime", "-timeout":
		default:
			c.errorf("go %s has no flag %s, or this test does not know it", command, name)
		}
	}
	if len(packages) == 0 {
		c.errorf("go %s without a package", command)
	}
	for _, name := range packages {
		name, _, _ = strings.Cut(name, "@")
		if name == "github.com/pdskit/pdskit" {
			continue
		}
		name, own := strings.CutPrefix(name, "github.com/pdskit/pdskit/")
		if !own && name[0] != '.' {
			continue // another module, from the network
		}
		pkg, below := strings.CutSuffix(name, "/...")
		if pkg = filepath.ToSlash(filepath.Join(dir, pkg)); name == "." && dir == "." {
			pkg = filepath.ToSlash(filepath.Dir(c.page))
		}
		files := in(c.all, pkg, below)
		if len(files) == 0 {
			c.errorf("there is no package %s", name)
		}
		for _, p := range patterns {
			c.chosen(p[0], p[1], pkg, files)
		}
		if command == "run" || output != "" {
			if !slices.ContainsFunc(files, func(s string) bool { return strings.Contains("\n"+s, "\npackage main\n") }) {
				c.errorf("%s is no program", name)
			}
			built["./"+output] = pkg
			c.flags(pkg, rest)
		}
	}
}

// declared matches what go test can run.
var declared = regexp.MustCompile(`(?m)^func ((Test|Benchmark|Fuzz|Example)\w*)\(`)

// chosen sees that a pattern chooses something of a package's tests.
func (c *commands) chosen(flag, pattern, pkg string, files []string) {
	if pattern, _, _ = strings.Cut(pattern, "/"); pattern == "^$" {
		return
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		c.errorf("%s: %v", flag, err)
		return
	}
	kinds := map[string][]string{"-bench": {"Benchmark"}, "-fuzz": {"Fuzz"}}[flag]
	if kinds == nil {
		kinds = []string{"Test", "Fuzz", "Example"}
	}
	n := 0
	for _, text := range files {
		for _, m := range declared.FindAllStringSubmatch(text, -1) {
			if slices.Contains(kinds, m[2]) && re.MatchString(m[1]) {
				n++
			}
		}
	}
	if n == 0 || flag == "-fuzz" && n > 1 { // go fuzzes one at a time
		c.errorf("%s %s chooses %d functions in %s", flag, pattern, n, pkg)
	}
}

// TestNames looks for the tests and variables that pages name.
func TestNames(t *testing.T) {
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	code := strings.Join(in(all, ".", true), "\n")
	for _, path := range []string{"examples/worker/command/files/build", ".ci/fixtures", ".ci/run"} {
		script, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		code += "\n" + string(script)
	}
	n := 0
	for path := range pages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names.FindAllString(string(text), -1) {
			if n++; !strings.Contains(code, name) { // also the beginning of several
				t.Errorf("%s: there is no %s", path, name)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d names: the test looks for the wrong ones", n)
	}
}

var names = regexp.MustCompile(`\b(?:(?:Test|Benchmark|Fuzz)[A-Z]\w+|PDSKIT_[A-Z0-9_]+)\b`)

// flags sees that a program has flags.
func (c *commands) flags(pkg string, words []string) {
	for _, w := range words {
		name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
		if strings.HasPrefix(w, "-") && name != "help" && !slices.ContainsFunc(in(c.all, pkg, true), func(s string) bool { return strings.Contains(s, `"`+name+`"`) }) {
			c.errorf("%s has no flag %s", pkg, w)
		}
	}
}

// nsid is the method in an address.
var nsid = regexp.MustCompile(`/xrpc/([a-zA-Z0-9.]+)`)

// curl looks at a call: its flags are those of versions that Debian 12 and Ubuntu 22.04 have, its body
// is JSON, its method is one that there is.
func (c *commands) curl(words []string) {
	for i, w := range words {
		switch {
		case strings.HasPrefix(w, "-") && !slices.Contains([]string{"-s", "-f", "-sf", "-u", "-H", "-d", "-o", "-m", "-w", "--http1.1"}, w):
			c.errorf("curl %s", w)
		case i > 0 && words[i-1] == "-d" && !json.Valid([]byte(w)):
			c.errorf("curl -d %s", w)
		}
		if m := nsid.FindStringSubmatch(w); m != nil {
			if _, err := lexicon.Builtin().Method(syntax.NSID(m[1])); err != nil {
				c.errorf("%v", err)
			}
		}
	}
}

// split takes lines of a shell apart into the words of commands, also of those in $(), without quotes,
// comments and here documents.
func split(text string) (list [][]string) {
	var words []string
	var word strings.Builder
	begun, comment, quote := false, false, rune(0)
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	stop := func() {
		if end(); len(words) > 0 {
			list = append(list, words)
		}
		words = nil
	}
	text = heredoc.ReplaceAllString(strings.ReplaceAll(text, "\\\n", " "), "\n")
	for _, r := range strings.ReplaceAll(text, "$(", "(") {
		switch {
		case comment:
			comment = r != '\n'
		case r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == '#' && !begun:
			stop()
			comment = true
		case strings.ContainsRune("\n&|;()", r):
			stop()
		case r == ' ' || r == '\t':
			end()
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	stop()
	return list
}

var heredoc = regexp.MustCompile(`(?s)<<'?EOF'?\n.*?\n\s*EOF\n`)

func TestSplit(t *testing.T) {
	got := split("A=b go test -run '^$' . && ./x \\\n  -y # z\nT=$(curl -d '{\"a b\"}' |\n  sed s)\ncat <<EOF\nq\nEOF\nlast\n")
	want := [][]string{{"A=b", "go", "test", "-run", "^$", "."}, {"./x", "-y"}, {"T="}, {"curl", "-d", `{"a b"}`}, {"sed", "s"}, {"cat"}, {"last"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q, not %q", got, want)
	}
}
