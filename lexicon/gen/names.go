package gen

import (
	"fmt"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// initialisms are the words that Go has in capitals.
var initialisms = map[string]string{
	"api": "API", "cid": "CID", "cids": "CIDs", "did": "DID", "dids": "DIDs", "dns": "DNS", "html": "HTML", "http": "HTTP", "id": "ID",
	"ids": "IDs", "ip": "IP", "json": "JSON", "jwt": "JWT", "nsid": "NSID", "nsids": "NSIDs", "plc": "PLC", "rkey": "RKey", "tid": "TID", "ttl": "TTL", "uri": "URI",
	"uris": "URIs", "url": "URL", "urls": "URLs",
}

// exported turns a name of a schema into an exported Go name; "" if there is no letter or digit.
func exported(s string) string {
	var b strings.Builder
	for _, word := range words(s) {
		if known, ok := initialisms[strings.ToLower(word)]; ok {
			b.WriteString(known)
			continue
		}
		if b.Len() == 0 && '0' <= word[0] && word[0] <= '9' {
			b.WriteByte('X')
		}
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// words splits a name where a lower-case letter meets a capital, and at what is neither a letter
// nor a digit of ASCII.
func words(s string) (list []string) {
	from := 0
	cut := func(to int) {
		if to > from {
			list = append(list, s[from:to])
		}
	}
	for i := range len(s) {
		c := s[i]
		lower, upper, digit := 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		switch {
		case !lower && !upper && !digit:
			cut(i)
			from = i + 1
		case upper && i > from && 'a' <= s[i-1] && s[i-1] <= 'z':
			cut(i)
			from = i
		}
	}
	cut(len(s))
	return list
}

// name is the Go name of a definition. Documents named "defs" are not in the names of what they
// define.
func (g *generator) name(id syntax.NSID, def string) string {
	rest := string(id)
	for _, prefix := range g.cfg.Trim {
		if cut, ok := strings.CutPrefix(rest, prefix+"."); ok {
			rest = cut
			break
		}
	}
	if def == "main" {
		return exported(rest)
	}
	if group, ok := strings.CutSuffix("."+rest, ".defs"); ok {
		rest = group
	}
	return exported(rest + "." + def)
}

// refName is the Go name of a definition by its full name.
func (g *generator) refName(full string) string {
	id, def, ok := strings.Cut(full, "#")
	if !ok {
		def = "main"
	}
	return g.name(syntax.NSID(id), def)
}

// declare reserves a top-level name.
func (g *generator) declare(name, of string) {
	if other, taken := g.names[name]; taken && g.err == nil {
		g.err = fmt.Errorf("gen: %s and %s would both be named %s", other, of, name)
	}
	g.names[name] = of
}

// field returns the Go name of a field, which is not in a set yet, and puts it there.
func field(set map[string]bool, name string) string {
	s := exported(name)
	if s == "" {
		s = "X"
	}
	for set[s] {
		s += "_"
	}
	set[s] = true
	return s
}

// comment writes sentences as a comment.
func comment(b *strings.Builder, indent string, sentences ...string) {
	const width = 100
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
