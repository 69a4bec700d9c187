package readafter

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/lexicon/data"
)

// text is valid JSON without duplicate names. Its methods take the offset of a value and return
// that of what follows it. They are fast and never look back: the text is read once, however deeply
// it is nested.
type text []byte

// space skips white space.
func (t text) space(i int) int {
	for i < len(t) && (t[i] == ' ' || t[i] == '\n' || t[i] == '\r' || t[i] == '\t') {
		i++
	}
	return i
}

// str skips a string.
func (t text) str(i int) int {
	for i++; t[i] != '"'; i++ {
		if t[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skip skips a value.
func (t text) skip(i int) int {
	depth := 0
	for {
		switch t[i] {
		case '"':
			i = t.str(i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			i++
		default: // a number or a word
			for i < len(t) && strings.IndexByte(",:]} \n\r\t", t[i]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// object calls fn with each member of an object: its name and the offset of its
// value. A value that is no object has no members, and ok is false.
func (t text) object(i int, fn func(name string, i int) (end int)) (end int, ok bool) {
	if t[i] != '{' {
		return t.skip(i), false
	}
	for i = t.space(i + 1); t[i] != '}'; {
		from := i
		i = t.str(i)
		name := string(t[from+1 : i-1])
		if bytes.IndexByte(t[from:i], '\\') >= 0 {
			data.UnmarshalPlainJSON(t[from:i], &name)
		}
		i = t.space(i) + len(":")
		i = t.space(fn(name, t.space(i)))
		if t[i] == ',' {
			i = t.space(i + 1)
		}
	}
	return i + 1, true
}

// array calls fn with the offset of each element of an array. A value that is
// no array has no elements, and ok is false.
func (t text) array(i int, fn func(i int) (end int)) (end int, ok bool) {
	if t[i] != '[' {
		return t.skip(i), false
	}
	for i = t.space(i + 1); t[i] != ']'; {
		i = t.space(fn(i))
		if t[i] == ',' {
			i = t.space(i + 1)
		}
	}
	return i + 1, true
}

// errShape: an answer is not what its method returns.
var errShape = errors.New("readafter: unexpected answer")

// editor goes over an answer and notes what is to be changed.
type editor struct {
	text
	*viewer
	edits []edit
	err   error
}

// edit is new text for what lies between two offsets.
type edit struct {
	from, to int
	new      []byte
}

// newEditor returns an editor of a body, which must be a JSON object. Names that an object has
// twice are refused, so that all readers of the answer see the same.
func (v *viewer) newEditor(body []byte) *editor {
	e := &editor{text: body, viewer: v}
	if data.UnmarshalPlainJSON(body, &struct{}{}) != nil {
		e.text, e.err = text("{}"), errShape
	}
	return e
}

// object is text.object for what must be an object.
func (e *editor) object(i int, fn func(name string, i int) int) int {
	end, ok := e.text.object(i, fn)
	if !ok {
		e.err = errShape
	}
	return end
}

// array is text.array for what must be an array.
func (e *editor) array(i int, fn func(i int) int) int {
	end, ok := e.text.array(i, fn)
	if !ok {
		e.err = errShape
	}
	return end
}

// member calls fn with a member of the answer, which must be there.
func (e *editor) member(name string, fn func(i int) int) {
	at := -1
	e.object(e.space(0), func(n string, i int) int {
		if n == name {
			at = i
		}
		return e.skip(i)
	})
	if at < 0 {
		e.err = errShape
		return
	}
	fn(at)
}

// read decodes the value at an offset.
func (e *editor) read(i int, v any) (end int) {
	end = e.skip(i)
	if err := data.UnmarshalPlainJSON(e.text[i:end], v); err != nil {
		e.err = err
	}
	return end
}

// replace notes that a value is to take the place of what lies between two offsets.
func (e *editor) replace(from, to int, before string, v any, after string) {
	b, err := json.Marshal(v)
	if err != nil {
		e.err = err
	}
	e.edits = append(e.edits, edit{from, to, slices.Concat([]byte(before), b, []byte(after))})
}

// done returns the text with the changes made. They do not overlap; those of the same
// place come in their order.
func (e *editor) done() ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	slices.SortStableFunc(e.edits, func(a, b edit) int { return a.from - b.from })
	size := len(e.text)
	for _, x := range e.edits {
		size += len(x.new)
	}
	out := make([]byte, 0, size)
	last := 0
	for _, x := range e.edits {
		out = append(append(out, e.text[last:x.from]...), x.new...)
		last = x.to
	}
	return append(out, e.text[last:]...), nil
}
