package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/jackc/pgx/v5"
)

// versions are the steps of the schema, in order. The table version says how many of them a
// database has been through. A step that was ever released is never changed; a new one follows it.
//
// All strings are bytea: they compare as bytes, whatever the locale, and may have any byte.
// Revisions, times and sets are as in package sqlite.
var versions = [...]string{`
-- The sequencer: its row is updated, and so locked until the commit, by every transaction with events.
CREATE TABLE log (
	one  boolean PRIMARY KEY DEFAULT true CHECK (one),
	last bigint NOT NULL -- the newest sequence number ever assigned
) WITH (fillfactor = 10);
INSERT INTO log (last) VALUES (0);

-- What Trim has deleted.
CREATE TABLE trimmed (
	one    boolean PRIMARY KEY DEFAULT true CHECK (one),
	hidden bigint NOT NULL, -- all events up to this number are as good as deleted
	newest bigint NOT NULL  -- the newest event that was deleted because of its age
) WITH (fillfactor = 10);
INSERT INTO trimmed (hidden, newest) VALUES (0, 0);

-- The event log of all repositories, partitioned by ranges of sequence numbers.
CREATE TABLE event (
	seq     bigint NOT NULL,
	did     bytea NOT NULL,
	kind    bytea NOT NULL,
	time    bigint NOT NULL, -- milliseconds
	payload bytea NOT NULL,
	PRIMARY KEY (seq) INCLUDE (time)
) PARTITION BY RANGE (seq);
ALTER TABLE event ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX event_did ON event (did, seq);
CREATE INDEX event_time ON event USING brin (time) WITH (pages_per_range = 32, autosummarize = on);

-- The partitions of event, which are named event_first.
CREATE TABLE part (
	first bigint PRIMARY KEY,
	after bigint NOT NULL -- the number after the last one
);

-- Numbers of repositories and of sets of records. A process takes a block of them at a time.
CREATE SEQUENCE number INCREMENT 64;

-- One row per repository. id is never used again.
CREATE TABLE repo (
	id         bigint PRIMARY KEY,
	did        bytea NOT NULL UNIQUE,
	commit_cid bytea NOT NULL,
	data_cid   bytea NOT NULL,
	rev        bytea NOT NULL,
	block      bytea NOT NULL, -- the signed commit
	base       bytea NOT NULL, -- the rev of the records whose rev is empty
	records    bigint NOT NULL -- the set of its records
) WITH (fillfactor = 70);

-- The records, in path order.
CREATE TABLE record (
	set  bigint NOT NULL,
	path bytea NOT NULL,
	cid  bytea NOT NULL,
	rev  bytea NOT NULL, -- of the commit that last wrote the record; empty: repo.base
	data bytea NOT NULL,
	PRIMARY KEY (set, path)
);
CREATE INDEX record_cid ON record (set, cid);

-- Which record refers to which blob.
CREATE TABLE blob_ref (
	set  bigint NOT NULL,
	blob bytea NOT NULL,
	path bytea NOT NULL,
	rev  bytea NOT NULL,
	PRIMARY KEY (set, blob, path)
);
CREATE INDEX blob_ref_path ON blob_ref (set, path);

-- Sets that no repository has: those that Replace is filling, until they expire, and those that are
-- to be deleted, whose expiry is 0. With one, the keys of a repository that was deleted go.
CREATE TABLE loose (
	records bigint PRIMARY KEY,
	repo    bigint NOT NULL, -- that was deleted, or 0
	expires bigint NOT NULL  -- microseconds
);

-- Whose repositories were deleted, with the newest event then. Events up to that are as good as deleted.
CREATE TABLE gone (
	did bytea PRIMARY KEY,
	seq bigint NOT NULL
);

-- Key-value pairs of accounts, and those of the host.
CREATE TABLE account_key (
	repo    bigint NOT NULL,
	key     bytea NOT NULL,
	value   bytea NOT NULL,
	expires bigint, -- microseconds
	PRIMARY KEY (repo, key)
);
CREATE INDEX account_key_expires ON account_key (expires) WHERE expires IS NOT NULL;
CREATE TABLE host_key (
	key     bytea PRIMARY KEY,
	value   bytea NOT NULL,
	expires bigint
);
CREATE INDEX host_key_expires ON host_key (expires) WHERE expires IS NOT NULL;

-- A row for each process and lane. The transactions of a lane lock it first, and leave their number
-- in it: so the process can find out what became of one when the connection broke at its end.
CREATE TABLE ticket (
	node bytea NOT NULL,
	lane bigint NOT NULL,
	last bigint NOT NULL,
	seq  bigint NOT NULL, -- the newest sequence number that the last one has assigned
	seen timestamptz NOT NULL,
	PRIMARY KEY (node, lane)
) WITH (fillfactor = 50);
`, `
-- How many numbers the event takes; seq is the last of them.
ALTER TABLE event ADD COLUMN weight bigint NOT NULL DEFAULT 1;
-- From this version on, the row of an account without a head has empty values for it.
`}

// VersionError: a newer version of this package made the schema, or migrated it. It was not
// changed.
type VersionError struct {
	Have  int // version of the database's schema
	Known int // the newest version that this program knows
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("postgres: the database has version %d of the schema; this program knows %d", e.Have, e.Known)
}

// Keys of advisory locks, besides a hash of the schema's name.
const (
	lockMigrate = iota + 1
	lockPartitions
	lockTrim
	lockMove
)

// lockKey is the key of an advisory lock, which is of a schema alone.
func (db *DB) lockKey(lock int64) int64 {
	h := fnv.New64a()
	h.Write([]byte("pdskit/" + db.cfg.Schema))
	return int64(h.Sum64()&^0xff) | lock
}

// migrate makes the schema, or brings it up to date, in one transaction, whoever else tries the
// same at the same time. If it fails, nothing is changed.
func (db *DB) migrate(ctx context.Context, c *pgx.Conn, versions []string) error {
	if have, err := schemaVersion(ctx, c, db.cfg.Schema); err != nil || have == len(versions) {
		return err
	} else if have > len(versions) {
		return &VersionError{have, len(versions)}
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", db.lockKey(lockMigrate)); err != nil {
			return err
		}
		have, err := schemaVersion(ctx, tx, db.cfg.Schema)
		switch {
		case err != nil:
			return err
		case have > len(versions):
			return &VersionError{have, len(versions)}
		case have == 0:
			if _, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{db.cfg.Schema}.Sanitize()); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "CREATE TABLE version (version bigint NOT NULL); INSERT INTO version VALUES (0)", pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		for _, step := range versions[have:] {
			if _, err := tx.Exec(ctx, step, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "UPDATE version SET version = $1", len(versions))
		return err
	})
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion reads the version of the schema, 0 if there is none.
func schemaVersion(ctx context.Context, q querier, schema string) (have int, err error) {
	table := pgx.Identifier{schema, "version"}.Sanitize()
	found, err := hasTable(ctx, q, schema, "version")
	if err != nil || !found {
		return 0, err
	}
	err = q.QueryRow(ctx, "SELECT version FROM "+table).Scan(&have)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("postgres: the table %s, with the schema's version, is empty", table)
	}
	return have, err
}

// hasTable reports whether there is a table. It does not use to_regclass, which may remember that
// there was none before a lock was there.
func hasTable(ctx context.Context, q querier, schema, table string) (found bool, err error) {
	err = q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = $1 AND t.relname = $2)", schema, table).Scan(&found)
	return found, err
}
