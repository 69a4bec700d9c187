package search

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"hash/maphash"
	"iter"
	"strconv"
	"strings"
)

// Problem is a fault that [Index.Check] found. [Index.Rebuild] repairs it.
type Problem struct {
	ID   string // the document; empty: none
	What string
}

func (p Problem) String() string { return p.ID + ": " + p.What }

// Docs yields all documents with the arguments of their last Put, in the order of their first Put,
// so that the caller can compare them with its rows. Vectors have length 1. The Querier is used
// during the loop. For a consistent state in PostgreSQL, begin a transaction with REPEATABLE READ.
func (x *Index) Docs(ctx context.Context, q Querier) iter.Seq2[Doc, error] {
	return func(yield func(Doc, error) bool) {
		for after := int64(-1 << 62); ; {
			part, err := x.page(ctx, q, after)
			if err != nil {
				yield(Doc{}, err)
				return
			}
			if len(part) == 0 {
				return
			}
			docs := make([]int64, len(part))
			for i, r := range part {
				docs[i] = r.doc
			}
			in, args := params(docs)
			meta, err := x.meta(ctx, q, `WHERE doc IN `+in, args...)
			if err != nil {
				yield(Doc{}, err)
				return
			}
			for _, r := range part {
				after = r.doc
				d := Doc{ID: r.id, Text: r.text, Meta: meta[r.doc]}
				if r.vector != nil {
					if d.Vector, err = x.decode(r.vector); err != nil {
						yield(Doc{}, err)
						return
					}
				}
				if !yield(d, nil) {
					return
				}
			}
		}
	}
}

// sums has a number per document that the terms of a text index add up to, in whatever order.
type sums struct {
	seed maphash.Seed
	of   map[int64]uint64
}

func (s *sums) add(doc int64, term string, pos int, sign uint64) {
	var h maphash.Hash
	h.SetSeed(s.seed)
	h.WriteString(term)
	h.WriteByte(0)
	h.WriteString(strconv.Itoa(pos))
	if s.of[doc] += sign * h.Sum64(); s.of[doc] == 0 {
		delete(s.of, doc)
	}
}

// Check compares the index (words, copies of vectors, metadata) with the texts and vectors from
// which it was made, in one snapshot of the database. It reads everything.
func (x *Index) Check(ctx context.Context, q Querier) (problems []Problem, err error) {
	if err := x.valid(); err != nil {
		return nil, err
	}
	err = x.snapshot(ctx, q, func(q Querier) error {
		have, err := x.stored(ctx, q)
		if err != nil {
			return err
		}
		if err := x.same(have); err != nil {
			return err
		}
		problems, err = x.check(ctx, q)
		return err
	})
	return problems, err
}

func (x *Index) check(ctx context.Context, q Querier) (problems []Problem, err error) {
	words := &sums{maphash.MakeSeed(), make(map[int64]uint64)}
	names := make(map[int64]string) // of documents whose words are in question
	vectors := int64(0)
	for after := int64(-1 << 62); ; {
		part, err := x.page(ctx, q, after)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			break
		}
		for _, r := range part {
			after = r.doc
			for term, pos := range x.positions(Terms(r.text, x.Grams)) {
				words.add(r.doc, term, pos, 1)
			}
		}
		wrong, n, err := x.checkVectors(ctx, q, part)
		if err != nil {
			return nil, err
		}
		problems = append(problems, wrong...)
		vectors += n
	}
	if err := x.eachTerm(ctx, q, func(doc int64, term string, pos int) { words.add(doc, term, pos, ^uint64(0)) }); err != nil {
		return nil, err
	}
	for doc := range words.of {
		ids, err := list(ctx, q, func(rows *sql.Rows, id *string) error { return rows.Scan(id) }, x.sql(`SELECT id FROM NAME_doc WHERE doc = $1`), doc)
		if err != nil {
			return nil, err
		}
		names[doc] = strings.Join(ids, "")
		problems = append(problems, Problem{names[doc], "its words are not those of its text"})
	}
	for _, table := range []string{"meta", "vector"} {
		orphans, err := list(ctx, q, number, x.sql(`SELECT count(*) FROM NAME_`+table+` WHERE doc NOT IN (SELECT doc FROM NAME_doc)`))
		if err != nil {
			return nil, err
		}
		if orphans[0] > 0 {
			problems = append(problems, Problem{"", fmt.Sprintf("%d rows of the table %s belong to no document", orphans[0], table)})
		}
	}
	if x.PGVector {
		return problems, nil
	}
	used, err := x.usedSlots(ctx, q)
	if err == nil && used != vectors {
		problems = append(problems, Problem{"", fmt.Sprintf("%d copies of vectors, %d vectors", used, vectors)})
	}
	return problems, err
}

