package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/pdskit/pdskit/xrpc/indexer"
)

// The statements of a transaction.
const (
	setPosition   = "INSERT INTO ix_position (name, text) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET text = excluded.text"
	deleteAccount = "DELETE FROM ix_account WHERE did = ? AND version = ?"
	deleteRecord  = "DELETE FROM ix_record WHERE did = ? AND path = ?"
	insertAccount = "INSERT INTO ix_account (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	updateAccount = "UPDATE ix_account SET version = ?, active = ?, status = ?, host = ?, handle = ?, state = ?, rev = ?, data = ?, " +
		"filter = ?, tracked = ?, signaled = ?, due = ?, read = ?, tries = ?, error = ? WHERE did = ? AND version = ?"
)

func insertRecords(rows int) string {
	return "INSERT INTO ix_record (did, path, cid) VALUES (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", rows-1) +
		" ON CONFLICT (did, path) DO UPDATE SET cid = excluded.cid"
}

// prepare prepares the statements, which needs a connection of its own.
func (s *Sink) prepare(ctx context.Context) error {
	for _, query := range []string{setPosition, deleteAccount, deleteRecord, insertAccount, updateAccount, insertRecords(1), insertRecords(recordsSome), insertRecords(recordsAtOnce)} {
		if _, err := s.stmt(ctx, query); err != nil {
			return err
		}
	}
	return nil
}

// Apply implements indexer.Sink.
func (s *Sink) Apply(ctx context.Context, t *indexer.Transaction) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	w := &work{Sink: s, ctx: ctx, tx: tx}
	for _, c := range t.Changes {
		if err := w.change(c); err != nil {
			return err
		}
	}
	for name, text := range t.Positions {
		if _, err := w.exec(setPosition, name, text); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// work is a transaction under way.
type work struct {
	*Sink
	ctx   context.Context
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
}

// exec runs a statement and returns how many rows it has changed.
func (w *work) exec(query string, args ...any) (int64, error) {
	st := w.stmts[query]
	if st == nil {
		shared, err := w.stmt(w.ctx, query)
		if err != nil {
			return 0, err
		}
		if w.stmts == nil {
			w.stmts = make(map[string]*sql.Stmt)
		}
		st = w.tx.StmtContext(w.ctx, shared)
		w.stmts[query] = st
	}
	res, err := st.ExecContext(w.ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (w *work) change(c *indexer.Change) error {
	n, err := w.account(c)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%w: %s", indexer.ErrConflict, c.Account.DID)
	}
	for i := 0; w.OnRecord != nil && i < len(c.Ops); i++ {
		if err := guard(func() error { return w.OnRecord(w.ctx, w.tx, &c.Ops[i]) }); err != nil {
			return fmt.Errorf("record %s: %w", c.Ops[i].URI(), err)
		}
	}
	if err := w.records(c); err != nil {
		return err
	}
	if c.AccountChanged && w.OnAccount != nil {
		a := c.Account
		if err := guard(func() error { return w.OnAccount(w.ctx, w.tx, &a) }); err != nil {
			return fmt.Errorf("account %s: %w", a.DID, err)
		}
	}
	return nil
}

// guard calls the application. A panic is an error: a record that anybody can write must not end
// the process each time that it runs.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// account stores or deletes an account, if it has the version that the change expects.
func (w *work) account(c *indexer.Change) (int64, error) {
	a := &c.Account
	if a.State == indexer.Removed {
		n, err := w.exec(deleteAccount, string(a.DID), c.Before)
		return n, err
	}
	root := ""
	if a.Data.Defined() {
		root = a.Data.String()
	}
	read := int64(0)
	if !a.Read.IsZero() {
		read = a.Read.UnixMicro()
	}
	args := []any{string(a.DID), max(a.Version, c.Before+1), a.Active, a.Status, a.Host, string(a.Handle), string(a.State), string(a.Rev), root, a.Filter,
		a.Tracked, a.Signaled, micros(a.Due), read, a.Tries, a.Error}
	if c.Before == 0 {
		return w.exec(insertAccount, args...)
	}
	return w.exec(updateAccount, append(args[1:], string(a.DID), c.Before)...)
}

// How many rows a statement inserts at a time, or else 1.
const (
	recordsAtOnce = 64
	recordsSome   = 8
)

// records stores the CIDs of records. Only the last operation of a path counts.
func (w *work) records(c *indexer.Change) error {
	last := make(map[string]int, len(c.Ops))
	for i := range c.Ops {
		last[c.Ops[i].Path()] = i
	}
	did := string(c.Account.DID)
	rows := make([]any, 0, 3*recordsAtOnce)
	for i := range c.Ops {
		op := &c.Ops[i]
		path := op.Path()
		if last[path] != i {
			continue
		}
		if !op.CID.Defined() {
			if _, err := w.exec(deleteRecord, did, path); err != nil {
				return err
			}
			continue
		}
		if rows = append(rows, did, path, op.CID.Bytes()); len(rows) == 3*recordsAtOnce {
			if err := w.insert(rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	for len(rows) > 0 {
		n := 3
		if len(rows) >= 3*recordsSome {
			n = 3 * recordsSome
		}
		if err := w.insert(rows[:n]); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (w *work) insert(rows []any) error {
	_, err := w.exec(insertRecords(len(rows)/3), rows...)
	return err
}
