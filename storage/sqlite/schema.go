package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// applicationID marks the file as ours: "pdsk" in ASCII.
const applicationID = 0x7064736b

// versions are the steps of the schema, in order. The file's user_version is the
// number of those it has been through. A step that was ever released is never
// changed; a new one follows it.
var versions = [...]string{`
-- One row per repository. id is never used again.
CREATE TABLE repo (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	did        TEXT NOT NULL UNIQUE,
	commit_cid BLOB NOT NULL,
	data_cid   BLOB NOT NULL,
	rev        TEXT NOT NULL,
	block      BLOB NOT NULL, -- the signed commit
	base       TEXT NOT NULL DEFAULT '' -- the rev of the rows whose rev is empty
) STRICT;

-- The records, in path order.
CREATE TABLE record (
	repo INTEGER NOT NULL,
	path TEXT NOT NULL,
	cid  BLOB NOT NULL,
	rev  TEXT NOT NULL, -- of the commit that last wrote the record; empty: repo.base
	data BLOB NOT NULL,
	PRIMARY KEY (repo, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_cid ON record (repo, cid);

-- Which record refers to which blob.
CREATE TABLE blob_ref (
	repo INTEGER NOT NULL,
	blob BLOB NOT NULL,
	path TEXT NOT NULL,
	rev  TEXT NOT NULL,
	PRIMARY KEY (repo, blob, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_ref_path ON blob_ref (repo, path);

-- The event log of all repositories. AUTOINCREMENT: the newest number outlives
-- its event.
CREATE TABLE event (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	did     TEXT NOT NULL,
	kind    TEXT NOT NULL,
	time    INTEGER NOT NULL, -- milliseconds
	payload BLOB NOT NULL
) STRICT;
CREATE INDEX event_did ON event (did);
-- The newest event that was deleted because of its age, in one row.
CREATE TABLE trimmed (seq INTEGER NOT NULL) STRICT;
INSERT INTO trimmed VALUES (0);
CREATE INDEX event_time ON event (time);

-- Key-value pairs of accounts, and with repo 0 those of the host.
CREATE TABLE kv (
	repo    INTEGER NOT NULL,
	key     TEXT NOT NULL,
	value   BLOB NOT NULL,
	expires INTEGER, -- microseconds
	PRIMARY KEY (repo, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX kv_expires ON kv (expires) WHERE expires IS NOT NULL;
`}

// migrate brings the schema up to date, in one transaction, whoever else tries
// the same at the same time.
func migrate(ctx context.Context, c *conn) (err error) {
	tx, err := c.BeginImmediate()
	if err != nil {
		return fail(ctx, err)
	}
	defer func() {
		tx.End(&err)
		err = fail(ctx, err)
	}()
	var have, id int64
	read := func(to *int64) func(*sqlite3.Stmt) error {
		return func(s *sqlite3.Stmt) error { *to = s.ColumnInt64(0); return nil }
	}
	if _, err := c.row(read(&have), "PRAGMA user_version"); err != nil {
		return err
	}
	if _, err := c.row(read(&id), "PRAGMA application_id"); err != nil {
		return err
	}
	switch {
	case have == int64(len(versions)) && id == applicationID:
		return nil
	case have > 0 && id != applicationID:
		return fmt.Errorf("sqlite: the file is the database of another application")
	case have > int64(len(versions)):
		return fmt.Errorf("sqlite: the file has version %d of the schema; this program knows %d", have, len(versions))
	}
	for _, step := range versions[have:] {
		if err := c.Exec(step); err != nil {
			return err
		}
	}
	return c.Exec(fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d", len(versions), applicationID))
}
