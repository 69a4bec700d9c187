package lexicon

import (
	"net/url"
	"strconv"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Kind is the kind of a method.
type Kind string

// The kinds of methods.
const (
	KindQuery        Kind = "query"        // HTTP GET
	KindProcedure    Kind = "procedure"    // HTTP POST
	KindSubscription Kind = "subscription" // WebSocket
)

// Method is the description of a method for a server, without the schemas of its values.
type Method struct {
	ID     syntax.NSID
	Kind   Kind
	Input  *Body         // of a procedure; nil: no body
	Output *Body         // of a query or procedure; nil: no body
	Errors []MethodError // that the schema names
}

// Method returns a method's description, which must not be changed. The error is an
// *UnknownSchemaError.
func (c *Catalog) Method(id syntax.NSID) (*Method, error) {
	r, err := c.methodRoot(id)
	if err != nil {
		return nil, err
	}
	return r.method, nil
}

func (c *Catalog) methodRoot(id syntax.NSID) (*root, error) {
	r := c.root(id)
	if r == nil || r.method == nil {
		return nil, &UnknownSchemaError{Name: string(id), Want: "query, procedure or subscription"}
	}
	return r, nil
}

// paramNode is a query parameter.
type paramNode struct {
	propNode
	list  *arrayNode // nil: a single value
	value node       // of a single value or an element
	deflt any        // nil: none
}

func compileParams(t *Params) []paramNode {
	if t == nil {
		return nil
	}
	list := make([]paramNode, len(t.Properties))
	for i, p := range t.Properties {
		n := &list[i]
		n.propNode = propNode{name: p.Name, required: p.Required}
		if array, ok := p.Type.(*Array); ok {
			n.value = compileScalar(array.Items)
			n.list = &arrayNode{boundsOf(array.MinLength, array.MaxLength), n.value}
			n.node = n.list
			continue
		}
		n.value = compileScalar(p.Type)
		n.node = n.value
		switch t := p.Type.(type) {
		case *Boolean:
			if t.Default != nil {
				n.deflt = *t.Default
			}
		case *Integer:
			if t.Default != nil {
				n.deflt = *t.Default
			}
		case *String:
			if t.Default != nil {
				n.deflt = *t.Default
			}
		}
	}
	return list
}

// Params decodes and validates the query parameters of a method. The values are bool, int64,
// string, and []any of these. Missing parameters get their defaults. Empty parameters, and those
// that the schema does not name, are ignored. A parameter that is not an array must not be
// repeated.
//
// Integers are decimal numbers of at most 53 bits; booleans are "true" and "false".
func (c *Catalog) Params(method syntax.NSID, query url.Values) (map[string]any, error) {
	return Validator{Catalog: c}.Params(method, query)
}

// Params is Catalog.Params.
func (v Validator) Params(method syntax.NSID, query url.Values) (map[string]any, error) {
	r, err := v.Catalog.methodRoot(method)
	if err != nil {
		return nil, err
	}
	w := v.walk()
	n := paramsNode{r.params, query, make(map[string]any, len(r.params))}
	w.run(&n, pathParams, nil)
	if err := w.result(); err != nil {
		return nil, err
	}
	return n.out, nil
}

// paramsNode decodes parameters while it checks them.
type paramsNode struct {
	params []paramNode
	query  url.Values
	out    map[string]any
}

func (n *paramsNode) check(w *walk, _ any) bool {
	ok := true
	for i := range n.params {
		p := &n.params[i]
		given := n.query[p.name]
		from := len(w.errs)
		v, fine := p.decode(w, given)
		switch {
		case !fine:
			w.below(from, p.name)
			ok = false
		case v == nil && p.required:
			ok = w.fail("required", "must have the parameter "+quote(p.name))
		case v != nil && !p.propNode.check(w, v):
			ok = false
		case v != nil:
			n.out[p.name] = v
		}
		if !ok && w.done() {
			return false
		}
	}
	return ok
}

// decode returns the value of a parameter; nil if it is absent and has no default.
func (p *paramNode) decode(w *walk, given []string) (v any, ok bool) {
	var list []any
	for i, s := range given {
		if s == "" {
			continue
		}
		if v = decodeParam(p.value, s); v == nil {
			from := len(w.errs)
			p.value.check(w, v) // which says what it must be
			if p.list != nil {
				w.belowIndex(from, i)
			}
			return nil, false
		}
		list = append(list, v)
	}
	switch {
	case len(list) == 0:
		return p.deflt, true
	case p.list != nil:
		return list, true
	case len(list) > 1:
		return nil, w.fail("type", "must not be given more than once")
	}
	return list[0], true
}

// decodeParam returns nil if the text is not of the type.
func decodeParam(n node, s string) any {
	switch n.(type) {
	case *booleanNode:
		if s == "true" || s == "false" {
			return s == "true"
		}
		return nil
	case *integerNode:
		const most = 1<<53 - 1
		i, err := strconv.ParseInt(s, 10, 64)
		if err != nil || s[0] == '+' || i < -most || i > most {
			return nil
		}
		return i
	}
	return s
}
