package lexicon

import (
	"strconv"
	"strings"
)

// place is where a member of an object begins in the text of a schema, with the members of its own
// if it is an object. A nil *place is not known.
type place struct {
	offset  int
	members map[string]*place
}

func (p *place) member(name string) *place {
	if p == nil {
		return nil
	}
	return p.members[name]
}

// order sorts members of one object.
func (p *place) order() int {
	if p == nil {
		return 0
	}
	return p.offset
}

// placesIn returns the places of a text, which must be valid JSON. What is in arrays has none.
func placesIn(text []byte) *place {
	root := new(place)
	open := []*place{}
	next := root // what the next value is, or nil
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			open = append(open, next)
		case '[':
			open = append(open, nil)
			next = nil
		case '}', ']':
			open = open[:len(open)-1]
			next = nil
		case '"':
			end := i + 1
			for ; text[end] != '"'; end++ {
				if text[end] == '\\' {
					end++
				}
			}
			quoted, offset := text[i:end+1], i
			for i, end = end, end+1; end < len(text) && strings.IndexByte(" \t\r\n", text[end]) >= 0; end++ {
			}
			if end == len(text) || text[end] != ':' {
				continue // a value
			}
			next = nil
			if in := open[len(open)-1]; in != nil {
				// Names with escapes that Go does not have are not known.
				if name, err := strconv.Unquote(string(quoted)); err == nil {
					if in.members == nil {
						in.members = make(map[string]*place)
					}
					next = &place{offset: offset}
					in.members[name] = next
				}
			}
		}
	}
	return root
}
