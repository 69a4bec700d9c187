package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Guide runs blocks of the guide.
type Guide struct {
	*World
	blocks  map[string]Block
	ran     map[string]bool
	steps   []step
	verbose bool
	built   string // a release, and the programs of the network
}

// step is a line of the report.
type step struct {
	where, what string
	took        time.Duration
}

// Host is a machine with what its operator puts in place of the names of the guide.
type Host struct {
	*Machine
	g     *Guide
	Zone  string // in place of example.com
	names Names
	env   []string
	// stranger: who types is not the operator, and has no function in the shell.
	stranger bool
}

// domain is where the machines are. Names that end with it lead nowhere else.
const domain = "pdskit.dev"

// Host starts a machine, whose name leads to it.
func (g *Guide) Host(name, zone, address string) (*Host, error) {
	zone += "." + domain
	g.DNS.Set(address, "pds."+zone, "*.pds."+zone)
	g.DNS.Set(worldAddress, "smtp."+zone)
	m, err := g.startMachine(name, address)
	if err != nil {
		return nil, err
	}
	return &Host{Machine: m, g: g, Zone: zone, names: Names{"example.com": zone, "elsewhere.example": "elsewhere." + zone}}, nil
}

// functionFile is what an operator has in /root/.bashrc.
const functionFile = "/root/.guide"

// Run runs a block of the guide as its text says, with names put in, and returns what it prints.
func (h *Host) Run(key string) (string, error) { return h.run(key, "") }

func (h *Host) run(key, stdin string) (string, error) {
	b, ok := h.g.blocks[key]
	if !ok {
		return "", fmt.Errorf("the guide has no %s", key)
	}
	h.g.ran[key] = true
	text := h.names.Apply(b.Text)
	begin := time.Now()
	shell := "[ ! -f " + functionFile + " ] || . " + functionFile + "\n"
	if h.stranger {
		shell = ""
	}
	out, err := h.Script(shell+text, stdin, h.env...)
	h.g.note(h.Name, key, time.Since(begin))
	if h.g.verbose || err != nil {
		fmt.Printf("%s\n%s", indent("    $ ", text), indent("    ", out))
	}
	if err != nil {
		return out, fmt.Errorf("%s: %s: %w", h.Name, key, err)
	}
	return out, nil
}

// All runs several blocks, and expects nothing of what they print.
func (h *Host) All(keys ...string) error {
	for _, key := range keys {
		if _, err := h.Run(key); err != nil {
			return err
		}
	}
	return nil
}

// Eventually runs a block again and again for a minute, until it succeeds: relays come back some
// seconds after a server has been restarted, for instance.
func (h *Host) Eventually(key string) error {
	return retry(time.Minute, func() error { return h.All(key) })
}

// Expect runs a block that must print something.
func (h *Host) Expect(key string, want ...string) (string, error) {
	out, err := h.Run(key)
	for _, w := range want {
		if err == nil && !strings.Contains(out, w) {
			err = fmt.Errorf("%s: %s: it does not say %q:\n%s", h.Name, key, w, out)
		}
	}
	return out, err
}

// Block is the text of a block that is no command, with names put in.
func (h *Host) Block(key string) (string, error) {
	b, ok := h.g.blocks[key]
	if !ok {
		return "", fmt.Errorf("the guide has no %s", key)
	}
	h.g.ran[key] = true
	return h.names.Apply(b.Text), nil
}

// Function puts the function of the guide where shells find it.
func (h *Host) Function() error {
	text, err := h.Block("install/function")
	if err == nil {
		err = h.Write(functionFile, 0o644, []byte(text))
	}
	return err
}

func indent(with, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(with + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

func (g *Guide) note(where, what string, took time.Duration) {
	g.steps = append(g.steps, step{where, what, took})
	fmt.Printf("%-8s %-36s %6.1f s\n", where, what, took.Seconds())
}

// Do is something that is no command of the guide: what a reader does with a browser, or an app.
func (g *Guide) Do(where, what string, f func() error) error {
	begin := time.Now()
	err := f()
	g.note(where, what, time.Since(begin))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", where, what, err)
	}
	return nil
}

// summary fails if there is a block that nobody has run.
func (g *Guide) summary() error {
	var left []string
	for _, key := range slices.Sorted(maps.Keys(g.blocks)) {
		if !g.ran[key] {
			left = append(left, key)
		}
	}
	if len(left) > 0 {
		return errors.New("never run: " + strings.Join(left, ", "))
	}
	fmt.Printf("%d blocks of the guide were run, and %d other steps done\n", len(g.ran), len(g.steps)-len(g.ran))
	return nil
}

// file reads a file of this machine.
func file(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text
}
