package index

import (
	"context"

	"github.com/pdskit/pdskit/examples/statusphere/internal/status"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Position is a place in a stream.
type Position struct {
	Source string // the URL of the stream
	Seq    int64
	// Shared says that several events may have the number, so that one with the same number as the
	// last need not be the same event. Applying those again changes nothing.
	Shared bool
}

// Op is what a commit did to one status.
type Op struct {
	RKey syntax.RecordKey
	CID  string
	// Status is the record; nil: there is none, or none that is valid.
	Status *status.Status
}

// Commit is a change of a repository.
type Commit struct {
	DID syntax.DID
	Rev syntax.TID
	// Data is the root of the repository's tree after the commit, if it was verified.
	Data string
	Ops  []Op
	// Name is the new name in the profile; nil: it has not changed.
	Name *string
	// Gap says that commits before this one are missing: the repository has to be read.
	Gap bool
}

// Commit applies a commit, unless it was applied before.
func (x *Index) Commit(ctx context.Context, at Position, c Commit) error {
	return x.event(ctx, at, func(t *tx) error {
		a, err := t.account(c.DID)
		if err != nil {
			return err
		}
		if c.Rev < a.rev || c.Rev == a.rev && !at.Shared {
			return nil // a snapshot had it already
		}
		if err := t.apply(c.DID, c.Rev, c.Ops); err != nil {
			return err
		}
		if c.Name != nil {
			if err := t.rename(c.DID, a.handle, *c.Name); err != nil {
				return err
			}
		}
		if c.Gap {
			if err := t.fetch(c.DID); err != nil {
				return err
			}
		}
		return t.exec("UPDATE account SET rev = ?, data = ? WHERE did = ?", string(c.Rev), c.Data, string(c.DID))
	})
}

// Wrote puts in what a user of this app has just written, before the stream says it. The account is
// one that was added; if it was deleted meanwhile, so that it is gone, nothing happens.
func (x *Index) Wrote(ctx context.Context, did syntax.DID, rev syntax.TID, op Op) error {
	return x.update(ctx, func(t *tx) error {
		var last syntax.TID
		found, err := one(t.QueryRowContext(ctx, "SELECT rev FROM account WHERE did = ?", string(did)), &last)
		if err != nil || !found || rev <= last {
			return err // the stream was faster
		}
		return t.apply(did, rev, []Op{op})
	})
}

// Identity says that the handle or the address of an account may have changed. Accounts that the
// index does not have are none of its business, here and in what follows.
func (x *Index) Identity(ctx context.Context, at Position, did syntax.DID) error {
	return x.event(ctx, at, func(t *tx) error {
		return t.exec("UPDATE account SET lookup = 0, lookups = 0 WHERE did = ?", string(did))
	})
}

// Account says whether an account is active, or else why it is not.
func (x *Index) Account(ctx context.Context, at Position, did syntax.DID, active bool, why string) error {
	return x.event(ctx, at, func(t *tx) error { return t.setActive(did, active, why) })
}

// Gone hides an account whose own PDS does not show it. That ends with an event that it is active,
// or when its repository can be read again: it stays in the queue.
func (x *Index) Gone(ctx context.Context, did syntax.DID) error {
	return x.update(ctx, func(t *tx) error {
		hidden, err := t.changes("UPDATE account SET active = 0 WHERE did = ? AND active", string(did))
		if err != nil || !hidden {
			return err
		}
		if err := t.count(did); err != nil {
			return err
		}
		return t.change(Hidden, did, "")
	})
}

func (t *tx) setActive(did syntax.DID, active bool, why string) error {
	var was bool
	if found, err := one(t.QueryRowContext(t.ctx, "SELECT active FROM account WHERE did = ?", string(did)), &was); err != nil || !found {
		return err
	}
	switch {
	case active && was:
		return nil
	case active:
		return t.show(did)
	}
	if was {
		if err := t.change(Hidden, did, ""); err != nil {
			return err
		}
	}
	if err := t.exec("UPDATE account SET active = 0, fetch = NULL WHERE did = ?", string(did)); err != nil {
		return err
	}
	if err := t.count(did); err != nil {
		return err
	}
	if why == "deleted" {
		if err := t.exec("DELETE FROM status WHERE did = ?", string(did)); err != nil {
			return err
		}
		return t.exec("DELETE FROM account WHERE did = ?", string(did))
	}
	return nil
}

// show makes an account active again. What it has written meanwhile was not announced.
func (t *tx) show(did syntax.DID) error {
	if err := t.exec("UPDATE account SET active = 1, lookup = 0, fails = 0 WHERE did = ?", string(did)); err != nil {
		return err
	}
	if err := t.count(did); err != nil {
		return err
	}
	if err := t.announce(did); err != nil {
		return err
	}
	return t.fetch(did)
}

// announce logs the newest statuses of an account as new.
func (t *tx) announce(did syntax.DID) error {
	t.changed = true
	return t.exec(`INSERT INTO change (kind, did, uri) SELECT ?, did, uri FROM status WHERE did = ?
		ORDER BY sortedAt DESC, rkey DESC LIMIT ?`, string(Shown), string(did), MostRecent)
}

// Moved moves the position past events that say nothing to the index.
func (x *Index) Moved(ctx context.Context, at Position) error {
	return x.event(ctx, at, func(*tx) error { return nil })
}

// event runs a transaction that moves the position of a stream, unless it is behind already.
func (x *Index) event(ctx context.Context, at Position, f func(*tx) error) error {
	return x.update(ctx, func(t *tx) error {
		moved, err := t.changes(`INSERT INTO cursor (source, seq) VALUES (?1, ?2)
			ON CONFLICT (source) DO UPDATE SET seq = max(seq, ?2) WHERE ?2 > seq OR ?3`, at.Source, at.Seq, at.Shared)
		if err != nil || !moved {
			return err
		}
		return f(t)
	})
}

// accountRow is what is known of an account.
type accountRow struct {
	rev    syntax.TID
	handle string
}

// account returns an account, which is added if the index does not have it.
func (t *tx) account(did syntax.DID) (a accountRow, err error) {
	if err := t.exec("INSERT INTO account (did) VALUES (?) ON CONFLICT DO NOTHING", string(did)); err != nil {
		return a, err
	}
	_, err = one(t.QueryRowContext(t.ctx, "SELECT rev, handle FROM account WHERE did = ?", string(did)), &a.rev, &a.handle)
	return a, err
}

// apply changes the rows of statuses, and logs what has changed.
func (t *tx) apply(did syntax.DID, rev syntax.TID, ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	for _, op := range ops {
		var err error
		if uri := address(did, op.RKey); op.Status == nil {
			err = t.remove(did, rev, uri)
		} else if changed, putErr := t.put(did, rev, uri, op); putErr != nil {
			err = putErr
		} else if changed {
			err = t.change(Shown, did, uri)
		}
		if err != nil {
			return err
		}
	}
	// Who is here again after a while may have another name.
	const again = "UPDATE account SET lookup = ?2 WHERE did = ?1 AND lookup > ?2 AND lookup < ?3 AND lookups = 0"
	if err := t.exec(again, string(did), t.now, t.now+(lookupEach-lookupWait).Milliseconds()); err != nil {
		return err
	}
	return t.setCurrent(did)
}

// address is the AT-URI of a status.
func address(did syntax.DID, rkey syntax.RecordKey) string {
	return "at://" + string(did) + "/" + string(status.Collection) + "/" + string(rkey)
}

// put adds or replaces a row, unless the one that is there is the same or newer.
func (t *tx) put(did syntax.DID, rev syntax.TID, uri string, op Op) (changed bool, err error) {
	return t.changes(`INSERT INTO status (uri, did, cid, rev, status, createdAt, indexedAt, sortedAt, rkey)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, min(?6, ?7), ?8)
		ON CONFLICT (uri) DO UPDATE SET cid = ?3, rev = ?4, status = ?5, createdAt = ?6, sortedAt = min(?6, ?7)
		WHERE ?4 >= rev AND cid <> ?3`,
		uri, string(did), op.CID, string(rev), op.Status.Text, op.Status.Created.UnixMilli(), t.now, string(op.RKey))
}

// remove deletes a row, unless that is newer. While the repository is to be read, that is logged
// also if there is none: an older state of it must not bring the row (see removed).
func (t *tx) remove(did syntax.DID, rev syntax.TID, uri string) error {
	gone, err := t.changes("DELETE FROM status WHERE uri = ? AND rev <= ?", uri, string(rev))
	if err != nil {
		return err
	}
	if !gone {
		if gone, err = one(t.QueryRowContext(t.ctx, "SELECT 1 FROM account WHERE did = ? AND fetch IS NOT NULL", string(did)), new(int)); err != nil || !gone {
			return err
		}
	}
	return t.change(Removed, did, uri)
}

// removed returns the addresses of those statuses of an account of whose deletion the log has a
// row.
func (t *tx) removed(did syntax.DID) (map[string]bool, error) {
	return t.uris("SELECT uri FROM change WHERE kind = ? AND did = ?", string(Removed), string(did))
}

// setCurrent marks the newest status of an account.
func (t *tx) setCurrent(did syntax.DID) error {
	const newest = "(SELECT uri FROM status WHERE did = ?1 ORDER BY sortedAt DESC, rkey DESC LIMIT 1)"
	if err := t.exec("UPDATE status SET current = 0 WHERE did = ?1 AND current AND uri <> "+newest, string(did)); err != nil {
		return err
	}
	if err := t.exec("UPDATE status SET current = 1 WHERE NOT current AND uri = "+newest, string(did)); err != nil {
		return err
	}
	return t.count(did)
}

// count brings the tally up to date with an account: it counts what is current of an active one.
func (t *tx) count(did syntax.DID) error {
	var was, is string
	const query = `SELECT account.current, coalesce(status, '') FROM account
		LEFT JOIN status ON status.did = account.did AND status.current AND active WHERE account.did = ?`
	if found, err := one(t.QueryRowContext(t.ctx, query, string(did)), &was, &is); err != nil || !found || was == is {
		return err
	}
	for _, add := range []struct {
		text string
		n    int
	}{{was, -1}, {is, 1}} {
		if add.text == "" {
			continue
		}
		for _, text := range []string{add.text, ""} { // of this status, and of all
			if err := t.exec("INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET n = n + ?2, at = ?3", text, add.n, t.now); err != nil {
				return err
			}
		}
	}
	if err := t.exec("DELETE FROM tally WHERE n = 0 AND status = ?", was); err != nil {
		return err
	}
	return t.exec("UPDATE account SET current = ? WHERE did = ?", is, string(did))
}

// rename sets handle and name of an account.
func (t *tx) rename(did syntax.DID, handle, name string) error {
	changed, err := t.changes("UPDATE account SET handle = ?2, name = ?3 WHERE did = ?1 AND (handle <> ?2 OR name <> ?3)", string(did), handle, name)
	if err != nil || !changed {
		return err
	}
	return t.change(Renamed, did, "")
}
