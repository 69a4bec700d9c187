// Package lexvalue makes random values that are valid by a schema, for tests.
package lexvalue

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Maker makes values.
type Maker struct {
	Catalog *lexicon.Catalog
	Rand    *rand.Rand
	// Empty lets optional texts without a format be empty.
	Empty bool

	depth int
	full  bool // neither texts nor lists are empty
}

// maxDepth is how deep optional values are made.
const maxDepth = 5

// Value makes a value of a type, in the data model.
func (m *Maker) Value(t lexicon.Type) any {
	m.depth++
	defer func() { m.depth-- }()
	switch t := t.(type) {
	case *lexicon.Record:
		return m.object(t.Schema.Properties)
	case *lexicon.Object:
		return m.object(t.Properties)
	case *lexicon.Array:
		n := least(t.MinLength, 0)
		if m.depth < maxDepth {
			n += m.Rand.IntN(3)
		}
		if m.full {
			n = max(n, 1)
		}
		list := make([]any, min(n, most(t.MaxLength, n)))
		for i := range list {
			list[i] = m.Value(t.Items)
		}
		return list
	case *lexicon.Boolean:
		if t.Const != nil {
			return *t.Const
		}
		return m.Rand.IntN(2) == 0
	case *lexicon.Integer:
		return m.integer(t)
	case *lexicon.String:
		return m.text(t)
	case *lexicon.Bytes:
		n := least(t.MinLength, 0)
		return data.Bytes(strings.Repeat("b", min(n+m.Rand.IntN(4), most(t.MaxLength, n+4))))
	case *lexicon.CIDLink:
		return data.Link{Cid: pick(m, links)}
	case *lexicon.Blob:
		mime := "image/png"
		if len(t.Accept) > 0 {
			mime = strings.ReplaceAll(strings.ReplaceAll(pick(m, t.Accept), "*/*", mime), "*", "png")
		}
		return data.Blob{Ref: blobRef, MIME: mime, Size: int64(min(m.Rand.IntN(1000), most(t.MaxSize, 1000)))}.Value()
	case *lexicon.Unknown:
		return map[string]any{"$type": "com.example.unknown", "list": []any{int64(m.Rand.IntN(9)), nil, "<&>\u2028", data.Link{Cid: links[0]}}}
	case *lexicon.Ref:
		target, ok := m.Catalog.Definition(t.Ref)
		if !ok {
			panic("lexvalue: there is no " + t.Ref)
		}
		v := m.Value(target)
		if _, ok := target.(*lexicon.Record); ok {
			v.(map[string]any)["$type"] = t.Ref
		}
		return v
	case *lexicon.Union:
		if !t.Closed && (len(t.Refs) == 0 || m.Rand.IntN(4) == 0) {
			return map[string]any{"$type": "com.example.other", "n": int64(m.Rand.IntN(9)), "none": nil}
		}
		ref := pick(m, t.Refs)
		v := m.Value(&lexicon.Ref{Ref: ref}).(map[string]any)
		v["$type"] = ref
		return v
	}
	panic(fmt.Sprintf("lexvalue: no value is a %T", t))
}

func (m *Maker) object(properties []lexicon.Property) map[string]any {
	o := make(map[string]any)
	for _, p := range properties {
		switch {
		case !p.Required && (m.depth > maxDepth || m.Rand.IntN(2) == 0):
		case p.Nullable && m.Rand.IntN(3) == 0:
			o[p.Name] = nil
		default:
			v := m.Value(p.Type)
			for v == "" && !p.Required && !m.Empty {
				v = m.Value(p.Type)
			}
			o[p.Name] = v
		}
	}
	return o
}

func (m *Maker) integer(t *lexicon.Integer) int64 {
	switch {
	case t.Const != nil:
		return *t.Const
	case t.Enum != nil:
		return pick(m, t.Enum)
	}
	low, high := int64(-3), int64(3)
	if t.Minimum != nil {
		low, high = *t.Minimum, *t.Minimum+6
	}
	if t.Maximum != nil {
		low, high = min(low, *t.Maximum), min(high, *t.Maximum)
	}
	if t.Minimum == nil && t.Maximum == nil && m.Rand.IntN(8) == 0 {
		return 1<<53 - 1
	}
	return low + m.Rand.Int64N(high-low+1)
}

func (m *Maker) text(t *lexicon.String) string {
	switch {
	case t.Const != nil:
		return *t.Const
	case t.Enum != nil:
		return pick(m, t.Enum)
	case t.Format != "":
		return pick(m, formats[t.Format])
	case t.KnownValues != nil && m.Rand.IntN(2) == 0:
		return pick(m, t.KnownValues)
	}
	low := max(least(t.MinLength, 0), least(t.MinGraphemes, 0))
	high := min(most(t.MaxLength, low+4), most(t.MaxGraphemes, low+4))
	if m.full {
		low = max(low, 1)
	}
	n := low + m.Rand.IntN(high-low+1)
	if n == 4 && m.Rand.IntN(2) == 0 {
		return "é<\"" // four bytes
	}
	return strings.Repeat("t", n)
}

// Params makes query parameters. Those that are optional may be left out; given are those that are
// not. None is empty: an empty parameter is absent.
func (m *Maker) Params(p *lexicon.Params) (query url.Values, given map[string]any) {
	query, given = make(url.Values), make(map[string]any)
	if p == nil {
		return query, given
	}
	m.full = true
	defer func() { m.full = false }()
	for name, v := range m.object(p.Properties) {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, v := range list {
			switch v := v.(type) {
			case string:
				query.Add(name, v)
			case bool:
				query.Add(name, strconv.FormatBool(v))
			case int64:
				query.Add(name, strconv.FormatInt(v, 10))
			}
		}
		given[name] = v
	}
	return query, given
}

func pick[T any](m *Maker, list []T) T { return list[m.Rand.IntN(len(list))] }

func least(n *int64, without int) int {
	if n == nil {
		return without
	}
	return int(*n)
}

func most(n *int64, without int) int {
	if n == nil {
		return without
	}
	return int(min(*n, 1<<30))
}

var (
	links   = []cid.Cid{cid.MustParse("bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity")}
	blobRef = cid.MustParse("bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity")
)

// formats has valid texts of each format.
var formats = map[string][]string{
	"at-identifier": {"alice.test", "did:web:example.com", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"},
	"at-uri":        {"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/com.example.note/3jzfcijpj2z2a", "at://alice.test"},
	"cid":           {"bafyreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity", "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"},
	"datetime":      {"2026-01-15T12:30:45.123Z", "1985-04-12T23:20:50+01:00"},
	"did":           {"did:web:example.com", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"},
	"handle":        {"alice.test", "xn--ls8h.test"},
	"language":      {"en", "pt-BR", "zh-Hant"},
	"nsid":          {"com.example.note", "app.bsky.feed.post"},
	"record-key":    {"self", "3jzfcijpj2z2a", "a:b~c"},
	"tid":           {"3jzfcijpj2z2a", "2222222222222"},
	"uri":           {"https://example.com/a?b=c&d", "did:web:example.com"},
}
