package api_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon/gen"
)

// TestUpToDate runs the command of doc.go's go:generate line into another folder.
func TestUpToDate(t *testing.T) {
	want, got := generated(t, generate(t)), generated(t, ".")
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

// TestOfficialSchemas: the official schemas give the same types and names, but for the order of
// fields and what is new there.
func TestOfficialSchemas(t *testing.T) {
	ours, theirs := declarations(t, "."), declarations(t, generate(t, "-schemas", testenv.Shared(t, "lexicons")))
	for name, want := range ours {
		if got := theirs[name]; got != want {
			t.Errorf("%s is\n%s\nand by the official schemas\n%s", name, want, got)
		}
	}
	for name := range theirs {
		if _, ok := ours[name]; !ok {
			t.Errorf("%s is in the official schemas alone", name)
		}
	}
}

// generate runs the command of doc.go's go:generate line, with more flags, and returns the folder
// with what it has written.
func generate(t *testing.T, flags ...string) string {
	t.Helper()
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
	run := exec.Command(tool, slices.Concat([]string{"run", args[0], "-out", out}, flags, args[1:])...)
	if text, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// declarations returns the types, with their fields in the order of their names, and the constants
// of generated files.
func declarations(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for name, text := range generated(t, dir) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution) // without comments
		if err != nil {
			t.Fatal(err)
		}
		show := func(node any) string {
			var b strings.Builder
			if err := format.Node(&b, fset, node); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			switch spec := d.Specs[0].(type) {
			case *ast.TypeSpec:
				x, ok := spec.Type.(*ast.StructType)
				if !ok {
					all[spec.Name.Name] = show(spec.Type)
					continue
				}
				var fields []string
				for _, f := range x.Fields.List {
					tag := ""
					if f.Tag != nil {
						tag = f.Tag.Value
					}
					fields = append(fields, f.Names[0].Name+" "+show(f.Type)+" "+tag)
				}
				slices.Sort(fields)
				all[spec.Name.Name] = strings.Join(fields, "\n")
			case *ast.ValueSpec:
				all[spec.Names[0].Name] = show(spec.Values[0])
			}
		}
	}
	return all
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
