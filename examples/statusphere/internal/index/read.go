package index

import (
	"context"
	"database/sql"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// How much is shown and kept.
const (
	MostRecent  = 50   // statuses in the list
	MostTop     = 12   // different current statuses
	KeepChanges = 2000 // changes that a page which comes back can catch up with
)

// Post is a status as the page shows it.
type Post struct {
	Person
	URI  string
	Text string
	At   time.Time // not in the future
}

// Top is how many accounts have a status now.
type Top struct {
	Text  string
	Count int64
}

// Page is what the page shows.
type Page struct {
	Recent []Post // newest first
	Top    []Top  // most frequent first
	People int64  // accounts with a current status
	Last   int64  // the number of the last change that is in it
	Mine   string // the current status of the account that was asked for
}

// Page reads everything in one snapshot. did may be empty.
func (x *Index) Page(ctx context.Context, did syntax.DID) (p Page, err error) {
	tx, err := x.SQL.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return p, err
	}
	defer tx.Rollback()
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(id), 0) FROM change").Scan(&p.Last); err != nil {
		return p, err
	}
	if p.Recent, err = posts(ctx, tx, "ORDER BY sortedAt DESC, rkey DESC LIMIT ?", MostRecent); err != nil {
		return p, err
	}
	if p.Top, p.People, err = top(ctx, tx); err != nil {
		return p, err
	}
	_, err = one(tx.QueryRowContext(ctx, "SELECT status FROM status WHERE did = ? AND current", string(did)), &p.Mine)
	return p, err
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// posts reads statuses of accounts that are active.
func posts(ctx context.Context, q querier, rest string, args ...any) (list []Post, err error) {
	rows, err := q.QueryContext(ctx, `SELECT uri, status.did, handle, name, status, sortedAt
		FROM status CROSS JOIN account ON account.did = status.did AND active `+rest, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Post
		var at int64
		if err := rows.Scan(&p.URI, &p.DID, &p.Handle, &p.Name, &p.Text, &at); err != nil {
			return nil, err
		}
		p.At = time.UnixMilli(at).UTC()
		list = append(list, p)
	}
	return list, rows.Err()
}

// top reads the tally.
func top(ctx context.Context, q querier) (list []Top, people int64, err error) {
	if _, err := one(q.QueryRowContext(ctx, "SELECT n FROM tally WHERE status = ''"), &people); err != nil {
		return nil, 0, err
	}
	rows, err := q.QueryContext(ctx, "SELECT status, n FROM tally WHERE status <> '' ORDER BY n DESC, at DESC LIMIT ?", MostTop)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var t Top
		if err := rows.Scan(&t.Text, &t.Count); err != nil {
			return nil, 0, err
		}
		list = append(list, t)
	}
	return list, people, rows.Err()
}

// Kind is what a change is about.
type Kind string

// The kinds of changes.
const (
	Shown   Kind = "status"  // a status is new or changed
	Removed Kind = "removed" // a status is gone
	Hidden  Kind = "hidden"  // all statuses of an account are gone
	Renamed Kind = "renamed" // an account has another handle or name
)

// Change is one change of what the page shows.
type Change struct {
	ID     int64
	Kind   Kind
	Person Person
	URI    string // of the status, if it is about one
	Post   *Post  // of a Shown; nil: it is not shown any more
}

// Changes returns the changes after one, oldest first. ok is false if they are not known any more,
// or the number was never given: the page has to be read again.
func (x *Index) Changes(ctx context.Context, after int64, most int) (list []Change, ok bool, err error) {
	tx, err := x.SQL.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback()
	var first, last int64
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM change").Scan(&first, &last); err != nil {
		return nil, false, err
	}
	if after < first-1 || after > last {
		return nil, false, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, kind, change.did, uri, coalesce(handle, ''), coalesce(name, '')
		FROM change LEFT JOIN account ON account.did = change.did WHERE id > ? ORDER BY id LIMIT ?`, after, most)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var c Change
		if err := rows.Scan(&c.ID, &c.Kind, &c.Person.DID, &c.URI, &c.Person.Handle, &c.Person.Name); err != nil {
			return nil, false, err
		}
		list = append(list, c)
	}
	if err := rows.Err(); err != nil {
		return nil, false, err
	}
	for i, c := range list {
		if c.Kind != Shown {
			continue
		}
		found, err := posts(ctx, tx, "WHERE uri = ?", c.URI)
		if err != nil {
			return nil, false, err
		}
		if len(found) == 1 {
			list[i].Post = &found[0]
		}
	}
	return list, true, nil
}

// Top returns the most frequent current statuses, and how many accounts have one.
func (x *Index) Top(ctx context.Context) ([]Top, int64, error) { return top(ctx, x.SQL) }
