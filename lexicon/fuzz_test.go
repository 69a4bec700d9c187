package lexicon_test

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
)

// builtinJSON are the documents in the binary, by path.
func builtinJSON(t testing.TB) (list [][]byte) {
	t.Helper()
	err := fs.WalkDir(lexicon.BuiltinFS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var b []byte
			b, err = fs.ReadFile(lexicon.BuiltinFS(), path)
			list = append(list, b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// place is where a value stands in a document.
type place struct {
	in  any // map[string]any or []any
	key string
	i   int
}

func (p place) get() any {
	if m, ok := p.in.(map[string]any); ok {
		return m[p.key]
	}
	return p.in.([]any)[p.i]
}

func (p place) set(v any) {
	if m, ok := p.in.(map[string]any); ok {
		m[p.key] = v
	} else {
		p.in.([]any)[p.i] = v
	}
}

// places returns all places in a value, in a fixed order.
func places(v any) (list []place) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			list = append(append(list, place{in: v, key: key}), places(v[key])...)
		}
	case []any:
		for i, x := range v {
			list = append(append(list, place{in: v, i: i}), places(x)...)
		}
	}
	return list
}

// words are what a schema is made of.
var words = []any{"boolean", "integer", "string", "bytes", "cid-link", "blob", "array", "object", "ref", "union", "unknown", "token", "record", "query", "procedure", "subscription",
	"permission-set", "permission", "params", "tid", "literal:self", "#main", "#x", "a.b.c", "a.b.c#d", "did", "at-uri", "*/*", "image/*", "", nil, true, false, int64(0), int64(-1),
	int64(1 << 40), []any{}, map[string]any{}}

var keywords = []string{"type", "description", "properties", "required", "nullable", "items", "ref", "refs", "closed", "enum", "const", "default", "minimum", "maximum", "minLength", "maxLength",
	"minGraphemes", "maxGraphemes", "format", "knownValues", "accept", "maxSize", "key", "record", "parameters", "input", "output", "errors", "message", "schema", "encoding", "permissions",
	"resource", "lexicon", "id", "defs", "main", "x"}

// mutate changes a document by the four bytes of each step: a place, what to do there, and with
// what.
func mutate(doc any, steps []byte) {
	for ; len(steps) >= 4; steps = steps[4:] {
		list := places(doc)
		if len(list) == 0 {
			return
		}
		at := list[(int(steps[0])<<8|int(steps[1]))%len(list)]
		with := int(steps[3])
		m, isMap := at.in.(map[string]any)
		switch op := steps[2] % 5; {
		case op == 0 && isMap:
			delete(m, at.key)
		case op == 1:
			at.set(deepCopy(words[with%len(words)]))
		case op == 2 && isMap: // under another name
			m[keywords[with%len(keywords)]] = deepCopy(at.get())
		case op == 3: // what stands elsewhere
			at.set(deepCopy(list[with*31%len(list)].get()))
		case op == 4 && isMap:
			m[keywords[with%len(keywords)]] = deepCopy(words[int(steps[1])%len(words)])
		}
		if len(list) > 5000 { // copies of copies
			return
		}
	}
}

func deepCopy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = deepCopy(x)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = deepCopy(x)
		}
		return list
	}
	return v
}

// leads reports whether a fault's path leads to something in a document.
func leads(doc any, path string) bool {
	if path == "" {
		return true
	}
	for _, elem := range strings.Split(path, "/") {
		switch v := doc.(type) {
		case map[string]any:
			x, ok := v[elem]
			if !ok {
				return false
			}
			doc = x
		case []any:
			i, err := strconv.Atoi(elem)
			if err != nil || i >= len(v) {
				return false
			}
			doc = v[i]
		default:
			return false
		}
	}
	return true
}

// FuzzMutatedSchema changes documents in their structure. Faults are errors whose path leads into
// the document; what is accepted reads the same from its JSON, resolves or not, and checks any
// value.
func FuzzMutatedSchema(f *testing.F) {
	docs := builtinJSON(f)
	for i := range docs {
		f.Add(uint16(i), []byte(strings.Repeat(string([]byte{byte(i), byte(i * 7), byte(i * 3), byte(i * 5)}), 1+i%4)))
	}
	post := parse(f, typicalPost)
	f.Fuzz(func(t *testing.T, which uint16, steps []byte) {
		if len(steps) > 200 {
			return
		}
		doc, err := data.FromJSON(docs[int(which)%len(docs)], data.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		mutate(doc, steps)
		schema, err := lexicon.SchemaOf(doc)
		text, encodes := data.ToJSON(doc)
		if encodes == nil {
			again, err2 := lexicon.ParseSchema(text)
			if (err == nil) != (err2 == nil) || !cmp.Equal(schema, again, cmpopts.IgnoreFields(lexicon.Property{}, "Order")) {
				t.Fatalf("%s\n%v, as JSON %v", text, err, err2)
			}
		}
		if err != nil {
			var e *lexicon.SchemaError
			if !errors.As(err, &e) || !errors.Is(err, lexicon.ErrSchema) || !leads(doc, e.Path) {
				t.Fatalf("%s\n%v, at %q", text, err, e.Path)
			}
			return
		}
		var c lexicon.Catalog
		c.Add(schema)
		if err := c.Check(); err != nil {
			for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
				var e *lexicon.SchemaError
				if !errors.As(err, &e) || !leads(doc, e.Path) {
					t.Fatalf("%s\n%v", text, err)
				}
			}
		}
		for name := range schema.Defs {
			full := string(schema.ID) + "#" + name
			if name == "main" {
				full = string(schema.ID)
			}
			one, all := lexicon.Validator{Catalog: &c}.Value(full, post), lexicon.Validator{Catalog: &c, AllErrors: true}.Value(full, post)
			if (one == nil) != (all == nil) {
				t.Fatalf("%s\n%s: %v, but %v", text, full, one, all)
			}
		}
		_ = c.ValidateRecord(schema.ID, "self", post)
		_ = c.ValidateInput(schema.ID, post)
		_ = c.ValidateOutput(schema.ID, post)
		_ = c.ValidateMessage(schema.ID, "#x", post)
		_, _ = c.Params(schema.ID, map[string][]string{"limit": {"1"}, "x": {"", "y"}})
	})
}

