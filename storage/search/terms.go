package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxTerm is how many characters of a word count.
const maxTerm = 64

// Term is a word, or a group of characters, of a text.
type Term struct {
	Text string // as it is compared: without case, accents and compatibility forms
	// Pos is the position of the term in the text. The terms of a phrase have consecutive
	// positions.
	Pos        int
	Start, End int // bytes of the text
}

// kind of a character.
type kind int

const (
	space  kind = iota // not part of any term
	letter             // of words
	dense              // of a script without spaces between words
)

var scripts = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

func kindOf(r rune) kind {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return letter
		}
		return space
	case unicode.In(r, scripts...) || r == 'ー':
		return dense
	case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Co, r):
		return letter
	}
	return space
}

// char is a character with the marks on it.
type char struct {
	text       string // folded; may be empty
	start, end int
}

// run is a sequence of characters of one kind.
type run struct {
	kind  kind
	chars []char
	after bool // follows the run before it without white space
}

// fold returns a character as it is compared. It consists of letters, numbers, marks and private
// characters only, so that no database takes it for syntax.
func fold(s string) string {
	if len(s) == 1 {
		if c := s[0]; 'A' <= c && c <= 'Z' {
			return string(rune(c + 'a' - 'A'))
		}
		return s
	}
	s = norm.NFKD.String(strings.ToLower(s))
	s = strings.Map(func(r rune) rune {
		if 0x300 <= r && r <= 0x36f || kindOf(r) == space && !unicode.IsMark(r) {
			return -1 // accents of alphabets; the marks of other scripts are part of the letter
		}
		return unicode.ToLower(r)
	}, s)
	return norm.NFC.String(s)
}

// runs splits a text.
func runs(text string) (all []run) {
	last := space
	joined := false // no white space since the last run
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		k := kindOf(r)
		if k == space {
			if unicode.IsMark(r) && last != space { // only after a character that was cut off below
				i += n
				continue
			}
			joined = joined && !unicode.IsSpace(r)
			last = space
			i += n
			continue
		}
		end := i + n
		for marks := 0; end < len(text); marks++ {
			r, n := utf8.DecodeRuneInString(text[end:])
			if !unicode.IsMark(r) || marks == 8 { // of stacks of marks, the first ones count
				break
			}
			end += n
		}
		if k != last {
			all = append(all, run{kind: k, after: joined})
		}
		joined, last = true, k
		if c := (char{fold(text[i:end]), i, end}); c.text != "" {
			all[len(all)-1].chars = append(all[len(all)-1].chars, c)
		}
		i = end
	}
	return all
}

// join is the term of some characters.
func join(chars []char, pos int) Term {
	t := Term{Pos: pos, Start: chars[0].start, End: chars[len(chars)-1].end}
	if len(chars) == 1 {
		t.Text = chars[0].text
		return t
	}
	var b strings.Builder
	for _, c := range chars {
		b.WriteString(c.text)
	}
	t.Text = b.String()
	return t
}

// size is how many characters the groups of a run have; 0: the run is a word.
func size(r run, grams bool) int {
	switch {
	case grams:
		return 3
	case r.kind == dense:
		return 2
	}
	return 0
}

// Terms splits a text into its search terms. Words are sequences of letters and numbers with their
// marks, truncated to 64 characters. In scripts without spaces between words (Chinese, Japanese,
// Thai, Lao, Khmer, Burmese) the terms are overlapping pairs of characters, and the last character
// alone. With grams, terms of all scripts are groups of three characters, and the two shorter ones
// at the end.
func Terms(text string, grams bool) (terms []Term) {
	for _, r := range runs(text) {
		if len(r.chars) == 0 {
			continue
		}
		n := size(r, grams)
		if n == 0 {
			terms = append(terms, join(r.chars[:min(len(r.chars), maxTerm)], len(terms)))
			terms[len(terms)-1].End = r.chars[len(r.chars)-1].end
			continue
		}
		for i := range r.chars {
			terms = append(terms, join(r.chars[i:min(i+n, len(r.chars))], len(terms)))
		}
	}
	return terms
}
