package lexicon

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
	"github.com/pdskit/pdskit/lexicon/data"
)

// bounds are inclusive.
type bounds struct{ min, max int64 }

func boundsOf(lo, hi *int64) bounds {
	b := bounds{math.MinInt64, math.MaxInt64}
	if lo != nil {
		b.min = *lo
	}
	if hi != nil {
		b.max = *hi
	}
	return b
}

// length checks a length. The unit is plural.
func (b bounds) length(w *walk, n int, lower, upper, unit string) bool {
	switch {
	case int64(n) < b.min:
		return w.fail(lower, "must have at least "+strconv.FormatInt(b.min, 10)+" "+unit)
	case int64(n) > b.max:
		return w.fail(upper, "must not have more than "+strconv.FormatInt(b.max, 10)+" "+unit)
	}
	return true
}

type booleanNode struct{ konst *bool }

func (n *booleanNode) check(w *walk, v any) bool {
	b, ok := v.(bool)
	if !ok {
		return w.fail("type", "must be a boolean")
	}
	if n.konst != nil && b != *n.konst {
		return w.fail("const", "must be "+strconv.FormatBool(*n.konst))
	}
	return true
}

type integerNode struct {
	bounds
	oneOf[int64]
	konst *int64
}

func (n *integerNode) check(w *walk, v any) bool {
	i, ok := v.(int64)
	if !ok {
		short, isInt := v.(int)
		if !isInt {
			return w.fail("type", "must be an integer")
		}
		i = int64(short)
	}
	switch {
	case n.konst != nil && i != *n.konst:
		return w.fail("const", "must be "+strconv.FormatInt(*n.konst, 10))
	case !n.has(i):
		return w.fail("enum", "must be one of "+listed(n.list, func(v int64) string { return strconv.FormatInt(v, 10) }))
	case i < n.min:
		return w.fail("minimum", "must not be less than "+strconv.FormatInt(n.min, 10))
	case i > n.max:
		return w.fail("maximum", "must not be greater than "+strconv.FormatInt(n.max, 10))
	}
	return true
}

type stringNode struct {
	length, graphemes bounds
	oneOf[string]
	konst  *string
	format string
	parse  func(string) error
}

func (n *stringNode) check(w *walk, v any) bool {
	s, ok := v.(string)
	if !ok {
		return w.fail("type", "must be a string")
	}
	switch {
	case n.konst != nil && s != *n.konst:
		return w.fail("const", "must be "+quote(*n.konst))
	case !n.has(s):
		return w.fail("enum", "must be one of "+listed(n.list, quote))
	case !n.length.length(w, len(s), "minLength", "maxLength", "bytes"):
		return false
	case !n.checkGraphemes(w, s):
		return false
	}
	if n.parse != nil {
		if err := n.parse(s); err != nil {
			return w.failWith("format", "must be of the format "+n.format, err)
		}
	}
	return true
}

func (n *stringNode) checkGraphemes(w *walk, s string) bool {
	if n.graphemes.min <= 0 && int64(len(s)) <= n.graphemes.max {
		return true // a grapheme takes a byte at least
	}
	return n.graphemes.length(w, countGraphemes(s, n.graphemes.max), "minGraphemes", "maxGraphemes", "graphemes")
}

// countGraphemes counts extended grapheme clusters; beyond most it may stop.
func countGraphemes(s string, most int64) (n int) {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c == '\r' {
			for it := graphemes.FromString(s); int64(n) <= most && it.Next(); {
				n++
			}
			return n
		}
	}
	return len(s) // of ASCII, only CR LF is more than one byte
}

// listed joins up to 16 values for a message.
func listed[T any](list []T, format func(T) string) string {
	const most = 16
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == most {
			b.WriteString("…")
			break
		}
		b.WriteString(format(v))
	}
	if len(list) == 0 {
		return "no values"
	}
	return b.String()
}

type bytesNode struct{ bounds }

func (n *bytesNode) check(w *walk, v any) bool {
	b, ok := v.(data.Bytes)
	if !ok {
		return w.fail("type", "must be a byte string")
	}
	return n.length(w, len(b), "minLength", "maxLength", "bytes")
}

type linkNode struct{}

func (linkNode) check(w *walk, v any) bool {
	if l, ok := v.(data.Link); !ok || !l.Defined() {
		return w.fail("type", "must be a link")
	}
	return true
}
