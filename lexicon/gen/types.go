package gen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon"
)

// kind is what a struct stands for.
type kind int

const (
	kindPlain  kind = iota // part of a definition, bodies
	kindParams             // parameters: never JSON
	kindObject             // a definition: it may be a variant of a union
	kindRecord
)

// object declares a struct.
func (g *generator) object(name, full string, t *lexicon.Object, k kind) {
	g.declare(name, full)
	comment(&g.out, "", name+" is "+full+".", t.Description)
	var fields strings.Builder
	used := map[string]bool{"UnmarshalJSON": true} // a method
	if k == kindObject || k == kindRecord {
		used["LexiconType"] = true
		fields.WriteString("\tLexiconType string `json:\"$type,omitempty\"` // set where it is needed\n")
	}
	type pending struct {
		t    lexicon.Type
		name string
	}
	var nested []pending
	for _, p := range t.Properties {
		if strings.ContainsAny(p.Name, "`\"\\,\n\r\t") {
			g.fail("%q cannot be the name of a Go field in JSON", p.Name)
		}
		field := unique(used, exported(p.Name))
		inner := name + "_" + field
		typ, opt := g.fieldType(p, inner)
		if desc := description(p.Type); desc != "" {
			comment(&fields, "\t", desc)
		}
		fmt.Fprintf(&fields, "\t%s %s `json:%q`\n", field, typ, p.Name+opt)
		nested = append(nested, pending{p.Type, inner})
	}
	g.printf("type %s struct {\n%s}\n\n", name, fields.String())
	if k == kindRecord {
		g.recordMethods(name, full)
	}
	if k != kindParams {
		g.printf("// UnmarshalJSON reads JSON with exact names, each at most once.\n")
		g.printf("func (x *%s) UnmarshalJSON(b []byte) error {\n\ttype plain %s\n\treturn %s(b, (*plain)(x))\n}\n\n", name, name, g.data("UnmarshalJSON"))
	}
	for _, n := range nested {
		g.declareParts(n.t, n.name)
	}
}

// recordMethods makes a record carry its type.
func (g *generator) recordMethods(name, full string) {
	g.declare(name+"Type", full)
	g.printf("// %sType is the collection and the $type of %s.\nconst %sType = %q\n\n", name, name, name, full)
	for _, m := range [][2]string{{"JSON", g.use("encoding/json", "Marshal")}, {"CBOR", g.data("Marshal")}} {
		g.printf("// Marshal%s writes the record with its $type.\n", m[0])
		g.printf("func (r %s) Marshal%s() ([]byte, error) {\n\ttype plain %s\n\tr.LexiconType = %sType\n\treturn %s(plain(r))\n}\n\n", name, m[0], name, name, m[1])
	}
}

// fieldType returns the Go type of a field and the options of its tag.
func (g *generator) fieldType(p lexicon.Property, inner string) (typ, opt string) {
	typ = g.goType(p.Type, inner)
	switch {
	case p.Nullable && p.Required:
		return "*" + strings.TrimPrefix(typ, "*"), ""
	case p.Nullable:
		return g.data("Nullable") + "[" + strings.TrimPrefix(typ, "*") + "]", ",omitzero"
	case p.Required:
		return typ, ""
	case strings.HasPrefix(typ, "[]"), strings.HasPrefix(typ, "map["), typ == "data.Object", typ == "data.Bytes":
		return typ, ",omitzero"
	case strings.HasPrefix(typ, "syntax."):
		return typ, ",omitempty"
	}
	return "*" + strings.TrimPrefix(typ, "*"), ",omitempty"
}

var formatTypes = map[string]string{
	"at-identifier": "AtIdentifier", "at-uri": "ATURI", "cid": "CID", "datetime": "Datetime", "did": "DID", "handle": "Handle",
	"language": "Language", "nsid": "NSID", "record-key": "RecordKey", "tid": "TID", "uri": "URI",
}

// goType returns the Go type of a required value. inner is the name of a type that is declared
// for it, if one is needed: declareParts does it.
func (g *generator) goType(t lexicon.Type, inner string) string {
	switch t := t.(type) {
	case *lexicon.Boolean:
		return "bool"
	case *lexicon.Integer:
		return "int64"
	case *lexicon.String:
		if t.Format != "" {
			return g.syntax(formatTypes[t.Format])
		}
		return "string"
	case *lexicon.Bytes:
		return g.data("Bytes")
	case *lexicon.CIDLink:
		return g.data("Link")
	case *lexicon.Blob:
		return g.data("Blob")
	case *lexicon.Unknown:
		return g.data("Object")
	case *lexicon.Array:
		return "[]" + strings.TrimPrefix(g.goType(t.Items, inner+"_Elem"), "*")
	case *lexicon.Object:
		return inner
	case *lexicon.Union:
		if len(t.Refs) == 0 {
			return g.data("Object")
		}
		return inner
	case *lexicon.Ref:
		return g.refType(t.Ref)
	}
	return g.data("Object")
}

