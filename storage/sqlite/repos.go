package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

type repos struct{ *DB }

var _ storage.Repos = repos{}

// repoRow is a repository's row without the commit's block.
type repoRow struct {
	id   int64
	set  int64 // of records
	head storage.Head
	base syntax.TID // the rev of rows that have none of their own
}

// repo reads a repository's row, or ErrNotFound.
func (c *conn) repo(did syntax.DID) (row repoRow, err error) {
	err = c.withRepo(did, func(r repoRow) error {
		row = r
		return nil
	})
	return row, err
}

// withRepo calls fn with a repository's row, or returns ErrNotFound. What fn reads is of
// the same snapshot as the row, whose statement has not ended while fn runs.
func (c *conn) withRepo(did syntax.DID, fn func(repoRow) error) error {
	found, err := c.row(func(s *sqlite3.Stmt) (err error) {
		row := repoRow{id: s.ColumnInt64(0), base: syntax.TID(s.ColumnText(4)), set: s.ColumnInt64(5)}
		if row.head, err = columnHead(s, 1); err != nil {
			return err
		}
		return fn(row)
	}, "SELECT id, commit_cid, data_cid, rev, base, iif(records = 0, id, records) FROM repo WHERE did = ?", did)
	if err == nil && !found {
		err = missing(did)
	}
	return err
}

func missing(did syntax.DID) error { return fmt.Errorf("%w: repository %s", storage.ErrNotFound, did) }

// columnHead reads a head from three columns.
func columnHead(s *sqlite3.Stmt, col int) (h storage.Head, err error) {
	if h.Commit, err = columnCID(s, col); err != nil {
		return h, err
	}
	h.Data, err = columnCID(s, col+1)
	h.Rev = syntax.TID(s.ColumnText(col + 2))
	return h, err
}

func (d repos) Head(ctx context.Context, did syntax.DID) (head storage.Head, err error) {
	err = d.lookUp(ctx, func(c *conn) error {
		row, err := c.repo(did)
		if head = row.head; err == nil && head == (storage.Head{}) {
			err = missing(did)
		}
		return err
	})
	return head, err
}

func (d repos) Apply(ctx context.Context, did syntax.DID, change *storage.Change) (seq int64, err error) {
	if err := change.Validate(); err != nil {
		return 0, err
	}
	return d.write(ctx, false, func(c *conn) (int64, error) {
		row, err := c.open(did, change, d.cfg.Now())
		if err != nil {
			return 0, err
		}
		for i := range change.Records {
			r := &change.Records[i]
			if err := c.unref(row.set, r.Path); err != nil {
				return 0, err
			}
			if !r.CID.Defined() {
				if err := c.exec("DELETE FROM record WHERE repo = ? AND path = ?", row.set, r.Path); err != nil {
					return 0, err
				}
			} else if err := c.record(row.set, change.Head.Rev, r); err != nil {
				return 0, err
			}
		}
		return c.finish(row.id, did, change, d.cfg.Now())
	})
}

// write runs a step that may add events, and announces them when it is committed.
func (db *DB) write(ctx context.Context, exclusive bool, fn func(*conn) (int64, error)) (seq int64, err error) {
	err = db.writer.do(ctx, step{exclusive: exclusive, retryable: !exclusive, fn: func(c *conn) (err error) {
		seq, err = fn(c)
		return err
	}, after: func() { db.announce(seq) }})
	if err != nil {
		return 0, err
	}
	return seq, nil
}

// open checks a step against the store and sets the new head. It returns the
// repository's row as it was, or that of a new one.
func (c *conn) open(did syntax.DID, change *storage.Change, now time.Time) (row repoRow, err error) {
	row, err = c.repo(did)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return row, err
	}
	if err := c.check(row.id, row.head, did, change, now); err != nil {
		return row, err
	}
	if row.id != 0 {
		return row, c.setHead(row.id, change)
	}
	row.id, err = c.insertRepo(did, change, "", 0)
	row.set = row.id
	return row, err
}

// insertRepo adds a repository's row.
func (c *conn) insertRepo(did syntax.DID, change *storage.Change, base syntax.TID, set int64) (id int64, err error) {
	h := change.Head
	err = c.exec("INSERT INTO repo (did, commit_cid, data_cid, rev, block, base, records) VALUES (?, ?, ?, ?, ?, ?, ?)",
		did, h.Commit, h.Data, h.Rev, nonNil(change.Commit), base, set)
	return c.LastInsertRowID(), err
}

// check holds a step against the stored head and the account's keys.
func (c *conn) check(id int64, head storage.Head, did syntax.DID, change *storage.Change, now time.Time) error {
	switch none := (storage.Head{}); {
	case head != none && change.Prev == none:
		return fmt.Errorf("%w: repository %s", storage.ErrExists, did)
	case id == 0 && change.Prev != none:
		return missing(did)
	case head != change.Prev:
		return fmt.Errorf("%w: head is %s", storage.ErrConflict, head.Rev)
	}
	for _, check := range change.Checks {
		found, same := false, false // a repository that is not there yet has no keys
		if id != 0 {
			var err error
			if found, same, err = c.compare(id, check.Key, check.Value, now); err != nil {
				return err
			}
		}
		if found != (check.Value != nil) || found && !same {
			return fmt.Errorf("%w: key %q has another value", storage.ErrConflict, check.Key)
		}
	}
	return nil
}

