package lexicon

import (
	"math"
	"strconv"
)

// literal is a value that a schema gives, and the path to it.
type literal struct {
	path  string
	value any
}

// literals checks values that a schema gives against what else it says. What they are checked
// with is the compiled schema itself.
func (r *reader) literals(t Type, hasDefault, hasConst bool, values []literal) {
	if hasDefault && hasConst {
		r.fail("default and const exclude each other")
	}
	if r.err != nil {
		return
	}
	n := compileScalar(t)
	for _, l := range values {
		w := walk{}
		if !n.check(&w, l.value) {
			r.at(l.path, func() { r.fail("%s", w.errs[0].Reason) })
		}
	}
}

func (r *reader) boolean(o object, desc string) Type {
	t := &Boolean{Description: desc}
	read := func(name string) (b *bool) {
		r.field(o, name, func(v any) {
			x := r.asBool(v)
			b = &x
		})
		return b
	}
	t.Default, t.Const = read("default"), read("const")
	r.literals(t, t.Default != nil, t.Const != nil, nil)
	return t
}

func (r *reader) integer(o object, desc string) Type {
	t := &Integer{Description: desc}
	t.Minimum, t.Maximum = r.bounds(o, "minimum", "maximum", math.MinInt64)
	t.Default, t.Const = r.number(o, "default", math.MinInt64), r.number(o, "const", math.MinInt64)
	var values, enum []literal
	r.field(o, "enum", func(v any) {
		t.Enum = []int64{}
		r.each(v, func(v any) {
			n, ok := v.(int64)
			if !ok {
				r.fail("must be an integer")
			}
			enum = append(enum, literal{"enum/" + strconv.Itoa(len(t.Enum)), n})
			t.Enum = append(t.Enum, n)
		})
	})
	if t.Const == nil {
		values = enum
	} else {
		values = append(values, literal{"const", *t.Const}) // other values of enum cannot conform
	}
	if t.Default != nil {
		values = append(values, literal{"default", *t.Default})
	}
	r.literals(t, t.Default != nil, t.Const != nil, values)
	return t
}

func (r *reader) string(o object, desc string) Type {
	t := &String{Description: desc, KnownValues: r.texts(o, "knownValues"), Enum: r.texts(o, "enum")}
	r.field(o, "format", func(v any) {
		if t.Format = r.asText(v); formatCheck(t.Format) == nil {
			r.fail("%s is not a string format", quote(t.Format))
		}
	})
	t.MinLength, t.MaxLength = r.bounds(o, "minLength", "maxLength", 0)
	t.MinGraphemes, t.MaxGraphemes = r.bounds(o, "minGraphemes", "maxGraphemes", 0)
	read := func(name string) (s *string) {
		r.field(o, name, func(v any) {
			x := r.asText(v)
			s = &x
		})
		return s
	}
	t.Default, t.Const = read("default"), read("const")
	var values []literal
	if t.Const == nil {
		for i, s := range t.Enum {
			values = append(values, literal{"enum/" + strconv.Itoa(i), s})
		}
	} else {
		values = append(values, literal{"const", *t.Const})
	}
	if t.Default != nil {
		values = append(values, literal{"default", *t.Default})
	}
	r.literals(t, t.Default != nil, t.Const != nil, values)
	return t
}
