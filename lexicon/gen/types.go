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
	kindPlain   kind = iota
	kindParams       // parameters: never JSON
	kindVariant      // of a union
	kindRecord
)

// object declares a struct.
func (g *generator) object(name, what string, t *lexicon.Object, k kind) {
	g.declare(name, what)
	comment(&g.out, "", name+" is "+what+".", t.Description)
	var fields strings.Builder
	used := make(map[string]bool)
	if k == kindVariant || k == kindRecord {
		used["LexiconType"] = true
		fields.WriteString("\tLexiconType string `json:\"$type,omitempty\"` // set where it is needed\n")
	}
	type pending struct {
		t    lexicon.Type
		name string
	}
	var nested []pending
	for _, p := range slices.SortedStableFunc(slices.Values(t.Properties), func(a, b lexicon.Property) int { return a.Order - b.Order }) {
		if strings.ContainsAny(p.Name, "`\"\\,\n\r\t") {
			g.fail("%q cannot be the name of a Go field in JSON", p.Name)
		}
		field := field(used, p.Name)
		inner := name + "_" + field
		typ, opt := g.fieldType(p, inner, k)
		if text := fieldComment(p.Type); text != "" {
			comment(&fields, "\t", text)
		}
		fmt.Fprintf(&fields, "\t%s %s `json:%q`\n", field, typ, p.Name+opt)
		nested = append(nested, pending{p.Type, inner})
	}
	g.printf("type %s struct {\n%s}\n\n", name, fields.String())
	if k == kindRecord {
		g.recordMethods(name, what)
	}
	for _, n := range nested {
		g.declareParts(n.t, n.name)
	}
}

// recordMethods makes a record carry its type.
func (g *generator) recordMethods(name, full string) {
	g.declare(name+"NSID", full)
	g.printf("// %sNSID is the collection and the $type of %s.\nconst %sNSID = %q\n\n", name, name, name, full)
	for _, m := range [][2]string{{"JSON", g.data("MarshalJSON")}, {"CBOR", g.data("Marshal")}} {
		g.printf("// Marshal%s writes the record with its $type.\n", m[0])
		g.printf("func (r %s) Marshal%s() ([]byte, error) {\n\ttype plain %s\n\tr.LexiconType = %sNSID\n\treturn %s(plain(r))\n}\n\n", name, m[0], name, name, m[1])
	}
}

// fieldType returns the Go type of a field and the options of its tag.
func (g *generator) fieldType(p lexicon.Property, inner string, k kind) (typ, opt string) {
	typ = g.goType(p.Type, inner)
	switch {
	case p.Nullable && p.Required:
		return "*" + strings.TrimPrefix(typ, "*"), ""
	case p.Nullable:
		return g.data("Nullable") + "[" + strings.TrimPrefix(typ, "*") + "]", ",omitzero"
	case p.Required:
		return typ, ""
	case strings.HasPrefix(typ, "[]"), typ == "data.Raw", typ == "data.Bytes":
		return typ, ",omitzero"
	case strings.HasPrefix(typ, "syntax."), !g.exact && g.zeroIsAbsent(p.Type, k):
		return typ, ",omitempty"
	}
	return "*" + strings.TrimPrefix(typ, "*"), ",omitempty"
}

// zeroIsAbsent reports whether a zero value means the same as none, in a method.
func (g *generator) zeroIsAbsent(t lexicon.Type, k kind) bool {
	switch t := t.(type) {
	case *lexicon.String:
		return true
	case *lexicon.Integer:
		return t.Minimum != nil && *t.Minimum > 0 || t.Maximum != nil && *t.Maximum < 0 || k == kindParams && t.Default != nil && *t.Default == 0
	case *lexicon.Boolean:
		return k == kindParams && (t.Default == nil || !*t.Default)
	case *lexicon.Ref:
		target, _ := g.catalog.Definition(t.Ref)
		return !slices.Contains(g.cfg.Raw, t.Ref) && g.zeroIsAbsent(target, k)
	}
	return false
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
	case *lexicon.Array:
		return "[]" + strings.TrimPrefix(g.goType(t.Items, inner), "*")
	case *lexicon.Object:
		return inner
	case *lexicon.Union:
		if len(t.Refs) > 0 {
			return inner
		}
	case *lexicon.Ref:
		return g.refType(t.Ref)
	}
	return g.data("Raw")
}

