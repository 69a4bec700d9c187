package sqlite

import (
	"context"
	"errors"
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
`, `
-- The repo of a record and of a reference is the number of a set of records. A repository has the
-- set repo.records; 0 stands for the set with the number of the repository. Sets and repositories
-- take their numbers from one sequence.
ALTER TABLE repo ADD COLUMN records INTEGER NOT NULL DEFAULT 0;
-- Sets that no repository has: those that Replace is filling, until they expire, and those that are
-- to be deleted, which have expired.
CREATE TABLE loose (
	records INTEGER PRIMARY KEY,
	expires INTEGER NOT NULL -- microseconds
) STRICT;
`, `
-- Whose repositories were deleted, with the newest event then. Events up to that are as good as deleted.
CREATE TABLE gone (
	did TEXT PRIMARY KEY,
	seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, `
-- How many numbers the event takes; seq is the last of them.
ALTER TABLE event ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
-- From this version on, the row of an account without a head has empty values for it.
`}

// ErrForeign: the file is a database of another application.
var ErrForeign = errors.New("sqlite: the file is the database of another application")

// VersionError: a newer version of this package made or migrated the file. The file was not
// changed.
type VersionError struct {
	Have  int // version of the file's schema
	Known int // the newest version that this program knows
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("sqlite: the file has version %d of the schema; this program knows %d", e.Have, e.Known)
}

// version reads the version of the file's schema, 0 for an empty file, and refuses a file
// that is not ours or newer than known.
func (c *conn) version(known int) (have int, err error) {
	var id, tables int
	for sql, to := range map[string]*int{"PRAGMA user_version": &have, "PRAGMA application_id": &id, "SELECT count(*) FROM sqlite_schema": &tables} {
		if _, err := c.row(func(s *sqlite3.Stmt) error { *to = s.ColumnInt(0); return nil }, sql); err != nil {
			return 0, err
		}
	}
	switch {
	case id == 0 && have == 0 && tables == 0:
		return 0, nil
	case id != applicationID:
		return 0, ErrForeign
	case have > known:
		return 0, &VersionError{have, known}
	}
	return have, nil
}

// migrate brings the schema up to date, in one transaction, whoever else tries
// the same at the same time. If it fails, nothing is changed.
func migrate(ctx context.Context, c *conn, versions []string) (err error) {
	tx, err := c.BeginImmediate()
	if err != nil {
		return fail(ctx, err)
	}
	defer func() {
		tx.End(&err)
		err = fail(ctx, err)
	}()
	have, err := c.version(len(versions))
	if err != nil || have == len(versions) {
		return err
	}
	for _, step := range versions[have:] {
		if err := c.Exec(step); err != nil {
			return err
		}
	}
	return c.Exec(fmt.Sprintf("PRAGMA user_version=%d; PRAGMA application_id=%d", len(versions), applicationID))
}
