package main_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/examples/pds/internal/cli"
	"github.com/pdskit/pdskit/examples/pds/internal/config"
)

// yamlNode is a mapping, a list or a scalar of the part of YAML that the compose file keeps to.
type yamlNode struct {
	text string
	list []string
	keys []string // of the mapping, in their order
	at   map[string]*yamlNode
}

func (n *yamlNode) get(path ...string) *yamlNode {
	for _, key := range path {
		if n == nil {
			return nil
		}
		n = n.at[key]
	}
	return n
}

var (
	yamlKey  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*):(?: (.+))?$`)
	yamlFlow = regexp.MustCompile(`^\[("[^"]*"(?:, "[^"]*")*)\]$`)
)

// readYAML reads mappings that are indented by two spaces, whose values are mappings, plain or quoted
// scalars, lists of quoted strings in brackets, or lists of items after dashes. Anything else is an error.
func readYAML(text string) (*yamlNode, error) {
	root := &yamlNode{at: map[string]*yamlNode{}}
	open := []*yamlNode{root}
	for i, line := range strings.Split(text, "\n") {
		body := strings.TrimLeft(line, " ")
		if body == "" || strings.HasPrefix(body, "#") {
			continue
		}
		indent := len(line) - len(body)
		bad := func(why string) error { return fmt.Errorf("line %d: %s: %q", i+1, why, line) }
		if indent%2 != 0 || indent/2 >= len(open) || strings.ContainsAny(line, "\t") {
			return nil, bad("wrong indentation")
		}
		parent := open[indent/2]
		open = open[:indent/2+1]
		if item, dash := strings.CutPrefix(body, "- "); dash {
			if parent.at != nil && len(parent.keys) > 0 || parent.text != "" {
				return nil, bad("an item that is in no list")
			}
			parent.list = append(parent.list, strings.Trim(item, `"`))
			continue
		}
		m := yamlKey.FindStringSubmatch(body)
		switch {
		case m == nil:
			return nil, bad("no key")
		case parent.text != "" || parent.list != nil:
			return nil, bad("a key in a scalar or a list")
		case parent.at[m[1]] != nil:
			return nil, bad("a key that is there twice")
		}
		n := &yamlNode{at: map[string]*yamlNode{}}
		parent.keys, parent.at[m[1]] = append(parent.keys, m[1]), n
		switch flow := yamlFlow.FindStringSubmatch(m[2]); {
		case m[2] == "":
			open = append(open, n)
		case flow != nil:
			for _, s := range strings.Split(flow[1], ", ") {
				n.list = append(n.list, strings.Trim(s, `"`))
			}
		case strings.HasPrefix(m[2], `"`):
			if n.text = strings.Trim(m[2], `"`); m[2] != `"`+n.text+`"` {
				return nil, bad("a text that is not closed")
			}
		case strings.ContainsAny(m[2], "[]{}&*!|>'%@`#") || strings.Contains(m[2], ": "):
			return nil, bad("a scalar that must be quoted")
		default:
			n.text = m[2]
		}
	}
	return root, nil
}

const nodesDir = "deploy/nodes/"

// imageName is an image with its registry and a full version, or one that is built here.
var imageName = regexp.MustCompile(`^([a-z0-9-]+(\.[a-z0-9-]+)+/([a-z0-9-]+/)?[a-z0-9-]+:v?[0-9]+(\.[0-9]+)+|localhost/pds:latest)$`)

