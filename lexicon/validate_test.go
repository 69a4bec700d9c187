package lexicon_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func parse(t testing.TB, json string) any {
	t.Helper()
	v, err := data.FromJSON([]byte(json), data.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", json, err)
	}
	return v
}

// catalogOf returns a catalog of documents given as JSON without "lexicon".
func catalogOf(t testing.TB, docs ...string) *lexicon.Catalog {
	t.Helper()
	c := new(lexicon.Catalog)
	for _, s := range docs {
		doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,` + strings.TrimPrefix(s, "{")))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		c.Add(doc)
	}
	return c
}

const raw = `{"$link":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"}`

func TestRecordErrorsNamePathAndRule(t *testing.T) {
	c := lexicon.Builtin()
	const post = `{"$type":"app.bsky.feed.post","createdAt":"2026-01-15T12:30:45Z","text":"hi"`
	image := func(size int, mime string) string {
		return fmt.Sprintf(`,"embed":{"$type":"app.bsky.embed.images","images":[{"alt":"","image":{"$type":"blob","ref":%s,"mimeType":%q,"size":%d}}]}}`, raw, mime, size)
	}
	for _, c1 := range []struct{ record, path, rule string }{
		{post + `}`, "", ""},
		{post + `,"extra":{"anything":[1]}}`, "", ""},
		{`{"$type":"app.bsky.feed.post","createdAt":"2026-01-15T12:30:45Z"}`, "Record", "required"},
		{`{"createdAt":"2026-01-15T12:30:45Z","text":"hi"}`, "Record/$type", "$type"},
		{`{"$type":"app.bsky.feed.like","createdAt":"2026-01-15T12:30:45Z","text":"hi"}`, "Record/$type", "$type"},
		{`[]`, "Record", "type"},
		{post + `,"langs":["en","deutsch sprache"]}`, "Record/langs/1", "format"},
		{post + `,"langs":["en","de","fr","it"]}`, "Record/langs", "maxLength"},
		{post + `,"langs":null}`, "Record/langs", "type"},
		{strings.Replace(post, "hi", strings.Repeat("é", 301), 1) + `}`, "Record/text", "maxGraphemes"},
		{strings.Replace(post, "hi", strings.Repeat("x", 3001), 1) + `}`, "Record/text", "maxLength"},
		{strings.Replace(post, "hi", strings.Repeat("👩‍👩‍👦‍👦", 110), 1) + `}`, "", ""},
		{strings.Replace(post, "45Z", "45", 1) + `}`, "Record/createdAt", "format"},
		{post + image(5, "image/png"), "", ""},
		{post + image(5_000_000, "image/png"), "Record/embed/images/0/image", "maxSize"},
		{post + image(5, "video/mp4"), "Record/embed/images/0/image", "accept"},
		{post + `,"embed":{"$type":"com.example.unheardof","x":1}}`, "", ""},
		{post + `,"embed":{"images":[]}}`, "Record/embed", "$type"},
		{post + `,"embed":{"$type":"app.bsky.embed.record","record":{"uri":"at://x"}}}`, "Record/embed/record", "required"},
		{post + `,"reply":{"$type":"app.bsky.feed.post#replyRef","root":1}}`, "Record/reply", "required"},
		{post + `,"reply":{"$type":"com.example.other","root":1}}`, "Record/reply/$type", "$type"},
		{post + `,"facets":[{"index":{"byteStart":-1,"byteEnd":2},"features":[]}]}`, "Record/facets/0/index/byteStart", "minimum"},
	} {
		err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", parse(t, c1.record))
		if c1.rule == "" {
			if err != nil {
				t.Errorf("%.60s: %v", c1.record, err)
			}
			continue
		}
		var e *lexicon.Error
		if !errors.As(err, &e) || !errors.Is(err, lexicon.ErrInvalid) || e.Path != c1.path || e.Rule != c1.rule {
			t.Errorf("%.60s: %v, want %s at %s", c1.record, err, c1.rule, c1.path)
		}
	}
	err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", parse(t, `{"$type":"app.bsky.feed.post","createdAt":"2026-01-15T12:30:45Z"}`))
	const want = `Invalid app.bsky.feed.post record: Record must have the property "text"`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestRecordKeys(t *testing.T) {
	c := lexicon.Builtin()
	record := func(collection string) any { return map[string]any{"$type": collection, "lexicon": int64(1)} }
	for _, c1 := range []struct {
		collection syntax.NSID
		rkey       syntax.RecordKey
		ok         bool
	}{
		{"app.bsky.actor.profile", "self", true},
		{"app.bsky.actor.profile", "3jzfcijpj2z2a", false},
		{"com.atproto.lexicon.schema", "com.example.thing", true},
		{"com.atproto.lexicon.schema", "self", false},
	} {
		err := c.ValidateRecord(c1.collection, c1.rkey, record(string(c1.collection)))
		if (err == nil) != c1.ok {
			t.Errorf("%s/%s: %v", c1.collection, c1.rkey, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "Invalid record key for "+string(c1.collection)) {
			t.Error(err)
		}
	}
	keys := catalogOf(t, `{"id":"com.example.tid","defs":{"main":{"type":"record","key":"tid","record":{"type":"object","properties":{}}}}}`,
		`{"id":"com.example.any","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":{}}}}}`)
	if err := keys.ValidateRecord("com.example.tid", "self", record("com.example.tid")); err == nil {
		t.Error("a TID collection takes the key self")
	}
	for _, rkey := range []syntax.RecordKey{"self", "a:b"} {
		if err := keys.ValidateRecord("com.example.any", rkey, record("com.example.any")); err != nil {
			t.Error(err)
		}
	}
	if err := keys.ValidateRecord("com.example.any", "..", record("com.example.any")); err == nil {
		t.Error(`the key ".." is accepted`)
	}
}

func TestUnknownSchemas(t *testing.T) {
	c := catalogOf(t,
		`{"id":"com.example.note","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":{
			"a":{"type":"ref","ref":"com.example.defs#a"},"u":{"type":"union","refs":["com.example.missing"]}}}}}}`,
		`{"id":"com.example.ask","defs":{"main":{"type":"query"}}}`)
	for _, c1 := range []struct {
		collection syntax.NSID
		record     string
		name       string
	}{
		{"com.example.other", `{"$type":"com.example.other"}`, "com.example.other"},
		{"com.example.ask", `{"$type":"com.example.ask"}`, "com.example.ask"},
		{"com.example.note", `{"$type":"com.example.note","a":{}}`, "com.example.defs#a"},
		{"com.example.note", `{"$type":"com.example.note","u":{"$type":"com.example.missing"}}`, "com.example.missing"},
		{"com.example.note", `{"$type":"com.example.note","u":{"$type":"com.example.unlisted"}}`, ""},
	} {
		err := c.ValidateRecord(c1.collection, "self", parse(t, c1.record))
		var e *lexicon.UnknownSchemaError
		if c1.name == "" {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.As(err, &e) || e.Name != c1.name || !errors.Is(err, lexicon.ErrUnknownSchema) || errors.Is(err, lexicon.ErrInvalid) {
			t.Errorf("%s: %v", c1.record, err)
		}
	}
	if c.Check() == nil {
		t.Error("missing definitions pass the check")
	}
	// What was missing counts as soon as it is there.
	doc, err := lexicon.ParseSchema([]byte(`{"lexicon":1,"id":"com.example.defs","defs":{"a":{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	c.Add(doc)
	if err := c.ValidateRecord("com.example.note", "self", parse(t, `{"$type":"com.example.note","a":{"x":1}}`)); err != nil {
		t.Error(err)
	}
	if err := c.ValidateRecord("com.example.note", "self", parse(t, `{"$type":"com.example.note","a":{}}`)); !errors.Is(err, lexicon.ErrInvalid) {
		t.Error(err)
	}
}

func TestAllErrors(t *testing.T) {
	c := lexicon.Builtin()
	record := parse(t, `{"$type":"app.bsky.feed.post","langs":["??","en","!!"],"reply":{"root":{}}}`)
	err := lexicon.Validator{Catalog: c, AllErrors: true}.Record("app.bsky.feed.post", "self", record)
	var all lexicon.Errors
	if !errors.As(err, &all) || !errors.Is(err, lexicon.ErrInvalid) {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Path+" "+e.Rule)
	}
	want := []string{"Record key key", "Record required", "Record/langs/0 format", "Record/langs/2 format", "Record/reply required",
		"Record/reply/root required", "Record/reply/root required", "Record required"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	list := make([]any, 10_000)
	for i := range list {
		list[i] = "!"
	}
	err = lexicon.Validator{Catalog: c, AllErrors: true}.Record("app.bsky.feed.threadgate", "3jzfcijpj2z2a",
		map[string]any{"$type": "app.bsky.feed.threadgate", "hiddenReplies": list})
	if !errors.As(err, &all) || len(all) > 64 {
		t.Errorf("%d errors", len(all))
	}
}

func TestLegacyBlobs(t *testing.T) {
	c := lexicon.Builtin()
	profile := parse(t, `{"$type":"app.bsky.actor.profile","avatar":{"cid":"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","mimeType":"image/png"}}`)
	if err := c.ValidateRecord("app.bsky.actor.profile", "self", profile); err == nil {
		t.Error("a new record may have a legacy blob")
	}
	v := lexicon.Validator{Catalog: c, LegacyBlobs: true}
	if err := v.Record("app.bsky.actor.profile", "self", profile); err != nil {
		t.Error(err)
	}
}

func TestUnknownTakesObjectsOnly(t *testing.T) {
	c := catalogOf(t, `{"id":"com.example.note","defs":{"x":{"type":"object","properties":{"u":{"type":"unknown"}}}}}`)
	for in, ok := range map[string]bool{
		`{}`: true, `{"$type":"com.example.any"}`: true, `{"deep":{"x":[1,{}]}}`: true,
		`null`: false, `1`: false, `"x"`: false, `[]`: false, `{"$bytes":"aGk"}`: false, raw: false,
		`{"$type":"blob","ref":` + raw + `,"mimeType":"a/b","size":1}`: false,
	} {
		if err := (lexicon.Validator{Catalog: c}.Value("com.example.note#x", map[string]any{"u": parse(t, in)})); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestScalars(t *testing.T) {
	c := catalogOf(t, `{"id":"com.example.defs","defs":{
		"bool":{"type":"boolean","const":true},
		"int":{"type":"integer","minimum":1,"maximum":9,"enum":[1,5,9]},
		"seven":{"type":"integer","const":7},
		"range":{"type":"integer","minimum":-2,"maximum":2},
		"text":{"type":"string","minLength":2,"maxLength":4},
		"none":{"type":"string","maxLength":0},
		"graph":{"type":"string","minGraphemes":2,"maxGraphemes":3},
		"color":{"type":"string","enum":["red","green"]},
		"many":{"type":"string","enum":["a","b","c","d","e","f","g","h","i","j"]},
		"fixed":{"type":"string","const":"x"},
		"known":{"type":"string","knownValues":["x"]},
		"bytes":{"type":"bytes","minLength":1,"maxLength":2},
		"link":{"type":"cid-link"},
		"list":{"type":"array","items":{"type":"integer","maximum":3},"minLength":1,"maxLength":2}}}`)
	for _, c1 := range []struct{ def, in, rule string }{
		{"bool", `true`, ""}, {"bool", `false`, "const"}, {"bool", `1`, "type"},
		{"int", `5`, ""}, {"int", `4`, "enum"}, {"int", `"5"`, "type"},
		{"seven", `7`, ""}, {"seven", `8`, "const"},
		{"range", `-2`, ""}, {"range", `-3`, "minimum"}, {"range", `3`, "maximum"},
		{"text", `"ab"`, ""}, {"text", `"é"`, ""}, {"text", `"a"`, "minLength"}, {"text", `"ééé"`, "maxLength"},
		{"none", `""`, ""}, {"none", `"x"`, "maxLength"},
		{"graph", `"क्षिa"`, ""}, {"graph", `"क्षि"`, "minGraphemes"}, {"graph", `"abcd"`, "maxGraphemes"}, {"graph", `"a\r\nb"`, ""},
		{"color", `"red"`, ""}, {"color", `"blue"`, "enum"}, {"many", `"j"`, ""}, {"many", `"k"`, "enum"},
		{"fixed", `"x"`, ""}, {"fixed", `"y"`, "const"}, {"known", `"anything"`, ""},
		{"bytes", `{"$bytes":"aGk"}`, ""}, {"bytes", `{"$bytes":""}`, "minLength"}, {"bytes", `{"$bytes":"aGkh"}`, "maxLength"}, {"bytes", `"aGk"`, "type"},
		{"link", raw, ""}, {"link", `"bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"`, "type"},
		{"list", `[1]`, ""}, {"list", `[]`, "minLength"}, {"list", `[1,2,3]`, "maxLength"}, {"list", `[1,4]`, "maximum"}, {"list", `{}`, "type"},
	} {
		err := lexicon.Validator{Catalog: c}.Value("com.example.defs#"+c1.def, parse(t, c1.in))
		var e *lexicon.Error
		if c1.rule == "" && err != nil || c1.rule != "" && (!errors.As(err, &e) || e.Rule != c1.rule) {
			t.Errorf("%s %s: %v, want %q", c1.def, c1.in, err, c1.rule)
		}
	}
	if err := (lexicon.Validator{Catalog: c}.Value("com.example.defs#range", 1)); err != nil {
		t.Errorf("int: %v", err)
	}
}

func TestUnions(t *testing.T) {
	c := catalogOf(t, `{"id":"com.example.defs","defs":{
		"main":{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}},
		"b":{"type":"object","properties":{}},
		"open":{"type":"array","items":{"type":"union","refs":["com.example.defs#main","#b"]}},
		"closed":{"type":"array","items":{"type":"union","refs":["#main"],"closed":true}},
		"empty":{"type":"array","items":{"type":"union","refs":[]}}}}`)
	for _, c1 := range []struct{ def, in, path string }{
		{"open", `[{"$type":"com.example.defs","x":1},{"$type":"com.example.defs#b"},{"$type":"com.other.thing"}]`, ""},
		{"open", `[{"$type":"com.example.defs"}]`, "Value/0"},
		{"open", `[{}]`, "Value/0"},
		{"open", `["com.example.defs#b"]`, "Value/0"},
		{"closed", `[{"$type":"com.example.defs","x":1}]`, ""},
		{"closed", `[{"$type":"com.example.defs#main","x":1}]`, "Value/0/$type"},
		{"closed", `[{"$type":"com.example.defs#b"}]`, "Value/0/$type"},
		{"empty", `[{"$type":"com.other.thing"}]`, ""},
		{"empty", `[{}]`, "Value/0"},
	} {
		err := lexicon.Validator{Catalog: c}.Value("com.example.defs#"+c1.def, parse(t, c1.in))
		var e *lexicon.Error
		if c1.path == "" && err != nil || c1.path != "" && (!errors.As(err, &e) || e.Path != c1.path) {
			t.Errorf("%s %s: %v, want %q", c1.def, c1.in, err, c1.path)
		}
	}
}

func TestMethods(t *testing.T) {
	c := lexicon.Builtin()
	m, err := c.Method("com.atproto.repo.createRecord")
	if err != nil || m.Kind != lexicon.KindProcedure || m.Input.Encoding != "application/json" || m.Errors[0].Name != "InvalidSwap" {
		t.Errorf("%+v, %v", m, err)
	}
	if !m.Input.Accepts("application/json; charset=utf-8") || m.Input.Accepts("text/plain") || m.Input.Accepts("") {
		t.Error("media types of the input")
	}
	if m, err = c.Method("com.atproto.repo.uploadBlob"); err != nil || !m.Input.Accepts("image/png") || m.Input.Accepts("nonsense") {
		t.Errorf("%+v, %v", m, err)
	}
	for _, id := range []syntax.NSID{"com.example.none", "app.bsky.feed.post"} {
		if _, err := c.Method(id); !errors.Is(err, lexicon.ErrUnknownSchema) {
			t.Errorf("%s: %v", id, err)
		}
	}
	input := parse(t, `{"repo":"alice.test","collection":"app.bsky.feed.post","record":{}}`)
	if err := c.ValidateInput("com.atproto.repo.createRecord", input); err != nil {
		t.Error(err)
	}
	for _, bad := range []any{nil, "x", parse(t, `{"repo":"alice.test","collection":"x","record":{}}`)} {
		if err := c.ValidateInput("com.atproto.repo.createRecord", bad); !errors.Is(err, lexicon.ErrInvalid) || !strings.HasPrefix(err.Error(), "Input") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := c.ValidateInput("com.atproto.server.activateAccount", nil); err != nil {
		t.Error(err)
	}
	if err := c.ValidateOutput("com.atproto.server.createAppPassword", parse(t, `{"name":"a","password":"b","createdAt":"x"}`)); err == nil || !strings.HasPrefix(err.Error(), "Output/createdAt ") {
		t.Error(err)
	}
}

func TestMessages(t *testing.T) {
	c := lexicon.Builtin()
	const sub = "com.atproto.sync.subscribeRepos"
	identity := parse(t, `{"seq":1,"did":"did:web:example.com","time":"2026-01-15T12:30:45Z"}`)
	for _, typ := range []string{"#identity", sub + "#identity", "#unheardof"} {
		if err := c.ValidateMessage(sub, typ, identity); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if err := c.ValidateMessage(sub, "#account", identity); !errors.Is(err, lexicon.ErrInvalid) || !strings.HasPrefix(err.Error(), "Message must have the property \"active\"") {
		t.Error(err)
	}
	if err := c.ValidateMessage("com.atproto.sync.getRepo", "#x", identity); !errors.Is(err, lexicon.ErrUnknownSchema) {
		t.Error(err)
	}
}

func TestParams(t *testing.T) {
	c := catalogOf(t, `{"id":"com.example.ask","defs":{"main":{"type":"query","parameters":{"type":"params","required":["who"],"properties":{
		"who":{"type":"string","format":"at-identifier"},"limit":{"type":"integer","minimum":1,"maximum":100,"default":50},
		"reverse":{"type":"boolean"},"deep":{"type":"boolean","default":true},"tags":{"type":"array","items":{"type":"string","maxLength":3},"maxLength":2},
		"ns":{"type":"array","items":{"type":"integer"}},"sort":{"type":"string","default":"new","enum":["new","top"]}}}}}}`)
	for _, c1 := range []struct {
		query string
		want  map[string]any
		path  string
	}{
		{"who=alice.test", map[string]any{"who": "alice.test", "limit": int64(50), "deep": true, "sort": "new"}, ""},
		{"who=alice.test&limit=7&reverse=true&deep=false&tags=a&tags=b&ns=-1&ns=0&sort=top&other=x&other=y", map[string]any{"who": "alice.test",
			"limit": int64(7), "reverse": true, "deep": false, "tags": []any{"a", "b"}, "ns": []any{int64(-1), int64(0)}, "sort": "top"}, ""},
		{"who=alice.test&limit=&tags=", map[string]any{"who": "alice.test", "limit": int64(50), "deep": true, "sort": "new"}, ""},
		{"", nil, "Params"},
		{"who=", nil, "Params"},
		{"who=@@", nil, "Params/who"},
		{"who=a.test&who=b.test", nil, "Params/who"},
		{"who=a.test&limit=0", nil, "Params/limit"},
		{"who=a.test&limit=101", nil, "Params/limit"},
		{"who=a.test&limit=x", nil, "Params/limit"},
		{"who=a.test&limit=1.0", nil, "Params/limit"},
		{"who=a.test&limit=%2B1", nil, "Params/limit"},
		{"who=a.test&limit=99999999999999999999", nil, "Params/limit"},
		{"who=a.test&reverse=1", nil, "Params/reverse"},
		{"who=a.test&tags=abcd", nil, "Params/tags/0"},
		{"who=a.test&tags=a&tags=b&tags=c", nil, "Params/tags"},
		{"who=a.test&ns=1&ns=x", nil, "Params/ns/1"},
		{"who=a.test&sort=old", nil, "Params/sort"},
	} {
		q, err := url.ParseQuery(c1.query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Params("com.example.ask", q)
		var e *lexicon.Error
		if c1.path != "" {
			if !errors.As(err, &e) || e.Path != c1.path {
				t.Errorf("%s: %v, want an error at %s", c1.query, err, c1.path)
			}
		} else if diff := cmp.Diff(c1.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c1.query, err, diff)
		}
	}
	if _, err := c.Params("com.example.none", nil); !errors.Is(err, lexicon.ErrUnknownSchema) {
		t.Error(err)
	}
	var all lexicon.Errors
	_, err := lexicon.Validator{Catalog: c, AllErrors: true}.Params("com.example.ask", url.Values{"limit": {"x"}, "reverse": {"y"}})
	if !errors.As(err, &all) || len(all) != 3 {
		t.Error(err)
	}
}

func TestConcurrentUseWhileGrowing(t *testing.T) {
	c := lexicon.Builtin()
	post := parse(t, typicalPost)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 200 {
				if err := c.ValidateRecord("app.bsky.feed.post", "3jzfcijpj2z2a", post); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for j := range 20 {
				c.Add(&lexicon.Document{ID: syntax.NSID(fmt.Sprintf("com.example.a%db%d", i, j)), Defs: map[string]lexicon.Type{"x": &lexicon.Token{}}})
			}
		})
	}
	wg.Wait()
}

// A schema's size and a value's size must add up, not multiply.
func TestHugeSchemasDoNotSlowDownSmallValues(t *testing.T) {
	var props, mimes, words []string
	for i := range 20_000 {
		props = append(props, fmt.Sprintf(`"p%05d":{"type":"integer"}`, i))
		mimes = append(mimes, fmt.Sprintf(`"a%d/b"`, i))
		words = append(words, fmt.Sprintf(`"w%d"`, i))
	}
	c := catalogOf(t, `{"id":"com.example.defs","defs":{
		"wide":{"type":"object","required":["p00007"],"properties":{`+strings.Join(props, ",")+`}},
		"list":{"type":"array","items":{"type":"ref","ref":"#wide"}},
		"blobs":{"type":"array","items":{"type":"blob","accept":[`+strings.Join(mimes, ",")+`]}},
		"words":{"type":"array","items":{"type":"string","enum":[`+strings.Join(words, ",")+`]}}}}`)
	var list, blobs, texts []any
	blob := parse(t, `{"$type":"blob","ref":`+raw+`,"mimeType":"a19999/b","size":1}`)
	for range 20_000 {
		list = append(list, map[string]any{"p00007": int64(1), "other": int64(2)})
		blobs, texts = append(blobs, blob), append(texts, "w19999")
	}
	for def, v := range map[string]any{"list": list, "blobs": blobs, "words": texts} {
		if err := (lexicon.Validator{Catalog: c}.Value("com.example.defs#"+def, v)); err != nil {
			t.Errorf("%s: %v", def, err)
		}
	}
	for in, path := range map[string]string{`[{}]`: "Value/0", `[{"x":1}]`: "Value/0", `[{"p00007":1,"p00001":"x"}]`: "Value/0/p00001"} {
		var e *lexicon.Error
		if err := (lexicon.Validator{Catalog: c}.Value("com.example.defs#list", parse(t, in))); !errors.As(err, &e) || e.Path != path {
			t.Errorf("%s: %v", in, err)
		}
	}
}

const typicalPost = `{"$type":"app.bsky.feed.post","text":"A typical post with a link to example.com, a mention of @alice.example.com and some words more.",
"createdAt":"2026-01-15T12:30:45.123Z","langs":["en"],"facets":[{"index":{"byteStart":27,"byteEnd":38},
"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]},{"index":{"byteStart":53,"byteEnd":71},
"features":[{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}]}],
"reply":{"root":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"},
"parent":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"}}}`