// refType returns the Go type of what a name refers to.
func (g *generator) refType(full string) string {
	target, ok := g.catalog.Definition(full)
	if !ok {
		g.fail("%s is missing", full)
		return ""
	}
	_, isList := target.(*lexicon.Array)
	switch {
	case slices.Contains(g.cfg.Raw, full) && isList:
		return "[]" + g.data("Raw")
	case slices.Contains(g.cfg.Raw, full):
		return g.data("Raw")
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

// declareParts declares the types that goType has promised.
func (g *generator) declareParts(t lexicon.Type, name string) {
	switch t := t.(type) {
	case *lexicon.Array:
		g.declareParts(t.Items, name)
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
	refs := slices.Clone(t.Refs)
	slices.Sort(refs)
	refs = slices.Compact(refs)
	names := variantNames(refs)
	for i, ref := range refs {
		typ, isRaw := g.refName(ref), slices.Contains(g.cfg.Raw, ref)
		if isRaw {
			g.fail("%s is a variant of a union, which cannot be raw", ref)
		}
		fmt.Fprintf(&fields, "\t%s *%s\n", names[i], typ)
		fmt.Fprintf(&variants, "\tcase u.%s != nil:\n\t\tv := *u.%s\n\t\tv.LexiconType = %q\n\t\treturn &v\n", names[i], names[i], ref)
		fmt.Fprintf(&targets, "\tcase %q:\n\t\tu.%s = new(%s)\n\t\treturn u.%s\n", ref, names[i], typ, names[i])
	}
	comment(&g.out, "", name+" is a union: one of its fields is set.", t.Description)
	g.printf("type %s struct {\n%s", name, fields.String())
	if !t.Closed {
		g.printf("\tOther %s // of a type that the schema does not list\n", g.data("Raw"))
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

// variantNames returns the names of the fields of a union: what each variant is called in its
// document, or as a document, with as many segments before it as it takes to tell it from the
// others.
func variantNames(refs []string) []string {
	names, take := make([]string, len(refs)), make([]int, len(refs))
	for clash, rounds := true, 0; clash && rounds < 16; rounds++ {
		count := map[string]int{"Other": 1}
		for i, ref := range refs {
			segments := strings.FieldsFunc(ref, func(r rune) bool { return r == '.' || r == '#' })
			names[i] = exported(strings.Join(segments[max(0, len(segments)-1-take[i]):], "."))
			count[names[i]]++
		}
		clash = false
		for i, name := range names {
			if count[name] > 1 {
				clash = true
				take[i]++
			}
		}
	}
	used := map[string]bool{"Other": true}
	for i, name := range names {
		names[i] = field(used, name)
	}
	return names
}

// fieldComment returns what a schema says of a field.
func fieldComment(t lexicon.Type) string {
	switch t := t.(type) {
	case *lexicon.Boolean:
		if t.Default != nil {
			return sentences(t.Description, fmt.Sprintf("Default: %t", *t.Default))
		}
		return sentences(t.Description)
	case *lexicon.Integer:
		bounds := ""
		switch {
		case t.Minimum != nil && t.Maximum != nil:
			bounds = fmt.Sprintf("From %d to %d", *t.Minimum, *t.Maximum)
		case t.Minimum != nil:
			bounds = fmt.Sprintf("At least %d", *t.Minimum)
		case t.Maximum != nil:
			bounds = fmt.Sprintf("At most %d", *t.Maximum)
		}
		if t.Default != nil {
			return sentences(t.Description, bounds, fmt.Sprintf("Default: %d", *t.Default))
		}
		return sentences(t.Description, bounds)
	case *lexicon.String:
		values := ""
		if t.Enum != nil {
			values = "One of " + strings.Join(t.Enum, ", ")
		} else if t.KnownValues != nil {
			values = "Such as " + strings.Join(t.KnownValues, ", ")
		}
		if t.Default != nil {
			return sentences(t.Description, values, fmt.Sprintf("Default: %q", *t.Default))
		}
		return sentences(t.Description, values)
	case *lexicon.Array:
		if t.MaxLength != nil {
			return sentences(t.Description, fmt.Sprintf("At most %d", *t.MaxLength))
		}
		return sentences(t.Description)
	case *lexicon.Bytes:
		return sentences(t.Description)
	case *lexicon.CIDLink:
		return sentences(t.Description)
	case *lexicon.Blob:
		return sentences(t.Description)
	case *lexicon.Unknown:
		return sentences(t.Description)
	case *lexicon.Ref:
		return sentences(t.Description)
	}
	return ""
}

// sentences joins what is not empty.
func sentences(list ...string) string {
	var b strings.Builder
	for _, s := range list {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s)
		if !strings.ContainsAny(s[len(s)-1:], ".!?") {
			b.WriteByte('.')
		}
	}
	return b.String()
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
