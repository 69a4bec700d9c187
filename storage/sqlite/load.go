package sqlite

import (
	"context"
	"errors"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Loader = repos{}

// Load implements storage.Loader. Calls that run at the same time share transactions.
func (d repos) Load(ctx context.Context, did syntax.DID, l *storage.Load) error {
	return d.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
		row, err := c.repo(did)
		if errors.Is(err, storage.ErrNotFound) {
			row.id, err = c.insertRepo(did, &storage.Change{}, "", 0)
			row.set = row.id
		}
		if err != nil {
			return err
		}
		if err := c.load(row, l); err != nil {
			return err
		}
		if h := l.Head; h != (storage.Head{}) {
			return c.exec("UPDATE repo SET commit_cid = ?, data_cid = ?, rev = ?, block = ? WHERE id = ?", h.Commit, h.Data, h.Rev, nonNil(l.Commit), row.id)
		}
		return nil
	}})
}

// load writes what belongs to a repository's row.
func (c *conn) load(row repoRow, l *storage.Load) error {
	for i := range l.Records {
		r := &l.Records[i]
		var err error
		if r.CID.Defined() {
			err = c.record(row.set, r.Rev, &storage.RecordChange{Path: r.Path, CID: r.CID, Data: r.Data})
		} else {
			err = c.exec("DELETE FROM record WHERE repo = ? AND path = ?", row.set, r.Path)
		}
		if err != nil {
			return err
		}
	}
	for _, ref := range l.NoRefs {
		if err := c.exec("DELETE FROM blob_ref WHERE repo = ? AND blob = ? AND path = ?", row.set, ref.Blob, ref.Path); err != nil {
			return err
		}
	}
	for _, ref := range l.Refs {
		if err := c.exec("INSERT OR REPLACE INTO blob_ref (repo, blob, path, rev) VALUES (?, ?, ?, ?)", row.set, ref.Blob, ref.Path, ref.Rev); err != nil {
			return err
		}
	}
	return c.keys(row.id, l.KV)
}

// Unload implements storage.Loader.
func (d repos) Unload(ctx context.Context, did syntax.DID) error {
	err := d.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
		row, err := c.repo(did)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return c.removeRepo(row)
	}})
	if err != nil {
		return err
	}
	return d.sweep(ctx)
}

// LoadEvents implements storage.Loader.
func (d repos) LoadEvents(ctx context.Context, l *storage.LoadEvents) error {
	var newest int64
	return d.writer.do(ctx, step{retryable: true, after: func() { d.announce(newest) }, fn: func(c *conn) (err error) {
		for _, seq := range l.Drop {
			if err := c.exec("DELETE FROM event WHERE seq = ?", seq); err != nil {
				return err
			}
		}
		for i := range l.Events {
			if err := c.event(&l.Events[i]); err != nil {
				return err
			}
		}
		// The table of AUTOINCREMENT has a row for events as soon as there was one.
		if newest, err = c.newest(); err != nil {
			return err
		}
		if newest == 0 && l.Newest > 0 {
			err = c.exec("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", l.Newest)
		} else if l.Newest > newest {
			err = c.exec("UPDATE sqlite_sequence SET seq = ? WHERE name = 'event'", l.Newest)
		}
		if err != nil {
			return err
		}
		newest = max(newest, l.Newest)
		return c.exec("UPDATE trimmed SET seq = ?1 WHERE seq < ?1", l.Oldest-1)
	}})
}

// event writes an event under its number.
func (c *conn) event(e *storage.Event) error {
	return c.exec("INSERT OR REPLACE INTO event (seq, did, kind, time, payload, weight) VALUES (?, ?, ?, ?, ?, ?)",
		e.Seq, e.DID, e.Kind, e.Time.UnixMilli(), nonNil(e.Payload), e.Numbers())
}
