package search

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"
)

// fusion is the constant of reciprocal rank fusion: a hit scores 1/(fusion+rank) in each list.
const fusion = 60

// beginner is what a *sql.DB and a *sql.Conn have, and a *sql.Tx does not.
type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// snapshot runs a function on one state of the database.
func (x *Index) snapshot(ctx context.Context, q Querier, f func(Querier) error) error {
	b, ok := q.(beginner)
	if !ok {
		return f(q)
	}
	opts := &sql.TxOptions{ReadOnly: true}
	if x.Dialect == Postgres {
		opts.Isolation = sql.LevelRepeatableRead
	}
	tx, err := b.BeginTx(ctx, opts)
	if err != nil {
		return wrap(err)
	}
	defer tx.Rollback()
	return f(tx)
}

// Search returns the best documents, best first. On a *sql.DB or *sql.Conn it sees one consistent
// state of the database. In a *sql.Tx it sees what the transaction sees, including its own changes.
// (In PostgreSQL, begin the transaction with REPEATABLE READ for a consistent state.)
func (x *Index) Search(ctx context.Context, q Querier, query Query) (hits []Hit, err error) {
	k, err := x.checkQuery(query)
	if err != nil {
		return nil, err
	}
	phrases, err := x.phrases(query.Text, query.Prefix)
	if err != nil {
		return nil, err
	}
	var unit []float32
	if query.Vector != nil {
		if unit, err = x.unit(query.Vector); err != nil {
			return nil, err
		}
	}
	both := query.Text != "" && unit != nil
	depth := k
	if both {
		depth = max(100, 2*k)
	}
	err = x.snapshot(ctx, q, func(q Querier) error {
		var words, near []scored
		if len(phrases) > 0 {
			if words, err = x.byWords(ctx, q, phrases, query, depth); err != nil {
				return err
			}
		}
		if unit != nil {
			if near, err = x.byVector(ctx, q, unit, query.Filter, depth); err != nil {
				return err
			}
		}
		hits, err = x.load(ctx, q, fuse(words, near, both, k), phrases)
		return err
	})
	return hits, err
}

// byWords returns the best of the newest documents that match.
func (x *Index) byWords(ctx context.Context, q Querier, all []phrase, query Query, depth int) ([]scored, error) {
	if x.Dialect == SQLite {
		r, err := x.ranking(ctx, q, all, query.Any)
		if err != nil {
			return nil, err
		}
		return x.byRank(ctx, q, r, query.Filter, depth)
	}
	// MATERIALIZED keeps PostgreSQL from walking through all documents by number.
	filter, args := x.conditions(query.Filter, "doc", []any{tsquery(all, query.Any)})
	args = append(args, x.rank(), depth)
	statement := fmt.Sprintf(`WITH m AS MATERIALIZED (SELECT doc FROM NAME_doc WHERE terms @@ $1::tsquery%s),
		newest AS (SELECT doc FROM m ORDER BY doc DESC LIMIT $%d)
		SELECT doc, ts_rank(terms, $1::tsquery, 1) AS score FROM newest JOIN NAME_doc USING (doc) ORDER BY score DESC, doc LIMIT $%d`, filter, len(args)-1, len(args))
	return list(ctx, q, func(rows *sql.Rows, s *scored) error { return rows.Scan(&s.doc, &s.score) }, x.sql(statement), args...)
}

// byVector returns the nearest documents.
func (x *Index) byVector(ctx context.Context, q Querier, unit []float32, filter []Condition, depth int) ([]scored, error) {
	if x.PGVector {
		return x.byPGVector(ctx, q, unit, filter, depth)
	}
	n := &nearest{k: depth, least: math.Inf(-1)}
	var mask map[int64]uint64 // per block, the slots that pass the filter
	if len(filter) > 0 {
		var small []int64
		var err error
		if mask, small, err = x.passing(ctx, q, filter); err != nil {
			return nil, err
		}
		if mask == nil {
			err := x.settle(ctx, q, unit, n, small)
			return n.exact, err
		}
	}
	p := newProbe(unit)
	for after := int64(-1 << 62); ; {
		last, err := x.scan(ctx, q, p, n, mask, after)
		if err != nil {
			return nil, err
		}
		done := last == after
		after = last
		n.prune()
		if done || len(n.some) > x.limits().candidates {
			docs := make([]int64, len(n.some))
			for i, c := range n.some {
				docs[i] = c.doc
			}
			n.some = n.some[:0]
			if err := x.settle(ctx, q, unit, n, docs); err != nil {
				return nil, err
			}
		}
		if done {
			return n.exact, nil
		}
	}
}

