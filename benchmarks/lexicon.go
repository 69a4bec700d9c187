package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jcalabro/atmos"
	atmoscbor "github.com/jcalabro/atmos/cbor"
	atmoslexicon "github.com/jcalabro/atmos/lexicon"
	"github.com/jcalabro/atmos/lexval"

	"github.com/bluesky-social/indigo/atproto/atdata"
	indigolexicon "github.com/bluesky-social/indigo/atproto/lexicon"
	indigosyntax "github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst/msttest"
)

const collection = "app.bsky.feed.post"

// typicalPost has two facets and a reply: 704 bytes of CBOR.
const typicalPost = `{"$type":"app.bsky.feed.post","text":"A typical post with a link to example.com, a mention of @alice.example.com and some words more.",
"createdAt":"2026-01-15T12:30:45.123Z","langs":["en"],"facets":[{"index":{"byteStart":27,"byteEnd":38},
"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]},{"index":{"byteStart":53,"byteEnd":71},
"features":[{"$type":"app.bsky.richtext.facet#mention","did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"}]}],
"reply":{"root":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"},
"parent":{"cid":"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity","uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"}}}`

// post is a record in the forms that the contenders work on.
type post struct {
	json  []byte
	cbor  []byte
	posts []byte // an array of many, of about a megabyte
	bad   []byte // JSON that does not conform to the schema
}

func newPost() *post {
	p := &post{json: []byte(typicalPost), bad: bytes.Replace([]byte(typicalPost), []byte(`"byteEnd":71`), []byte(`"byteEnd":-1`), 1)}
	p.cbor = must(data.AppendCBOR(nil, p.json, data.Limits{}))
	const n = 1420
	p.posts = cbor.AppendArray(nil, n)
	for range n {
		p.posts = append(p.posts, p.cbor...)
	}
	return p
}

// lexiconWorks returns what is raced on data and schemas.
func lexiconWorks() []*work {
	p := newPost()
	list := []*work{
		{name: "validate a post with its schema (pdskit: and its record key)", per: 1, unit: "post", ours: p.validate, atmos: p.atmosValidate, indigo: p.indigoValidate},
		{name: "JSON to CBOR, a post", per: 1, unit: "post", ours: p.toCBOR, atmos: p.atmosToCBOR, indigo: p.indigoToCBOR},
		{name: "JSON to a value, a post", per: 1, unit: "post", ours: p.fromJSON, atmos: p.atmosFromJSON, indigo: p.indigoFromJSON},
		{name: "CBOR to a value, a post", per: 1, unit: "post", ours: p.decode, atmos: p.atmosDecode, indigo: p.indigoDecode},
		{name: "a value to CBOR, a post", per: 1, unit: "post", ours: p.encode, atmos: p.atmosEncode, indigo: p.indigoEncode},
		{name: "CBOR to JSON, a post", per: 1, unit: "post", ours: p.toJSON, atmos: p.atmosToJSON, indigo: p.indigoToJSON},
		{name: "check that CBOR is canonical, posts (atmos: by decoding)", per: len(p.posts) / 1000, unit: "kB", ours: p.scan, atmos: p.atmosScan},
	}
	for _, f := range formats() {
		list = append(list, &work{
			name: "parse, " + f.name, per: len(f.valid), unit: "string",
			ours: f.contender(f.ours), atmos: f.contender(f.atmos), indigo: f.contender(f.indigo),
		})
	}
	return list
}

// schemas yields the documents in the binary.
func schemas(add func([]byte)) {
	check(fs.WalkDir(lexicon.BuiltinFS(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			add(must(fs.ReadFile(lexicon.BuiltinFS(), path)))
		}
		return err
	}))
}

// validator checks that a contender tells a good post from a bad one.
func validator[V any](p *post, read func([]byte) V, validate func(V) error) func() {
	if validate(read(p.bad)) == nil {
		panic("a bad post is accepted")
	}
	v := read(p.json)
	return func() { check(validate(v)) }
}

func (p *post) validate() func() {
	c := lexicon.Builtin()
	return validator(p, value, func(v any) error { return c.ValidateRecord(collection, "3jzfcijpj2z2a", v) })
}

func (p *post) atmosValidate() func() {
	c := atmoslexicon.NewCatalog()
	schemas(func(b []byte) { check(c.Add(must(atmoslexicon.Parse(b)))) })
	check(c.Resolve())
	read := func(b []byte) map[string]any { return must(atmoscbor.FromJSON(b)).(map[string]any) }
	return validator(p, read, func(v map[string]any) error { return lexval.ValidateRecord(c, collection, v) })
}

