package search

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Put adds a document, or replaces the one with its ID, in the caller's transaction. After an error
// of this package, nothing has changed. After an error of the database, roll back.
func (x *Index) Put(ctx context.Context, tx Tx, d Doc) error {
	if err := x.checkDoc(d); err != nil {
		return err
	}
	var unit []float32
	if d.Vector != nil {
		var err error
		if unit, err = x.unit(d.Vector); err != nil {
			return err
		}
	}
	terms := Terms(d.Text, x.Grams)
	doc, old, err := x.putDoc(ctx, tx, d, terms)
	if err != nil {
		return err
	}
	if x.Dialect == SQLite {
		if err := x.exec(ctx, tx, `INSERT OR REPLACE INTO NAME_text (rowid, text) VALUES ($1, $2)`, doc, plainTerms(terms)); err != nil {
			return err
		}
	}
	if old {
		if err := x.exec(ctx, tx, `DELETE FROM NAME_meta WHERE doc = $1`, doc); err != nil {
			return err
		}
	}
	if len(d.Meta) > 0 {
		var b strings.Builder
		var args []any
		for i, key := range sorted(d.Meta) {
			fmt.Fprintf(&b, "%s($%d, $%d, $%d)", []string{"", ", "}[min(i, 1)], 3*i+1, 3*i+2, 3*i+3)
			args = append(args, key, d.Meta[key], doc)
		}
		if err := x.exec(ctx, tx, `INSERT INTO NAME_meta (key, value, doc) VALUES `+b.String(), args...); err != nil {
			return err
		}
	}
	switch {
	case unit != nil:
		param, value := x.vectorParam(unit, 2)
		if err := x.exec(ctx, tx, `INSERT INTO NAME_vector (doc, vector) VALUES ($1, `+param+`) ON CONFLICT (doc) DO UPDATE SET vector = excluded.vector`, doc, value); err != nil {
			return err
		}
		if x.PGVector {
			return nil
		}
		return x.putSlot(ctx, tx, doc, x.quantise(unit))
	case old:
		return x.dropVector(ctx, tx, doc)
	}
	return nil
}

// plainTerms is how FTS5 gets terms.
func plainTerms(terms []Term) string {
	var b strings.Builder
	for _, t := range terms {
		b.WriteString(t.Text)
		b.WriteByte(' ')
	}
	return b.String()
}

// find returns the number of a document.
func (x *Index) find(ctx context.Context, q Querier, id string) (doc int64, ok bool, err error) {
	docs, err := list(ctx, q, number, x.sql(`SELECT doc FROM NAME_doc WHERE id = $1`), id)
	if err != nil || len(docs) == 0 {
		return 0, false, err
	}
	return docs[0], true, nil
}

// putDoc writes the row of a document, and says whether other tables may have something of it.
func (x *Index) putDoc(ctx context.Context, tx Tx, d Doc, terms []Term) (doc int64, old bool, err error) {
	columns, values, set, args := "id, text", "$1, $2", "text = excluded.text", []any{d.ID, d.Text}
	if x.Dialect == Postgres {
		columns, values, set = "id, text, terms", "$1, $2, $3::tsvector", "text = excluded.text, terms = excluded.terms"
		args = append(args, tsvector(terms))
	} else if _, old, err = x.find(ctx, tx, d.ID); err != nil {
		return 0, false, err
	}
	docs, err := list(ctx, tx, number, x.sql(`INSERT INTO NAME_doc (`+columns+`) VALUES (`+values+`) ON CONFLICT (id) DO UPDATE SET `+set+` RETURNING doc`), args...)
	if err != nil {
		return 0, false, err
	}
	// In PostgreSQL another transaction may have put the document meanwhile, so looking for it
	// would not help.
	return docs[0], old || x.Dialect == Postgres, nil
}

// putSlot writes a copy of a vector into its block.
func (x *Index) putSlot(ctx context.Context, tx Tx, doc int64, slot []byte) error {
	at := int(doc%blockSlots) * len(slot)
	whole := make([]byte, blockSlots*len(slot))
	copy(whole[at:], slot)
	statement := `INSERT INTO NAME_block AS b (block, slots) VALUES ($1, $2) ON CONFLICT (block) DO UPDATE SET slots = overlay(b.slots PLACING $3 FROM $4)`
	args := []any{doc / blockSlots, whole, slot, at + 1}
	if x.Dialect == SQLite {
		statement = `INSERT INTO NAME_block (block, slots) VALUES ($1, $2) ON CONFLICT (block) DO UPDATE SET slots = CAST(substr(slots, 1, $3) || $4 || substr(slots, $5) AS BLOB)`
		args = []any{doc / blockSlots, whole, at, slot, at + len(slot) + 1}
	}
	return x.exec(ctx, tx, statement, args...)
}

