// Package index keeps the records of all agents in SQLite: rows to show and count, and a search
// over their words and vectors (storage/search), in the same transactions.
//
// It follows the relay's log (repo/follow). Each event is applied in one transaction, together with
// the position in the log. So each takes effect exactly once. The index can be deleted at any time
// and is then rebuilt. The rows are a function of the records alone, whatever their order; package
// check compares that.
package index

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/ext/fts5"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/follow"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/search"
)

// tables: a task's state follows from the records that are about it (see state.go).
const tables = `
CREATE TABLE IF NOT EXISTS records (
	uri TEXT PRIMARY KEY, did TEXT, collection TEXT, rkey TEXT, cid TEXT,
	task TEXT,   -- the task that a claim, result or acceptance is about
	result TEXT, -- the result that an acceptance takes
	status TEXT, -- of a result
	json TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_task ON records (task, collection) WHERE task <> '';
CREATE TABLE IF NOT EXISTS tasks (uri TEXT PRIMARY KEY, state TEXT, rkey TEXT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_state ON tasks (state);
CREATE INDEX IF NOT EXISTS tasks_new ON tasks (rkey);
CREATE TABLE IF NOT EXISTS progress (about TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;`

// Embedding makes the vectors. It knows no language: texts with common words are near to each
// other. A model's Embedder may take its place.
const Embedding = search.Hashing(512)

// Index is an index in a file. It is safe for concurrent use.
type Index struct {
	db     *sql.DB
	search search.Index

	mu  sync.Mutex
	log storage.Events // what it is fed from; nil: nothing
}

// What the rows of progress are about, besides the revision of each account.
const (
	position = "position" // of the feed
	number   = "seq"      // of the last event
)

// Open opens the index in a file, which is made if there is none.
func Open(ctx context.Context, file string) (*Index, error) {
	db, err := driver.Open("file:"+file+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(10000)&_txlock=immediate", fts5.Register)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	x := &Index{db: db, search: search.Index{Dim: Embedding.Dim()}}
	err = x.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, tables); err != nil {
			return err
		}
		return x.search.Create(ctx, tx)
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return x, nil
}

// Close closes the file.
func (x *Index) Close() error { return x.db.Close() }

// transact calls fn in a transaction.
func (x *Index) transact(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Follow carries out what comes over a log, until the context ends. Repositories that the log does
// not tell all of, as when it was trimmed, are read from repos.
func (x *Index) Follow(ctx context.Context, repos storage.Repos, log storage.Events) error {
	x.mu.Lock()
	x.log = log
	x.mu.Unlock()
	begin, err := x.begin(ctx, repos, log)
	if err != nil {
		return err
	}
	feed := follow.Feed{
		Store:    storage.Store{Repos: repos, Events: log},
		Position: func(ctx context.Context) (string, error) { return x.progress(ctx, position) },
		Revision: func(ctx context.Context, did syntax.DID) (syntax.TID, error) {
			rev, err := x.progress(ctx, string(did))
			return syntax.TID(rev), err
		},
	}
	for step, err := range feed.Steps(ctx) {
		if errors.Is(err, follow.ErrPosition) {
			return errors.Join(x.clear(ctx), err) // the next call begins again
		}
		if err != nil {
			return err
		}
		seq := step.Event.Seq
		if seq == 0 {
			seq = begin.next()
		}
		if err := x.transact(ctx, func(tx *sql.Tx) error { return x.carryOut(ctx, tx, step, seq) }); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin is how an index starts that has nothing: with a step for each account, and then with what
// comes after the events that there were.
type begin struct {
	accounts int
	newest   int64
}

func (x *Index) begin(ctx context.Context, repos storage.Repos, log storage.Events) (b begin, err error) {
	if text, err := x.progress(ctx, position); err != nil || text != "" {
		return b, err
	}
	if _, b.newest, err = log.Bounds(ctx); err != nil {
		return b, err
	}
	for _, err := range repos.List(ctx, "") {
		if err != nil {
			return b, err
		}
		b.accounts++
	}
	return b, nil
}

// next returns the number of the event that has been carried out after one more account.
func (b *begin) next() int64 {
	if b.accounts--; b.accounts == 0 {
		return b.newest
	}
	return 0
}

// Seq returns the number of the last event in the log that was carried out.
func (x *Index) Seq(ctx context.Context) (int64, error) {
	text, err := x.progress(ctx, number)
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// CaughtUp reports whether everything in the log was carried out.
func (x *Index) CaughtUp(ctx context.Context) (bool, error) {
	x.mu.Lock()
	log := x.log
	x.mu.Unlock()
	if log == nil {
		return false, nil
	}
	seq, err := x.Seq(ctx)
	if err != nil {
		return false, err
	}
	_, newest, err := log.Bounds(ctx)
	return seq >= newest, err
}

// Load puts in all records of a repository. It is for an index that is compared with another one,
// and follows no log.
func (x *Index) Load(ctx context.Context, did syntax.DID, r storage.Reader) error {
	return x.transact(ctx, func(tx *sql.Tx) error {
		for rec, err := range r.Records(ctx, storage.Range{}) {
			if err != nil {
				return err
			}
			collection, rkey, _ := strings.Cut(rec.Path, "/")
			if err := x.put(ctx, tx, did, syntax.NSID(collection), syntax.RecordKey(rkey), rec.CID.String(), rec.Data); err != nil {
				return err
			}
		}
		return nil
	})
}

// carryOut changes the rows as a step says, and notes how far the index has come.
func (x *Index) carryOut(ctx context.Context, tx *sql.Tx, step *follow.Step, seq int64) error {
	if step.Reset {
		if err := x.forget(ctx, tx, step.DID); err != nil {
			return err
		}
	}
	for op, err := range step.Ops {
		if err != nil {
			return err
		}
		if op.Action == commit.Delete {
			err = x.remove(ctx, tx, uri(step.DID, op.Path()))
		} else {
			err = x.put(ctx, tx, step.DID, op.Collection, op.RKey, op.CID.String(), op.Record)
		}
		if err != nil {
			return err
		}
	}
	if err := note(ctx, tx, position, step.Position); err != nil {
		return err
	}
	if seq > 0 {
		if err := note(ctx, tx, number, strconv.FormatInt(seq, 10)); err != nil {
			return err
		}
	}
	if step.DID == "" {
		return nil
	}
	return note(ctx, tx, string(step.DID), string(step.Rev))
}

func note(ctx context.Context, tx *sql.Tx, about, value string) error {
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO progress VALUES (?, ?)", about, value)
	return err
}

func (x *Index) progress(ctx context.Context, about string) (value string, err error) {
	err = x.db.QueryRowContext(ctx, "SELECT coalesce(max(value), '') FROM progress WHERE about = ?", about).Scan(&value)
	return value, err
}

// clear empties the index.
func (x *Index) clear(ctx context.Context) error {
	return x.transact(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM records; DELETE FROM tasks; DELETE FROM progress"); err != nil {
			return err
		}
		return x.search.Clear(ctx, tx)
	})
}

func uri(did syntax.DID, path string) string { return "at://" + string(did) + "/" + path }
