package sqlite

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Movable = repos{}

// While a store is watched, triggers write the notes. While it is shut, other triggers refuse
// writes. So the state applies to every process that has the file open, and a store that is not
// being moved has no cost: the tables and triggers exist only from Watch to Unwatch.
var (
	watchSQL = func() string {
		var b strings.Builder
		b.WriteString(`
CREATE TABLE move (
	state INTEGER NOT NULL,
	note  TEXT NOT NULL,
	pass  INTEGER NOT NULL -- 1 in transactions that may write all the same
) STRICT;
CREATE TABLE moved (
	kind  INTEGER NOT NULL,
	name  TEXT NOT NULL,
	stamp INTEGER NOT NULL,
	PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
`)
		note := func(table, event, row, what string) {
			fmt.Fprintf(&b, "CREATE TRIGGER move_%[1]s_%[2]s AFTER %[2]s ON %[1]s BEGIN\n\t%[3]s;\nEND;\n", table, event, strings.ReplaceAll(what, "ROW", row))
		}
		const insert = "INSERT OR REPLACE INTO moved (kind, name, stamp) "
		account := fmt.Sprintf(insert+"VALUES (%d, ROW.did, random())", storage.ChangedAccount)
		key := fmt.Sprintf(insert+"SELECT %d, did, random() FROM repo WHERE id = ROW.repo;\n\t"+insert+"SELECT %d, ROW.key, random() WHERE ROW.repo = %d",
			storage.ChangedAccount, storage.ChangedKey, hostKeys)
		events := fmt.Sprintf(insert+"VALUES (%d, ROW.did, random())", storage.ChangedEvents)
		for _, e := range []struct{ event, row string }{{"INSERT", "NEW"}, {"UPDATE", "NEW"}, {"DELETE", "OLD"}} {
			note("repo", e.event, e.row, account)
			note("kv", e.event, e.row, key)
			if e.event != "DELETE" {
				note("gone", e.event, e.row, events)
			}
		}
		return b.String()
	}()

	shutSQL, openSQL, unwatchSQL = func() (shut, open, unwatch string) {
		var b strings.Builder
		for _, table := range []string{"repo", "record", "blob_ref", "event", "kv", "loose", "gone"} {
			for _, event := range []string{"INSERT", "UPDATE", "DELETE"} {
				fmt.Fprintf(&b, "CREATE TRIGGER IF NOT EXISTS shut_%[1]s_%[2]s BEFORE %[2]s ON %[1]s WHEN (SELECT pass FROM move) = 0 BEGIN SELECT RAISE(ABORT, 'the store has been moved'); END;\n", table, event)
				open += fmt.Sprintf("DROP TRIGGER IF EXISTS shut_%s_%s;\n", table, event)
				unwatch += fmt.Sprintf("DROP TRIGGER IF EXISTS move_%s_%s;\n", table, event)
			}
		}
		return b.String(), open, open + unwatch + "DROP TABLE moved;\nDROP TABLE move;\n"
	}()
)

