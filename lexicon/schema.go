package lexicon

import (
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Document is a Lexicon file: definitions under one NSID. Do not change a document that is in a
// catalog.
type Document struct {
	ID          syntax.NSID
	Revision    int64 // 0: not given
	Description string
	Defs        map[string]Type // by name, without "#"
}

// Main returns the definition named "main", or nil.
func (d *Document) Main() Type { return d.Defs["main"] }

// Type is a definition or a part of one: *Record, *Query, *Procedure,
// *Subscription, *PermissionSet, *Object, *Array, *Boolean, *Integer, *String,
// *Bytes, *CIDLink, *Blob, *Token, *Ref, *Union or *Unknown.
type Type interface {
	// TypeName returns the name of the type in the Lexicon language, such as "cid-link".
	TypeName() string
}

// Record describes the records of a collection.
type Record struct {
	Description string
	Key         KeyType
	Schema      *Object
}

// Query describes a method that is called with HTTP GET.
type Query struct {
	Description string
	Parameters  *Params // nil: none
	Output      *Body   // nil: none
	Errors      []MethodError
}

// Procedure describes a method that is called with HTTP POST.
type Procedure struct {
	Description string
	Parameters  *Params // nil: none
	Input       *Body   // nil: none
	Output      *Body   // nil: none
	Errors      []MethodError
}

// Subscription describes an event stream.
type Subscription struct {
	Description string
	Parameters  *Params // nil: none
	Message     *Union
	Errors      []MethodError
}

// Body describes the body of a request or a response.
type Body struct {
	Description string
	Encoding    string // a media type; "*/*" and "image/*" are patterns
	Schema      Type   // *Object, *Ref or *Union; nil: anything
}

// Accepts reports whether a Content-Type, with or without parameters, matches the body's encoding.
func (b *Body) Accepts(contentType string) bool {
	mime, _, _ := strings.Cut(contentType, ";")
	return mimeSetOf([]string{b.Encoding}).has(strings.TrimSpace(mime))
}

// MethodError is an error that a method may return.
type MethodError struct {
	Name        string
	Description string
}

// Params describes query parameters. Their types are *Boolean, *Integer,
// *String, and *Array of one of these.
type Params struct {
	Description string
	Properties  []Property // by name, ascending
}

// Object describes an object.
type Object struct {
	Description string
	Properties  []Property // by name, ascending
}

// Property is a property of an object, or a query parameter.
type Property struct {
	Name     string
	Type     Type
	Required bool
	Nullable bool // objects only: null is allowed
	// Order is the position of the property in the schema's text. It is 0 if the schema was not
	// parsed from text.
	Order int
}

// Array describes a list. Lengths are in elements; nil: no limit.
type Array struct {
	Description          string
	Items                Type
	MinLength, MaxLength *int64
}

// Boolean describes true or false.
type Boolean struct {
	Description    string
	Default, Const *bool
}

// Integer describes an integer. Bounds are inclusive; nil: none.
type Integer struct {
	Description      string
	Minimum, Maximum *int64
	Enum             []int64 // nil: any
	Default, Const   *int64
}

// String describes text. Lengths are in bytes, graphemes in extended grapheme
// clusters of Unicode; nil: no limit.
type String struct {
	Description                string
	Format                     string // one of the string formats, such as "at-uri"; empty: any text
	MinLength, MaxLength       *int64
	MinGraphemes, MaxGraphemes *int64
	KnownValues                []string // suggestions
	Enum                       []string // nil: any
	Default, Const             *string
}

// Bytes describes a byte string. Lengths are in bytes; nil: no limit.
type Bytes struct {
	Description          string
	MinLength, MaxLength *int64
}

// CIDLink describes a link to a block.
type CIDLink struct{ Description string }

// Blob describes a reference to a blob.
type Blob struct {
	Description string
	Accept      []string // media types and patterns such as "image/*"; nil: any
	MaxSize     *int64   // in bytes; nil: no limit
}

// Token describes a token: a name without data.
type Token struct{ Description string }

// Ref refers to another definition.
type Ref struct {
	Description string
	Ref         string // full name: "com.example.defs#view", or "com.example.thing" for a main definition
}

// Union is a choice between definitions of objects or records, by "$type".
type Union struct {
	Description string
	Refs        []string // full names
	Closed      bool     // no other types are allowed
}

// Unknown describes any object.
type Unknown struct{ Description string }

// TypeName implements Type, as it does for all types below.
func (*Record) TypeName() string { return "record" }

func (*Query) TypeName() string { return "query" }

func (*Procedure) TypeName() string { return "procedure" }

func (*Subscription) TypeName() string { return "subscription" }

func (*PermissionSet) TypeName() string { return "permission-set" }

func (*Object) TypeName() string { return "object" }

func (*Array) TypeName() string { return "array" }

func (*Boolean) TypeName() string { return "boolean" }

func (*Integer) TypeName() string { return "integer" }

func (*String) TypeName() string { return "string" }

func (*Bytes) TypeName() string { return "bytes" }

func (*CIDLink) TypeName() string { return "cid-link" }

func (*Blob) TypeName() string { return "blob" }

func (*Token) TypeName() string { return "token" }

func (*Ref) TypeName() string { return "ref" }

func (*Union) TypeName() string { return "union" }

func (*Unknown) TypeName() string { return "unknown" }

// KeyType is the type of a collection's record keys: "tid", "nsid", "any", or "literal:" and the
// only key. Specification: Record Key.
type KeyType string

// Literal returns the only key of the collection, if the type is a literal.
func (k KeyType) Literal() (syntax.RecordKey, bool) {
	key, ok := strings.CutPrefix(string(k), "literal:")
	return syntax.RecordKey(key), ok
}

// Check returns nil if a key is of the type.
func (k KeyType) Check(rkey syntax.RecordKey) error {
	if want, ok := k.Literal(); ok {
		if rkey != want {
			return &Error{Path: pathKey, Rule: "key", Reason: "must be " + quote(string(want))}
		}
		return nil
	}
	var err error
	switch k {
	case "tid":
		_, err = syntax.ParseTID(string(rkey))
	case "nsid":
		_, err = syntax.ParseNSID(string(rkey))
	default:
		_, err = syntax.ParseRecordKey(string(rkey))
	}
	if err != nil {
		return &Error{Path: pathKey, Rule: "key", Reason: "must be of the type " + quote(string(k)), Err: err}
	}
	return nil
}

// splitName splits the full name of a definition into document and name.
func splitName(full string) (syntax.NSID, string) {
	id, name, ok := strings.Cut(full, "#")
	if !ok {
		name = "main"
	}
	return syntax.NSID(id), name
}

// fullName is the name by which a definition is referred to.
func fullName(id syntax.NSID, name string) string {
	if name == "main" {
		return string(id)
	}
	return string(id) + "#" + name
}