// refType returns the Go type of what a name refers to.
func (g *generator) refType(full string) string {
	target, ok := g.catalog.Definition(full)
	if !ok {
		g.fail("%s is missing", full)
		return ""
	}
	name := g.refName(full)
	switch t := target.(type) {
	case *lexicon.Object, *lexicon.Record:
		if g.containsItself(full) {
			return "*" + name
		}
		return name
	default:
		return g.goType(t, name)
	}
}

func (g *generator) refName(full string) string {
	id, def, ok := strings.Cut(full, "#")
	if !ok {
		def = "main"
	}
	return g.name(toNSID(id), def)
}

func (g *generator) fail(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf("gen: %s: %s", g.doc.ID, fmt.Sprintf(format, args...))
	}
}

// declareParts declares the types that goType has promised.
func (g *generator) declareParts(t lexicon.Type, name string) {
	switch t := t.(type) {
	case *lexicon.Array:
		g.declareParts(t.Items, name+"_Elem")
	case *lexicon.Object:
		g.object(name, "a part of "+string(g.doc.ID), t, kindPlain)
	case *lexicon.Union:
		if len(t.Refs) > 0 {
			g.union(name, t)
		}
	}
}

// union declares the struct of a union.
func (g *generator) union(name string, t *lexicon.Union) {
	g.declare(name, "a union of "+string(g.doc.ID))
	var fields, variants, targets strings.Builder
	used := map[string]bool{"Other": true}
	refs := slices.Clone(t.Refs)
	slices.Sort(refs)
	for _, ref := range slices.Compact(refs) {
		typ := g.refName(ref)
		field := unique(used, typ)
		fmt.Fprintf(&fields, "\t%s *%s\n", field, typ)
		fmt.Fprintf(&variants, "\tcase u.%s != nil:\n\t\tv := *u.%s\n\t\tv.LexiconType = %q\n\t\treturn &v\n", field, field, ref)
		fmt.Fprintf(&targets, "\tcase %q:\n\t\tu.%s = new(%s)\n\t\treturn u.%s\n", ref, field, typ, field)
	}
	comment(&g.out, "", name+" is a union: one of its fields is set.", t.Description)
	g.printf("type %s struct {\n%s", name, fields.String())
	if !t.Closed {
		g.printf("\tOther %s // of a type that the schema does not list\n", g.data("Object"))
	}
	g.printf("}\n\nfunc (u %s) variant() any {\n\tswitch {\n%s", name, variants.String())
	if !t.Closed {
		g.printf("\tcase u.Other != nil:\n\t\treturn u.Other\n")
	}
	g.printf("\t}\n\treturn nil\n}\n\nfunc (u *%s) target(typ string) any {\n\t*u = %s{}\n\tswitch typ {\n%s\t}\n", name, name, targets.String())
	if t.Closed {
		g.printf("\treturn nil\n}\n\n")
	} else {
		g.printf("\treturn &u.Other\n}\n\n")
	}
	for _, f := range []string{"JSON", "CBOR"} {
		g.printf("// Marshal%s writes the variant that is set, with its $type.\n", f)
		g.printf("func (u %s) Marshal%s() ([]byte, error) { return %s(u.variant()) }\n\n", name, f, g.use(module+"lexicon/gen/union", "Marshal"+f))
		g.printf("// Unmarshal%s reads the variant that $type names.\n", f)
		g.printf("func (u *%s) Unmarshal%s(b []byte) error { return %s(b, u.target) }\n\n", name, f, g.use(module+"lexicon/gen/union", "Unmarshal"+f))
	}
}

// description returns what a schema says of a field.
func description(t lexicon.Type) string {
	switch t := t.(type) {
	case *lexicon.Boolean:
		return t.Description
	case *lexicon.Integer:
		return t.Description
	case *lexicon.String:
		return t.Description
	case *lexicon.Bytes:
		return t.Description
	case *lexicon.CIDLink:
		return t.Description
	case *lexicon.Blob:
		return t.Description
	case *lexicon.Unknown:
		return t.Description
	case *lexicon.Array:
		return t.Description
	case *lexicon.Ref:
		return t.Description
	}
	return ""
}

// containsItself reports whether a value of an object would have to contain another one of it:
// then Go needs a pointer.
func (g *generator) containsItself(full string) bool {
	if known, ok := g.cyclic[full]; ok {
		return known
	}
	seen := make(map[string]bool)
	var reaches func(t lexicon.Type) bool
	visit := func(name string) bool {
		if name == full {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		t, _ := g.catalog.Definition(name)
		return reaches(t)
	}
	reaches = func(t lexicon.Type) bool {
		switch t := t.(type) {
		case *lexicon.Record:
			return reaches(t.Schema)
		case *lexicon.Object:
			for _, p := range t.Properties {
				if p.Required && !p.Nullable && reaches(p.Type) {
					return true
				}
			}
		case *lexicon.Ref:
			return visit(t.Ref)
		}
		return false
	}
	t, _ := g.catalog.Definition(full)
	g.cyclic[full] = reaches(t)
	return g.cyclic[full]
}
