package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pdskit/pdskit/internal/lexvalue"
	"github.com/pdskit/pdskit/internal/testenv"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc"
)

// echo makes a row of parameters.
func echo[P any]() (row struct {
	typ  reflect.Type
	echo xrpc.Handler
}) {
	row.typ = reflect.TypeFor[P]()
	row.echo = xrpc.Query(func(_ context.Context, _ *xrpc.Request, p P) (P, error) { return p, nil })
	return row
}

// TestTables: the tables have every type of the package but the parts of others.
func TestTables(t *testing.T) {
	known := make(map[string]bool)
	for _, typ := range bodies {
		known[typ.Name()] = true
	}
	for _, p := range parameters {
		known[p.typ.Name()] = true
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				continue
			}
			n++
			spec := d.Specs[0].(*ast.TypeSpec)
			if name := spec.Name.Name; !known[name] && name != "Caller" && !strings.Contains(name, "_") && !spec.Assign.IsValid() {
				t.Errorf("%s is in no table", name)
			}
		}
	}
	if n < 150 {
		t.Errorf("only %d types were found", n)
	}
}

// schemaOf returns what the key of a table names, and what validates such a value.
func schemaOf(t testing.TB, catalog *lexicon.Catalog, key string) (lexicon.Type, func(any) error) {
	t.Helper()
	id, side, ok := strings.Cut(key, " ")
	if !ok {
		def, ok := catalog.Definition(key)
		if !ok {
			t.Fatalf("there is no %s", key)
		}
		return def, func(any) error { return nil }
	}
	method, err := catalog.Method(syntax.NSID(id))
	if err != nil {
		t.Fatal(err)
	}
	if side == "input" {
		return method.Input.Schema, func(v any) error { return catalog.ValidateInput(method.ID, v) }
	}
	return method.Output.Schema, func(v any) error { return catalog.ValidateOutput(method.ID, v) }
}

// catalogs are the schemas in the binary, and the official ones.
func catalogs(t *testing.T) map[string]*lexicon.Catalog {
	official := new(lexicon.Catalog)
	if err := official.AddFS(os.DirFS(testenv.Shared(t, "lexicons"))); err != nil {
		t.Fatal(err)
	}
	return map[string]*lexicon.Catalog{"builtin": lexicon.Builtin(), "official": official}
}

// TestRoundTrip reads valid values into their types and writes them again, in both encodings.
func TestRoundTrip(t *testing.T) {
	rounds := 40
	if os.Getenv("PDSKIT_LONG") != "" {
		rounds = 2000
	}
	for name, catalog := range catalogs(t) {
		maker := &lexvalue.Maker{Catalog: catalog, Rand: rand.New(rand.NewPCG(3, 4))}
		for _, key := range slices.Sorted(maps.Keys(bodies)) {
			schema, validate := schemaOf(t, catalog, key)
			for range rounds {
				v := maker.Value(schema)
				if typ := ofRecord(schema, key); typ != "" {
					v.(map[string]any)["$type"] = typ
				}
				if err := validate(v); err != nil {
					t.Fatalf("%s, %s: %v: %v", name, key, v, err)
				}
				if err := roundTrip(bodies[key], v); err != nil {
					t.Errorf("%s, %s: %v", name, key, err)
					break
				}
			}
		}
	}
}

// ofRecord is the $type of a record; "" of something else.
func ofRecord(schema lexicon.Type, key string) string {
	if _, ok := schema.(*lexicon.Record); ok {
		return key
	}
	return ""
}

// roundTrip reads a value into a type and writes it.
func roundTrip(typ reflect.Type, v any) error {
	text, err := data.ToJSON(v)
	if err != nil {
		return err
	}
	enc, err := data.Encode(v)
	if err != nil {
		return err
	}
	fromJSON, fromCBOR := reflect.New(typ), reflect.New(typ)
	if err := data.UnmarshalJSON(text, fromJSON.Interface()); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if err := data.Unmarshal(enc, fromCBOR.Interface()); err != nil {
		return fmt.Errorf("%s as CBOR: %w", text, err)
	}
	for _, x := range []reflect.Value{fromJSON, fromCBOR} {
		out, err := data.MarshalJSON(x.Elem().Interface())
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		again, err := data.FromJSON(out, data.Limits{})
		if diff := cmp.Diff(v, again, cmp.Comparer(func(a, b data.Link) bool { return a.Equals(b.Cid) })); err != nil || diff != "" {
			return fmt.Errorf("%s comes back as %s, %v\n%s", text, out, err, diff)
		}
		got, err := data.Marshal(x.Elem().Interface())
		if err != nil || string(got) != string(enc) {
			back, _ := data.AppendJSON(nil, got)
			return fmt.Errorf("%s comes back from CBOR as %s, %v", text, back, err)
		}
	}
	return nil
}

