package lexicon

import (
	"slices"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// node is a compiled type. Nodes do not change once their root is complete.
type node interface {
	// check reports whether v conforms; if not, it has told w why.
	check(w *walk, v any) bool
}

// root is the compiled main definition of a document.
type root struct {
	record  *objectNode // of a record
	key     KeyType
	method  *Method // of a query, procedure or subscription
	params  []paramNode
	input   node // nil: anything
	output  node
	message *unionNode
}

// compileRoot compiles a document's main definition and all it refers to.
func (c *Catalog) compileRoot(doc *Document) *root {
	r := new(root)
	id := string(doc.ID)
	body := func(b *Body) node {
		if b == nil || b.Schema == nil {
			return nil
		}
		return c.compile(b.Schema, "")
	}
	switch t := doc.Main().(type) {
	case *Record:
		r.record, _ = c.compileName(id).(*objectNode)
		r.key = t.Key
	case *Query:
		r.method = &Method{ID: doc.ID, Kind: KindQuery, Output: t.Output, Errors: t.Errors}
		r.params, r.output = compileParams(t.Parameters), body(t.Output)
	case *Procedure:
		r.method = &Method{ID: doc.ID, Kind: KindProcedure, Input: t.Input, Output: t.Output, Errors: t.Errors}
		r.params, r.input, r.output = compileParams(t.Parameters), body(t.Input), body(t.Output)
	case *Subscription:
		r.method = &Method{ID: doc.ID, Kind: KindSubscription, Errors: t.Errors}
		r.params = compileParams(t.Parameters)
		r.message, _ = c.compile(t.Message, "").(*unionNode)
	}
	return r
}

// compileName returns the compiled definition of a name. The caller holds the lock.
func (c *Catalog) compileName(name string) node {
	if n, ok := c.nodes[name]; ok {
		return n
	}
	if c.nodes == nil {
		c.nodes = make(map[string]node)
	}
	t := c.definition(name)
	if t == nil {
		return missingNode{name} // not kept: the names may be anything
	}
	if r, ok := t.(*Record); ok {
		n := &objectNode{name: name, typed: true}
		c.nodes[name] = n
		c.compileObject(n, r.Schema)
		return n
	}
	return c.compile(t, name)
}

// compile compiles a type. name is that of a definition, or empty for a part of one. The node
// of a definition is registered before its parts are compiled, because these may refer to it.
func (c *Catalog) compile(t Type, name string) node {
	register := func(n node) {
		if name != "" {
			c.nodes[name] = n
		}
	}
	switch t := t.(type) {
	case *Object:
		n := &objectNode{name: name}
		register(n)
		c.compileObject(n, t)
		return n
	case *Array:
		n := &arrayNode{bounds: boundsOf(t.MinLength, t.MaxLength)}
		register(n)
		n.items = c.compile(t.Items, "")
		return n
	case *Ref:
		return c.compileName(t.Ref)
	case *Union:
		n := &unionNode{closed: t.Closed, variants: make(map[string]node, len(t.Refs))}
		for _, ref := range t.Refs {
			n.variants[ref] = c.compileName(ref)
		}
		return n
	case *Unknown:
		return unknownNode{}
	case *Bytes:
		return &bytesNode{boundsOf(t.MinLength, t.MaxLength)}
	case *CIDLink:
		return linkNode{}
	case *Blob:
		return compileBlob(t)
	case *Boolean, *Integer, *String:
		return compileScalar(t)
	}
	return missingNode{name} // a token, or a method: Check refuses references to them
}

func (c *Catalog) compileObject(n *objectNode, t *Object) {
	n.props = make([]propNode, len(t.Properties))
	for i, p := range t.Properties {
		n.props[i] = propNode{name: p.Name, required: p.Required, nullable: p.Nullable, node: c.compile(p.Type, "")}
		if p.Required {
			n.required++
		}
	}
}

// compileScalar compiles a boolean, integer or string.
func compileScalar(t Type) node {
	switch t := t.(type) {
	case *Boolean:
		return &booleanNode{t.Const}
	case *Integer:
		n := &integerNode{bounds: boundsOf(t.Minimum, t.Maximum), oneOf: oneOf[int64]{list: t.Enum}, konst: t.Const}
		n.index()
		return n
	case *String:
		n := &stringNode{
			length: boundsOf(t.MinLength, t.MaxLength), graphemes: boundsOf(t.MinGraphemes, t.MaxGraphemes),
			format: t.Format, oneOf: oneOf[string]{list: t.Enum}, konst: t.Const,
		}
		if t.Format != "" {
			n.parse = formatCheck(t.Format)
		}
		n.index()
		return n
	}
	return missingNode{}
}

// oneOf is an enum: a list, and a set where the list is long.
type oneOf[T comparable] struct {
	list []T // nil: anything goes
	set  map[T]struct{}
}

const shortEnum = 8

func (o *oneOf[T]) index() {
	if len(o.list) > shortEnum {
		o.set = make(map[T]struct{}, len(o.list))
		for _, v := range o.list {
			o.set[v] = struct{}{}
		}
	}
}

func (o *oneOf[T]) has(v T) bool {
	if o.set != nil {
		_, ok := o.set[v]
		return ok
	}
	return o.list == nil || slices.Contains(o.list, v)
}

// formatCheck returns the check of a string format, or nil if there is none of that name.
func formatCheck(name string) func(string) error {
	switch name {
	case "at-identifier":
		return checkOf(syntax.ParseAtIdentifier)
	case "at-uri":
		return checkOf(syntax.ParseATURI)
	case "cid":
		return checkOf(syntax.ParseCID)
	case "datetime":
		return checkOf(syntax.ParseDatetime)
	case "did":
		return checkOf(syntax.ParseDID)
	case "handle":
		return checkOf(syntax.ParseHandle)
	case "language":
		return checkOf(syntax.ParseLanguage)
	case "nsid":
		return checkOf(syntax.ParseNSID)
	case "record-key":
		return checkOf(syntax.ParseRecordKey)
	case "tid":
		return checkOf(syntax.ParseTID)
	case "uri":
		return checkOf(syntax.ParseURI)
	}
	return nil
}

func checkOf[T any](parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		_, err := parse(s)
		return err
	}
}
