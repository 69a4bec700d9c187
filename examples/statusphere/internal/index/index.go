// Package index keeps the statuses of everybody in SQLite.
//
// Changes arrive as events. Each is applied in one transaction together with the position of its
// stream, so a process that is killed continues where it was: nothing is lost or counted twice. The
// same transaction adds a row to a log of changes, whose numbers are the event ids of the live list
// in the browser.
//
//	event ──► BEGIN
//	            account   its revision, whether it is active
//	            status    rows that come, change, go
//	            change    what the pages have to know
//	            cursor    how far the stream was read
//	          COMMIT ──► [Index.Wait] wakes up the live list
//
// The index does not check records. Its callers have verified and validated them.
package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// schemaVersion is the value of user_version in files with these tables.
const schemaVersion = 1

const tables = `
CREATE TABLE account (
	did     TEXT PRIMARY KEY,
	handle  TEXT NOT NULL DEFAULT '',  -- verified; empty: not known, or not valid
	name    TEXT NOT NULL DEFAULT '',  -- from the profile; empty: none
	pds     TEXT NOT NULL DEFAULT '',  -- where the repository was last
	active  INTEGER NOT NULL DEFAULT 1,
	current TEXT NOT NULL DEFAULT '',  -- what is counted of it in the tally; empty: nothing
	rev     TEXT NOT NULL DEFAULT '',  -- of the last commit that was applied
	data    TEXT NOT NULL DEFAULT '',  -- its root, a CID; empty: not verified
	fetch   INTEGER,                   -- when to read the whole repository (Unix ms); NULL: no need to
	asked   INTEGER NOT NULL DEFAULT 0,-- whether there was a reason for that since it was last begun
	fetched INTEGER NOT NULL DEFAULT 0,-- when it was last begun
	fails   INTEGER NOT NULL DEFAULT 0,
	lookup  INTEGER NOT NULL DEFAULT 0,-- when to look up handle and name (Unix ms)
	lookups INTEGER NOT NULL DEFAULT 0 -- failures of that in a row
) STRICT, WITHOUT ROWID;
CREATE INDEX account_fetch ON account (fetch) WHERE fetch IS NOT NULL;
CREATE INDEX account_lookup ON account (lookup);

CREATE TABLE status (
	uri       TEXT PRIMARY KEY,
	did       TEXT NOT NULL REFERENCES account (did),
	rkey      TEXT NOT NULL,           -- a TID: it orders what is of the same millisecond
	cid       TEXT NOT NULL,
	rev       TEXT NOT NULL,           -- of the commit that the row is from
	status    TEXT NOT NULL,
	createdAt INTEGER NOT NULL,        -- what the record says (Unix ms)
	indexedAt INTEGER NOT NULL,        -- when it was seen first
	sortedAt  INTEGER NOT NULL,        -- createdAt, or when it was seen if that is earlier: nobody stays on top
	current   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX status_of ON status (did, sortedAt, rkey);
CREATE INDEX status_time ON status (sortedAt, rkey);
CREATE UNIQUE INDEX status_current ON status (did) WHERE current; -- an account has one at most

CREATE TABLE tally (                   -- how many active accounts have a status now
	status TEXT PRIMARY KEY,           -- empty: all
	n      INTEGER NOT NULL,
	at     INTEGER NOT NULL            -- when it changed (Unix ms)
) STRICT, WITHOUT ROWID;
CREATE INDEX tally_top ON tally (n, at);

CREATE TABLE change (
	id   INTEGER PRIMARY KEY AUTOINCREMENT,
	kind TEXT NOT NULL,
	did  TEXT NOT NULL,
	uri  TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE cursor (
	source TEXT PRIMARY KEY,           -- a URL
	seq    INTEGER NOT NULL,
	listed INTEGER NOT NULL DEFAULT 0  -- whether all its accounts are known
) STRICT, WITHOUT ROWID;
`

// Index is the database. Make one with [Open]. It is safe for concurrent use.
type Index struct {
	// SQL is the database, for tables of others.
	SQL *sql.DB
	// Now is the clock. Set it before use; nil: time.Now.
	Now func() time.Time
	// FetchPause is the time between two readings of one repository; doubled for each failure. Set
	// it before use; 0: 10 seconds.
	FetchPause time.Duration

	write sync.Mutex // held in transactions that change something: SQLite has one writer

	mu      sync.Mutex
	changed chan struct{} // closed with the next change
}

// Open opens the database, and makes it if there is none.
func Open(ctx context.Context, file string) (*Index, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	// What is committed is on the disk, and stays there when the power fails.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(1)", "trusted_schema(0)"}}
	db, err := sql.Open("sqlite3", (&url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	x := &Index{SQL: db, changed: make(chan struct{})}
	if err := x.prepare(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("index %s: %w", file, err)
	}
	return x, nil
}

// prepare makes the tables in an empty file.
func (x *Index) prepare(ctx context.Context) error {
	tx, err := x.SQL.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch version {
	case schemaVersion:
		return nil
	case 0:
	default:
		return fmt.Errorf("it has version %d; this program knows version %d", version, schemaVersion)
	}
	if _, err := tx.ExecContext(ctx, tables+fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)); err != nil {
		return err
	}
	return tx.Commit()
}

// Close closes the database.
func (x *Index) Close() error { return x.SQL.Close() }

func (x *Index) now() time.Time {
	if x.Now != nil {
		return x.Now()
	}
	return time.Now()
}

// Wait returns a channel that is closed with the next change of what pages show.
func (x *Index) Wait() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changed
}

// tx is a transaction that changes the index.
type tx struct {
	*sql.Tx
	ctx     context.Context
	now     int64 // Unix ms
	pause   int64 // ms
	changed bool
}

// update runs a transaction, and wakes those who wait for changes when it is on the disk.
func (x *Index) update(ctx context.Context, f func(*tx) error) error {
	x.write.Lock()
	defer x.write.Unlock()
	t, err := x.SQL.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback()
	pause := x.FetchPause
	if pause == 0 {
		pause = 10 * time.Second
	}
	u := &tx{Tx: t, ctx: ctx, now: x.now().UnixMilli(), pause: pause.Milliseconds()}
	if err := f(u); err != nil {
		return err
	}
	if u.changed {
		if err := u.exec("DELETE FROM change WHERE id <= (SELECT max(id) FROM change) - ?", KeepChanges); err != nil {
			return err
		}
	}
	if err := t.Commit(); err != nil {
		return err
	}
	if u.changed {
		x.mu.Lock()
		close(x.changed)
		x.changed = make(chan struct{})
		x.mu.Unlock()
	}
	return nil
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.ExecContext(t.ctx, query, args...)
	return err
}

// changes is exec, and says whether a row was changed.
func (t *tx) changes(query string, args ...any) (bool, error) {
	res, err := t.ExecContext(t.ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// change adds a row to the log.
func (t *tx) change(kind Kind, did syntax.DID, uri string) error {
	t.changed = true
	return t.exec("INSERT INTO change (kind, did, uri) VALUES (?, ?, ?)", string(kind), string(did), uri)
}

// one reads one row; found is false if there is none.
func one(row *sql.Row, to ...any) (found bool, err error) {
	err = row.Scan(to...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