// passing returns the documents that pass a filter: as a list if they are few, else as a mask.
func (x *Index) passing(ctx context.Context, q Querier, filter []Condition) (map[int64]uint64, []int64, error) {
	first, args := x.condition(filter[0], nil)
	where, args := x.conditions(filter[1:], "doc", args)
	rows, err := q.QueryContext(ctx, x.sql(`SELECT doc FROM `+first+` AS m WHERE 1=1`+where), args...)
	if err != nil {
		return nil, nil, wrap(err)
	}
	defer rows.Close()
	var small []int64
	var mask map[int64]uint64
	for rows.Next() {
		var doc int64
		if err := rows.Scan(&doc); err != nil {
			return nil, nil, wrap(err)
		}
		if mask == nil {
			if small = append(small, doc); len(small) <= x.limits().few {
				continue
			}
			mask = make(map[int64]uint64)
			for _, doc := range small {
				mask[doc/blockSlots] |= 1 << (doc % blockSlots)
			}
			continue
		}
		mask[doc/blockSlots] |= 1 << (doc % blockSlots)
	}
	return mask, small, wrap(rows.Err())
}

// settle reads vectors and computes their scores.
func (x *Index) settle(ctx context.Context, q Querier, unit []float32, n *nearest, docs []int64) error {
	slices.Sort(docs)
	for part := range slices.Chunk(docs, 256) {
		in, args := params(part)
		all, err := list(ctx, q, func(rows *sql.Rows, s *scored) error {
			var b sql.RawBytes
			if err := rows.Scan(&s.doc, &b); err != nil {
				return wrap(err)
			}
			v, err := x.decode(b)
			s.score = dot(unit, v)
			return err
		}, x.sql(`SELECT doc, `+x.vectorColumn()+` FROM NAME_vector WHERE doc IN `+in), args...)
		if err != nil {
			return err
		}
		n.settle(all)
	}
	return nil
}

// params writes a list of parameters.
func params(docs []int64) (string, []any) {
	args := make([]any, len(docs))
	names := make([]string, len(docs))
	for i, doc := range docs {
		args[i], names[i] = doc, fmt.Sprintf("$%d", i+1)
	}
	return "(" + strings.Join(names, ", ") + ")", args
}

// found is a hit before its row is read.
type found struct {
	doc int64
	Hit
}

// fuse merges the two lists.
func fuse(words, near []scored, both bool, k int) []found {
	var all []found
	at := make(map[int64]int)
	add := func(list []scored, set func(h *Hit, rank int, score float64)) {
		for i, s := range list {
			j, ok := at[s.doc]
			if !ok {
				j = len(all)
				at[s.doc] = j
				all = append(all, found{doc: s.doc})
			}
			set(&all[j].Hit, i+1, s.score)
			if both {
				all[j].Score += 1 / float64(fusion+i+1)
			} else {
				all[j].Score = s.score
			}
		}
	}
	add(words, func(h *Hit, rank int, score float64) { h.TextRank, h.TextScore = rank, score })
	add(near, func(h *Hit, rank int, score float64) { h.VectorRank, h.VectorScore = rank, score })
	if both { // a single list is in order
		slices.SortStableFunc(all, func(a, b found) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.doc, b.doc))
		})
	}
	return all[:min(k, len(all))]
}

// load reads what hits show.
func (x *Index) load(ctx context.Context, q Querier, all []found, phrases []phrase) ([]Hit, error) {
	at := make(map[int64]*Hit, len(all))
	docs := make([]int64, len(all))
	for i := range all {
		docs[i], at[all[i].doc] = all[i].doc, &all[i].Hit
	}
	for part := range slices.Chunk(docs, 256) {
		in, args := params(part)
		texts, err := list(ctx, q, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.doc, &r.id, &r.text) },
			x.sql(`SELECT doc, id, text FROM NAME_doc WHERE doc IN `+in), args...)
		if err != nil {
			return nil, err
		}
		for _, r := range texts {
			h := at[r.doc]
			h.ID, h.Snippet = r.id, snippet(r.text, x.Grams, phrases)
		}
		pairs, err := x.meta(ctx, q, `WHERE doc IN `+in, args...)
		if err != nil {
			return nil, err
		}
		for doc, meta := range pairs {
			at[doc].Meta = meta
		}
	}
	hits := make([]Hit, len(all))
	for i := range all {
		hits[i] = all[i].Hit
	}
	return hits, nil
}

// meta reads the metadata of documents.
func (x *Index) meta(ctx context.Context, q Querier, where string, args ...any) (map[int64]map[string]string, error) {
	type pair struct {
		doc        int64
		key, value string
	}
	pairs, err := list(ctx, q, func(rows *sql.Rows, p *pair) error { return rows.Scan(&p.doc, &p.key, &p.value) },
		x.sql(`SELECT doc, key, value FROM NAME_meta `+where), args...)
	all := make(map[int64]map[string]string)
	for _, p := range pairs {
		if all[p.doc] == nil {
			all[p.doc] = make(map[string]string)
		}
		all[p.doc][p.key] = p.value
	}
	return all, err
}
