package gen

import (
	"maps"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon"
)

const jsonType = "application/json"

// callerSource needs context.Context and io.Reader.
const callerSource = `// Caller calls methods; *xrpc.Client of github.com/pdskit/pdskit is one.
type Caller interface {
	// Query calls a query that answers with JSON.
	Query(ctx %[1]s, nsid string, params, out any) error
	// Procedure calls a procedure with a JSON input, or nil.
	Procedure(ctx %[1]s, nsid string, in, out any) error
	// Upload calls a procedure with another input.
	Upload(ctx %[1]s, nsid, contentType string, body %[2]s, out any) error
}
`

// method has what client and handler need.
type method struct {
	name, desc    string
	params        string // a type, or ""
	in, out       string // types, or ""
	rawIn, rawOut bool   // not JSON
}

// method declares what all methods have.
func (g *generator) method(name, desc string, params *lexicon.Params, in, out *lexicon.Body, errors []lexicon.MethodError) method {
	m := method{name: name, desc: desc}
	g.declare(name+"NSID", string(g.doc.ID))
	comment(&g.out, "", name+"NSID names the method "+string(g.doc.ID)+".", desc)
	g.printf("const %sNSID = %q\n\n", name, g.doc.ID)
	if params != nil && len(params.Properties) > 0 {
		m.params = name + "Params"
		g.object(m.params, "a set of parameters of "+string(g.doc.ID), &lexicon.Object{Description: params.Description, Properties: params.Properties}, kindParams)
	}
	m.in, m.rawIn = g.body(name+"Input", "the input", in)
	m.out, m.rawOut = g.body(name+"Output", "the output", out)
	for _, e := range errors {
		text := string(g.doc.ID)
		if e.Description != "" {
			text += ": " + e.Description
		}
		g.errors[e.Name] = append(g.errors[e.Name], text)
	}
	return m
}

// body declares the type of a body in JSON and returns its name; "" if there is no body, raw if it
// is something else.
func (g *generator) body(name, what string, b *lexicon.Body) (typ string, raw bool) {
	switch {
	case b == nil:
		return "", false
	case b.Encoding != jsonType:
		return "", true
	case b.Schema == nil:
		return g.data("Raw"), false
	}
	what += " of " + string(g.doc.ID)
	switch t := b.Schema.(type) {
	case *lexicon.Object:
		g.object(name, what, &lexicon.Object{Description: sentences(b.Description, t.Description), Properties: t.Properties}, kindPlain)
	case *lexicon.Union:
		g.declareParts(t, name)
		if len(t.Refs) == 0 {
			return g.data("Raw"), false
		}
	default:
		g.declare(name, what)
		comment(&g.out, "", name+" is "+what+".", b.Description)
		g.printf("type %s = %s\n\n", name, strings.TrimPrefix(g.goType(t, name), "*"))
	}
	return name, false
}

// errorNames declares the names of all errors.
func (g *generator) errorNames() {
	for _, name := range slices.Sorted(maps.Keys(g.errors)) {
		c := "Error" + exported(name)
		g.declare(c, "the error "+name)
		g.printf("// %s is the name of an error of\n", c)
		for _, method := range g.errors[name] {
			var item strings.Builder
			comment(&item, "", method)
			g.out.WriteString("//   - " + strings.ReplaceAll(strings.TrimPrefix(item.String(), "// "), "\n// ", "\n//     "))
		}
		g.printf("const %s = %q\n\n", c, name)
	}
}

func (g *generator) query(name string, t *lexicon.Query) {
	m := g.method(name, t.Description, t.Parameters, nil, t.Output, t.Errors)
	if g.cfg.Client && !m.rawOut {
		g.callQuery(m)
	}
	if g.cfg.Handlers {
		g.handleQuery(m)
	}
}

func (g *generator) procedure(name string, t *lexicon.Procedure) {
	m := g.method(name, t.Description, t.Parameters, t.Input, t.Output, t.Errors)
	if g.cfg.Client && m.params == "" && !m.rawOut {
		g.callProcedure(m)
	}
	if g.cfg.Handlers {
		g.handleProcedure(m)
	}
}

func (g *generator) subscription(name string, t *lexicon.Subscription) {
	g.method(name, t.Description, t.Parameters, nil, nil, t.Errors)
	if g.cfg.Handlers {
		g.declareHandler(name)
		g.printf("func Handle%s(h %s) %s {\n\treturn %s{NSID: %sNSID, Handler: %s(h)}\n}\n\n", name, g.use("net/http", "Handler"), g.xrpc("Route"), g.xrpc("Route"), name, g.xrpc("Subscription"))
	}
}