// watched reads how the store stands.
func (c *conn) watched() (w storage.Watch, err error) {
	found, err := c.row(func(*sqlite3.Stmt) error { return nil }, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'move'")
	if err != nil || !found {
		return w, err
	}
	_, err = c.row(func(s *sqlite3.Stmt) error {
		w = storage.Watch{State: storage.WatchState(s.ColumnInt(0)), Note: s.ColumnText(1)}
		return nil
	}, "SELECT state, note FROM move")
	return w, err
}

// rewatch changes how the store stands, in a transaction of its own.
func (d repos) rewatch(ctx context.Context, fn func(*conn, storage.Watch) error) error {
	return d.writer.do(ctx, step{exclusive: true, fn: func(c *conn) error {
		w, err := c.watched()
		if err != nil {
			return err
		}
		return fn(c, w)
	}})
}

// Watch implements storage.Movable.
func (d repos) Watch(ctx context.Context, note string) error {
	return d.rewatch(ctx, func(c *conn, w storage.Watch) error {
		if w.State != storage.Unwatched {
			if err := c.Exec(openSQL); err != nil {
				return err
			}
			return c.exec("UPDATE move SET state = ?, note = ?", int(storage.Watching), note)
		}
		if err := c.Exec(watchSQL); err != nil {
			return err
		}
		return c.exec("INSERT INTO move (state, note, pass) VALUES (?, ?, 0)", int(storage.Watching), note)
	})
}

var errUnwatched = errors.New("sqlite: a store that is not watched cannot be shut")

// Shut implements storage.Movable.
func (d repos) Shut(ctx context.Context, note string) error {
	return d.rewatch(ctx, func(c *conn, w storage.Watch) error {
		if w.State == storage.Unwatched {
			return errUnwatched
		}
		if err := c.Exec(shutSQL); err != nil {
			return err
		}
		return c.exec("UPDATE move SET state = ?, note = ?", int(storage.Shut), note)
	})
}

// Unwatch implements storage.Movable.
func (d repos) Unwatch(ctx context.Context) error {
	return d.rewatch(ctx, func(c *conn, w storage.Watch) error {
		if w.State == storage.Unwatched {
			return nil
		}
		return c.Exec(unwatchSQL)
	})
}

// Watched implements storage.Movable.
func (d repos) Watched(ctx context.Context) (w storage.Watch, err error) {
	err = d.lookUp(ctx, func(c *conn) error {
		w, err = c.watched()
		return err
	})
	return w, err
}

// changedPage is how many notes Changed reads at a time.
const changedPage = 1000

// Changed implements storage.Movable.
func (d repos) Changed(ctx context.Context) iter.Seq2[storage.Changed, error] {
	return func(yield func(storage.Changed, error) bool) {
		var last storage.Changed
		for {
			var page []storage.Changed
			err := d.read(ctx, func(c *conn) error {
				w, err := c.watched()
				if err != nil || w.State == storage.Unwatched {
					return err
				}
				for s := range c.query(&err, "SELECT kind, name, stamp FROM moved WHERE (kind, name) > (?, ?) ORDER BY kind, name LIMIT ?", int(last.Kind), last.Name, changedPage) {
					page = append(page, storage.Changed{Kind: storage.ChangedKind(s.ColumnInt(0)), Name: s.ColumnText(1), Stamp: s.ColumnInt64(2)})
				}
				return err
			})
			if err != nil {
				yield(storage.Changed{}, err)
				return
			}
			for _, last = range page {
				if !yield(last, nil) {
					return
				}
			}
			if len(page) < changedPage {
				return
			}
		}
	}
}

// Settle implements storage.Movable.
func (d repos) Settle(ctx context.Context, list []storage.Changed) error {
	return d.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
		w, err := c.watched()
		if err != nil || w.State == storage.Unwatched {
			return err
		}
		for _, x := range list {
			if err := c.exec("DELETE FROM moved WHERE kind = ? AND name = ? AND stamp = ?", int(x.Kind), x.Name, x.Stamp); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Touch implements storage.Movable.
func (d repos) Touch(ctx context.Context, did syntax.DID) error {
	w, err := d.Watched(ctx)
	if err != nil || w.State == storage.Unwatched {
		return err
	}
	return d.writer.do(ctx, step{retryable: true, fn: func(c *conn) error {
		switch w, err := c.watched(); {
		case err != nil || w.State == storage.Unwatched:
			return err
		case w.State == storage.Shut:
			return storage.ErrMoved
		}
		return c.exec("INSERT OR REPLACE INTO moved (kind, name, stamp) VALUES (?, ?, random())", int(storage.ChangedAccount), did)
	}})
}

// Moving implements storage.Movable.
func (d repos) Moving() storage.KV { return kv{DB: d.DB, moving: true} }

// whileShut calls fn so that what it writes is not refused while the store is shut.
func (c *conn) whileShut(fn func() error) error {
	w, err := c.watched()
	if err != nil {
		return err
	}
	if w.State != storage.Shut {
		return fn()
	}
	if err := c.exec("UPDATE move SET pass = 1"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return c.exec("UPDATE move SET pass = 0")
}