// Schemas that fill the limit on bytes. Each takes milliseconds, and minutes if any step were to
// take time in proportion to the square of the length.
func TestHostileSchemasTakeLinearTime(t *testing.T) {
	const size = 1 << 19
	fill := func(format func(i int) string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			b.WriteString(format(i))
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	numbered := func(before, after string) string {
		return fill(func(i int) string { return before + strconv.Itoa(i) + after })
	}
	doc := func(defs string) string { return `{"lexicon":1,"id":"com.example.thing","defs":{` + defs + `}}` }
	for name, schema := range map[string]string{
		"references below a long name":  doc(`"x":{"type":"object","properties":{"` + strings.Repeat("n", 900_000) + `":{"type":"object","properties":{` + numbered(`"p`, `":{"type":"ref","ref":"#x"},`) + `}}}}`),
		"variants below a long name":    doc(`"x":{"type":"object","properties":{"` + strings.Repeat("n", 900_000) + `":{"type":"union","refs":[` + strings.TrimSuffix(strings.Repeat(`"#x",`, 120_000), ",") + `]}}}`),
		"references to other documents": doc(`"x":{"type":"object","properties":{` + numbered(`"p`, `":{"type":"ref","ref":"com.example.other#y"},`) + `}}`),
		"a chain of definitions": doc(fill(func(i int) string {
			return `"d` + strconv.Itoa(i) + `":{"type":"array","items":{"type":"ref","ref":"#d` + strconv.Itoa(i+1) + `"}},`
		}) + `,"d` + strconv.Itoa(chained(size)) + `":{"type":"token"}`),
		"all required, in descending order":   doc(`"x":{"type":"object","properties":{` + numbered(`"p`, `":{"type":"integer"},`) + `},"required":[` + strings.TrimSuffix(strings.Repeat(`"p9",`, 100_000), ",") + `]}`),
		"an enum of many":                     doc(`"x":{"type":"string","enum":[` + numbered(`"`, `",`) + `],"default":"7"}`),
		"an enum of many with a format":       doc(`"x":{"type":"string","format":"did","enum":[` + numbered(`"did:web:a`, `",`) + `]}`),
		"an enum of many, the last one wrong": doc(`"x":{"type":"integer","maximum":1000000,"enum":[` + strings.Repeat(`1,`, 120_000) + `1000001]}`),
		"media types":                         doc(`"x":{"type":"blob","accept":[` + numbered(`"a/`, `",`) + `]}`),
		"permissions":                         doc(`"main":{"type":"permission-set","permissions":[` + numbered(`{"type":"permission","resource":"repo","collection":["com.example.c`, `"]},`) + `]}`),
		"a permission of many":                doc(`"main":{"type":"permission-set","permissions":[{"type":"permission","resource":"repo","collection":[` + numbered(`"com.example.c`, `",`) + `]}]}`),
		"languages":                           doc(`"main":{"type":"permission-set","title:lang":{` + numbered(`"en-x-`, `":"x",`) + `},"permissions":[]}`),
		"parameters":                          doc(`"main":{"type":"query","parameters":{"type":"params","properties":{` + numbered(`"p`, `":{"type":"integer"},`) + `}}}`),
		"errors":                              doc(`"main":{"type":"query","errors":[` + numbered(`{"name":"E`, `"},`) + `]}`),
	} {
		parsed, err := lexicon.ParseSchema([]byte(schema))
		var e *lexicon.SchemaError
		if err != nil {
			if !errors.As(err, &e) || e.Path == "" || len(err.Error()) > 1000 {
				t.Errorf("%s: %.300s", name, err.Error())
			}
			continue
		}
		var c lexicon.Catalog
		c.Add(parsed)
		_ = c.Check()
		for range parsed.References() {
		}
		all := lexicon.Validator{Catalog: &c, AllErrors: true}
		for def := range parsed.Defs {
			_ = all.Value(string(parsed.ID)+"#"+def, map[string]any{"p9": int64(1), "x": "y"})
		}
		_ = all.Value(string(parsed.ID), map[string]any{})
		_, _ = all.Params(parsed.ID, map[string][]string{"p1": {"x"}})
		if set, ok := parsed.Main().(*lexicon.PermissionSet); ok {
			set.Grants(parsed.ID, "*")
		}
	}
}

// chained is how many definitions a chain of so many bytes has.
func chained(size int) int {
	n := 0
	for i := 0; n < size; i++ {
		n += len(`"d":{"type":"array","items":{"type":"ref","ref":"#d"}},`) + len(strconv.Itoa(i)) + len(strconv.Itoa(i+1))
		if n >= size {
			return i + 1
		}
	}
	return 0
}
