package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// conn is a connection with its prepared statements. It is used by one
// goroutine at a time.
type conn struct {
	*sqlite3.Conn
	// ctx, when it ends, makes statements fail before they start. To interrupt a
	// statement that runs would roll back all steps of a shared transaction.
	ctx   context.Context
	stmts map[string][]*sqlite3.Stmt // those not in use, by their text
}

func (c *conn) close() error {
	for _, list := range c.stmts {
		for _, s := range list {
			s.Close()
		}
	}
	clear(c.stmts)
	return c.Close()
}

// use sets the context that statements run under, and whether it interrupts
// those that run when it ends.
func (c *conn) use(ctx context.Context, interrupt bool) {
	c.ctx = ctx
	if !interrupt {
		ctx = context.Background()
	}
	c.SetInterrupt(ctx)
}

// take returns a prepared statement with its parameters bound.
func (c *conn) take(sql string, args []any) (*sqlite3.Stmt, error) {
	var s *sqlite3.Stmt
	if list := c.stmts[sql]; len(list) > 0 {
		s = list[len(list)-1]
		c.stmts[sql] = list[:len(list)-1]
	} else {
		var err error
		if s, _, err = c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, err
		}
	}
	for i, arg := range args {
		if err := bind(s, i+1, arg); err != nil {
			c.put(sql, s)
			return nil, err
		}
	}
	return s, nil
}

// put gives a statement back.
func (c *conn) put(sql string, s *sqlite3.Stmt) {
	s.Reset() // the error is the one that Step gave
	if s.ClearBindings() != nil {
		s.Close()
		return
	}
	c.stmts[sql] = append(c.stmts[sql], s)
}

func bind(s *sqlite3.Stmt, i int, arg any) error {
	switch v := arg.(type) {
	case nil:
		return s.BindNull(i)
	case int:
		return s.BindInt64(i, int64(v))
	case int64:
		return s.BindInt64(i, v)
	case string:
		return s.BindText(i, v)
	case syntax.DID:
		return s.BindText(i, string(v))
	case syntax.TID:
		return s.BindText(i, string(v))
	case []byte:
		return s.BindBlob(i, v)
	case cid.Cid:
		if !v.Defined() {
			return s.BindBlob(i, []byte{})
		}
		return s.BindBlob(i, v.Bytes())
	case time.Time:
		if v.IsZero() {
			return s.BindNull(i)
		}
		return s.BindInt64(i, v.UnixMicro())
	}
	return fmt.Errorf("sqlite: no way to bind a %T", arg)
}

// exec runs a statement to its end.
func (c *conn) exec(sql string, args ...any) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	s, err := c.take(sql, args)
	if err != nil {
		return err
	}
	defer c.put(sql, s)
	return s.Exec()
}

// query yields the rows of a statement and sets *err when it ends.
func (c *conn) query(err *error, sql string, args ...any) iter.Seq[*sqlite3.Stmt] {
	return func(yield func(*sqlite3.Stmt) bool) {
		s, e := c.take(sql, args)
		if e != nil {
			*err = e
			return
		}
		defer c.put(sql, s)
		for s.Step() {
			if !yield(s) {
				return
			}
		}
		if e := s.Err(); e != nil {
			*err = e
		}
	}
}

// row calls fn with the only row of a statement and says whether there is one.
func (c *conn) row(fn func(*sqlite3.Stmt) error, sql string, args ...any) (found bool, err error) {
	for s := range c.query(&err, sql, args...) {
		return true, fn(s)
	}
	return false, err
}

// newest reads the newest sequence number ever assigned.
func (c *conn) newest() (seq int64, err error) {
	_, err = c.row(func(s *sqlite3.Stmt) error {
		seq = s.ColumnInt64(0)
		return nil
	}, "SELECT seq FROM sqlite_sequence WHERE name = 'event'")
	return seq, err
}

// savepoint runs fn so that what it wrote is undone if it fails.
func (c *conn) savepoint(fn func(*conn) error) (err error) {
	if err := c.exec("SAVEPOINT step"); err != nil {
		return err
	}
	done := false
	defer func() {
		if done {
			return
		}
		// SQLite may have rolled back all of the transaction already. The
		// context that ended fn must not keep this from running.
		c.use(context.Background(), false)
		if !c.GetAutocommit() {
			err = errors.Join(err, c.exec("ROLLBACK TO step"), c.exec("RELEASE step"))
		}
	}()
	if err := fn(c); err != nil {
		return err
	}
	if err := c.exec("RELEASE step"); err != nil {
		return err
	}
	done = true
	return nil
}

// columnCID reads a CID that we wrote.
func columnCID(s *sqlite3.Stmt, col int) (cid.Cid, error) {
	raw := s.ColumnRawBlob(col)
	if len(raw) == 0 {
		return cid.Undef, nil
	}
	codec, digest, ok := dag.SplitBytes(raw)
	if !ok {
		return cid.Undef, fmt.Errorf("%w: %x is no CID of the data model", storage.ErrCorrupt, raw)
	}
	return dag.CID(codec, &digest), nil
}

// columnTime reads a point in time in microseconds; NULL is the zero time.
func columnTime(s *sqlite3.Stmt, col int) time.Time {
	if s.ColumnType(col) == sqlite3.NULL {
		return time.Time{}
	}
	return time.UnixMicro(s.ColumnInt64(col)).UTC()
}
