package lexicon_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func TestSchemaRulesNameTheFault(t *testing.T) {
	doc := func(defs string) string { return `{"lexicon":1,"id":"com.example.thing","defs":{` + defs + `}}` }
	field := func(f string) string { return doc(`"x":{"type":"object","properties":{"p":` + f + `}}`) }
	const at = "defs/x/properties/p"
	for _, c := range []struct{ schema, path string }{
		{`[]`, ""},
		{`{`, ""},
		{`{"id":"com.example.thing","defs":{"x":{"type":"token"}}}`, ""},
		{`{"lexicon":2,"id":"com.example.thing","defs":{"x":{"type":"token"}}}`, "lexicon"},
		{`{"lexicon":1,"id":"thing","defs":{"x":{"type":"token"}}}`, "id"},
		{`{"lexicon":1,"id":"com.example.thing","revision":"1","defs":{"x":{"type":"token"}}}`, "revision"},
		{`{"lexicon":1,"id":"com.example.thing"}`, ""},
		{`{"$type":"com.example.other","lexicon":1,"id":"com.example.thing","defs":{"x":{"type":"token"}}}`, ""},
		{doc(``), "defs"},
		{doc(`"#x":{"type":"token"}`), "defs/#x"},
		{doc(`"x":{}`), "defs/x"},
		{doc(`"x":[]`), "defs/x"},
		{doc(`"x":{"type":"token","description":1}`), "defs/x/description"},
		{doc(`"x":{"type":"query"}`), "defs/x/type"},
		{doc(`"x":{"type":"ref","ref":"#y"}`), "defs/x/type"},
		{doc(`"x":{"type":"union","refs":[]}`), "defs/x/type"},
		{doc(`"x":{"type":"unknown"}`), "defs/x/type"},
		{doc(`"x":{"type":"params"}`), "defs/x/type"},
		{doc(`"x":{"type":"permission","resource":"repo"}`), "defs/x/type"},
		{doc(`"x":{"type":"float"}`), "defs/x/type"},
		// fields
		{field(`{"type":"token"}`), at + "/type"},
		{field(`{"type":"record","key":"any"}`), at + "/type"},
		{field(`{"type":"boolean","default":"x"}`), at + "/default"},
		{field(`{"type":"boolean","default":true,"const":true}`), at},
		{field(`{"type":"integer","minimum":3,"maximum":2}`), at},
		{field(`{"type":"integer","maximum":2,"default":3}`), at + "/default"},
		{field(`{"type":"integer","minimum":2,"const":1}`), at + "/const"},
		{field(`{"type":"integer","enum":[1,"2"]}`), at + "/enum/1"},
		{field(`{"type":"integer","enum":[1],"default":2}`), at + "/default"},
		{field(`{"type":"integer","enum":[1,5],"maximum":4}`), at + "/enum/1"},
		{field(`{"type":"integer","enum":[1],"const":2}`), at + "/const"},
		{field(`{"type":"string","format":"phone"}`), at + "/format"},
		{field(`{"type":"string","format":"did","default":"x"}`), at + "/default"},
		{field(`{"type":"string","format":"did","enum":["did:web:a.b","x"]}`), at + "/enum/1"},
		{field(`{"type":"string","minLength":-1}`), at + "/minLength"},
		{field(`{"type":"string","minLength":2,"maxLength":1}`), at},
		{field(`{"type":"string","maxLength":1,"const":"xx"}`), at + "/const"},
		{field(`{"type":"string","minGraphemes":2,"maxGraphemes":1}`), at},
		{field(`{"type":"string","default":"x","const":"x"}`), at},
		{field(`{"type":"string","knownValues":"x"}`), at + "/knownValues"},
		{field(`{"type":"bytes","maxLength":"1"}`), at + "/maxLength"},
		{field(`{"type":"blob","accept":["*"]}`), at + "/accept/0"},
		{field(`{"type":"blob","accept":["image/png","text/ht*"]}`), at + "/accept/1"},
		{field(`{"type":"blob","maxSize":-1}`), at + "/maxSize"},
		{field(`{"type":"array"}`), at},
		{field(`{"type":"array","items":{"type":"token"}}`), at + "/items/type"},
		{field(`{"type":"array","items":{"type":"integer"},"minLength":2,"maxLength":1}`), at},
		{field(`{"type":"ref"}`), at},
		{field(`{"type":"ref","ref":"y"}`), at + "/ref"},
		{field(`{"type":"ref","ref":"#"}`), at + "/ref"},
		{field(`{"type":"ref","ref":"com.example.a#b#c"}`), at + "/ref"},
		{field(`{"type":"ref","ref":"#nowhere"}`), at + "/ref"},
		{field(`{"type":"union"}`), at},
		{field(`{"type":"union","refs":[],"closed":true}`), at},
		{field(`{"type":"union","refs":["#nowhere"]}`), at + "/refs/0"},
		{field(`{"type":"union","refs":[],"closed":1}`), at + "/closed"},
		{doc(`"x":{"type":"object","required":["a"],"properties":{}}`), "defs/x/required/0"},
		{doc(`"x":{"type":"object","nullable":["a"],"properties":{"b":{"type":"integer"}}}`), "defs/x/nullable/0"},
		{doc(`"x":{"type":"object","properties":{"":{"type":"integer"}}}`), "defs/x/properties/"},
		{doc(`"t":{"type":"token"},"x":{"type":"array","items":{"type":"ref","ref":"#t"}}`), "defs/x/items/ref"},
		{doc(`"s":{"type":"string"},"x":{"type":"array","items":{"type":"union","refs":["#s"]}}`), "defs/x/items/refs/0"},
		{doc(`"main":{"type":"query"},"x":{"type":"array","items":{"type":"ref","ref":"com.example.thing"}}`), "defs/x/items/ref"},
		// primary types
		{doc(`"main":{"type":"record","record":{"type":"object"}}`), "defs/main"},
		{doc(`"main":{"type":"record","key":"random","record":{"type":"object"}}`), "defs/main/key"},
		{doc(`"main":{"type":"record","key":"literal:","record":{"type":"object"}}`), "defs/main/key"},
		{doc(`"main":{"type":"record","key":"tid"}`), "defs/main"},
		{doc(`"main":{"type":"record","key":"tid","record":{"type":"string"}}`), "defs/main/record/type"},
		{doc(`"main":{"type":"query","input":{"encoding":"application/json"}}`), "defs/main/input"},
		{doc(`"main":{"type":"query","output":{}}`), "defs/main/output"},
		{doc(`"main":{"type":"query","output":{"encoding":"application/json; charset=utf-8"}}`), "defs/main/output/encoding"},
		{doc(`"main":{"type":"query","output":{"encoding":"application/json","schema":{"type":"string"}}}`), "defs/main/output/schema/type"},
		{doc(`"main":{"type":"query","parameters":{"type":"object"}}`), "defs/main/parameters/type"},
		{doc(`"main":{"type":"query","parameters":{"type":"params","properties":{"p":{"type":"unknown"}}}}`), "defs/main/parameters/properties/p/type"},
		{doc(`"main":{"type":"query","parameters":{"type":"params","properties":{"p":{"type":"array","items":{"type":"bytes"}}}}}`), "defs/main/parameters/properties/p/items/type"},
		{doc(`"main":{"type":"query","parameters":{"type":"params","required":["q"],"properties":{"p":{"type":"integer"}}}}`), "defs/main/parameters/required/0"},
		{doc(`"main":{"type":"query","errors":[{"name":"Two words"}]}`), "defs/main/errors/0/name"},
		{doc(`"main":{"type":"query","errors":[{}]}`), "defs/main/errors/0"},
		{doc(`"main":{"type":"subscription"}`), "defs/main"},
		{doc(`"main":{"type":"subscription","message":{"schema":{"type":"object"}}}`), "defs/main/message/schema/type"},
		{doc(`"main":{"type":"permission-set"}`), "defs/main"},
		{doc(`"main":{"type":"permission-set","title:lang":{"??":"x"},"permissions":[]}`), "defs/main/title:lang/??"},
		{doc(`"main":{"type":"permission-set","permissions":[{"type":"permission"}]}`), "defs/main/permissions/0"},
		{doc(`"main":{"type":"permission-set","permissions":[{"type":"permit","resource":"repo"}]}`), "defs/main/permissions/0/type"},
		{doc(`"main":{"type":"permission-set","permissions":[{"type":"permission","resource":"repo","collection":[{}]}]}`), "defs/main/permissions/0/collection"},
	} {
		_, err := lexicon.ParseSchema([]byte(c.schema))
		var e *lexicon.SchemaError
		if !errors.As(err, &e) || !errors.Is(err, lexicon.ErrSchema) || e.Path != c.path {
			t.Errorf("%s\n\t%v, want a fault at %q", c.schema, err, c.path)
		}
	}
	for _, fine := range []string{
		doc(`"x":{"type":"object"}`),
		field(`{"type":"object","properties":{"y":{"type":"array","items":{"type":"array","items":{"type":"object","properties":{}}}}}}`),
		field(`{"type":"integer","enum":[1,2],"const":2}`),
		field(`{"type":"ref","ref":"com.example.elsewhere#main"}`),
		field(`{"type":"union","refs":[]}`),
		doc(`"main":{"type":"array","items":{"type":"ref","ref":"#main"}}`),
		doc(`"main":{"type":"query","output":{"encoding":"*/*"}},"y":{"type":"token","unheardof":1}`),
	} {
		if _, err := lexicon.ParseSchema([]byte(fine)); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
}

func TestSchemaOfRecord(t *testing.T) {
	v := map[string]any{"$type": "com.atproto.lexicon.schema", "lexicon": int64(1), "id": "com.example.thing",
		"defs": map[string]any{"main": map[string]any{"type": "token"}}}
	doc, err := lexicon.SchemaOf(v)
	if err != nil || doc.ID != "com.example.thing" || doc.Main().TypeName() != "token" {
		t.Errorf("%+v, %v", doc, err)
	}
}

func TestAddFS(t *testing.T) {
	good := &fstest.MapFile{Data: []byte(`{"lexicon":1,"id":"com.example.thing","defs":{"x":{"type":"token"}}}`)}
	var c lexicon.Catalog
	if err := c.AddFS(fstest.MapFS{"com/example/thing.json": good, "README.md": {Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Lookup("com.example.thing"); !ok {
		t.Error("the document is missing")
	}
	if d, ok := c.Definition("com.example.thing#x"); !ok || d.TypeName() != "token" {
		t.Errorf("%v", d)
	}
	var d lexicon.Catalog
	err := d.AddFS(fstest.MapFS{"a.json": good, "b.json": {Data: []byte(`{}`)}})
	if !errors.Is(err, lexicon.ErrSchema) || !strings.Contains(err.Error(), "b.json") {
		t.Error(err)
	}
	if _, ok := d.Lookup("com.example.thing"); ok {
		t.Error("documents of a faulty folder were added")
	}
}

func TestMatrix153_154PermissionSetGrants(t *testing.T) {
	const set = `{"lexicon":1,"id":"com.example.app.authFull","defs":{"main":{"type":"permission-set","title":"Full","title:lang":{"de":"Voll"},"permissions":[%]}}}`
	one := func(p string) *lexicon.PermissionSet {
		doc, err := lexicon.ParseSchema([]byte(strings.Replace(set, "%", p, 1)))
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		return doc.Main().(*lexicon.PermissionSet)
	}
	const aud = "did:web:api.example.com#svc"
	for _, c := range []struct{ permission, aud, scope string }{
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"]}`, "", "repo:com.example.app.note"},
		{`{"type":"permission","resource":"repo","description":"notes","collection":["com.example.app.z","com.example.app.sub.a","com.example.app.z"]}`, "", "repo?collection=com.example.app.sub.a&collection=com.example.app.z"},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"],"action":["delete","create"]}`, "", "repo:com.example.app.note?action=create&action=delete"},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"],"action":["delete","create","update"]}`, "", "repo:com.example.app.note"},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get"],"aud":"*"}`, "", "rpc:com.example.app.get?aud=*"},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get","com.example.app.ask"],"inheritAud":true}`, aud, "rpc?lxm=com.example.app.ask&lxm=com.example.app.get&aud=did:web:api.example.com%23svc"},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get"],"inheritAud":true}`, "", ""},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get"],"inheritAud":true,"aud":"*"}`, aud, ""},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get"],"aud":"did:web:evil.example#svc"}`, aud, ""},
		{`{"type":"permission","resource":"rpc","lxm":["com.example.app.get"]}`, aud, ""},
		{`{"type":"permission","resource":"rpc","lxm":["*"],"inheritAud":true}`, aud, ""},
		{`{"type":"permission","resource":"rpc","lxm":[],"aud":"*"}`, aud, ""},
		{`{"type":"permission","resource":"rpc","lxm":"com.example.app.get","aud":"*"}`, aud, ""},
		{`{"type":"permission","resource":"repo","collection":["*"]}`, "", ""},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note","com.example.note"]}`, "", ""},
		{`{"type":"permission","resource":"repo","collection":["com.example.appendix.note"]}`, "", ""},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"],"action":["read"]}`, "", ""},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"],"action":[]}`, "", ""},
		{`{"type":"permission","resource":"repo","collection":["com.example.app.note"],"only":"mine"}`, "", ""},
		{`{"type":"permission","resource":"blob","accept":["*/*"]}`, "", ""},
		{`{"type":"permission","resource":"identity","attr":"*"}`, "", ""},
	} {
		granted, ignored := one(c.permission).Grants("com.example.app.authFull", c.aud)
		var got string
		if len(granted) == 1 {
			got = granted[0].Scope()
		}
		if got != c.scope || len(granted)+len(ignored) != 1 {
			t.Errorf("%s\n\tgrants %q, want %q; ignored %v", c.permission, got, c.scope, ignored)
		}
	}
}

// FuzzSchema: whatever is accepted compiles and checks values without a panic.
func FuzzSchema(f *testing.F) {
	f.Add([]byte(`{"lexicon":1,"id":"a.b.c","defs":{"main":{"type":"record","key":"tid","record":{"type":"object","properties":{"a":{"type":"ref","ref":"#b"}}}},"b":{"type":"array","items":{"type":"ref","ref":"#b"}}}}`), []byte(`{"a":[[],1]}`))
	err := fs.WalkDir(lexicon.BuiltinFS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var b []byte
			if b, err = fs.ReadFile(lexicon.BuiltinFS(), path); err == nil {
				f.Add(b, []byte(typicalPost))
			}
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, schema, value []byte) {
		doc, err := lexicon.ParseSchema(schema)
		if err != nil {
			if !errors.Is(err, lexicon.ErrSchema) {
				t.Fatal(err)
			}
			return
		}
		v, err := data.FromJSON(value, data.Limits{})
		if err != nil {
			return
		}
		var c lexicon.Catalog
		c.Add(doc)
		_ = c.Check()
		v1, all := lexicon.Validator{Catalog: &c}, lexicon.Validator{Catalog: &c, AllErrors: true, LegacyBlobs: true}
		for name := range doc.Defs {
			full := string(doc.ID) + "#" + name
			if name == "main" {
				full = string(doc.ID)
			}
			one, many := v1.Value(full, v), all.Value(full, v)
			if one == nil && many != nil || errors.Is(many, lexicon.ErrInvalid) && one == nil {
				t.Fatalf("%s: %v, but %v", full, one, many)
			}
		}
		_ = c.ValidateRecord(doc.ID, "self", v)
		if m, err := c.Method(doc.ID); err == nil {
			_, _ = c.Params(doc.ID, map[string][]string{"a": {string(value)}, "cursor": {"1"}})
			_ = c.ValidateInput(doc.ID, v)
			_ = c.ValidateOutput(doc.ID, v)
			_ = c.ValidateMessage(doc.ID, "#commit", v)
			_ = m
		}
		if set, ok := doc.Main().(*lexicon.PermissionSet); ok {
			granted, ignored := set.Grants(doc.ID, "*")
			if len(granted)+len(ignored) != len(set.Permissions) {
				t.Fatal("a permission was lost")
			}
		}
	})
}

func TestDocumentsInOrder(t *testing.T) {
	c := catalogOf(t, `{"id":"com.example.b","defs":{"x":{"type":"token"}}}`, `{"id":"com.example.a","defs":{"x":{"type":"token"}}}`)
	var got []syntax.NSID
	for doc := range c.Documents() {
		got = append(got, doc.ID)
	}
	if diff := cmp.Diff([]syntax.NSID{"com.example.a", "com.example.b"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestPropertyOrder: properties are sorted by name, and know where they are in the text.
func TestPropertyOrder(t *testing.T) {
	const text = `{"lexicon":1,"id":"com.example.x","defs":{"main":{"type":"object","nullable":["a"],
		"properties" : {"z":{"type":"string","description":"a \"{[: in it"},"a":{"type":"object","properties":{"\u0079":{"type":"integer"},"properties":{"type":"boolean"},"b":{"type":"bytes"}}},
		"m":{"type":"array","items":{"type":"object","properties":{"k":{"type":"integer"},"c":{"type":"integer"}}}}},"required":["z"]}}}`
	doc, err := lexicon.ParseSchema([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	inOrder := func(o lexicon.Type) (names string) {
		list := slices.Clone(o.(*lexicon.Object).Properties)
		slices.SortStableFunc(list, func(a, b lexicon.Property) int { return a.Order - b.Order })
		for _, p := range list {
			names += p.Name + " "
		}
		return names
	}
	main := doc.Main().(*lexicon.Object)
	if got := inOrder(main); got != "z a m " || main.Properties[0].Name != "a" {
		t.Error(got)
	}
	if got := inOrder(main.Properties[0].Type); got != "y properties b " {
		t.Error(got)
	}
	if got := inOrder(main.Properties[1].Type.(*lexicon.Array).Items); got != "k c " {
		t.Error(got)
	}
}
