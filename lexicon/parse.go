package lexicon

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// schemaCollection is the collection in which schemas are published.
const schemaCollection = "com.atproto.lexicon.schema"

// ParseSchema reads a schema from JSON and checks it against all rules of the Lexicon language that
// need no other documents; [Catalog.Check] checks the rest. The input has the limits of
// data.FromJSON. Errors are *SchemaError. Fields that the language does not define are ignored.
func ParseSchema(b []byte) (*Document, error) {
	v, err := data.FromJSON(b, data.Limits{})
	if err != nil {
		return nil, &SchemaError{Reason: "cannot be read", Err: err}
	}
	return schemaOf(v, placesIn(b))
}

// SchemaOf is [ParseSchema] for a value of the data model, such as a record of the collection
// com.atproto.lexicon.schema.
func SchemaOf(v any) (*Document, error) { return schemaOf(v, nil) }

func schemaOf(v any, at *place) (*Document, error) {
	r := reader{place: at}
	doc := r.document(v)
	if r.err == nil {
		r.localRefs(doc)
	}
	if r.err != nil {
		r.err.ID = string(r.id)
		return nil, r.err
	}
	return doc, nil
}

// reader reads a schema. Its methods go on after a fault; the first one counts.
type reader struct {
	id    syntax.NSID
	path  []string
	place *place // in the text, if there is one
	err   *SchemaError
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = &SchemaError{Path: strings.Join(r.path, "/"), Reason: fmt.Sprintf(format, args...)}
	}
}

// at runs fn with path elements added to the path.
func (r *reader) at(elem string, fn func()) {
	outer := r.place
	r.path, r.place = append(r.path, elem), outer.member(elem)
	fn()
	r.path, r.place = r.path[:len(r.path)-1], outer
}

// object is a JSON object that is being read.
type object map[string]any

// field runs fn at a field. It reports false if there is none.
func (r *reader) field(o object, name string, fn func(v any)) bool {
	v, ok := o[name]
	if ok {
		r.at(name, func() { fn(v) })
	}
	return ok
}

// need is field for a field that there must be.
func (r *reader) need(o object, name string, fn func(v any)) {
	if !r.field(o, name, fn) {
		r.fail("must have the field %q", name)
	}
}

func (r *reader) asObject(v any) object {
	m, ok := v.(map[string]any)
	if !ok {
		r.fail("must be an object")
	}
	return m
}

func (r *reader) asText(v any) string {
	s, ok := v.(string)
	if !ok {
		r.fail("must be a string")
	}
	return s
}

// each runs fn on the elements of an array.
func (r *reader) each(v any, fn func(v any)) {
	list, ok := v.([]any)
	if !ok {
		r.fail("must be an array")
	}
	for i, x := range list {
		r.at(strconv.Itoa(i), func() { fn(x) })
	}
}

func (r *reader) texts(o object, name string) (list []string) {
	r.field(o, name, func(v any) {
		list = []string{}
		r.each(v, func(v any) { list = append(list, r.asText(v)) })
	})
	return list
}

func (r *reader) text(o object, name string) (s string) {
	r.field(o, name, func(v any) { s = r.asText(v) })
	return s
}

func (r *reader) description(o object) string { return r.text(o, "description") }

