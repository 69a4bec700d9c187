package postgres

import (
	"context"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Checker = repos{}

// maxProblems bounds how many problems of a kind are yielded.
const maxProblems = 100

// contradictions find rows that cannot be. Each yields a DID, or an empty one, and what is wrong.
var contradictions = [...]string{
	`SELECT ''::bytea, format('the records of set %s belong to no repository', set) FROM (SELECT DISTINCT set FROM record) r
		WHERE NOT EXISTS (SELECT FROM repo WHERE repo.records = r.set) AND NOT EXISTS (SELECT FROM loose WHERE loose.records = r.set)`,
	`SELECT ''::bytea, format('the references to blobs of set %s belong to no repository', set) FROM (SELECT DISTINCT set FROM blob_ref) b
		WHERE NOT EXISTS (SELECT FROM repo WHERE repo.records = b.set) AND NOT EXISTS (SELECT FROM loose WHERE loose.records = b.set)`,
	`SELECT ''::bytea, format('the keys of account %s belong to no account', repo) FROM (SELECT DISTINCT repo FROM account_key) k
		WHERE NOT EXISTS (SELECT FROM repo WHERE repo.id = k.repo) AND NOT EXISTS (SELECT FROM loose WHERE loose.repo = k.repo)`,
	`SELECT coalesce((array_agg(did) FILTER (WHERE did IS NOT NULL))[1], ''), format('the records of set %s belong to %s owners', n, count(*)) FROM
		(SELECT did, records AS n FROM repo UNION ALL SELECT NULL, records FROM loose) o GROUP BY n HAVING count(*) > 1`,
	`SELECT p.did, format('there is a reference to a blob in %s, but no such record', encode(b.path, 'escape')) FROM repo p JOIN blob_ref b ON b.set = p.records
		WHERE NOT EXISTS (SELECT FROM record r WHERE r.set = b.set AND r.path = b.path)`,
	`SELECT did, 'the head has some of its parts' FROM repo WHERE (commit_cid = '') <> (data_cid = '') OR (commit_cid = '') <> (rev = '') OR (rev = '' AND block <> '')`,
	`SELECT did, format('event %s has weight %s', seq, weight) FROM event WHERE weight NOT BETWEEN 1 AND ` + fmt.Sprint(storage.MaxWeight),
	`SELECT did, format('event %s, of weight %s, overlaps with event %s', seq, weight, before) FROM (SELECT did, seq, weight, lag(seq) OVER (ORDER BY seq) AS before FROM event) e WHERE seq - weight < before`,
	`SELECT ''::bytea, format('event %s is newer than the newest number, %s', seq, last) FROM (SELECT max(seq) AS seq FROM event) e, log WHERE seq > last`,
	`SELECT ''::bytea, format('events up to %s count as deleted, beyond the newest number', greatest(hidden, newest)) FROM trimmed, log WHERE hidden > last OR newest > last`,
	`SELECT did, format('events up to %s count as deleted, beyond the newest number', seq) FROM gone, log WHERE seq > last`,
	`SELECT ''::bytea, format('the tables log and trimmed have %s and %s rows', l, t) FROM (SELECT count(*) AS l FROM log) l, (SELECT count(*) AS t FROM trimmed) t WHERE l <> 1 OR t <> 1`,
}

// partitionsThatDiffer compares the partitions of the log with the table that lists them.
const partitionsThatDiffer = `SELECT ''::bytea, format('the partition %s of the log spans %s, and should span %s', coalesce(t.name, 'event_' || part.first), coalesce(t.bound, 'nothing'),
		coalesce(format('FOR VALUES FROM (%L) TO (%L)', part.first, part.after), 'nothing'))
	FROM part FULL JOIN (SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
		WHERE p.relname = 'event' AND p.relnamespace = current_schema()::regnamespace AND c.relkind = 'r') t ON t.name = 'event_' || part.first
	WHERE t.bound IS DISTINCT FROM format('FOR VALUES FROM (%L) TO (%L)', part.first, part.after)`

// Problems implements storage.Checker. It checks that sets of records and keys have owners, that
// references have records, that the numbers of events do not overlap, and that the partitions of
// the log match their list. The server's own tools (pg_amcheck) check pages and indexes. It reads
// one snapshot, which ends before the first problem is yielded.
func (d repos) Problems(ctx context.Context, _ storage.CheckOptions) iter.Seq2[storage.Problem, error] {
	return func(yield func(storage.Problem, error) bool) {
		list, err := d.problems(ctx)
		for _, p := range list {
			if !yield(p, nil) {
				return
			}
		}
		if err != nil {
			yield(storage.Problem{}, err)
		}
	}
}

func (d repos) problems(ctx context.Context) (list []storage.Problem, err error) {
	query := func(tx pgx.Tx, sql string) error {
		rows, err := tx.Query(ctx, fmt.Sprintf("SELECT * FROM (%s) x LIMIT %d", sql, maxProblems))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			list = append(list, storage.Problem{DID: syntax.DID(rows.RawValues()[0]), What: string(rows.RawValues()[1])})
		}
		return rows.Err()
	}
	// The lock keeps partitions as they are, for one statement.
	if d.from == d.reads {
		err = d.checking(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock_shared($1)", d.lockKey(lockPartitions)); err != nil {
				return err
			}
			return query(tx, partitionsThatDiffer)
		})
		if err != nil {
			return nil, err
		}
	}
	err = d.checking(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// These look at whole tables, for as long as it takes.
		_, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on", pgx.QueryExecModeSimpleProtocol)
		for _, sql := range contradictions {
			if err == nil {
				err = query(tx, sql)
			}
		}
		return err
	})
	return list, err
}

// checking runs fn in a transaction.
func (d repos) checking(ctx context.Context, opt pgx.TxOptions, fn func(tx pgx.Tx) error) error {
	c, err := d.from.take(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	return fail(ctx, pgx.BeginTxFunc(ctx, c.Conn, opt, fn))
}
