package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Movable = repos{}

// While a store is watched, triggers write the notes. While it is shut, other triggers refuse
// writes. So the state applies to all nodes. Creating, enabling or disabling a trigger waits for
// the transactions that write the table, but for no reader. A store that was never moved has no
// such tables and triggers. A store that was has disabled triggers, which cost nothing.
const (
	codeMoved  = "PDS01" // that the triggers raise
	codeNoMove = "42P01" // no such table

	passSQL = "SET LOCAL pdskit.pass = '1'" // in transactions that may write all the same
)

// moveTables are the tables with triggers. One of them is written by every change.
var moveTables = []string{"repo", "account_key", "host_key", "log", "gone", "loose"}

// moveSQL makes tables, functions and triggers, all of them disabled.
func (db *DB) moveSQL() string {
	schema := pgIdentifier(db.cfg.Schema) + "."
	var b strings.Builder
	fmt.Fprintf(&b, `
CREATE TABLE move (
	one   boolean PRIMARY KEY DEFAULT true CHECK (one),
	state bigint NOT NULL,
	note  text NOT NULL
);
INSERT INTO move (state, note) VALUES (0, '');
CREATE TABLE moved (
	kind  bigint NOT NULL,
	name  bytea NOT NULL,
	stamp bigint NOT NULL,
	PRIMARY KEY (kind, name)
);
CREATE SEQUENCE move_stamp;
CREATE FUNCTION move_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF current_setting('pdskit.pass', true) IS DISTINCT FROM '1' THEN
		RAISE EXCEPTION 'the store has been moved' USING ERRCODE = '%s';
	END IF;
	RETURN NULL;
END $$;
`, codeMoved)
	// In order, so that transactions do not wait for each other in a circle.
	note := func(table, kind, query string, events ...string) {
		fmt.Fprintf(&b, `
CREATE FUNCTION move_note_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO %[2]smoved (kind, name, stamp) SELECT %[3]s, n.name, nextval('%[2]smove_stamp') FROM (SELECT DISTINCT %[4]s ORDER BY 1) n
		ON CONFLICT (kind, name) DO UPDATE SET stamp = excluded.stamp;
	RETURN NULL;
END $$;
`, table, schema, kind, query)
		for _, event := range events {
			rows := "NEW"
			if event == "DELETE" {
				rows = "OLD"
			}
			fmt.Fprintf(&b, "CREATE TRIGGER move_%[1]s_%[2]s AFTER %[2]s ON %[1]s REFERENCING %[3]s TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION move_note_%[1]s();\nALTER TABLE %[1]s DISABLE TRIGGER move_%[1]s_%[2]s;\n", table, event, rows)
		}
	}
	account, events, key := fmt.Sprint(storage.ChangedAccount), fmt.Sprint(storage.ChangedEvents), fmt.Sprint(storage.ChangedKey)
	note("repo", account, "did AS name FROM changed", "INSERT", "UPDATE", "DELETE")
	note("account_key", account, "r.did AS name FROM changed c JOIN "+schema+"repo r ON r.id = c.repo", "INSERT", "UPDATE", "DELETE")
	note("host_key", key, "key AS name FROM changed", "INSERT", "UPDATE", "DELETE")
	note("gone", events, "did AS name FROM changed", "INSERT", "UPDATE")
	for _, table := range moveTables {
		fmt.Fprintf(&b, "CREATE TRIGGER shut_%[1]s BEFORE INSERT OR UPDATE OR DELETE ON %[1]s FOR EACH STATEMENT EXECUTE FUNCTION move_refuse();\nALTER TABLE %[1]s DISABLE TRIGGER shut_%[1]s;\n", table)
	}
	return b.String()
}

