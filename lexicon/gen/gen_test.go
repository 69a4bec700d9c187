package gen_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/gen"
)

// compile lays generated files over the folder testdata and runs the go tool on it:
// nothing is written into the module.
func compile(t *testing.T, files map[string][]byte, command ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the compiler")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		testenv.Missing(t, "the go tool")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(here, "testdata", name)] = path
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(slices.Clone(command), "-overlay", list, "./testdata")
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%.4000s", strings.Join(args, " "), err, out)
	}
}

func TestBuiltinCompilesAndRoundTrips(t *testing.T) {
	files, err := gen.Generate(lexicon.Builtin(), gen.Config{Package: "api", Schemas: []string{"*"},
		Trim: []string{"com.atproto", "app.bsky"}, Client: true, Handlers: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"helper_test.go", "roundtrip_test.go", "serve_test.go"} {
		addFile(t, files, name)
	}
	compile(t, files, "vet")
	compile(t, files, "test", "-count=1")
}

func addFile(t *testing.T, files map[string][]byte, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	files[name] = b
}

// TestOfficialRecords generates code for the schemas of the official fixtures, which use the whole
// language, and reads and writes the records that are valid by them.
func TestOfficialRecords(t *testing.T) {
	catalog := lexicon.Builtin() // to which the fixtures refer
	if err := catalog.AddFS(os.DirFS(testenv.Shared(t, "interop/lexicon/catalog"))); err != nil {
		t.Fatal(err)
	}
	files, err := gen.Generate(catalog, gen.Config{Package: "api", Schemas: []string{"example.lexicon.*"}, Trim: []string{"example.lexicon"}, Client: true, Handlers: true})
	if err != nil {
		t.Fatal(err)
	}
	addFile(t, files, "helper_test.go")
	addFile(t, files, "official_test.go")
	t.Setenv("PDSKIT_RECORDS", testenv.Shared(t, "interop/lexicon/record-data-valid.json"))
	compile(t, files, "vet")
	compile(t, files, "test", "-count=1")
}

func TestReferenceSchemasCompile(t *testing.T) {
	var catalog lexicon.Catalog
	if err := catalog.AddFS(os.DirFS(testenv.Shared(t, "lexicons"))); err != nil {
		t.Fatal(err)
	}
	files, err := gen.Generate(&catalog, gen.Config{Package: "api", Schemas: []string{"*"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	compile(t, files, "vet")
}

func TestGenerateIsRepeatable(t *testing.T) {
	cfg := gen.Config{Package: "api", Schemas: []string{"app.bsky.feed.*"}, Client: true}
	a, err := gen.Generate(lexicon.Builtin(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := gen.Generate(lexicon.Builtin(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name := range a {
		if string(a[name]) != string(b[name]) {
			t.Errorf("%s differs", name)
		}
	}
	if a["com.atproto.label.go"] == nil {
		t.Error("what the schemas refer to is missing")
	}
}

func TestGenerateErrors(t *testing.T) {
	parse := func(docs ...string) *lexicon.Catalog {
		c := new(lexicon.Catalog)
		for _, s := range docs {
			doc, err := lexicon.ParseSchema([]byte(s))
			if err != nil {
				t.Fatal(err)
			}
			c.Add(doc)
		}
		return c
	}
	thing := `{"lexicon":1,"id":"com.example.a.thing","defs":{"main":{"type":"object","properties":{}}}}`
	same := `{"lexicon":1,"id":"com.example.aThing","defs":{"main":{"type":"object","properties":{}}}}`
	open := `{"lexicon":1,"id":"com.example.open","defs":{"main":{"type":"object","properties":{"x":{"type":"ref","ref":"com.example.nowhere"}}}}}`
	tag := "{\"lexicon\":1,\"id\":\"com.example.tag\",\"defs\":{\"main\":{\"type\":\"object\",\"properties\":{\"`\":{\"type\":\"integer\"}}}}}"
	for want, c := range map[string]*lexicon.Catalog{
		"cannot be the name":  parse(tag),
		"would both be named": parse(thing, same),
		"which is missing":    parse(open),
		"there is no schema":  parse(),
	} {
		_, err := gen.Generate(c, gen.Config{Package: "api", Schemas: []string{"com.example.*"}, Trim: []string{"com.example"}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Hostile names of properties make legal Go.
func TestOddNamesCompile(t *testing.T) {
	doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,"id":"com.example.odd","defs":{"main":{"type":"object","description":"Ends */ here\nfunc init() {}",
		"required":["self"],"properties":{"a-b":{"type":"string"},"aB":{"type":"string"},"1":{"type":"integer"},"ü":{"type":"boolean"},"lexiconType":{"type":"string"},
		"x:y z":{"type":"string","description":"two\nlines"},"type":{"type":"string"},"self":{"type":"ref","ref":"com.example.odd"},
		"deep":{"type":"array","items":{"type":"array","items":{"type":"object","properties":{"u":{"type":"union","refs":["com.example.odd"]}}}}}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var c lexicon.Catalog
	c.Add(doc)
	files, err := gen.Generate(&c, gen.Config{Package: "api", Schemas: []string{"com.example.odd"}})
	if err != nil {
		t.Fatal(err)
	}
	compile(t, files, "build")
}

// The fields of a union are named by as much of a variant's name as it takes to tell it from others.
func TestVariantNames(t *testing.T) {
	var c lexicon.Catalog
	for _, text := range []string{
		`{"lexicon":1,"id":"com.example.a.defs","defs":{"view":{"type":"object"},"other":{"type":"object"},"main":{"type":"object","properties":{
			"of":{"type":"union","refs":["#view","com.example.b.defs#view","#other","com.example.did","com.example.b.did"]}}}}}`,
		`{"lexicon":1,"id":"com.example.b.defs","defs":{"view":{"type":"object"}}}`,
		`{"lexicon":1,"id":"com.example.did","defs":{"main":{"type":"object"}}}`,
		`{"lexicon":1,"id":"com.example.b.did","defs":{"main":{"type":"object"}}}`,
	} {
		doc, err := lexicon.ParseSchema([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		c.Add(doc)
	}
	files, err := gen.Generate(&c, gen.Config{Package: "api", Schemas: []string{"com.example.a.defs"}, Trim: []string{"com.example"}})
	if err != nil {
		t.Fatal(err)
	}
	compile(t, files, "build")
	for _, field := range []string{"ADefsView ", "BDefsView ", "DefsOther ", "ExampleDID ", "BDID ", "Other "} {
		if !strings.Contains(string(files["com.example.a.go"]), "\t"+field) {
			t.Errorf("there is no field %s:\n%s", field, files["com.example.a.go"])
		}
	}
	if files["com.example.b.go"] == nil {
		t.Error("a definition that is referred to is missing")
	}
}

// What is raw is kept as it is, and brings no types of its own along.
func TestRaw(t *testing.T) {
	cfg := gen.Config{Package: "api", Schemas: []string{"app.bsky.actor.putPreferences"}, Trim: []string{"app.bsky"}, Raw: []string{"app.bsky.actor.defs#preferences"}}
	files, err := gen.Generate(lexicon.Builtin(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || !strings.Contains(string(files["app.bsky.actor.go"]), "Preferences []data.Raw `json:\"preferences\"`") {
		t.Errorf("%d files\n%s", len(files), files["app.bsky.actor.go"])
	}
	cfg.Raw = []string{"app.bsky.actor.defs#nothing"}
	if _, err := gen.Generate(lexicon.Builtin(), cfg); err == nil || !strings.Contains(err.Error(), "there is no definition") {
		t.Error(err)
	}
	cfg.Raw = []string{"app.bsky.actor.defs#savedFeedsPref"}
	if _, err := gen.Generate(lexicon.Builtin(), cfg); err == nil || !strings.Contains(err.Error(), "cannot be raw") {
		t.Error(err)
	}
}

func ExampleGenerate() {
	var catalog lexicon.Catalog
	doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,"id":"com.example.note","defs":{"place":{"type":"object",
		"required":["name"],"properties":{"name":{"type":"string"},"did":{"type":"string","format":"did"}}}}}`))
	if err != nil {
		panic(err)
	}
	catalog.Add(doc)
	files, err := gen.Generate(&catalog, gen.Config{Package: "api", Schemas: []string{"com.example.note"}, Trim: []string{"com.example"}})
	fmt.Printf("%s%v", files["com.example.go"], err)
	// Output:
	// // Code generated by lexgen. DO NOT EDIT.
	//
	// package api
	//
	// import (
	// 	"github.com/pdskit/pdskit/lexicon/syntax"
	// )
	//
	// // NotePlace is com.example.note#place.
	// type NotePlace struct {
	// 	Name string     `json:"name"`
	// 	DID  syntax.DID `json:"did,omitempty"`
	// }
	// <nil>
}
