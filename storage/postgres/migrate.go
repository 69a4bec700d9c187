package postgres

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// VersionError: a newer version of this package made or migrated the schema, and this version
// cannot use it. The schema was not changed.
type VersionError struct {
	Have  int // version of the database's schema
	Known int // the newest version that this program knows
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("postgres: the database has version %d of the schema; this program knows %d", e.Have, e.Known)
}

// NodesError: the schema needs a migration that older programs cannot work with, and some of those
// are connected. The schema was not changed.
type NodesError struct {
	// Version is the schema version that this program would make.
	Version int
	// Nodes are the processes to stop first: their names, and where they connect from.
	Nodes []string
}

func (e *NodesError) Error() string {
	return fmt.Sprintf("postgres: version %d of the schema is not for older programs: stop these nodes first: %s", e.Version, strings.Join(e.Nodes, ", "))
}

// Keys of advisory locks, besides a hash of the schema's name.
const (
	lockMigrate = iota + 1
	lockPartitions
	lockTrim
	lockNode // held by each node, shared, with the version that it knows
	lockMove
)

// lockKey is the key of an advisory lock, which is of a schema alone.
func (db *DB) lockKey(lock int64) int64 {
	h := fnv.New64a()
	h.Write([]byte("pdskit/" + db.cfg.Schema))
	return int64(h.Sum64()&^0xff) | lock
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// migrate makes the schema, or brings it up to date, in one transaction, whoever else tries the
// same at the same time. If it fails, nothing is changed.
func (db *DB) migrate(ctx context.Context, c *pgx.Conn, steps []string, needs []int) error {
	if done, err := db.upToDate(ctx, c, len(steps)); err != nil || done {
		return err
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", db.lockKey(lockMigrate)); err != nil {
			return err
		}
		if done, err := db.upToDate(ctx, tx, len(steps)); err != nil || done {
			return err
		}
		have, _, err := schemaVersion(ctx, tx, db.cfg.Schema)
		if err != nil {
			return err
		}
		if have == 0 {
			if _, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{db.cfg.Schema}.Sanitize()); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "CREATE TABLE version (version bigint NOT NULL); INSERT INTO version VALUES (0)", pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		oldest := 1
		for _, n := range needs[:len(steps)] {
			oldest = max(oldest, n)
		}
		if err := db.olderNodes(ctx, tx, len(steps), oldest); err != nil {
			return err
		}
		for _, step := range steps[have:] {
			if _, err := tx.Exec(ctx, step, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "ALTER TABLE version ADD COLUMN IF NOT EXISTS oldest bigint NOT NULL DEFAULT 1"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE version SET version = $1, oldest = $2", len(steps), oldest)
		return err
	})
}

// upToDate reports whether the schema needs no step that a program knows. The error is a
// *VersionError if the program cannot use it.
func (db *DB) upToDate(ctx context.Context, q querier, known int) (bool, error) {
	have, oldest, err := schemaVersion(ctx, q, db.cfg.Schema)
	if err == nil && have > known && oldest > known {
		err = &VersionError{have, known}
	}
	return have >= known, err
}

// schemaVersion reads the version of the schema, 0 if there is none, and how many steps a program
// must know to use it.
func schemaVersion(ctx context.Context, q querier, schema string) (have, oldest int, err error) {
	table := pgx.Identifier{schema, "version"}.Sanitize()
	found, err := hasTable(ctx, q, schema, "version")
	if err != nil || !found {
		return 0, 0, err
	}
	// Early versions had no column oldest.
	err = q.QueryRow(ctx, "SELECT version, coalesce((to_jsonb(v)->>'oldest')::bigint, version) FROM "+table+" v").Scan(&have, &oldest)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("postgres: the table %s, with the schema's version, is empty", table)
	}
	return have, oldest, err
}

// hasTable reports whether there is a table. It does not use to_regclass, which may remember that
// there was none before a lock was there.
func hasTable(ctx context.Context, q querier, schema, table string) (found bool, err error) {
	err = q.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = $1 AND t.relname = $2)", schema, table).Scan(&found)
	return found, err
}

// nodeKey is the first half of the lock that nodes hold. The second half is the version that they
// know.
func (db *DB) nodeKey() int32 {
	h := fnv.New32a()
	fmt.Fprintf(h, "pdskit/%s/%d", db.cfg.Schema, lockNode)
	return int32(h.Sum32())
}

// join makes this process known as one that uses the schema, for as long as the connection lasts,
// and looks whether it still can.
//
// A process that migrates the schema holds the lock for that while it looks for older nodes. So it
// has either seen this one, or this one waits for it here, and sees what it has made.
func (db *DB) join(ctx context.Context, c *conn) error {
	if _, err := c.exec(ctx, "SELECT pg_advisory_lock_shared($1::int, $2::int)", db.nodeKey(), db.known); err != nil {
		return err
	}
	if _, err := c.exec(ctx, "SELECT pg_advisory_lock_shared($1)", db.lockKey(lockMigrate)); err != nil {
		return err
	}
	if _, err := c.exec(ctx, "SELECT pg_advisory_unlock_shared($1)", db.lockKey(lockMigrate)); err != nil {
		return err
	}
	_, err := db.upToDate(ctx, c, db.known)
	return err
}

// olderNodes returns a *NodesError if there are nodes that know less than the oldest version that
// will do.
func (db *DB) olderNodes(ctx context.Context, q querier, version, oldest int) error {
	rows, err := q.Query(ctx, `SELECT a.application_name, coalesce(host(a.client_addr), 'this machine')
		FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND l.objsubid = 2 AND l.classid = $1::bigint::oid AND l.objid < $2::bigint::oid AND l.granted ORDER BY 1, 2`, int64(uint32(db.nodeKey())), oldest)
	if err != nil {
		return err
	}
	var list []string
	var name, address string
	_, err = pgx.ForEachRow(rows, []any{&name, &address}, func() error {
		list = append(list, fmt.Sprintf("%s at %s", name, address))
		return nil
	})
	if err == nil && len(list) > 0 {
		err = &NodesError{version, list}
	}
	return err
}