// triggers enables or disables the triggers that note, and those that refuse.
func triggers(ctx context.Context, tx pgx.Tx, prefix string, enable bool) error {
	action := "DISABLE"
	if enable {
		action = "ENABLE"
	}
	for _, table := range moveTables {
		rows, err := tx.Query(ctx, "SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass AND starts_with(tgname, $2) ORDER BY tgname", pgx.QueryExecModeExec, table, prefix)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, name := range names {
			if _, err := tx.Exec(ctx, fmt.Sprintf("ALTER TABLE %s %s TRIGGER %s", table, action, name), pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewatch changes how the store stands. No transaction that writes is under way while fn runs.
func (d repos) rewatch(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, state storage.WatchState) error) error {
	return d.bulk.retry(ctx, func(c *conn) error {
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(inner, "SELECT pg_advisory_xact_lock($1)", d.lockKey(lockMove)); err != nil {
				return err
			}
			if _, err := tx.Exec(inner, "LOCK TABLE "+strings.Join(moveTables, ", ")+" IN SHARE ROW EXCLUSIVE MODE", pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			var state storage.WatchState
			found, err := hasTable(inner, tx, d.cfg.Schema, "move")
			if err == nil && !found {
				_, err = tx.Exec(inner, d.moveSQL(), pgx.QueryExecModeSimpleProtocol)
			} else if err == nil {
				err = tx.QueryRow(inner, "SELECT state FROM move", pgx.QueryExecModeExec).Scan(&state)
			}
			if err != nil {
				return err
			}
			return fn(inner, tx, state)
		})
	})
}

func setMove(ctx context.Context, tx pgx.Tx, state storage.WatchState, note string) error {
	_, err := tx.Exec(ctx, "UPDATE move SET state = $1, note = $2", pgx.QueryExecModeExec, int64(state), note)
	return err
}

// Watch implements storage.Movable.
func (d repos) Watch(ctx context.Context, note string) error {
	return d.rewatch(ctx, func(ctx context.Context, tx pgx.Tx, _ storage.WatchState) error {
		if err := triggers(ctx, tx, "shut_", false); err != nil {
			return err
		}
		if err := triggers(ctx, tx, "move_", true); err != nil {
			return err
		}
		return setMove(ctx, tx, storage.Watching, note)
	})
}

var errUnwatched = errors.New("postgres: a store that is not watched cannot be shut")

// Shut implements storage.Movable.
func (d repos) Shut(ctx context.Context, note string) error {
	return d.rewatch(ctx, func(ctx context.Context, tx pgx.Tx, state storage.WatchState) error {
		if state == storage.Unwatched {
			return errUnwatched
		}
		if err := triggers(ctx, tx, "shut_", true); err != nil {
			return err
		}
		return setMove(ctx, tx, storage.Shut, note)
	})
}

// Unwatch implements storage.Movable.
func (d repos) Unwatch(ctx context.Context) error {
	if w, err := d.Watched(ctx); err != nil || w.State == storage.Unwatched {
		return err
	}
	return d.rewatch(ctx, func(ctx context.Context, tx pgx.Tx, _ storage.WatchState) error {
		for _, prefix := range []string{"shut_", "move_"} {
			if err := triggers(ctx, tx, prefix, false); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "DELETE FROM moved", pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		return setMove(ctx, tx, storage.Unwatched, "")
	})
}

// Watched implements storage.Movable.
func (d repos) Watched(ctx context.Context) (w storage.Watch, err error) {
	err = d.lookups.retry(ctx, func(c *conn) error {
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		err := c.QueryRow(inner, "SELECT state, note FROM move", pgx.QueryExecModeExec).Scan(&w.State, &w.Note)
		if code(err) == codeNoMove {
			err = nil
		}
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
			err := d.lookups.retry(ctx, func(c *conn) error {
				page = page[:0]
				inner, cancel := c.pool.context(ctx)
				defer cancel()
				rows, err := c.Query(inner, "SELECT kind, name, stamp FROM moved WHERE (kind, name) > ($1, $2) ORDER BY kind, name LIMIT $3",
					pgx.QueryExecModeExec, int64(last.Kind), []byte(last.Name), changedPage)
				if err == nil {
					var kind int64
					var name []byte
					var x storage.Changed
					_, err = pgx.ForEachRow(rows, []any{&kind, &name, &x.Stamp}, func() error {
						x.Kind, x.Name = storage.ChangedKind(kind), string(name)
						page = append(page, x)
						return nil
					})
				}
				if code(err) == codeNoMove {
					err = nil
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

// Settle implements storage.Movable. It skips notes that are being written.
func (d repos) Settle(ctx context.Context, list []storage.Changed) error {
	var kinds, stamps []int64
	var names [][]byte
	for _, x := range list {
		kinds, names, stamps = append(kinds, int64(x.Kind)), append(names, []byte(x.Name)), append(stamps, x.Stamp)
	}
	err := d.bulk.retry(ctx, func(c *conn) error {
		_, err := c.exec(ctx, `DELETE FROM moved WHERE ctid = ANY(ARRAY(SELECT m.ctid FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) u (kind, name, stamp)
			JOIN moved m ON m.kind = u.kind AND m.name = u.name AND m.stamp = u.stamp FOR UPDATE OF m SKIP LOCKED))`, pgx.QueryExecModeExec, kinds, names, stamps)
		return err
	})
	if code(err) == codeNoMove {
		return nil
	}
	return err
}

// Touch implements storage.Movable.
func (d repos) Touch(ctx context.Context, did syntax.DID) error {
	if w, err := d.Watched(ctx); err != nil || w.State == storage.Unwatched {
		return err
	}
	return d.bulk.retry(ctx, func(c *conn) error {
		inner, cancel := c.pool.context(ctx)
		defer cancel()
		return pgx.BeginFunc(inner, c.Conn, func(tx pgx.Tx) error {
			var state storage.WatchState
			switch err := tx.QueryRow(inner, "SELECT state FROM move FOR SHARE", pgx.QueryExecModeExec).Scan(&state); {
			case err != nil || state == storage.Unwatched:
				return err
			case state == storage.Shut:
				return storage.ErrMoved
			}
			_, err := tx.Exec(inner, "INSERT INTO moved (kind, name, stamp) VALUES ($1, $2, nextval('move_stamp')) ON CONFLICT (kind, name) DO UPDATE SET stamp = excluded.stamp",
				pgx.QueryExecModeExec, int64(storage.ChangedAccount), []byte(did))
			return err
		})
	})
}

// Moving implements storage.Movable.
func (d repos) Moving() storage.KV { return kv{DB: d.DB, moving: true} }
