package files

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/internal/sqlitevfs"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/durable"
)

// walPages is how many pages of 4 KiB the log of an object has, before what it
// says is moved to the database.
const walPages = 32

const getSQL = "SELECT value FROM kv WHERE key = ?"

// connection is a connection of SQLite with its prepared statements. An object's
// file is attached to it while the object is open: that takes a quarter of the
// time of opening a connection.
type connection struct {
	*sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

// connect opens a connection without a file. In WAL mode with an exclusive lock
// there is no shared memory file; without a checkpoint on closing, and without deleting the
// log, opening and closing leave the disk alone.
func connect() (*connection, error) {
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		return nil, err
	}
	c := &connection{conn, make(map[string]*sqlite3.Stmt)}
	_, err1 := c.Config(sqlite3.DBCONFIG_NO_CKPT_ON_CLOSE, true)
	_, err2 := c.Config(sqlite3.DBCONFIG_TRUSTED_SCHEMA, false)
	err3 := c.WALAutoCheckpoint(walPages)
	err4 := c.Exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA cell_size_check=ON")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// stmt prepares a statement, or finds it prepared, and binds its parameters:
// strings, byte slices and numbers.
func (c *connection) stmt(sql string, args ...any) (*sqlite3.Stmt, error) {
	s := c.stmts[sql]
	if s == nil {
		var err error
		if s, _, err = c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT); err != nil {
			return nil, err
		}
		c.stmts[sql] = s
	}
	for i, arg := range args {
		var err error
		switch v := arg.(type) {
		case string:
			err = s.BindText(i+1, v)
		case []byte:
			err = s.BindBlob(i+1, v)
		case int:
			err = s.BindInt(i+1, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *connection) exec(sql string, args ...any) error {
	s, err := c.stmt(sql, args...)
	if err != nil {
		return err
	}
	return s.Exec()
}

// close closes the connection for good.
func (c *connection) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	return c.Close()
}

// sqlObject is an object in a SQLite file of its own, which it has for itself.
type sqlObject struct {
	objects *Objects
	mu      sync.Mutex
	conn    *connection
}

// attach opens the file.
func (o *sqlObject) attach(path string) error {
	if err := o.conn.exec("ATTACH ? AS object", sqlitevfs.ExclusiveURI(path)); err != nil {
		return sqlError(err)
	}
	if err := o.conn.Exec("PRAGMA object.synchronous=FULL"); err != nil {
		return sqlError(err)
	}
	// SQLite looks at the file when it is first used.
	_, err := o.Get("\x00s")
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil
	case errors.Is(err, sqlite3.ERROR): // no such table
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return err
}

// Close returns the connection without the file.
func (o *sqlObject) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.conn.stmts {
		s.ClearBindings()
	}
	if err := o.conn.exec("DETACH object"); err != nil {
		return errors.Join(sqlError(err), o.conn.close())
	}
	return o.objects.put(o.conn)
}

// each calls fn with the rows of a statement until it returns false.
func (o *sqlObject) each(sql string, fn func(*sqlite3.Stmt) bool, args ...any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, err := o.conn.stmt(sql, args...)
	if err != nil {
		return sqlError(err)
	}
	for s.Step() {
		if fn == nil || !fn(s) {
			break
		}
	}
	return sqlError(errors.Join(s.Err(), s.Reset()))
}

func (o *sqlObject) Get(key string) (value []byte, err error) {
	found := false
	err = o.each(getSQL, func(s *sqlite3.Stmt) bool {
		value, found = s.ColumnBlob(0, nil), true
		return false
	}, key)
	if err == nil && !found {
		err = storage.ErrNotFound
	}
	return value, err
}

func (o *sqlObject) Scan(scan durable.Scan, fn func(key string, value []byte) bool) error {
	sql, args := "SELECT key, value FROM kv WHERE key >= ?", []any{scan.From}
	switch {
	case scan.MaxValue == durable.KeysOnly:
		sql = "SELECT key, x'' FROM kv WHERE key >= ?"
	case scan.MaxValue > 0:
		sql, args = "SELECT key, substr(value, 1, ?) FROM kv WHERE key >= ?", []any{scan.MaxValue, scan.From}
	}
	if scan.To != "" {
		sql += " AND key < ?"
		args = append(args, scan.To)
	}
	sql += " ORDER BY key"
	if scan.Reverse {
		sql += " DESC"
	}
	if scan.Rows > 0 {
		sql += " LIMIT ?"
		args = append(args, scan.Rows)
	}
	return o.each(sql, func(s *sqlite3.Stmt) bool { return fn(s.ColumnText(0), s.ColumnRawBlob(1)) }, args...)
}

func (o *sqlObject) Set(key string, value []byte) error {
	if len(key) > durable.MaxKey || len(value) > durable.MaxValue {
		return fmt.Errorf("%w: %d and %d bytes", durable.ErrTooLarge, len(key), len(value))
	}
	if value == nil {
		value = []byte{}
	}
	return o.each("INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)", nil, key, value)
}

func (o *sqlObject) Delete(from, to string) error {
	if to == "" {
		return o.each("DELETE FROM kv WHERE key >= ?", nil, from)
	}
	return o.each("DELETE FROM kv WHERE key >= ? AND key < ?", nil, from, to)
}

func (o *sqlObject) Transact(fn func() error) (err error) {
	if err := o.each("BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	done := false
	defer func() {
		// A failed COMMIT may leave the transaction open, or, as when the disk is
		// full, SQLite may have ended it already.
		if !done && !o.conn.GetAutocommit() {
			err = errors.Join(err, o.each("ROLLBACK", nil))
		}
	}()
	if err := fn(); err != nil {
		return err
	}
	if o.conn.GetAutocommit() {
		return errors.New("files: the transaction was rolled back")
	}
	if err := o.each("COMMIT", nil); err != nil {
		return err
	}
	done = true
	return nil
}

// sqlError gives an error of SQLite, or of the system, the meaning that the contract has for it.
func sqlError(err error) error {
	switch {
	case errors.Is(err, storage.ErrCorrupt), errors.Is(err, storage.ErrFull): // it has it already
	case sqlitevfs.Corrupt(err):
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	case sqlitevfs.Full(err):
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}
