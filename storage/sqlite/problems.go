package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Checker = repos{}

// maxProblems bounds how many problems of a kind are yielded.
const maxProblems = 100

// sets are the sets of records that there are: of repositories, and loose ones.
const sets = "(SELECT iif(records = 0, id, records) FROM repo UNION ALL SELECT records FROM loose)"

// contradictions find rows that cannot be. Each yields a DID, or an empty text, and what is wrong.
// The sets in a table are found by jumps over its primary key.
var contradictions = [...]string{
	`WITH RECURSIVE s (n) AS (SELECT min(repo) FROM record UNION ALL SELECT (SELECT min(repo) FROM record WHERE repo > n) FROM s WHERE n IS NOT NULL)
		SELECT '', format('the records of set %d belong to no repository', n) FROM s WHERE n IS NOT NULL AND n NOT IN ` + sets,
	`WITH RECURSIVE s (n) AS (SELECT min(repo) FROM blob_ref UNION ALL SELECT (SELECT min(repo) FROM blob_ref WHERE repo > n) FROM s WHERE n IS NOT NULL)
		SELECT '', format('the references to blobs of set %d belong to no repository', n) FROM s WHERE n IS NOT NULL AND n NOT IN ` + sets,
	`WITH RECURSIVE s (n) AS (SELECT min(repo) FROM kv WHERE repo > 0 UNION ALL SELECT (SELECT min(repo) FROM kv WHERE repo > n) FROM s WHERE n IS NOT NULL)
		SELECT '', format('the keys of account %d belong to no account', n) FROM s WHERE n IS NOT NULL AND n NOT IN (SELECT id FROM repo)`,
	`SELECT coalesce(max(did), ''), format('the records of set %d belong to %d owners', n, count(*)) FROM
		(SELECT did, iif(records = 0, id, records) AS n FROM repo UNION ALL SELECT NULL, records FROM loose) GROUP BY n HAVING count(*) > 1`,
	`SELECT p.did, format('there is a reference to a blob in %s, but no such record', b.path) FROM repo p JOIN blob_ref b ON b.repo = iif(p.records = 0, p.id, p.records)
		WHERE NOT EXISTS (SELECT 1 FROM record r WHERE r.repo = b.repo AND r.path = b.path)`,
	`SELECT did, 'the head has some of its parts' FROM repo WHERE (length(commit_cid) = 0) <> (length(data_cid) = 0) OR (length(commit_cid) = 0) <> (rev = '') OR (rev = '' AND length(block) > 0)`,
	`SELECT did, format('event %d has weight %d', seq, weight) FROM event WHERE weight NOT BETWEEN 1 AND ` + fmt.Sprint(storage.MaxWeight),
	`SELECT did, format('event %d, of weight %d, overlaps with event %d', seq, weight, before) FROM (SELECT did, seq, weight, lag(seq) OVER (ORDER BY seq) AS before FROM event) WHERE seq - weight < before`,
	`SELECT '', format('event %d is newer than the newest number, %d', seq, newest) FROM (SELECT max(seq) AS seq FROM event), (SELECT coalesce(max(seq), 0) AS newest FROM sqlite_sequence WHERE name = 'event') WHERE seq > newest`,
	`SELECT '', format('the table trimmed has %d rows', n) FROM (SELECT count(*) AS n FROM trimmed) WHERE n <> 1`,
	`SELECT '', format('event %d was deleted, but is newer than the newest number', seq) FROM trimmed WHERE seq > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event')`,
	`SELECT did, format('events up to %d count as deleted, beyond the newest number', seq) FROM gone WHERE seq > (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event')`,
}

// Problems implements storage.Checker. It runs SQLite's own check of all pages and indexes, and
// compares rows with each other: sets of records and keys have owners, references have records, and
// the numbers of events do not overlap. It reads one snapshot, which ends before the first problem
// is yielded.
func (d repos) Problems(ctx context.Context, _ storage.CheckOptions) iter.Seq2[storage.Problem, error] {
	return func(yield func(storage.Problem, error) bool) {
		var list []storage.Problem
		err := d.read(ctx, func(c *conn) error { return c.problems(&list) })
		if errors.Is(err, storage.ErrCorrupt) {
			list = append(list, storage.Problem{What: err.Error()})
			err = nil
		}
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

func (c *conn) problems(list *[]storage.Problem) (err error) {
	for s := range c.query(&err, "PRAGMA integrity_check(100)") {
		if msg := s.ColumnText(0); msg != "ok" {
			*list = append(*list, storage.Problem{What: msg})
		}
	}
	if err != nil || len(*list) > 0 { // what follows relies on the indexes
		return err
	}
	for _, sql := range contradictions {
		if err := c.contradictions(sql, list); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) contradictions(sql string, list *[]storage.Problem) (err error) {
	n := 0
	for s := range c.query(&err, sql) {
		*list = append(*list, problem(s))
		if n++; n == maxProblems {
			break
		}
	}
	return err
}

func problem(s *sqlite3.Stmt) storage.Problem {
	return storage.Problem{DID: syntax.DID(s.ColumnText(0)), What: s.ColumnText(1)}
}
