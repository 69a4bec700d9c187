package gen

import (
	"fmt"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// exported turns a name of a schema into an exported Go name.
func exported(s string) string {
	var b strings.Builder
	upper := true
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z' && upper:
			c -= 'a' - 'A'
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		default:
			upper = true
			continue
		}
		if b.Len() == 0 && '0' <= c && c <= '9' {
			b.WriteByte('X')
		}
		b.WriteByte(c)
		upper = false
	}
	if b.Len() == 0 {
		return "X"
	}
	return b.String()
}

// base is the Go name of a document.
func (g *generator) base(id syntax.NSID) string {
	rest := string(id)
	for _, prefix := range g.cfg.Trim {
		if cut, ok := strings.CutPrefix(rest, prefix+"."); ok {
			rest = cut
			break
		}
	}
	return exported(rest)
}

// name is the Go name of a definition.
func (g *generator) name(id syntax.NSID, def string) string {
	if def == "main" {
		return g.base(id)
	}
	return g.base(id) + "_" + exported(def)
}

// declare reserves a top-level name.
func (g *generator) declare(name, of string) {
	if other, taken := g.names[name]; taken && g.err == nil {
		g.err = fmt.Errorf("gen: %s and %s would both be named %s", other, of, name)
	}
	g.names[name] = of
}

// unique returns a name that is not in a set yet, and puts it there.
func unique(set map[string]bool, name string) string {
	for set[name] {
		name += "_"
	}
	set[name] = true
	return name
}

// comment writes sentences as a comment.
func comment(b *strings.Builder, indent string, sentences ...string) {
	const width = 90
	line := indent + "//"
	for word := range strings.FieldsSeq(strings.Join(sentences, " ")) {
		if len(line)+1+len(word) > width && len(line) > len(indent)+2 {
			b.WriteString(line + "\n")
			line = indent + "//"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