// checkCompose reads a compose file, which must be well-formed, name images in full, check the health of
// everything that goes on running, wait for what it needs, and use only volumes, files and variables
// that there are. Those that run once are named.
func checkCompose(t *testing.T, dir, env string, once ...string) (file *yamlNode, example string) {
	t.Helper()
	text := readFile(t, dir+"compose.yaml")
	file, err := readYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	example = readFile(t, dir+env)
	for _, use := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)^` + use[1] + `=`).MatchString(example) {
			t.Errorf("%s is not in %s", use[1], env)
		}
	}
	services := file.get("services")
	for _, name := range services.keys {
		s := services.get(name)
		if x := s.get("image"); x == nil || !imageName.MatchString(x.text) {
			t.Errorf("%s: the image must have a registry and a full version", name)
		}
		if (s.get("healthcheck", "test") == nil || s.get("restart") == nil) != slices.Contains(once, name) {
			t.Errorf("%s: no health check, or no restart", name)
		}
		if x := s.get("env_file"); x != nil && x.text+".example" != env {
			t.Errorf("%s: the variables of %s", name, x.text)
		}
		if needs := s.get("depends_on"); needs != nil {
			for _, other := range needs.keys {
				if services.get(other) == nil || needs.get(other, "condition") == nil {
					t.Errorf("%s depends on %s", name, other)
				}
			}
		}
		checkVolumes(t, dir, file, name)
	}
	return file, example
}

// checkVolumes looks for the files and volumes of a service.
func checkVolumes(t *testing.T, dir string, file *yamlNode, name string) {
	t.Helper()
	volumes := file.get("services", name, "volumes")
	if volumes == nil {
		return
	}
	for _, v := range volumes.list {
		from, _, _ := strings.Cut(v, ":")
		if path, isFile := strings.CutPrefix(from, "./"); isFile {
			if _, err := os.Stat(dir + path); err != nil {
				t.Error(err)
			}
		} else if !slices.Contains(file.get("volumes").keys, from) {
			t.Errorf("%s: no volume %s", name, from)
		}
	}
}

func TestComposeFile(t *testing.T) {
	file, example := checkCompose(t, nodesDir, "nodes.env.example", "makebucket")
	services := file.get("services")
	if len(services.keys) != 6 {
		t.Errorf("services: %q", services.keys)
	}
	checkNodeSettings(t, services, example)
	for _, bad := range []string{"a: 1\na: 2", "a:\n   b: 1", "a: [x]", "a: b: c", "- a", "a: \"b", "a: 1\n  b: 2", "\ta: 1"} {
		if _, err := readYAML(bad); err == nil && bad != "- a" {
			t.Errorf("read: %q", bad)
		}
	}
}

// The compose file of one server: nothing can write but to its volumes or take all memory, the server's
// port is not published, the settings load without a warning, backups see the data of the server, and
// their command is one.
func TestComposeOneServer(t *testing.T) {
	file, example := checkCompose(t, "deploy/", "compose.env.example")
	services := file.get("services")
	for _, name := range services.keys {
		s := services.get(name)
		if s.get("read_only") == nil || s.get("mem_limit") == nil || s.get("stop_grace_period") == nil && name != "caddy" {
			t.Errorf("%s: read_only, mem_limit or stop_grace_period is missing", name)
		}
		if (s.get("ports") != nil) != (name == "caddy") {
			t.Errorf("%s: ports", name)
		}
	}
	container := readFile(t, "deploy/Containerfile")
	if from := regexp.MustCompile(`(?m)^FROM (\S+) AS`).FindStringSubmatch(container); from == nil || !imageName.MatchString(from[1]) {
		t.Errorf("the image that builds the program: %q", from)
	}
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(PDS_\w+)=(\S+)`).FindAllStringSubmatch(regexp.MustCompile(`(?m)^ENV .*`).FindString(container), -1) {
		env[m[1]] = m[2]
	}
	for line := range strings.Lines(strings.ReplaceAll(example, "example.com", "site.test")) { // as an operator changes it
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			env[key] = strings.Trim(value, `"`)
		}
	}
	own := services.get("pds", "environment")
	for _, key := range own.keys {
		env[key] = own.get(key).text
	}
	cfg, err := config.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Warnings) > 0 {
		t.Errorf("%q", cfg.Warnings)
	}
	if nodes := services.get("caddy", "environment", "BALANCER_NODES"); nodes.text != fmt.Sprintf("pds:%d", cfg.Port) {
		t.Errorf("Caddy asks %s", nodes.text)
	}
	data := "data:" + cfg.DataDirectory
	backups := services.get("backup")
	for _, name := range []string{"pds", "backup"} {
		if !slices.Contains(services.get(name, "volumes").list, data) {
			t.Errorf("%s does not have %s", name, data)
		}
	}
	args := backups.get("command").list
	to := args[len(args)-1]
	if !slices.Contains(backups.get("volumes").list, "backups:"+to) || !strings.Contains(container, "/out"+to+" "+to+"\n") {
		t.Errorf("backups go to %s, which the user of the image must own", to)
	}
	var said strings.Builder
	if code := cli.Run(t.Context(), append(slices.Clone(args), "-h"), cli.IO{Stdout: &said, Stderr: &said}); code != 0 || args[0] != "backup" || !slices.Contains(args, "-every") {
		t.Errorf("%q: %s", args, said.String())
	}
}

// checkNodeSettings loads the configuration of both servers, which differs in the name of the node only.
func checkNodeSettings(t *testing.T, services *yamlNode, example string) {
	t.Helper()
	hidden := strings.Repeat("5a73c1d0f4829be6", 4)
	shared := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(example, "example.com", "site.test")) { // as an operator changes it
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			if shared[key] = strings.Trim(value, `"`); value == "" {
				shared[key] = fmt.Sprintf("%02x", len(shared)+16) + hidden[2:]
			}
		}
	}
	var loaded []*config.Config
	for _, name := range []string{"pds1", "pds2"} {
		env := map[string]string{"PDS_DATA_DIRECTORY": "/data"}
		for k, v := range shared {
			if strings.HasPrefix(k, "PDS_") {
				env[k] = v
			}
		}
		own := services.get(name, "environment")
		for _, k := range own.keys {
			env[k] = regexp.MustCompile(`\$\{\w+\}`).ReplaceAllString(own.get(k).text, hidden)
		}
		cfg, err := config.Load(env)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(cfg.Warnings) > 0 || cfg.NodeID != name {
			t.Errorf("%s: %q, node %s", name, cfg.Warnings, cfg.NodeID)
		}
		loaded = append(loaded, cfg)
	}
	loaded[1].NodeID = loaded[0].NodeID
	if a, b := fmt.Sprintf("%+v", loaded[0]), fmt.Sprintf("%+v", loaded[1]); a != b {
		t.Errorf("the servers differ:\n%s\n%s", a, b)
	}
}
