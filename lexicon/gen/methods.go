package gen

import (
	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

func toNSID(s string) syntax.NSID { return syntax.NSID(s) }

const jsonType = "application/json"

const callerSource = `import (
	"context"
	"io"
	"net/http"
)

// Caller calls methods; *xrpc.Client of github.com/pdskit/pdskit is one.
type Caller interface {
	// Query calls a query that answers with JSON.
	Query(ctx context.Context, nsid string, params, out any) error
	// Get calls a query that answers with something else.
	Get(ctx context.Context, nsid string, params any) (*http.Response, error)
	// Procedure calls a procedure with a JSON input, or nil.
	Procedure(ctx context.Context, nsid string, in, out any) error
	// Upload calls a procedure with another input.
	Upload(ctx context.Context, nsid, contentType string, body io.Reader, out any) error
}
`

// params declares the struct of query parameters and returns its name, or "" if there are none.
func (g *generator) params(name string, p *lexicon.Params) string {
	if p == nil || len(p.Properties) == 0 {
		return ""
	}
	name += "_Params"
	g.object(name, "the parameters of "+string(g.doc.ID), &lexicon.Object{Description: p.Description, Properties: p.Properties}, kindParams)
	return name
}

// body declares the type of a body in JSON and returns its name; "" if there is no body, raw if it
// is something else.
func (g *generator) body(name string, b *lexicon.Body) (typ string, raw bool) {
	switch {
	case b == nil:
		return "", false
	case b.Encoding != jsonType:
		return "", true
	case b.Schema == nil:
		return g.data("Object"), false
	}
	typ = g.goType(b.Schema, name)
	g.declareParts(b.Schema, name)
	return typ, false
}

func (g *generator) errors(name string, list []lexicon.MethodError) {
	for _, e := range list {
		c := name + "_Err" + exported(e.Name)
		g.declare(c, "an error of "+string(g.doc.ID))
		comment(&g.out, "", c+" is an error of "+string(g.doc.ID)+".", e.Description)
		g.printf("const %s = %q\n\n", c, e.Name)
	}
}

// method has what client and handler need.
type method struct {
	name, desc    string
	params        string // a type, or ""
	in, out       string
	rawIn, rawOut bool
}

func (g *generator) query(name string, t *lexicon.Query) {
	m := method{name: name, desc: t.Description, params: g.params(name, t.Parameters)}
	m.out, m.rawOut = g.body(name+"_Output", t.Output)
	g.errors(name, t.Errors)
	if g.cfg.Client {
		g.callQuery(m)
	}
	if g.cfg.Handlers {
		g.handleQuery(m)
	}
}

func (g *generator) procedure(name string, t *lexicon.Procedure) {
	m := method{name: name, desc: t.Description, params: g.params(name, t.Parameters)}
	m.in, m.rawIn = g.body(name+"_Input", t.Input)
	m.out, m.rawOut = g.body(name+"_Output", t.Output)
	g.errors(name, t.Errors)
	if g.cfg.Client && m.params == "" && !m.rawOut {
		g.callProcedure(m)
	}
	if g.cfg.Handlers {
		g.handleProcedure(m)
	}
}

func (g *generator) subscription(name string, t *lexicon.Subscription) {
	g.params(name, t.Parameters)
	g.errors(name, t.Errors)
	if g.cfg.Handlers {
		g.declareHandler(name)
		g.printf("func Handle%s(h %s) %s {\n\treturn %s{NSID: %q, Handler: %s(h)}\n}\n\n", name, g.use("net/http", "Handler"), g.xrpc("Route"), g.xrpc("Route"), g.doc.ID, g.xrpc("Subscription"))
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
	case m.rawOut:
		g.printf("func %s(ctx %s, c Caller%s) (*%s, error) {\n\treturn c.Get(ctx, %q, %s)\n}\n\n", m.name, ctx, arg, g.use("net/http", "Response"), g.doc.ID, params)
	case m.out == "":
		g.printf("func %s(ctx %s, c Caller%s) error {\n\treturn c.Query(ctx, %q, %s, nil)\n}\n\n", m.name, ctx, arg, g.doc.ID, params)
	default:
		g.printf("func %s(ctx %s, c Caller%s) (out %s, err error) {\n\terr = c.Query(ctx, %q, %s, &out)\n\treturn out, err\n}\n\n", m.name, ctx, arg, m.out, g.doc.ID, params)
	}
}

// callProcedure writes the function that calls a procedure.
func (g *generator) callProcedure(m method) {
	g.declareCall(m)
	ctx := g.use("context", "Context")
	arg, call := "", "Procedure(ctx, "+quoted(g.doc.ID)+", nil, "
	switch {
	case m.rawIn:
		arg = ", contentType string, body " + g.use("io", "Reader")
		call = "Upload(ctx, " + quoted(g.doc.ID) + ", contentType, body, "
	case m.in != "":
		arg = ", in " + m.in
		call = "Procedure(ctx, " + quoted(g.doc.ID) + ", in, "
	}
	if m.out == "" {
		g.printf("func %s(ctx %s, c Caller%s) error {\n\treturn c.%snil)\n}\n\n", m.name, ctx, arg, call)
		return
	}
	g.printf("func %s(ctx %s, c Caller%s) (out %s, err error) {\n\terr = c.%s&out)\n\treturn out, err\n}\n\n", m.name, ctx, arg, m.out, call)
}

func quoted(id syntax.NSID) string { return `"` + string(id) + `"` }

func (g *generator) declareCall(m method) {
	g.declare(m.name, string(g.doc.ID))
	comment(&g.out, "", m.name+" calls "+string(g.doc.ID)+".", m.desc)
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
		g.printf("func Handle%s(fn func(w %s, r *%s, params %s) error) %s {\n\treturn %s{NSID: %q, Handler: %s(fn)}\n}\n\n",
			m.name, g.use("net/http", "ResponseWriter"), g.xrpc("Request"), params, g.xrpc("Route"), g.xrpc("Route"), g.doc.ID, g.xrpc("RawQuery"))
		return
	}
	if m.out == "" {
		out = g.xrpc("None")
	}
	g.printf("func Handle%s(fn func(ctx %s, r *%s, params %s) (%s, error)) %s {\n\treturn %s{NSID: %q, Handler: %s(fn)}\n}\n\n",
		m.name, g.use("context", "Context"), g.xrpc("Request"), params, out, g.xrpc("Route"), g.xrpc("Route"), g.doc.ID, g.xrpc("Query"))
}

// handleProcedure writes the function that makes a route of a procedure's implementation.
func (g *generator) handleProcedure(m method) {
	g.declareHandler(m.name)
	if m.rawIn || m.rawOut || m.params != "" {
		g.printf("func Handle%s(fn func(w %s, r *%s) error) %s {\n\treturn %s{NSID: %q, Handler: %s(fn)}\n}\n\n",
			m.name, g.use("net/http", "ResponseWriter"), g.xrpc("Request"), g.xrpc("Route"), g.xrpc("Route"), g.doc.ID, g.xrpc("RawProcedure"))
		return
	}
	in, out := m.in, m.out
	if in == "" {
		in = g.xrpc("None")
	}
	if out == "" {
		out = g.xrpc("None")
	}
	g.printf("func Handle%s(fn func(ctx %s, r *%s, in %s) (%s, error)) %s {\n\treturn %s{NSID: %q, Handler: %s(fn)}\n}\n\n",
		m.name, g.use("context", "Context"), g.xrpc("Request"), in, out, g.xrpc("Route"), g.xrpc("Route"), g.doc.ID, g.xrpc("Procedure"))
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
