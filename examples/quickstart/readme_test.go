package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme holds the README's quickstart against this program, and runs it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(source)+"```\n") {
		t.Error("the quickstart in the README differs from main.go")
	}
	if n := strings.Count(string(source), "\n"); n >= 40 {
		t.Errorf("the quickstart has %d lines, not under 40", n)
	}
	bin := filepath.Join(t.TempDir(), "quickstart.exe")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(bin)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^committed bafyrei\w+\nimported  bafyrei\w+$`).Match(out) {
		t.Errorf("quickstart: %v\n%s", err, out)
	}
}