// setHead writes the new head, if it is new.
func (c *conn) setHead(id int64, change *storage.Change) error {
	h := change.Head
	if h == change.Prev {
		return nil
	}
	return c.exec("UPDATE repo SET commit_cid = ?, data_cid = ?, rev = ?, block = ? WHERE id = ?", h.Commit, h.Data, h.Rev, nonNil(change.Commit), id)
}

// record writes one record of a set and its references to blobs.
func (c *conn) record(set int64, rev syntax.TID, r *storage.RecordChange) error {
	if err := c.exec("INSERT INTO record (repo, path, cid, rev, data) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET cid = excluded.cid, rev = excluded.rev, data = excluded.data",
		set, r.Path, r.CID, rev, nonNil(r.Data)); err != nil {
		return err
	}
	for _, blob := range r.Blobs {
		if err := c.exec("INSERT OR REPLACE INTO blob_ref (repo, blob, path, rev) VALUES (?, ?, ?, ?)", set, blob, r.Path, rev); err != nil {
			return err
		}
	}
	return nil
}

// unref removes the references that a record has so far. Left to itself, SQLite
// takes the primary key and looks at all references of the account.
func (c *conn) unref(set int64, path string) error {
	return c.exec("DELETE FROM blob_ref INDEXED BY blob_ref_path WHERE repo = ? AND path = ?", set, path)
}

// finish writes a step's key-value pairs and events.
func (c *conn) finish(id int64, did syntax.DID, change *storage.Change, now time.Time) (int64, error) {
	if err := c.keys(id, change.KV); err != nil {
		return 0, err
	}
	return c.append(change.Events, now)
}

// keys writes key-value pairs of an account.
func (c *conn) keys(id int64, list []storage.KVWrite) error {
	for _, w := range list {
		var err error
		if w.Value == nil {
			err = c.delete(id, w.Key)
		} else {
			err = c.set(id, w.Key, w.Value, w.Expires)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// append adds events to the log and returns the number of the last.
func (c *conn) append(list []storage.Event, now time.Time) (seq int64, err error) {
	if len(list) == 0 {
		return 0, nil
	}
	newest, err := c.newest()
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		newest = storage.NextSeq(newest, now) + e.Numbers() - 1
		if err := c.exec("INSERT INTO event (seq, did, kind, time, payload, weight) VALUES (?, ?, ?, ?, ?, ?)",
			newest, e.DID, e.Kind, e.Time.UnixMilli(), nonNil(e.Payload), e.Numbers()); err != nil {
			return 0, err
		}
	}
	return newest, nil
}

func (d repos) Delete(ctx context.Context, did syntax.DID, list []storage.Event) (int64, error) {
	if err := storage.ValidateEvents(list); err != nil {
		return 0, err
	}
	seq, err := d.write(ctx, true, func(c *conn) (int64, error) {
		row, err := c.repo(did)
		if err != nil {
			return 0, err
		}
		if err := c.removeRepo(row); err != nil {
			return 0, err
		}
		newest, err := c.newest()
		if err != nil {
			return 0, err
		}
		// They may be many: sweep deletes them.
		if err := c.exec("INSERT INTO gone (did, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq", did, newest); err != nil {
			return 0, err
		}
		return c.append(list, d.cfg.Now())
	})
	if err == nil {
		_ = d.sweep(ctx) // the next sweep does what is left
	}
	return seq, err
}

// removeRepo removes a repository with its keys. Its records are left to sweep.
func (c *conn) removeRepo(row repoRow) error {
	if err := c.exec("DELETE FROM kv WHERE repo = ?", row.id); err != nil {
		return err
	}
	if err := c.exec("DELETE FROM repo WHERE id = ?", row.id); err != nil {
		return err
	}
	return c.loosen(row.set)
}

// listPage is how many repositories List reads at a time.
const listPage = 500

func (d repos) List(ctx context.Context, after syntax.DID) iter.Seq2[storage.RepoInfo, error] {
	return func(yield func(storage.RepoInfo, error) bool) {
		for {
			var page []storage.RepoInfo
			err := d.read(ctx, func(c *conn) (err error) {
				for s := range c.query(&err, "SELECT did, commit_cid, data_cid, rev FROM repo WHERE did > ? ORDER BY did LIMIT ?", after, listPage) {
					head, err := columnHead(s, 1)
					if err != nil {
						return err
					}
					page = append(page, storage.RepoInfo{DID: syntax.DID(s.ColumnText(0)), Head: head})
				}
				return err
			})
			if err != nil {
				yield(storage.RepoInfo{}, err)
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			if len(page) < listPage {
				return
			}
			after = page[len(page)-1].DID
		}
	}
}

// nonNil is for columns that are not NULL: a nil slice is no bytes.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
