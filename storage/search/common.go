package search

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// ranking says how the words of a query are ranked in SQLite.
type ranking struct {
	all    string   // what has to match
	scored string   // what counts towards the score; empty: nothing
	common string   // with Query.Any: what else matches
	check  []phrase // otherwise: what has to match too and does not count
}

// ranking finds out which phrases are too common to be ranked by: see the package's comment.
func (x *Index) ranking(ctx context.Context, q Querier, all []phrase, or bool) (r ranking, err error) {
	r.all = fts5(all, or)
	r.scored = r.all
	newest, err := list(ctx, q, number, x.sql(`SELECT coalesce(max(doc), 0) FROM NAME_doc`))
	if err != nil || newest[0] <= x.limits().common {
		return r, err
	}
	var rare, common []phrase
	for _, p := range all {
		is, err := x.common(ctx, q, p, newest[0])
		if err != nil {
			return r, err
		}
		if is {
			common = append(common, p)
		} else {
			rare = append(rare, p)
		}
	}
	if len(common) > 0 {
		r.scored = fts5(rare, or)
	}
	if or {
		r.common = fts5(common, or)
	} else {
		r.check = common
	}
	return r, nil
}

// common reports whether all terms of a phrase are in more documents than are counted.
func (x *Index) common(ctx context.Context, q Querier, p phrase, newest int64) (bool, error) {
	for i, t := range p.terms {
		term := phrase{terms: []string{t}, prefix: p.prefix && i == len(p.terms)-1}
		// What is frequent for a day is not common: the middle of the index counts too.
		for _, from := range []int64{newest, newest / 2} {
			n, err := x.estimate(ctx, q, term, from, newest)
			if err != nil || n <= float64(x.limits().common) {
				return false, err
			}
		}
	}
	return true, nil
}

// estimate returns about how many documents have a term, from how close together those lie that
// come before a number.
func (x *Index) estimate(ctx context.Context, q Querier, term phrase, from, newest int64) (float64, error) {
	const statement = `SELECT count(*), coalesce(min(rowid), 0) FROM (SELECT rowid FROM NAME_text WHERE NAME_text MATCH $1 AND rowid <= $2 ORDER BY rowid DESC LIMIT $3)`
	found, err := list(ctx, q, func(rows *sql.Rows, v *[2]int64) error { return rows.Scan(&v[0], &v[1]) }, x.sql(statement), fts5([]phrase{term}, false), from, x.limits().probe)
	if err != nil {
		return 0, err
	}
	n, first := found[0][0], found[0][1]
	if n < x.limits().probe {
		return float64(n), nil
	}
	return float64(n) / float64(from-first+1) * float64(newest), nil
}

// byRank returns the best of the newest documents that match, in SQLite.
func (x *Index) byRank(ctx context.Context, q Querier, r ranking, filter []Condition, depth int) ([]scored, error) {
	newest := func(match string, depth int) ([]scored, error) {
		where, args := x.conditions(filter, "+rowid", []any{match})
		return list(ctx, q, scanScored, x.sql(fmt.Sprintf(`SELECT rowid, 0.0 FROM NAME_text WHERE NAME_text MATCH $1%s ORDER BY rowid DESC LIMIT $%d`, where, len(args)+1)), append(args, depth)...)
	}
	if r.scored == "" {
		return newest(r.all, depth)
	}
	if len(r.check) > 0 {
		// Each of those who have the other words has the common ones too with a chance of some per
		// cent, so that a few of their texts will do.
		some, err := x.ranked(ctx, q, r.scored, "", filter, x.limits().texts)
		if err != nil {
			return nil, err
		}
		if best, all, err := x.checked(ctx, q, some, r.check, depth); all || err != nil {
			return best, err
		}
	}
	best, err := x.ranked(ctx, q, r.scored, r.all, filter, depth)
	if err != nil || r.common == "" || len(best) >= depth {
		return best, err
	}
	// Documents with common words only come last.
	more, err := newest(r.common, depth)
	for _, s := range more {
		if len(best) < depth && !slices.ContainsFunc(best, func(b scored) bool { return b.doc == s.doc }) {
			best = append(best, s)
		}
	}
	return best, err
}

// ranked returns the best of the newest documents that match one query and, unless it is empty or
// the same, another.
func (x *Index) ranked(ctx context.Context, q Querier, match, also string, filter []Condition, depth int) ([]scored, error) {
	// The + keeps SQLite from looking up one document after the other.
	where, args := x.conditions(filter, "+rowid", []any{match})
	if also != "" && also != match {
		args = append(args, also, x.rank())
		where += fmt.Sprintf(` AND +rowid IN (SELECT rowid FROM NAME_text WHERE NAME_text MATCH $%d ORDER BY rowid DESC LIMIT $%d)`, len(args)-1, len(args))
	}
	args = append(args, x.rank(), depth)
	return list(ctx, q, scanScored, x.sql(fmt.Sprintf(`SELECT doc, score FROM (SELECT rowid AS doc, -bm25(NAME_text) AS score FROM NAME_text
		WHERE NAME_text MATCH $1%s ORDER BY rowid DESC LIMIT $%d) ORDER BY score DESC, doc LIMIT $%d`, where, len(args)-1, len(args))), args...)
}

// checkBytes bounds the texts that are read to see whether they match.
const checkBytes = 1 << 20

// checked returns those of some documents, which are the best, whose texts match phrases. all
// reports whether there cannot be better ones among others.
func (x *Index) checked(ctx context.Context, q Querier, some []scored, phrases []phrase, depth int) (best []scored, all bool, err error) {
	size := 0
	for part := range slices.Chunk(some, 64) {
		docs := make([]int64, len(part))
		for i, s := range part {
			docs[i] = s.doc
		}
		in, args := params(docs)
		texts, err := list(ctx, q, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.doc, &r.text) }, x.sql(`SELECT doc, text FROM NAME_doc WHERE doc IN `+in), args...)
		if err != nil {
			return nil, false, err
		}
		matching := make(map[int64]bool)
		for _, r := range texts {
			size += len(r.text)
			terms := Terms(r.text, x.Grams)
			matching[r.doc] = !slices.ContainsFunc(phrases, func(p phrase) bool { return !p.in(terms) })
		}
		for _, s := range part {
			if matching[s.doc] {
				best = append(best, s)
			}
		}
		if len(best) >= depth {
			return best[:depth], true, nil
		}
		if size > checkBytes {
			return nil, false, nil
		}
	}
	return best, len(some) < min(x.limits().texts, x.rank()), nil
}

func scanScored(rows *sql.Rows, s *scored) error { return rows.Scan(&s.doc, &s.score) }