func (x *Index) dropVector(ctx context.Context, tx Tx, doc int64) error {
	res, err := tx.ExecContext(ctx, x.sql(`DELETE FROM NAME_vector WHERE doc = $1`), doc)
	if err != nil {
		return wrap(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 || x.PGVector {
		return wrap(err)
	}
	empty := make([]byte, x.slotSize())
	if err := x.putSlot(ctx, tx, doc, empty); err != nil {
		return err
	}
	return x.exec(ctx, tx, `DELETE FROM NAME_block WHERE block = $1 AND slots = $2`, doc/blockSlots, make([]byte, blockSlots*len(empty)))
}

// Delete removes a document, in the caller's transaction. A missing one is not an error.
func (x *Index) Delete(ctx context.Context, tx Tx, id string) error {
	if err := x.valid(); err != nil {
		return err
	}
	if checkID(id) != nil {
		return nil // no document can have it
	}
	doc, ok, err := x.find(ctx, tx, id)
	if err != nil || !ok {
		return err
	}
	// The row first: in PostgreSQL its lock orders what is done to the other tables.
	statements := []string{`DELETE FROM NAME_doc WHERE doc = $1`, `DELETE FROM NAME_meta WHERE doc = $1`}
	if x.Dialect == SQLite {
		statements = append(statements, `DELETE FROM NAME_text WHERE rowid = $1`)
	}
	for _, s := range statements {
		if err := x.exec(ctx, tx, s, doc); err != nil {
			return err
		}
	}
	return x.dropVector(ctx, tx, doc)
}

// Clear removes all documents, in the caller's transaction. To rebuild an index from rows, clear it
// and put them again.
func (x *Index) Clear(ctx context.Context, tx Tx) error {
	if err := x.valid(); err != nil {
		return err
	}
	return x.deleteAll(ctx, tx, `DELETE FROM NAME_doc`, `DELETE FROM NAME_meta`, `DELETE FROM NAME_vector`, `DELETE FROM NAME_block`)
}

func (x *Index) deleteAll(ctx context.Context, tx Tx, statements ...string) error {
	if x.Dialect == SQLite {
		statements = append(statements, `INSERT INTO NAME_text (NAME_text) VALUES ('delete-all')`)
	}
	for _, s := range statements {
		if err := x.exec(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}

// Rebuild recomputes the words and the copies of vectors from the texts and vectors in the index,
// in the caller's transaction. It repairs what [Index.Check] finds.
func (x *Index) Rebuild(ctx context.Context, tx Tx) error {
	if err := x.valid(); err != nil {
		return err
	}
	if err := x.deleteAll(ctx, tx, `DELETE FROM NAME_block`, `DELETE FROM NAME_meta WHERE doc NOT IN (SELECT doc FROM NAME_doc)`,
		`DELETE FROM NAME_vector WHERE doc NOT IN (SELECT doc FROM NAME_doc)`); err != nil {
		return err
	}
	for after := int64(-1 << 62); ; {
		part, err := x.page(ctx, tx, after)
		if err != nil || len(part) == 0 {
			return err
		}
		for _, d := range part {
			after = d.doc
			terms := Terms(d.text, x.Grams)
			if x.Dialect == SQLite {
				err = x.exec(ctx, tx, `INSERT INTO NAME_text (rowid, text) VALUES ($1, $2)`, d.doc, plainTerms(terms))
			} else {
				err = x.exec(ctx, tx, `UPDATE NAME_doc SET terms = $1::tsvector WHERE doc = $2`, tsvector(terms), d.doc)
			}
			if err != nil {
				return err
			}
			if d.vector == nil || x.PGVector {
				continue
			}
			v, err := x.decode(d.vector)
			if err != nil {
				return err
			}
			if err := x.putSlot(ctx, tx, d.doc, x.quantise(v)); err != nil {
				return err
			}
		}
	}
}

// row is a document as it is stored.
type row struct {
	doc      int64
	id, text string
	vector   []byte
}

// page reads some documents after a number.
func (x *Index) page(ctx context.Context, q Querier, after int64) ([]row, error) {
	return list(ctx, q, func(rows *sql.Rows, r *row) error { return rows.Scan(&r.doc, &r.id, &r.text, &r.vector) },
		x.sql(`SELECT d.doc, id, text, `+x.vectorColumn()+` FROM NAME_doc d LEFT JOIN NAME_vector v ON v.doc = d.doc WHERE d.doc > $1 ORDER BY d.doc LIMIT 64`), after)
}
