package exactjson

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// decoders are what reads JSON with names in any case, by import path and name; "*" stands for the
// whole package.
var decoders = map[string][]string{
	"encoding/json":                {"Unmarshal", "NewDecoder", "Decoder"},
	"github.com/golang-jwt/jwt/v5": {"Parse", "ParseWithClaims", "NewParser", "Parser"},

	"net/rpc/jsonrpc": {"*"},

	"github.com/golang-jwt/jwt/v5/request": {"*"},
	"github.com/coder/websocket/wsjson":    {"*"},
	"nhooyr.io/websocket/wsjson":           {"*"},
	"github.com/go-jose/go-jose":           {"*"},
	"gopkg.in/square/go-jose.v2":           {"*"},
	"github.com/lestrrat-go/jwx":           {"*"},
	"github.com/goccy/go-json":             {"*"},
	"github.com/json-iterator/go":          {"*"},
	"github.com/segmentio/encoding":        {"*"},
	"github.com/bytedance/sonic":           {"*"},
	"github.com/mailru/easyjson":           {"*"},
	"github.com/buger/jsonparser":          {"*"},
	"github.com/tidwall/gjson":             {"*"},
	"github.com/valyala/fastjson":          {"*"},
	"sigs.k8s.io/yaml":                     {"*"},
}

// allowed are the files, or folders with a slash at the end, that may use them, and why.
var allowed = map[string]string{
	"internal/exactjson/exactjson.go": "after the names were checked",
	"internal/exactjson/scan.go":      "a single string",
	"internal/testxrpc/":              "for tests alone, which read what the server itself has answered",
	"lexicon/data/plain.go":           "after the names were checked, and into no struct",
	"repo/account/":                   "documents that the package itself has stored",
	"internal/storedjson/":            "documents that the program itself has stored",
	"internal/mutate/load.go":         "what the go command prints",
	"xrpc/session/tokens.go":          "session tokens: their claims decode themselves, and the header is checked",
}

// TestNobodyReadsJSONInexactly scans the source of the module. Decode JSON with this package, or, outside
// of internal packages, with UnmarshalJSON of package lexicon/data.
func TestNobodyReadsJSONInexactly(t *testing.T) {
	root := filepath.Join("..", "..")
	used := make(map[string]bool)
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			_, other := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || other == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files++
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, use := range inexact(fset, file) {
			reason := ""
			for name := range allowed {
				if rel == name || strings.HasSuffix(name, "/") && strings.HasPrefix(rel, name) {
					reason, used[name] = allowed[name], true
				}
			}
			if reason == "" {
				t.Errorf("%s:%s reads names in any case and twice", rel, use)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("only %d files were found", files)
	}
	for name := range allowed {
		if !used[name] {
			t.Errorf("%s is allowed what it does not use", name)
		}
	}
}

// inexact lists the uses of decoders in a file: "line: name".
func inexact(fset *token.FileSet, file *ast.File) (list []string) {
	report := func(n ast.Node, what string) {
		list = append(list, fmt.Sprintf("%d: %s", fset.Position(n.Pos()).Line, what))
	}
	names := make(map[string][]string) // by the name of the package in this file
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		for known, forbidden := range decoders {
			switch {
			case forbidden[0] == "*" && (path == known || strings.HasPrefix(path, known+"/")):
				report(spec, path)
			case path != known:
			case spec.Name == nil:
				parts := strings.Split(known, "/")
				name := parts[len(parts)-1]
				if strings.HasPrefix(name, "v") && len(parts) > 2 {
					name = parts[len(parts)-2]
				}
				names[name] = forbidden
			case spec.Name.Name == ".":
				report(spec, path+" as .")
			default:
				names[spec.Name.Name] = forbidden
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			if field := untagged(n); field != nil {
				report(field, "field "+field.Names[0].Name+" without a name in JSON, unlike its neighbours,")
			}
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && slices.Contains(names[pkg.Name], n.Sel.Name) {
				report(n, pkg.Name+"."+n.Sel.Name)
			}
		}
		return true
	})
	return list
}

// untagged returns an exported field without a name in JSON of a struct that has fields with one.
func untagged(t *ast.StructType) (field *ast.Field) {
	tagged := false
	for _, f := range t.Fields.List {
		switch {
		case f.Tag != nil && strings.Contains(f.Tag.Value, `json:"`):
			tagged = true
		case len(f.Names) > 0 && f.Names[0].IsExported() && field == nil:
			field = f
		}
	}
	if !tagged {
		return nil
	}
	return field
}

func TestScanFindsInexactReaders(t *testing.T) {
	for source, want := range map[string]string{
		`import "encoding/json"; func f(b []byte, v any) error { return json.Unmarshal(b, v) }`:      "1: json.Unmarshal",
		`import "encoding/json"; var decode = json.Unmarshal`:                                        "1: json.Unmarshal",
		`import j "encoding/json"; func f(r io.Reader) { j.NewDecoder(r).Decode(nil) }`:              "1: j.NewDecoder",
		`import . "encoding/json"; func f(b []byte) { Unmarshal(b, nil) }`:                           "1: encoding/json as .",
		`import "encoding/json"; type d struct { json.Decoder }`:                                     "1: json.Decoder",
		`import "github.com/golang-jwt/jwt/v5"; func f(s string) { jwt.Parse(s, nil) }`:              "1: jwt.Parse",
		`import "github.com/golang-jwt/jwt/v5/request"; var _ = request.ParseFromRequest`:            "1: github.com/golang-jwt/jwt/v5/request",
		`import "github.com/coder/websocket/wsjson"; var _ = wsjson.Read`:                            "1: github.com/coder/websocket/wsjson",
		`import ("fmt"; json2 "encoding/json"); var f = fmt.Sprint(json2.Unmarshal)`:                 "1: json2.Unmarshal",
		`import "encoding/json"; func f[T any](b []byte) (v T) { g(json.Unmarshal)(b, &v); return }`: "1: json.Unmarshal",
		`type t struct { A int ` + "`json:\"a\"`" + `; B, C string; d int }`:                         "1: field B without a name in JSON, unlike its neighbours,",
		`type t struct { A int; b int }; type u struct { A int ` + "`json:\"-\"`" + `; x.B; c int }`: "",
		`import "github.com/goccy/go-json"; func f(b []byte) { json.Unmarshal(b, nil) }`:             "1: github.com/goccy/go-json",
		`import "encoding/json"; func f(v any) { json.Marshal(v); _ = json.RawMessage("") }`:         "",
		`import "github.com/pdskit/pdskit/internal/exactjson"; var _ = exactjson.Unmarshal`:          "",
		`import "github.com/pdskit/pdskit/lexicon/data"; var json = data.X; var _ = json.Unmarshal`:  "",
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x; "+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(inexact(fset, file), ", "); got != want {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}