// TestUnknownNames: members that a schema does not have are ignored, also those whose names differ
// from known ones by case.
func TestUnknownNames(t *testing.T) {
	catalog := lexicon.Builtin()
	maker := &lexvalue.Maker{Catalog: catalog, Rand: rand.New(rand.NewPCG(5, 6))}
	for _, key := range slices.Sorted(maps.Keys(bodies)) {
		schema, _ := schemaOf(t, catalog, key)
		for range 10 {
			v := maker.Value(schema)
			text, err := data.ToJSON(v)
			if err != nil {
				t.Fatal(err)
			}
			more, err := data.ToJSON(strange(v))
			if err != nil {
				t.Fatal(err)
			}
			want, got := reflect.New(bodies[key]), reflect.New(bodies[key])
			if err := data.UnmarshalJSON(text, want.Interface()); err != nil {
				t.Fatal(err)
			}
			if err := data.UnmarshalJSON(more, got.Interface()); err != nil || !reflect.DeepEqual(want.Interface(), got.Interface()) {
				t.Errorf("%s: %s is read as %+v, %v, want %+v", key, more, got, err, want)
			}
		}
	}
}

// strange adds members to objects, outside of what is kept as it is.
func strange(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = strange(x)
		}
		return out
	case map[string]any:
		if typ, _ := v["$type"].(string); typ == "blob" || strings.HasPrefix(typ, "com.example.") || strings.HasPrefix(typ, "app.bsky.") {
			return v
		}
		out := map[string]any{"x-new": []any{"a", nil}}
		for name, x := range v {
			out[name] = strange(x)
			out[strings.ToUpper(name)] = []any{}
		}
		return out
	}
	return v
}

// TestParameters sends parameters from a client to a server, as structs.
func TestParameters(t *testing.T) {
	for name, catalog := range catalogs(t) {
		srv := &xrpc.Server{Catalog: catalog}
		for key, p := range parameters {
			if key != "com.atproto.sync.subscribeRepos" && key != "com.atproto.label.subscribeLabels" {
				srv.Handle(xrpc.Route{NSID: key, Handler: p.echo})
			}
		}
		web := httptest.NewServer(srv)
		defer web.Close()
		client := &xrpc.Client{Host: web.URL, HTTP: web.Client()}
		maker := &lexvalue.Maker{Catalog: catalog, Rand: rand.New(rand.NewPCG(7, 8))}
		for _, key := range slices.Sorted(maps.Keys(parameters)) {
			doc, _ := catalog.Lookup(syntax.NSID(key))
			main, ok := doc.Main().(*lexicon.Query)
			if !ok {
				continue
			}
			for range 10 {
				query, given := maker.Params(main.Parameters)
				want, err := catalog.Params(doc.ID, query)
				if err != nil {
					t.Fatalf("%s, %s: %v: %v", name, key, query, err)
				}
				// What the query string says goes into a struct, which a client sends.
				var got, again json.RawMessage
				if err := client.Query(t.Context(), key, query, &got); err != nil {
					t.Errorf("%s, %s: %v: %v", name, key, query, err)
					break
				}
				sent := reflect.New(parameters[key].typ)
				text, err := json.Marshal(given)
				if err != nil {
					t.Fatal(err)
				}
				if err := data.UnmarshalJSON(text, sent.Interface()); err != nil {
					t.Fatal(err)
				}
				if err := client.Query(t.Context(), key, sent.Interface(), &again); err != nil {
					t.Errorf("%s, %s: %+v: %v", name, key, sent, err)
					break
				}
				wanted := reflect.New(parameters[key].typ)
				if text, err = json.Marshal(want); err != nil {
					t.Fatal(err)
				}
				if err := data.UnmarshalJSON(text, wanted.Interface()); err != nil {
					t.Fatal(err)
				}
				if text, err = data.MarshalJSON(wanted.Interface()); err != nil {
					t.Fatal(err)
				}
				if string(got) != string(text) || string(again) != string(text) {
					t.Errorf("%s, %s: %s becomes %s, and %+v becomes %s, want %s", name, key, url.Values(query).Encode(), got, sent, again, text)
				}
			}
		}
	}
}

// FuzzBodies: what can be read can be written, and is read as the same again.
func FuzzBodies(f *testing.F) {
	catalog := lexicon.Builtin()
	maker := &lexvalue.Maker{Catalog: catalog, Rand: rand.New(rand.NewPCG(9, 10))}
	keys := slices.Sorted(maps.Keys(bodies))
	for i, key := range keys {
		schema, _ := schemaOf(f, catalog, key)
		text, err := data.ToJSON(maker.Value(schema))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(i), text)
	}
	f.Fuzz(func(t *testing.T, which uint16, text []byte) {
		typ := bodies[keys[int(which)%len(keys)]]
		x := reflect.New(typ)
		if data.UnmarshalJSON(text, x.Interface()) != nil {
			return
		}
		out, err := data.MarshalJSON(x.Elem().Interface())
		if err != nil {
			return // as of a union of which no variant is set
		}
		y := reflect.New(typ)
		if err := data.UnmarshalJSON(out, y.Interface()); err != nil {
			t.Fatalf("%s is written as %s, which cannot be read: %v", text, out, err)
		}
		again, err := data.MarshalJSON(y.Elem().Interface())
		if err != nil || string(again) != string(out) {
			t.Fatalf("%s is written as %s, and then as %s, %v", text, out, again, err)
		}
	})
}
