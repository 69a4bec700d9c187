package search

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// snippetBytes is the length of a snippet, about.
const snippetBytes = 200

// Snippet is the part of a text with most of a query's terms. It is plain text: escape it before
// showing it.
type Snippet struct {
	Text          string
	Marks         [][2]int // the terms, as byte ranges of Text, in order, not overlapping
	Before, After bool     // there is more text
}

// matches says which terms of a text a phrase covers.
func (p phrase) matches(terms []Term, covered []bool) {
	for i := 0; i+len(p.terms) <= len(terms); i++ {
		ok := true
		for j, want := range p.terms {
			if p.prefix && j == len(p.terms)-1 {
				ok = strings.HasPrefix(terms[i+j].Text, want)
			} else {
				ok = terms[i+j].Text == want
			}
			if !ok {
				break
			}
		}
		for j := range p.terms {
			covered[i+j] = covered[i+j] || ok
		}
	}
}

// in reports whether a text has a phrase.
func (p phrase) in(terms []Term) bool {
	covered := make([]bool, len(terms))
	p.matches(terms, covered)
	return slices.Contains(covered, true)
}

// snippet cuts a text around the terms of a query.
func snippet(text string, grams bool, query []phrase) Snippet {
	terms := Terms(text, grams)
	covered := make([]bool, len(terms))
	for _, p := range query {
		p.matches(terms, covered)
	}
	var found []Term
	for i, t := range terms {
		if covered[i] {
			found = append(found, t)
		}
	}
	// The window with most different terms that begins at one of them.
	best, most := 0, 0
	count := make(map[string]int)
	for i, j := 0, 0; i < len(found); i++ {
		for ; j < len(found) && found[j].End <= found[i].Start+snippetBytes; j++ {
			count[found[j].Text]++
		}
		if len(count) > most {
			best, most = i, len(count)
		}
		if j > i {
			if count[found[i].Text]--; count[found[i].Text] == 0 {
				delete(count, found[i].Text)
			}
		} else {
			j = i + 1 // longer than a snippet
		}
	}
	start, end := 0, len(text)
	if end > snippetBytes {
		if len(found) > 0 {
			start = max(0, min(found[best].Start-snippetBytes/5, len(text)-snippetBytes))
		}
		start, end = edge(text, start), edge(text, min(len(text), start+snippetBytes))
	}
	s := Snippet{Text: text[start:end], Before: start > 0, After: end < len(text)}
	for _, t := range found {
		a, b := max(t.Start, start)-start, min(t.End, end)-start
		if a >= b {
			continue
		}
		if n := len(s.Marks); n > 0 && s.Marks[n-1][1] >= a {
			s.Marks[n-1][1] = max(s.Marks[n-1][1], b)
		} else {
			s.Marks = append(s.Marks, [2]int{a, b})
		}
	}
	s.Marks = slices.Clip(s.Marks)
	return s
}

// edge is the beginning of a word at or a little before a position, or else of a character.
func edge(text string, at int) int {
	if at == 0 || at == len(text) {
		return at
	}
	if i := strings.LastIndexByte(text[max(0, at-24):at], ' '); i >= 0 {
		return max(0, at-24) + i + 1
	}
	for !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}