func (r *reader) document(v any) *Document {
	o := r.asObject(v)
	doc := &Document{Defs: make(map[string]Type)}
	if t, ok := o["$type"]; ok && t != schemaCollection {
		r.fail("$type must be %q", schemaCollection)
	}
	r.need(o, "lexicon", func(v any) {
		if v != int64(1) {
			r.fail("must be 1")
		}
	})
	r.need(o, "id", func(v any) {
		id, err := syntax.ParseNSID(r.asText(v))
		if err != nil {
			r.fail("%v", err)
		}
		doc.ID, r.id = id, id
	})
	r.field(o, "revision", func(v any) {
		n, ok := v.(int64)
		if !ok {
			r.fail("must be an integer")
		}
		doc.Revision = n
	})
	doc.Description = r.description(o)
	r.need(o, "defs", func(v any) {
		defs := r.asObject(v)
		if len(defs) == 0 {
			r.fail("must have at least one definition")
		}
		for _, name := range slices.Sorted(maps.Keys(defs)) {
			r.at(name, func() {
				if !isDefName(name) {
					r.fail("%s is not a name for a definition", quote(name))
				}
				allowed := namedTypes
				if name == "main" {
					allowed = mainTypes
				}
				doc.Defs[name] = r.typ(defs[name], allowed)
			})
		}
	})
	return doc
}

// isDefName reports whether s may follow "#": up to 128 letters, digits, "_" and "-", the first
// a letter.
func isDefName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if letter := 'a' <= c && c <= 'z'; !letter && (i == 0 || !('0' <= s[i] && s[i] <= '9' || s[i] == '_' || s[i] == '-')) {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// Which types are allowed in which places.
var (
	scalarTypes = []string{"boolean", "integer", "string"}
	fieldTypes  = append(slices.Clone(scalarTypes), "bytes", "cid-link", "blob", "array", "object", "ref", "union", "unknown")
	namedTypes  = append(slices.Clone(scalarTypes), "bytes", "cid-link", "blob", "array", "object", "token")
	mainTypes   = append(slices.Clone(namedTypes), "record", "query", "procedure", "subscription", "permission-set")
	bodyTypes   = []string{"object", "ref", "union"}
)

// typ reads a definition or a part of one.
func (r *reader) typ(v any, allowed []string) Type {
	o := r.asObject(v)
	var name string
	r.need(o, "type", func(v any) { name = r.asText(v) })
	if r.err != nil {
		return nil
	}
	if !slices.Contains(allowed, name) {
		r.at("type", func() { r.fail("%s cannot be used here", quote(name)) })
		return nil
	}
	desc := r.description(o)
	switch name {
	case "boolean":
		return r.boolean(o, desc)
	case "integer":
		return r.integer(o, desc)
	case "string":
		return r.string(o, desc)
	case "bytes":
		t := &Bytes{Description: desc}
		t.MinLength, t.MaxLength = r.bounds(o, "minLength", "maxLength", 0)
		return t
	case "cid-link":
		return &CIDLink{desc}
	case "blob":
		return r.blob(o, desc)
	case "array":
		return r.array(o, desc, fieldTypes)
	case "object":
		return &Object{desc, r.properties(o, func(v any) Type { return r.typ(v, fieldTypes) })}
	case "token":
		return &Token{desc}
	case "ref":
		t := &Ref{Description: desc}
		r.need(o, "ref", func(v any) { t.Ref = r.ref(v) })
		return t
	case "union":
		return r.union(o, desc)
	case "unknown":
		return &Unknown{desc}
	case "record":
		return r.record(o, desc)
	case "permission-set":
		return r.permissionSet(o, desc)
	default:
		return r.method(name, o, desc)
	}
}

func (r *reader) record(o object, desc string) Type {
	t := &Record{Description: desc}
	r.need(o, "key", func(v any) {
		t.Key = KeyType(r.asText(v))
		if key, ok := t.Key.Literal(); ok {
			if _, err := syntax.ParseRecordKey(string(key)); err != nil {
				r.fail("%v", err)
			}
		} else if t.Key != "tid" && t.Key != "nsid" && t.Key != "any" {
			r.fail(`must be "tid", "nsid", "any" or "literal:" and a record key`)
		}
	})
	r.need(o, "record", func(v any) {
		t.Schema, _ = r.typ(v, []string{"object"}).(*Object)
	})
	return t
}

// properties reads the fields that objects and query parameters have in common.
func (r *reader) properties(o object, typ func(any) Type) (props []Property) {
	// The language demands the field, but an object without any properties is common.
	r.field(o, "properties", func(v any) {
		m := r.asObject(v)
		for _, name := range slices.Sorted(maps.Keys(m)) {
			r.at(name, func() {
				if name == "" {
					r.fail("a property must have a name")
				}
				props = append(props, Property{Name: name, Type: typ(m[name]), Order: r.place.order()})
			})
		}
	})
	mark := func(field string, set func(*Property)) {
		r.field(o, field, func(v any) {
			r.each(v, func(v any) {
				name := r.asText(v)
				i, ok := slices.BinarySearchFunc(props, name, func(p Property, name string) int { return cmp.Compare(p.Name, name) })
				if !ok {
					r.fail("there is no property %s", quote(name))
					return
				}
				set(&props[i])
			})
		})
	}
	mark("required", func(p *Property) { p.Required = true })
	mark("nullable", func(p *Property) { p.Nullable = true })
	return props
}

func (r *reader) array(o object, desc string, items []string) Type {
	t := &Array{Description: desc}
	r.need(o, "items", func(v any) { t.Items = r.typ(v, items) })
	t.MinLength, t.MaxLength = r.bounds(o, "minLength", "maxLength", 0)
	return t
}

func (r *reader) blob(o object, desc string) Type {
	t := &Blob{Description: desc}
	r.field(o, "accept", func(v any) {
		t.Accept = []string{}
		r.each(v, func(v any) {
			s := r.asText(v)
			if !isMIMEPattern(s) {
				r.fail("%s is neither a media type nor a pattern such as \"image/*\"", quote(s))
			}
			t.Accept = append(t.Accept, s)
		})
	})
	t.MaxSize = r.number(o, "maxSize", 0)
	return t
}

// isMIMEPattern reports whether s is a media type without parameters, "type/*" or "*/*".
func isMIMEPattern(s string) bool {
	group, sub, ok := strings.Cut(s, "/")
	if s == "*/*" {
		return true
	}
	return ok && isToken(group) && (sub == "*" || isToken(sub))
}

// isToken reports whether s is a token of RFC 9110 without an asterisk.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}*`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func (r *reader) union(o object, desc string) *Union {
	t := &Union{Description: desc}
	r.need(o, "refs", func(v any) {
		r.each(v, func(v any) { t.Refs = append(t.Refs, r.ref(v)) })
	})
	r.field(o, "closed", func(v any) { t.Closed = r.asBool(v) })
	if t.Closed && len(t.Refs) == 0 {
		r.fail("a closed union must have refs")
	}
	return t
}