func (p *post) indigoValidate() func() {
	c := indigolexicon.NewBaseCatalog()
	schemas(func(b []byte) {
		var f indigolexicon.SchemaFile
		check(json.Unmarshal(b, &f))
		check(c.AddSchemaFile(f))
	})
	read := func(b []byte) map[string]any { return must(atdata.UnmarshalJSON(b)) }
	return validator(p, read, func(v map[string]any) error { return indigolexicon.ValidateRecord(c, v, collection, 0) })
}

func value(b []byte) any { return must(data.FromJSON(b, data.Limits{})) }

// same runs what makes bytes, which must be those wanted.
func same(want []byte, run func() []byte) func() {
	return func() {
		if got := run(); !bytes.Equal(got, want) {
			panic(fmt.Sprintf("other bytes: %x", got))
		}
	}
}

// encodes runs what makes a value, of which the CBOR must be the post's; this is checked once.
func (p *post) encodes(run func() any, encode func(any) []byte) func() {
	if got := encode(run()); !bytes.Equal(got, p.cbor) {
		panic(fmt.Sprintf("another value: %x", got))
	}
	return func() { run() }
}

func encode(v any) []byte       { return must(data.Encode(v)) }
func atmosEncode(v any) []byte  { return must(atmoscbor.Marshal(v)) }
func indigoEncode(v any) []byte { return must(atdata.MarshalCBOR(v.(map[string]any))) }

func (p *post) toCBOR() func() {
	return same(p.cbor, func() []byte { return must(data.AppendCBOR(nil, p.json, data.Limits{})) })
}

func (p *post) atmosToCBOR() func() {
	return same(p.cbor, func() []byte { return atmosEncode(must(atmoscbor.FromJSON(p.json))) })
}

func (p *post) indigoToCBOR() func() {
	return same(p.cbor, func() []byte { return indigoEncode(must(atdata.UnmarshalJSON(p.json))) })
}

func (p *post) fromJSON() func() {
	return p.encodes(func() any { return value(p.json) }, encode)
}

func (p *post) atmosFromJSON() func() {
	return p.encodes(func() any { return must(atmoscbor.FromJSON(p.json)) }, atmosEncode)
}

func (p *post) indigoFromJSON() func() {
	return p.encodes(func() any { return must(atdata.UnmarshalJSON(p.json)) }, indigoEncode)
}

func (p *post) decode() func() {
	return p.encodes(func() any { return must(data.Decode(p.cbor, data.Limits{})) }, encode)
}

func (p *post) atmosDecode() func() {
	return p.encodes(func() any { return must(atmoscbor.Unmarshal(p.cbor)) }, atmosEncode)
}

func (p *post) indigoDecode() func() {
	return p.encodes(func() any { return must(atdata.UnmarshalCBOR(p.cbor)) }, indigoEncode)
}

func (p *post) encode() func() {
	v := value(p.json)
	return same(p.cbor, func() []byte { return encode(v) })
}

func (p *post) atmosEncode() func() {
	v := must(atmoscbor.FromJSON(p.json))
	return same(p.cbor, func() []byte { return atmosEncode(v) })
}

func (p *post) indigoEncode() func() {
	v := must(atdata.UnmarshalJSON(p.json))
	return same(p.cbor, func() []byte { return indigoEncode(v) })
}

// rereads runs what makes JSON, which must stand for the post; this is checked once.
func (p *post) rereads(run func() []byte) func() {
	if got := must(data.AppendCBOR(nil, run(), data.Limits{})); !bytes.Equal(got, p.cbor) {
		panic(fmt.Sprintf("another value: %x", got))
	}
	return func() { run() }
}

func (p *post) toJSON() func() {
	return p.rereads(func() []byte { return must(data.AppendJSON(nil, p.cbor)) })
}

func (p *post) atmosToJSON() func() {
	return p.rereads(func() []byte { return must(atmoscbor.ToJSON(must(atmoscbor.Unmarshal(p.cbor)))) })
}

func (p *post) indigoToJSON() func() {
	return p.rereads(func() []byte { return must(json.Marshal(must(atdata.UnmarshalCBOR(p.cbor)))) })
}

// unsorted is an array like posts, in which the keys of the last one are out of order.
func (p *post) unsorted() []byte {
	b := bytes.Clone(p.posts)
	copy(b[bytes.LastIndex(b, []byte("\x65langs")):], "\x65zangs") // behind "reply", now
	return b
}

// accepts runs a check of the posts, which must refuse others.
func (p *post) accepts(run func([]byte) error) func() {
	if run(p.unsorted()) == nil {
		panic("keys out of order are accepted")
	}
	return func() { check(run(p.posts)) }
}

