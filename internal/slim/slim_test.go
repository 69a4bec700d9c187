package slim

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
)

func goroot(t *testing.T) string {
	t.Helper()
	testenv.NotOnJS(t, "programs cannot be started")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(root))
}

// Everything can be left out with the release of Go that runs the test.
func TestEditsApply(t *testing.T) {
	overlay, missed, err := Write(goroot(t), t.TempDir())
	if err != nil || missed != nil {
		t.Fatal(missed, err)
	}
	text, err := os.ReadFile(overlay)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	files := make(map[string]bool)
	for _, e := range slices.Concat(edits, tableEdits) {
		files[filepath.Join(goroot(t), "src", filepath.FromSlash(e.file))] = true
	}
	if len(doc.Replace) != len(files) {
		t.Errorf("%v", doc.Replace)
	}
	for path, by := range doc.Replace {
		before, err := os.ReadFile(path)
		if err != nil || !files[path] {
			t.Fatal(path, err)
		}
		after, err := os.ReadFile(by)
		if err != nil || string(after) == string(before) {
			t.Errorf("%s is replaced by the same: %v", path, err)
		}
	}
}

// What another release of Go has differently stays as it is, and is said.
func TestOtherRelease(t *testing.T) {
	root := t.TempDir()
	if err := put(filepath.Join(root, "VERSION"), []byte("go1.99.1\ntime 2026-01-01T00:00:00Z\n")); err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		if err := put(filepath.Join(root, "src", filepath.FromSlash(e.file)), []byte("package other\n")); err != nil {
			t.Fatal(err)
		}
	}
	overlay, missed, err := Write(root, t.TempDir())
	if err != nil || len(missed) != len(edits)+1 {
		t.Fatal(missed, err)
	}
	if text, _ := os.ReadFile(overlay); string(text) != `{"Replace":{}}` {
		t.Errorf("%s", text)
	}
	if _, _, err := Write(t.TempDir(), t.TempDir()); err == nil {
		t.Error("a folder without Go")
	}
}

// Edits that belong together are all carried out, or none.
func TestEditsBelongTogether(t *testing.T) {
	root := t.TempDir()
	if err := put(filepath.Join(root, "a.go"), []byte("one two")); err != nil {
		t.Fatal(err)
	}
	if err := put(filepath.Join(root, "b.go"), []byte("three three")); err != nil {
		t.Fatal(err)
	}
	src := source{root: root, texts: make(map[string]string)}
	if ok, err := src.apply(edit{"a.go", "", "one", "1"}, edit{"b.go", "", "three", "3"}); ok || err != nil || len(src.texts) != 0 {
		t.Error(ok, err, src.texts)
	}
	if ok, err := src.apply(edit{"a.go", "", "one", "1"}, edit{"a.go", "", "two", "2"}); !ok || err != nil || src.texts["a.go"] != "1 2" {
		t.Error(ok, err, src.texts)
	}
}