func (r *reader) asBool(v any) bool {
	b, ok := v.(bool)
	if !ok {
		r.fail("must be true or false")
	}
	return b
}

// ref reads a reference and returns the full name it means.
func (r *reader) ref(v any) string {
	s := r.asText(v)
	id, name, more := strings.Cut(s, "#")
	if id == "" && more {
		id = string(r.id)
	} else if _, err := syntax.ParseNSID(id); err != nil {
		r.fail("%s is not a reference: %v", quote(s), err)
	}
	if !more {
		name = "main"
	} else if !isDefName(name) {
		r.fail("%s is not a reference", quote(s))
	}
	return fullName(syntax.NSID(id), name)
}

// number reads an integer that is not below least.
func (r *reader) number(o object, name string, least int64) (n *int64) {
	r.field(o, name, func(v any) {
		i, ok := v.(int64)
		if !ok {
			r.fail("must be an integer")
		} else if i < least {
			r.fail("must not be less than %d", least)
		}
		n = &i
	})
	return n
}

// bounds reads two integers of which the first may not be greater than the second.
func (r *reader) bounds(o object, low, high string, least int64) (lo, hi *int64) {
	lo, hi = r.number(o, low, least), r.number(o, high, least)
	if lo != nil && hi != nil && *lo > *hi {
		r.fail("%s must not be greater than %s", low, high)
	}
	return lo, hi
}