// positions are the terms of a text as the text index holds them.
func (x *Index) positions(terms []Term) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		if x.Dialect == Postgres {
			splitVector(tsvector(terms), yield)
			return
		}
		for _, t := range terms {
			if !yield(t.Text, t.Pos) {
				return
			}
		}
	}
}

// splitVector reads a tsvector.
func splitVector(s string, yield func(string, int) bool) {
	for field := range strings.FieldsSeq(s) {
		i := strings.LastIndex(field, "':")
		if i < 1 {
			yield(field, -1)
			continue
		}
		for list := range strings.SplitSeq(field[i+2:], ",") {
			pos, err := strconv.Atoi(list)
			if err != nil {
				pos = -1
			}
			if !yield(field[1:i], pos) {
				return
			}
		}
	}
}

// eachTerm reads the text index.
func (x *Index) eachTerm(ctx context.Context, q Querier, f func(doc int64, term string, pos int)) error {
	query := `SELECT term, doc, "offset" FROM NAME_term`
	if x.Dialect == Postgres {
		query = `SELECT terms::text, doc, 0 FROM NAME_doc`
	}
	rows, err := q.QueryContext(ctx, x.sql(query))
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var term string
		var doc int64
		var pos int
		if err := rows.Scan(&term, &doc, &pos); err != nil {
			return wrap(err)
		}
		if x.Dialect == SQLite {
			f(doc, term, pos)
			continue
		}
		splitVector(term, func(term string, pos int) bool { f(doc, term, pos); return true })
	}
	return wrap(rows.Err())
}

// checkVectors holds copies against vectors, and counts these.
func (x *Index) checkVectors(ctx context.Context, q Querier, part []row) (problems []Problem, n int64, err error) {
	blocks := make(map[int64][]byte)
	for _, r := range part {
		if r.vector == nil {
			continue
		}
		n++
		if x.PGVector {
			continue // there are no copies
		}
		b := r.doc / blockSlots
		if blocks[b] == nil {
			found, err := list(ctx, q, func(rows *sql.Rows, v *[]byte) error { return rows.Scan(v) }, x.sql(`SELECT slots FROM NAME_block WHERE block = $1`), b)
			if err != nil {
				return nil, 0, err
			}
			blocks[b] = append([]byte{}, bytes.Join(found, nil)...)
		}
		v, err := x.decode(r.vector)
		if err != nil {
			problems = append(problems, Problem{r.id, err.Error()})
			continue
		}
		size, at := x.slotSize(), int(r.doc%blockSlots)
		if len(blocks[b]) != blockSlots*size || !bytes.Equal(blocks[b][at*size:(at+1)*size], x.quantise(v)) {
			problems = append(problems, Problem{r.id, "the copy of its vector is not what it should be"})
		}
	}
	return problems, n, nil
}

// usedSlots counts the copies of vectors.
func (x *Index) usedSlots(ctx context.Context, q Querier) (used int64, err error) {
	rows, err := q.QueryContext(ctx, x.sql(`SELECT slots FROM NAME_block`))
	if err != nil {
		return 0, wrap(err)
	}
	defer rows.Close()
	size := x.slotSize()
	for rows.Next() {
		var slots sql.RawBytes
		if err := rows.Scan(&slots); err != nil {
			return 0, wrap(err)
		}
		for i := 0; i+4 <= len(slots); i += size {
			if slots[i]|slots[i+1]|slots[i+2]|slots[i+3] != 0 {
				used++
			}
		}
	}
	return used, wrap(rows.Err())
}
