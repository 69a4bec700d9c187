package postgres

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/pdskit/pdskit/storage"
)

// Rows are read in pages. Each page is read completely before its first row is yielded, so the
// connection is free for other statements, and a slow loop holds nothing but its snapshot.
const (
	firstPage = 64
	lastPage  = 4096
	pageBytes = 1 << 20 // after which a page ends, of the column that may be long
)

// page is what the next page may have.
type page struct {
	rows int
}

// grow lets the next page be larger, since most loops end early or go on for long, unless this one
// ended by its length after rows: the server looks at what it leaves out, too.
func (p *page) grow(rows int) {
	if rows < p.rows {
		p.rows = rows + rows/8 + 1
	} else {
		p.rows = min(4*p.rows, lastPage)
	}
}

// read yields rows turned into values. next returns the query of the next page, which
// has page.rows rows at most, and after gets the last value of each.
func read[T any](ctx context.Context, c *conn, next func(*page) (sql string, args []any), value func(row) (T, error), after func(T)) iter.Seq2[T, error] {
	return readAfter(ctx, c, func(p *page) (string, []any, error) {
		sql, args := next(p)
		return sql, args, nil
	}, value, after)
}

// readAfter is read with a next that may fail.
func readAfter[T any](ctx context.Context, c *conn, next func(*page) (sql string, args []any, err error), value func(row) (T, error), after func(T)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p := &page{rows: firstPage}
		var none T
		for {
			sql, args, err := next(p)
			if err != nil {
				yield(none, err)
				return
			}
			var list []T
			size := 0 // of the column that may be long, which is the last one
			var b batch
			b.each(func(r row) error {
				v, err := value(r)
				list = append(list, v)
				size += len(r[len(r)-1])
				return err
			}, sql, args...)
			if err := c.send(ctx, &b); err != nil {
				yield(none, fail(ctx, err))
				return
			}
			for i, v := range list {
				if i > 0 {
					if err := ctx.Err(); err != nil {
						yield(none, err)
						return
					}
				}
				if !yield(v, nil) {
					return
				}
			}
			if len(list) < p.rows && size < pageBytes {
				return
			}
			after(list[len(list)-1])
			p.grow(len(list))
		}
	}
}

// ranged makes the queries for the pages of a range of keys in a space.
type ranged struct {
	storage.Range
	table, key, columns, data string
	space                     string // the column of the space, or ""
	id                        int64
	where                     string // a further condition, with the parameter $1
	args                      []any  // of where
	passed                    bool   // Range begins after its From, or To, which was yielded
	last                      string
}

// after continues the range after a key.
func (q *ranged) after(key string) { q.passed, q.last = true, key }

// next implements the function that read takes.
func (q *ranged) next(p *page) (sql string, args []any) {
	args = append(args, q.args...)
	add := func(arg any) string {
		args = append(args, arg)
		return fmt.Sprintf("$%d", len(args))
	}
	conditions := []string{}
	if q.where != "" {
		conditions = append(conditions, q.where)
	}
	if q.space != "" {
		conditions = append(conditions, q.space+" = "+add(q.id))
	}
	switch {
	case q.passed && !q.Reverse:
		conditions = append(conditions, q.key+" > "+add([]byte(q.last)))
	case q.From != "":
		conditions = append(conditions, q.key+" >= "+add([]byte(q.From)))
	}
	switch {
	case q.passed && q.Reverse:
		conditions = append(conditions, q.key+" < "+add([]byte(q.last)))
	case q.To != "":
		conditions = append(conditions, q.key+" < "+add([]byte(q.To)))
	}
	order := q.key
	if q.Reverse {
		order += " DESC"
	}
	columns := q.key + ", " + q.columns
	from := " FROM " + q.table
	if len(conditions) > 0 {
		from += " WHERE " + strings.Join(conditions, " AND ")
	}
	if q.KeysOnly {
		return "SELECT " + columns + from + " ORDER BY " + order + " LIMIT " + add(p.rows), args
	}
	return bounded(columns, q.data, from, order, add(p.rows)), args
}

// bounded is a query for a page that ends after pageBytes of a column, though each has a row.
func bounded(columns, data, from, order, rows string) string {
	return fmt.Sprintf("SELECT %[1]s, %[2]s FROM (SELECT %[1]s, %[2]s, sum(octet_length(%[2]s)) OVER (ORDER BY %[4]s ROWS UNBOUNDED PRECEDING) - octet_length(%[2]s) AS before%[3]s ORDER BY %[4]s LIMIT %[5]s) x WHERE before < %[6]d ORDER BY %[4]s",
		columns, data, from, order, rows, pageBytes)
}
