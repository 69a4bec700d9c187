package sqlite

import (
	"context"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.CursorReader = (*reader)(nil)

// Cursor implements storage.CursorReader. It returns SQLite's own memory.
func (r *reader) Cursor(ctx context.Context, rng storage.Range) storage.Cursor {
	c := &cursor{r: r, ctx: ctx, sql: recordColumns, keysOnly: rng.KeysOnly}
	if rng.KeysOnly {
		c.sql = keyColumns
	}
	where, args := ranged("path", r.row.set, rng)
	c.sql += where
	if c.err = ctx.Err(); c.err == nil {
		c.s, c.err = r.c.take(c.sql, args)
	}
	r.cursors = append(r.cursors, c)
	return c
}

// cursor is a statement that runs. A reader closes those that are left when its View ends.
type cursor struct {
	r        *reader
	ctx      context.Context
	sql      string
	s        *sqlite3.Stmt // nil: closed
	rows     int
	keysOnly bool
	err      error
}

// checkContext is after how many rows a cursor looks at its context.
const checkContext = 64

func (c *cursor) Next() bool {
	if c.s == nil || c.err != nil {
		return false
	}
	if c.rows++; c.rows%checkContext == 0 {
		if c.err = c.ctx.Err(); c.err != nil {
			return false
		}
	}
	if c.s.Step() {
		return true
	}
	c.err = fail(c.ctx, c.s.Err())
	return false
}

func (c *cursor) Path() []byte    { return c.s.ColumnRawText(0) }
func (c *cursor) CID() []byte     { return c.s.ColumnRawBlob(1) }
func (c *cursor) Rev() syntax.TID { return c.r.rev(c.s, 2) }

func (c *cursor) Data() []byte {
	if c.keysOnly {
		return nil
	}
	return c.s.ColumnRawBlob(3)
}

func (c *cursor) Err() error { return c.err }

func (c *cursor) Close() {
	if c.s != nil {
		c.r.c.put(c.sql, c.s)
		c.s = nil
	}
}
