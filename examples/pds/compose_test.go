package main_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

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

// The compose file is well-formed, names images in full, checks the health of everything that goes on
// running, waits for what it needs, and uses only volumes, files and variables that there are.
func TestComposeFile(t *testing.T) {
	text, err := os.ReadFile(nodesDir + "compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := readYAML(string(text))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(nodesDir + "nodes.env.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range regexp.MustCompile(`\$\{(\w+)\}`).FindAllStringSubmatch(string(text), -1) {
		if !regexp.MustCompile(`(?m)^` + use[1] + `=`).Match(example) {
			t.Errorf("%s is not in nodes.env.example", use[1])
		}
	}
	services := file.get("services")
	if len(services.keys) != 6 {
		t.Errorf("services: %q", services.keys)
	}
	image := regexp.MustCompile(`^[a-z0-9.-]+(\.[a-z]+|localhost)?/([a-z0-9-]+/)?[a-z0-9-]+:[a-z0-9.]+$`)
	for _, name := range services.keys {
		s := services.get(name)
		if x := s.get("image"); x == nil || !image.MatchString(x.text) {
			t.Errorf("%s: the image must have a registry and a tag", name)
		}
		once := name == "makebucket"
		if (s.get("healthcheck", "test") == nil || s.get("restart") == nil) != once {
			t.Errorf("%s: no health check, or no restart", name)
		}
		if needs := s.get("depends_on"); needs != nil {
			for _, other := range needs.keys {
				if services.get(other) == nil || needs.get(other, "condition") == nil {
					t.Errorf("%s depends on %s", name, other)
				}
			}
		}
		if volumes := s.get("volumes"); volumes != nil {
			for _, v := range volumes.list {
				from, _, _ := strings.Cut(v, ":")
				if path, isFile := strings.CutPrefix(from, "./"); isFile {
					if _, err := os.Stat(nodesDir + path); err != nil {
						t.Error(err)
					}
				} else if !slices.Contains(file.get("volumes").keys, from) {
					t.Errorf("%s: no volume %s", name, from)
				}
			}
		}
	}
	checkNodeSettings(t, services, string(example))
	for _, bad := range []string{"a: 1\na: 2", "a:\n   b: 1", "a: [x]", "a: b: c", "- a", "a: \"b", "a: 1\n  b: 2", "\ta: 1"} {
		if _, err := readYAML(bad); err == nil && bad != "- a" {
			t.Errorf("read: %q", bad)
		}
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
