package exactjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner goes over a text.
type scanner struct {
	in              []byte
	allowSurrogates bool // lone surrogates are allowed in values
	foldUntagged    bool // fields without a name in a tag take names in any case
	pos             int
	names           []member // of all objects that are open
	hidden          []span   // names that encoding/json must not take for those of fields
}

// member is a member of an object: its name, without escapes, and where it is.
type member struct {
	name []byte
	at   int
}

type span struct{ from, to int }

func (s *scanner) fail(err error) error { return &Error{Offset: s.pos, Err: err} }

// text checks the whole text, which is decoded into a type.
func (s *scanner) text(t reflect.Type) error {
	s.names = make([]member, 0, 16)
	if err := s.value(t, 0); err != nil {
		return err
	}
	if s.space(); s.pos < len(s.in) {
		return s.fail(ErrSyntax)
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.in) && (s.in[s.pos] == ' ' || s.in[s.pos] == '\t' || s.in[s.pos] == '\n' || s.in[s.pos] == '\r') {
		s.pos++
	}
}

// take skips white space and then a byte, if it is c.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.pos < len(s.in) && s.in[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// value checks a value that is decoded into a type; nil: one without fields.
func (s *scanner) value(t reflect.Type, depth int) error {
	s.space()
	if s.pos == len(s.in) {
		return s.fail(ErrSyntax)
	}
	switch c := s.in[s.pos]; {
	case c == '"':
		_, err := s.str(s.allowSurrogates)
		return err
	case c == '{':
		return s.object(shapeOf(t), depth)
	case c == '[':
		return s.array(shapeOf(t), depth)
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	}
	for _, word := range []string{"null", "true", "false"} {
		if len(s.in)-s.pos >= len(word) && string(s.in[s.pos:s.pos+len(word)]) == word {
			s.pos += len(word)
			return nil
		}
	}
	return s.fail(ErrSyntax)
}

func (s *scanner) array(sh *shape, depth int) error {
	if depth == MaxDepth {
		return s.fail(ErrDepth)
	}
	s.pos++
	if s.take(']') {
		return nil
	}
	for {
		if err := s.value(sh.elem, depth+1); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.fail(ErrSyntax)
		}
	}
}

func (s *scanner) object(sh *shape, depth int) error {
	if depth == MaxDepth {
		return s.fail(ErrDepth)
	}
	s.pos++
	if s.take('}') {
		return nil
	}
	first := len(s.names)
	for {
		if s.space(); s.pos == len(s.in) || s.in[s.pos] != '"' {
			return s.fail(ErrSyntax)
		}
		start := s.pos
		name, err := s.str(false)
		if err != nil {
			return err
		}
		s.names = append(s.names, member{name, start})
		elem, field := sh.member(name)
		switch {
		case field == "":
		case s.foldUntagged && sh.untagged[field]:
			s.names = append(s.names, member{[]byte(untaggedMark + field), start})
		case field != string(name):
			s.hidden = append(s.hidden, span{start + 1, s.pos - 1})
			elem = nil
		}
		if !s.take(':') {
			return s.fail(ErrSyntax)
		}
		if err := s.value(elem, depth+1); err != nil {
			return err
		}
		if s.take('}') {
			err := unique(s.names[first:])
			s.names = s.names[:first]
			return err
		}
		if !s.take(',') {
			return s.fail(ErrSyntax)
		}
	}
}

// untaggedMark is before the name of a field without a tag among the names of an object. No name in
// JSON begins with it, as it is not UTF-8.
const untaggedMark = "\xff"

// fewNames is up to how many names are compared pair by pair.
const fewNames = 24

// unique checks the names of an object, which it may bring into another order.
func unique(list []member) error {
	if len(list) <= fewNames {
		for i := range list {
			for j := range i {
				if bytes.Equal(list[i].name, list[j].name) {
					return list[i].duplicateError()
				}
			}
		}
		return nil
	}
	slices.SortStableFunc(list, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	for i := 1; i < len(list); i++ {
		if bytes.Equal(list[i-1].name, list[i].name) {
			return list[i].duplicateError()
		}
	}
	return nil
}

func (m member) duplicateError() error {
	return &Error{m.at, strings.TrimPrefix(string(m.name), untaggedMark), ErrDuplicate}
}

// unknown is a byte that may stand in a name in JSON and cannot stand in that of a field.
const unknown = 0x7f

// exact returns the text for encoding/json: in a copy, if there are hidden members, whose names are
// overwritten by one that no field has.
func (s *scanner) exact() []byte {
	if len(s.hidden) == 0 {
		return s.in
	}
	out := slices.Clone(s.in)
	for _, h := range s.hidden {
		for i := h.from; i < h.to; i++ {
			out[i] = unknown
		}
	}
	return out
}

// str checks a string, in which there may be lone surrogates or not, and returns its text, without
// escapes.
func (s *scanner) str(lone bool) ([]byte, error) {
	s.pos++
	start := s.pos
	escaped, ascii := false, true
	for ; s.pos < len(s.in); s.pos++ {
		switch c := s.in[s.pos]; {
		case c == '"':
			text := s.in[start:s.pos]
			s.pos++
			if !ascii && !utf8.Valid(text) {
				s.pos = start
				return nil, s.fail(ErrText)
			}
			if escaped {
				var plain string
				if err := json.Unmarshal(s.in[start-1:s.pos], &plain); err != nil {
					return nil, s.fail(ErrSyntax)
				}
				text = []byte(plain)
			}
			return text, nil
		case c == '\\':
			escaped = true
			if err := s.escape(lone); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.fail(ErrSyntax)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, s.fail(ErrSyntax)
}

// escape checks an escape sequence and goes to its last byte.
func (s *scanner) escape(lone bool) error {
	s.pos++
	if s.pos == len(s.in) {
		return s.fail(ErrSyntax)
	}
	switch s.in[s.pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
	default:
		return s.fail(ErrSyntax)
	}
	r, ok := s.hex4()
	if !ok {
		return s.fail(ErrSyntax)
	}
	if !utf16.IsSurrogate(r) || lone {
		return nil
	}
	if len(s.in)-s.pos < 3 || s.in[s.pos+1] != '\\' || s.in[s.pos+2] != 'u' {
		return s.fail(ErrText)
	}
	s.pos += 2
	low, ok := s.hex4()
	if !ok {
		return s.fail(ErrSyntax)
	}
	if utf16.DecodeRune(r, low) == utf8.RuneError {
		return s.fail(ErrText)
	}
	return nil
}

// hex4 reads four hexadecimal digits after the present byte and goes to the last.
func (s *scanner) hex4() (r rune, ok bool) {
	if len(s.in)-s.pos < 5 {
		return 0, false
	}
	for range 4 {
		s.pos++
		c := s.in[s.pos]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) digits() bool {
	from := s.pos
	for s.pos < len(s.in) && '0' <= s.in[s.pos] && s.in[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > from
}

func (s *scanner) number() error {
	if s.in[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.in) && s.in[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail(ErrSyntax)
	}
	if s.pos < len(s.in) && s.in[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return s.fail(ErrSyntax)
		}
	}
	if s.pos < len(s.in) && s.in[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.in) && (s.in[s.pos] == '+' || s.in[s.pos] == '-') {
			s.pos++
		}
		if !s.digits() {
			return s.fail(ErrSyntax)
		}
	}
	return nil
}