func (p *post) scan() func() {
	return p.accepts(func(b []byte) error { return data.Valid(b, data.Limits{}) })
}

func (p *post) atmosScan() func() {
	return p.accepts(func(b []byte) error {
		_, err := atmoscbor.UnmarshalNoCopy(b)
		return err
	})
}

// format is a string format and the contenders' ways to check it.
type format struct {
	name                string
	valid               []string
	invalid             string
	ours, atmos, indigo func(string) error
}

func (f *format) contender(parse func(string) error) contender {
	if parse == nil {
		return nil
	}
	return func() func() {
		if parse(f.invalid) == nil {
			panic(f.invalid + " is accepted")
		}
		return func() {
			for _, s := range f.valid {
				check(parse(s))
			}
		}
	}
}

// by makes a check out of a Parse function.
func by[T any](parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		_, err := parse(s)
		return err
	}
}

// formats returns all string formats with as many different strings as keep a processor from
// learning their bytes by heart.
func formats() []*format {
	const n = 1024
	each := func(f func(i int) string) (list []string) {
		for i := range n {
			list = append(list, f(i))
		}
		return list
	}
	letters := func(i, n int) string {
		sum := sha256.Sum256(fmt.Append(nil, i))
		return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:n]
	}
	did := func(i int) string { return "did:plc:" + letters(i, 24) }
	handle := func(i int) string {
		return letters(i, 3+i%13) + []string{".bsky.social", ".test", ".example.com", ".co.uk"}[i%4]
	}
	keys := msttest.RealisticKeys(n)
	nsids := each(func(i int) string {
		collection, _, _ := strings.Cut(keys[i], "/")
		return collection
	})
	tid := func(i int) string {
		return string(syntax.NewTID(time.UnixMicro(1_700_000_000_000_000+int64(i)*7_919_000_003), uint(i)))
	}
	datetime := func(i int) string {
		t := time.UnixMicro(1_700_000_000_000_000 + int64(i)*7_919_000_003).UTC()
		return t.Format([]string{"2006-01-02T15:04:05.000Z", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05.000000Z", "2006-01-02T15:04:05.000"}[i%4]) + []string{"", "", "", "+02:00"}[i%4]
	}
	return []*format{
		{"did", each(did), "did:plc:", by(syntax.ParseDID), by(atmos.ParseDID), by(indigosyntax.ParseDID)},
		{"handle", each(handle), "alice", by(syntax.ParseHandle), by(atmos.ParseHandle), by(indigosyntax.ParseHandle)},
		{"at-identifier", each(func(i int) string {
			if i%2 == 0 {
				return did(i)
			}
			return handle(i)
		}), "did:", by(syntax.ParseAtIdentifier), by(atmos.ParseATIdentifier), by(indigosyntax.ParseAtIdentifier)},
		{"nsid", nsids, "app.bsky", by(syntax.ParseNSID), by(atmos.ParseNSID), by(indigosyntax.ParseNSID)},
		{"tid", each(tid), "3jzfcijpj2z2", by(syntax.ParseTID), by(atmos.ParseTID), by(indigosyntax.ParseTID)},
		{"record-key", each(func(i int) string {
			if i%4 == 0 {
				return letters(i, 1+i%20)
			}
			return tid(i)
		}), "a/b", by(syntax.ParseRecordKey), by(atmos.ParseRecordKey), by(indigosyntax.ParseRecordKey)},
		{"at-uri", each(func(i int) string { return "at://" + did(i) + "/" + nsids[i] + "/" + tid(i) }), "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/x",
			by(syntax.ParseATURI), by(atmos.ParseATURI), by(indigosyntax.ParseATURI)},
		{"datetime", each(datetime), "2026-13-15T12:30:45.123Z", by(syntax.ParseDatetime), by(atmos.ParseDatetime), by(indigosyntax.ParseDatetime)},
		{"language", each(func(i int) string { return []string{"en", "pt-BR", "zh-Hant-TW", "de", "ja", "fil"}[i%6] }), "en_US",
			by(syntax.ParseLanguage), by(atmos.ParseLanguage), by(indigosyntax.ParseLanguage)},
		{"uri", each(func(i int) string { return "https://" + handle(i) + "/" + letters(i, i%40) }), "example.com",
			by(syntax.ParseURI), by(atmos.ParseURI), by(indigosyntax.ParseURI)},
		{"cid", each(func(i int) string { return msttest.Value(i).String() }), "bafy", by(syntax.ParseCID), nil, by(indigosyntax.ParseCID)},
	}
}
