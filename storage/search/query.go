package search

import (
	"fmt"
	"strings"
)

// phrase is a sequence of terms that follow each other.
type phrase struct {
	terms  []string
	prefix bool // the last one is the beginning of a term
}

// phrases translates what a user typed. What stands together without white space, as "foo-bar", is
// one phrase.
func (x *Index) phrases(text string, prefix bool) (all []phrase, err error) {
	count := 0
	words := false // the last phrase is of words, and may go on
	for _, r := range runs(text) {
		if len(r.chars) == 0 {
			words = false
			continue
		}
		n := size(r, x.Grams)
		switch {
		case n == 0:
			t := join(r.chars[:min(len(r.chars), maxTerm)], 0).Text
			if !words || !r.after {
				all = append(all, phrase{})
			}
			p := &all[len(all)-1]
			p.terms = append(p.terms, t)
			count++
		case len(r.chars) < n:
			all = append(all, phrase{[]string{join(r.chars, 0).Text}, true})
			count++
		default:
			var p phrase
			for i := range len(r.chars) - n + 1 {
				if count++; count > MaxTerms {
					break
				}
				p.terms = append(p.terms, join(r.chars[i:i+n], 0).Text)
			}
			all = append(all, p)
		}
		if words = n == 0; count > MaxTerms {
			return nil, fmt.Errorf("%w: more than %d terms", ErrQuery, MaxTerms)
		}
	}
	if prefix && len(all) > 0 {
		all[len(all)-1].prefix = true
	}
	return all, nil
}

// fts5 writes phrases in the query syntax of FTS5. Terms consist of letters, numbers and marks, and
// stand in quotation marks.
func fts5(all []phrase, or bool) string {
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteString(map[bool]string{false: " AND ", true: " OR "}[or])
		}
		b.WriteString(`"` + strings.Join(p.terms, " ") + `"`)
		if p.prefix {
			b.WriteString(" *")
		}
	}
	return b.String()
}

// tsquery writes phrases as a tsquery of PostgreSQL.
func tsquery(all []phrase, or bool) string {
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteString(map[bool]string{false: " & ", true: " | "}[or])
		}
		b.WriteString("('" + strings.Join(p.terms, "' <-> '") + "'")
		if p.prefix {
			b.WriteString(":*")
		}
		b.WriteString(")")
	}
	return b.String()
}

// Limits of a tsvector: greater positions are cut off, and only the first positions of a term
// count.
const (
	maxPosition  = 16383
	maxPositions = 255
)

// tsvector writes terms as a tsvector of PostgreSQL.
func tsvector(terms []Term) string {
	at := make(map[string][]int)
	var order []string
	for _, t := range terms {
		list := at[t.Text]
		if list == nil {
			order = append(order, t.Text)
		}
		pos := min(t.Pos+1, maxPosition)
		if len(list) < maxPositions && (len(list) == 0 || list[len(list)-1] < pos) {
			at[t.Text] = append(list, pos)
		}
	}
	var b strings.Builder
	for _, term := range order {
		b.WriteString(" '" + term + "'")
		for i, pos := range at[term] {
			fmt.Fprintf(&b, "%c%d", ":,"[min(i, 1)], pos)
		}
	}
	return b.String()
}

// conditions writes a filter as conditions on a column with numbers of documents, and adds their
// parameters.
func (x *Index) conditions(filter []Condition, column string, args []any) (string, []any) {
	var b strings.Builder
	for _, c := range filter {
		var docs string
		docs, args = x.condition(c, args)
		b.WriteString(" AND " + column + " IN " + docs)
	}
	return b.String(), args
}

// condition writes a condition as a query for numbers of documents, each of which it returns once.
func (x *Index) condition(c Condition, args []any) (string, []any) {
	var b strings.Builder
	param := func(s string) string {
		args = append(args, s)
		return fmt.Sprintf("$%d", len(args))
	}
	b.WriteString("(SELECT doc FROM NAME_meta WHERE key = " + param(c.Key))
	if c.In != nil {
		values := make([]string, len(c.In))
		for i, v := range c.In {
			values[i] = param(v)
		}
		if len(values) == 0 {
			b.WriteString(" AND 1=0")
		} else {
			b.WriteString(" AND value IN (" + strings.Join(values, ", ") + ")")
		}
	}
	if c.From != "" {
		b.WriteString(" AND value >= " + param(c.From))
	}
	if c.Before != "" {
		b.WriteString(" AND value < " + param(c.Before))
	}
	b.WriteString(")")
	return b.String(), args
}
