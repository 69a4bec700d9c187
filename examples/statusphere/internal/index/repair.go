package index

import (
	"context"
	"errors"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// MaxStatuses is how many statuses of one account are read from its repository: the newest ones.
const MaxStatuses = 20000

// State is what the index has of a repository.
type State struct {
	Known bool
	Rev   syntax.TID
	Data  string // see [Commit]
	Fetch bool   // the repository has to be read
}

// State returns that of an account.
func (x *Index) State(ctx context.Context, did syntax.DID) (s State, err error) {
	s.Known, err = one(x.SQL.QueryRowContext(ctx, "SELECT rev, data, fetch IS NOT NULL FROM account WHERE did = ?", string(did)), &s.Rev, &s.Data, &s.Fetch)
	return s, err
}

// Fetch says that the repository of an account has to be read: its stream does not say, or could
// not be shown to say, what is in it.
func (x *Index) Fetch(ctx context.Context, at Position, did syntax.DID) error {
	return x.event(ctx, at, func(t *tx) error {
		if _, err := t.account(did); err != nil {
			return err
		}
		return t.fetch(did)
	})
}

// Listed adds accounts whose repositories have to be read, unless their revisions are known.
func (x *Index) Listed(ctx context.Context, revs map[syntax.DID]syntax.TID) error {
	return x.update(ctx, func(t *tx) error {
		for did, rev := range revs {
			a, err := t.account(did)
			if err != nil {
				return err
			}
			if rev != "" && a.rev == rev {
				continue
			}
			if err := t.fetch(did); err != nil {
				return err
			}
		}
		return nil
	})
}

// fetch puts an account into the queue, unless an event has said that it is not active. It is read
// no more often than the pause allows, which doubles up to six hours with each failure.
func (t *tx) fetch(did syntax.DID) error {
	return t.exec("UPDATE account SET asked = 1, fetch = max(?2, fetched + min(?3 << min(fails, 20), ?4)) WHERE did = ?1 AND (active OR fetch IS NOT NULL)",
		string(did), t.now, t.pause, (6 * time.Hour).Milliseconds())
}

// ToFetch returns accounts whose repositories have to be read now, the longest waiting first, and
// counts them as tried.
func (x *Index) ToFetch(ctx context.Context, most int) (list []syntax.DID, err error) {
	return x.take(ctx, most, "fetch", func(t *tx, did syntax.DID) error {
		// If the process ends in between, it comes again, after the pause.
		if err := t.exec("UPDATE account SET fetched = ?2, fails = fails + 1 WHERE did = ?1", string(did), t.now); err != nil {
			return err
		}
		if err := t.fetch(did); err != nil {
			return err
		}
		return t.exec("UPDATE account SET asked = 0 WHERE did = ?", string(did))
	})
}

// take returns accounts whose time in a column has come.
func (x *Index) take(ctx context.Context, most int, column string, each func(*tx, syntax.DID) error) ([]syntax.DID, error) {
	query := "SELECT did FROM account WHERE " + column + " <= ? ORDER BY " + column + " LIMIT ?"
	now := x.now().UnixMilli()
	list, err := dids(ctx, x, query, now, most)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	err = x.update(ctx, func(t *tx) error {
		for _, did := range list {
			if err := each(t, did); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func dids(ctx context.Context, x *Index, query string, args ...any) (list []syntax.DID, err error) {
	rows, err := x.SQL.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var did syntax.DID
		if err := rows.Scan(&did); err != nil {
			return nil, err
		}
		list = append(list, did)
	}
	return list, rows.Err()
}

// ErrOlder: a host gave an older state of a repository than its stream has announced.
var ErrOlder = errors.New("index: the repository is older than its last commit")

// Replace puts what a whole repository holds in the place of the rows of its account. Rows of later
// commits stay, and what later commits have deleted does not come back. The account leaves the
// queue, unless the error is [ErrOlder], or there was another reason to read it meanwhile.
func (x *Index) Replace(ctx context.Context, c Commit) error {
	older := false
	err := x.update(ctx, func(t *tx) error {
		a, err := t.account(c.DID)
		if err != nil {
			return err
		}
		older = c.Rev < a.rev
		changed, err := t.replace(c, older)
		if err != nil {
			return err
		}
		// Its own PDS had hidden it (see Gone), and shows it again. After an event that it is not
		// active it would not be in the queue.
		back, err := t.changes("UPDATE account SET active = 1 WHERE did = ? AND NOT active AND fetch IS NOT NULL", string(c.DID))
		if err != nil {
			return err
		}
		if back {
			if err := t.count(c.DID); err != nil {
				return err
			}
		}
		if changed || back {
			if err := t.announce(c.DID); err != nil {
				return err
			}
		}
		if c.Name != nil {
			if err := t.rename(c.DID, a.handle, *c.Name); err != nil {
				return err
			}
		}
		if older {
			return nil // it stays in the queue
		}
		// What was asked for while the repository was read may be about what came after.
		const done = "UPDATE account SET rev = ?2, data = ?3, fetch = CASE WHEN asked THEN fetched + ?4 END, fails = 0 WHERE did = ?1"
		return t.exec(done, string(c.DID), string(c.Rev), c.Data, t.pause)
	})
	if err == nil && older {
		err = ErrOlder
	}
	return err
}

// replace deletes the rows that the repository does not have, and puts those that it has. older: it
// is not the last state of it.
func (t *tx) replace(c Commit, older bool) (changed bool, err error) {
	old, err := t.uris("SELECT uri FROM status WHERE did = ?", string(c.DID))
	if err != nil {
		return false, err
	}
	var removed map[string]bool
	if older {
		if removed, err = t.removed(c.DID); err != nil {
			return false, err
		}
	}
	for _, op := range c.Ops {
		if op.Status == nil {
			continue
		}
		uri := address(c.DID, op.RKey)
		if removed[uri] && !old[uri] {
			continue
		}
		delete(old, uri)
		put, err := t.put(c.DID, c.Rev, uri, op)
		if err != nil {
			return false, err
		}
		changed = changed || put
	}
	for uri := range old {
		if err := t.remove(c.DID, c.Rev, uri); err != nil {
			return false, err
		}
	}
	return changed, t.setCurrent(c.DID)
}

// uris returns the addresses that a query yields.
func (t *tx) uris(query string, args ...any) (map[string]bool, error) {
	rows, err := t.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := make(map[string]bool)
	for rows.Next() {
		var uri string
		if err := rows.Scan(&uri); err != nil {
			return nil, err
		}
		list[uri] = true
	}
	return list, rows.Err()
}

// Cursor returns how far a stream was read; found is false if it was not.
func (x *Index) Cursor(ctx context.Context, source string) (seq int64, listed, found bool, err error) {
	found, err = one(x.SQL.QueryRowContext(ctx, "SELECT seq, listed FROM cursor WHERE source = ?", source), &seq, &listed)
	return seq, listed, found, err
}

// SetListed says whether all accounts of a source are known.
func (x *Index) SetListed(ctx context.Context, source string, listed bool) error {
	return x.update(ctx, func(t *tx) error {
		return t.exec("INSERT INTO cursor (source, seq, listed) VALUES (?1, -1, ?2) ON CONFLICT DO UPDATE SET listed = ?2", source, listed)
	})
}

// Restart forgets how far a stream was read, since its numbers no longer mean what they did. All
// repositories are to be read.
func (x *Index) Restart(ctx context.Context, source string) error {
	return x.update(ctx, func(t *tx) error {
		if err := t.exec("INSERT INTO cursor (source, seq) VALUES (?1, -1) ON CONFLICT DO UPDATE SET seq = -1, listed = 0", source); err != nil {
			return err
		}
		return t.exec("UPDATE account SET fetch = ?1, asked = 1 WHERE data <> '' AND (active OR fetch IS NOT NULL)", t.now)
	})
}
