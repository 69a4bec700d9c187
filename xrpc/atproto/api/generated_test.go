package api_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/gen"
)

// TestUpToDate runs the command of doc.go's go:generate line into another folder.
func TestUpToDate(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		testenv.Missing(t, "the go tool")
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "\n//go:generate go run ")
	line, _, _ := strings.Cut(rest, "\n")
	args := strings.Fields(line)
	if !ok || len(args) < 2 {
		t.Fatal("doc.go has no line with go:generate")
	}
	out := t.TempDir()
	run := exec.Command(tool, append([]string{"run", args[0], "-out", out}, args[1:]...)...)
	if text, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want, got := generated(t, out), generated(t, ".")
	for name := range want {
		if !bytes.Equal(want[name], got[name]) {
			t.Errorf("%s is out of date: run go generate", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is no more of what go generate writes", name)
	}
	if len(want) == 0 {
		t.Error("go generate writes nothing")
	}
}

// generated returns the generated files of a folder.
func generated(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte(gen.Header+"\n")) {
			files[filepath.Base(name)] = b
		}
	}
	return files
}