func (g *generator) xrpc(name string) string { return g.use(module+"xrpc", name) }

// callQuery writes the function that calls a query.
func (g *generator) callQuery(m method) {
	g.declareCall(m)
	ctx := g.use("context", "Context")
	arg, params := "", "nil"
	if m.params != "" {
		arg, params = ", params "+m.params, "params"
	}
	switch {
	case m.out == "":
		g.printf("func %s(ctx %s, c Caller%s) error {\n\treturn c.Query(ctx, %s, %s, nil)\n}\n\n", m.name, ctx, arg, m.name+"NSID", params)
	default:
		g.printf("func %s(ctx %s, c Caller%s) (out %s, err error) {\n\terr = c.Query(ctx, %s, %s, &out)\n\treturn out, err\n}\n\n", m.name, ctx, arg, m.out, m.name+"NSID", params)
	}
}

// callProcedure writes the function that calls a procedure.
func (g *generator) callProcedure(m method) {
	g.declareCall(m)
	ctx := g.use("context", "Context")
	arg, call := "", "Procedure(ctx, "+m.name+"NSID, nil, "
	switch {
	case m.rawIn:
		arg = ", contentType string, body " + g.use("io", "Reader")
		call = "Upload(ctx, " + m.name + "NSID, contentType, body, "
	case m.in != "":
		arg = ", in " + m.in
		call = "Procedure(ctx, " + m.name + "NSID, in, "
	}
	if m.out == "" {
		g.printf("func %s(ctx %s, c Caller%s) error {\n\treturn c.%snil)\n}\n\n", m.name, ctx, arg, call)
		return
	}
	g.printf("func %s(ctx %s, c Caller%s) (out %s, err error) {\n\terr = c.%s&out)\n\treturn out, err\n}\n\n", m.name, ctx, arg, m.out, call)
}

func (g *generator) declareCall(m method) {
	g.declare(m.name, string(g.doc.ID))
	comment(&g.out, "", m.name+" calls "+string(g.doc.ID)+".")
}

func (g *generator) declareHandler(name string) {
	g.declare("Handle"+name, string(g.doc.ID))
	comment(&g.out, "", "Handle"+name+" makes a route of an implementation of "+string(g.doc.ID)+".")
}

// handleQuery writes the function that makes a route of a query's implementation.
func (g *generator) handleQuery(m method) {
	g.declareHandler(m.name)
	params, out := or(m.params, "struct{}"), or(m.out, "struct{}")
	if m.rawOut {
		g.printf("func Handle%s(fn func(w %s, r *%s, params %s) error) %s {\n\treturn %s{NSID: %s, Handler: %s(fn)}\n}\n\n",
			m.name, g.use("net/http", "ResponseWriter"), g.xrpc("Request"), params, g.xrpc("Route"), g.xrpc("Route"), m.name+"NSID", g.xrpc("RawQuery"))
		return
	}
	if m.out == "" {
		out = g.xrpc("None")
	}
	g.printf("func Handle%s(fn func(ctx %s, r *%s, params %s) (%s, error)) %s {\n\treturn %s{NSID: %s, Handler: %s(fn)}\n}\n\n",
		m.name, g.use("context", "Context"), g.xrpc("Request"), params, out, g.xrpc("Route"), g.xrpc("Route"), m.name+"NSID", g.xrpc("Query"))
}

// handleProcedure writes the function that makes a route of a procedure's implementation.
func (g *generator) handleProcedure(m method) {
	g.declareHandler(m.name)
	if m.rawIn || m.rawOut || m.params != "" {
		g.printf("func Handle%s(fn func(w %s, r *%s) error) %s {\n\treturn %s{NSID: %s, Handler: %s(fn)}\n}\n\n",
			m.name, g.use("net/http", "ResponseWriter"), g.xrpc("Request"), g.xrpc("Route"), g.xrpc("Route"), m.name+"NSID", g.xrpc("RawProcedure"))
		return
	}
	in, out := m.in, m.out
	if in == "" {
		in = g.xrpc("None")
	}
	if out == "" {
		out = g.xrpc("None")
	}
	g.printf("func Handle%s(fn func(ctx %s, r *%s, in %s) (%s, error)) %s {\n\treturn %s{NSID: %s, Handler: %s(fn)}\n}\n\n",
		m.name, g.use("context", "Context"), g.xrpc("Request"), in, out, g.xrpc("Route"), g.xrpc("Route"), m.name+"NSID", g.xrpc("Procedure"))
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