const program = `package main

import (
	"html/template"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
)

// deep has a stack that grows, with pointers into it.
func deep(n int, above *int) int {
	var here [64]int
	here[n%64] = *above
	if n == 0 {
		runtime.GC()
		return strings.Count(string(debug.Stack()), "main.deep")
	}
	return deep(n-1, &here[n%64]) + here[n%64] - *above
}

func stacks() {
	var keep [][]byte
	for i := range 200 {
		done := make(chan int)
		go func() { done <- deep(i*5, new(int)) }()
		if n := <-done; n < 1 {
			panic("a stack without its functions")
		}
		keep = append(keep, make([]byte, 40_000))
	}
	trace := caught()
	if !strings.Contains(trace, "sort.Slice") || !strings.Contains(trace, "main.caught") || len(keep) != 200 {
		panic("a trace without its functions")
	}
	if strings.Contains(trace, "main.go:") == (os.Getenv("LINES") == "no") {
		panic("lines: " + trace)
	}
}

func caught() (trace string) {
	defer func() {
		_ = recover()
		trace = string(debug.Stack())
	}()
	sort.Slice([]int{2, 1}, func(int, int) bool { panic("caught") })
	return ""
}

type page struct{ Field string }

func (page) T() string { return "method" }

func (page) Unknown() string { return "nobody knows this" }

func (page) Unused() string { return "nobody calls this" }

func main() {
	stacks()
	err := template.Must(template.New("").Parse("{{.Field}} {{index .Map 1}} {{range .List}}{{.}}{{end}}\n")).Execute(os.Stdout, map[string]any{
		"Field": "<field>", "Map": map[int]string{1: "<one>"}, "List": []int{1, 2},
	})
	if err != nil {
		panic(err)
	}
	if template.Must(template.New("").Parse("{{.Field}} {{.T}}{{.Unknown}}\n")).Execute(os.Stdout, page{"<f>"}) == nil && os.Getenv("METHODS") != "all" {
		panic("a method is called")
	}
	// Types that are looked up by name, of which this is the first.
	if typ := reflect.PointerTo(reflect.PointerTo(reflect.PointerTo(reflect.TypeFor[*page]()))); typ.String() != "****main.page" {
		panic(typ.String())
	}
	if _, err := http.Get("https://127.0.0.1:1/"); err == nil {
		panic("an answer")
	}
}
`

// A program that is built so works, and is much smaller.
func TestProgram(t *testing.T) {
	if os.Getenv("PDSKIT_LONG") == "" {
		t.Skip("PDSKIT_LONG is not set: this compiles the standard library twice")
	}
	dir := t.TempDir()
	overlay, _, err := Write(goroot(t), filepath.Join(dir, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module program\n\ngo 1.24\n", "main.go": program} {
		if err := put(filepath.Join(dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	wasm := filepath.Join(dir, "main.wasm")
	build := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", "main.wasm"}, args...), ".")...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=js", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(wasm)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	before, after := build(), build("-overlay", overlay)
	packed, err := Pack(after, overlay, true)
	if err != nil {
		t.Fatal(err)
	}
	noLines, err := Pack(after, overlay, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes before, %d after, %d packed, %d without lines", len(before), len(after), len(packed), len(noLines))
	if len(after) > len(before)*7/10 || len(packed) > len(after)*19/20 || len(noLines) >= len(packed) {
		t.Error("it is not much smaller")
	}
	// Nothing but the table is other memory.
	was, err1 := parseModule(after)
	is, err2 := parseModule(packed)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	tables, err := was.image.findTables()
	if err != nil {
		t.Fatal(err)
	}
	clear(was.image.at(tables.byAddress, tables.byAddressSize))
	if !bytes.Equal(bytes.TrimRight(was.image, "\x00"), bytes.TrimRight(is.image, "\x00")) {
		t.Error("the memory is another one")
	}
	if again, err := Pack(packed, overlay, true); err != nil || !bytes.Equal(again, packed) {
		t.Errorf("packed once more it is another one: %v", err)
	}
	// The overlay of another release leaves the tables alone.
	other := filepath.Join(dir, "other.json")
	if err := put(other, []byte(`{"Replace":{}}`)); err != nil {
		t.Fatal(err)
	}
	joined, err := Pack(before, other, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(before, other, false); err == nil {
		t.Error("lines of a release that is not known were left out")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node to run it in")
	}
	for what, program := range map[string][]byte{"as built": after, "packed": packed, "without lines": noLines, "joined": joined} {
		if err := put(wasm, program); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(node, filepath.Join(goroot(t), "lib", "wasm", "wasm_exec_node.js"), wasm)
		cmd.Env = append(os.Environ(), "LINES="+map[bool]string{true: "no"}[what == "without lines"], "METHODS="+map[bool]string{true: "all"}[what == "joined"])
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		want := "&lt;field&gt; &lt;one&gt; 12\n&lt;f&gt; method"
		if what == "joined" {
			want += "nobody knows this\n"
		}
		if err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", what, out, err)
		}
	}
}
