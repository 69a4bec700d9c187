package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/xrpc/indexer"
	"github.com/pdskit/pdskit/xrpc/indexer/sqlindex"
)

// sink brings events into the outbox, in the transaction that brings the index to the same state.
// It implements indexer.Sink.
type sink struct {
	*sqlindex.Sink
	out     *outbox
	wanted  func(*indexer.Account) bool // whether the account is in the scope
	filter  func(collection string) bool
	all     bool // all accounts are in the scope
	signals bool // accounts with some collection are in the scope

	mu    sync.Mutex // one transaction at a time, so that numbers are given in order
	next  int64      // the number of the next event
	doubt int64      // if not 0, it is not known whether events from this number on are stored

	// Of the transaction under way:
	silent  map[string]bool // accounts of which nothing is told
	left    int             // operations that are to come
	number  int64
	waiting []row // not inserted yet
	written []row
}

const tables = `
CREATE TABLE IF NOT EXISTS tap_outbox (
	id    BIGINT PRIMARY KEY,
	did   TEXT NOT NULL,
	live  BOOLEAN NOT NULL,
	event TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS tap_identity (
	did    TEXT PRIMARY KEY,
	handle TEXT NOT NULL,
	active BOOLEAN NOT NULL,
	status TEXT NOT NULL
);`

// nextName names a position: the number of the next event. Numbers are not given twice, as
// acknowledgements may come late.
const nextName = "tap next event"

// rowsAtOnce is how many events a statement inserts.
const rowsAtOnce = 64

// newSink opens the tables, and puts all events that are there into the outbox.
func newSink(ctx context.Context, db *sql.DB, postgres bool) (*sink, error) {
	s := &sink{Sink: &sqlindex.Sink{DB: db, Postgres: postgres}}
	s.OnRecord, s.OnAccount = s.onRecord, s.onAccount
	if err := s.Create(ctx); err != nil {
		return nil, err
	}
	text := tables
	if !postgres {
		text = strings.Replace(text, "BIGINT PRIMARY", "INTEGER PRIMARY", 1)
	}
	for _, one := range strings.Split(text, ";") {
		if strings.TrimSpace(one) == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, one); err != nil {
			return nil, err
		}
	}
	stored, err := s.Position(ctx, nextName)
	if err != nil {
		return nil, err
	}
	if stored == "" {
		stored = "1"
	}
	if s.next, err = strconv.ParseInt(stored, 10, 64); err != nil {
		return nil, fmt.Errorf("the number of the next event: %w", err)
	}
	return s, nil
}

// open puts all events that are in the table into the outbox.
func (s *sink) open(ctx context.Context) error {
	rows, err := s.from(ctx, 0)
	if err != nil {
		return err
	}
	s.out.add(rows)
	return nil
}

// from reads which events are in the table.
func (s *sink) from(ctx context.Context, first int64) (list []row, err error) {
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	if s.Postgres {
		// A transaction whose connection broke may still be under way in the server. This waits
		// until it has ended one way or the other.
		if _, err := tx.ExecContext(ctx, "LOCK TABLE tap_outbox IN SHARE MODE"); err != nil {
			return nil, err
		}
	}
	rows, err := tx.QueryContext(ctx, s.sql("SELECT id, did, live FROM tap_outbox WHERE id >= ? ORDER BY id"), first)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.did, &r.live); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// sql writes placeholders as the database has them.
func (s *sink) sql(query string) string {
	if !s.Postgres {
		return query
	}
	parts := strings.Split(query, "?")
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(p)
	}
	return b.String()
}

// list returns n placeholders.
func list(n int) string { return strings.Repeat(", ?", n)[2:] }

// bodies implements table.
func (s *sink) bodies(ctx context.Context, ids []int64) (map[int64][]byte, error) {
	args := make([]any, len(ids))
	for i, id := range ids {
		args[i] = id
	}
	rows, err := s.DB.QueryContext(ctx, s.sql("SELECT id, event FROM tap_outbox WHERE id IN ("+list(len(ids))+")"), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[int64][]byte, len(ids))
	for rows.Next() {
		var id int64
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return nil, err
		}
		found[id] = body
	}
	return found, rows.Err()
}

// remove implements table.
func (s *sink) remove(ctx context.Context, ids []int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	tx, err := s.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for len(ids) > 0 {
		n := min(len(ids), 100)
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		if _, err := tx.ExecContext(ctx, s.sql("DELETE FROM tap_outbox WHERE id IN ("+list(n)+")"), args...); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return tx.Commit()
}

// Apply implements indexer.Sink. It waits while the outbox is full, which holds up the indexer and,
// in the end, its sources.
func (s *sink) Apply(ctx context.Context, t *indexer.Transaction) error {
	ops, most := 0, 0
	t = s.introduced(t)
	for _, c := range t.Changes {
		ops += len(c.Ops)
		most += len(c.Ops)
		if c.AccountChanged && (c.Account.Handle != "" || !c.Account.Active) {
			most++
		}
	}
	if most > 0 {
		if err := s.out.wait(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.left, s.number, s.waiting, s.written, s.silent = ops, s.next, nil, nil, nil
	for _, c := range t.Changes {
		if !s.wanted(&c.Account) {
			if s.silent == nil {
				s.silent = make(map[string]bool)
			}
			s.silent[string(c.Account.DID)] = true
		}
	}
	if most > 0 {
		positions := maps.Clone(t.Positions)
		if positions == nil {
			positions = make(map[string]string)
		}
		positions[nextName] = strconv.FormatInt(s.next+int64(most), 10)
		t = &indexer.Transaction{Changes: t.Changes, Positions: positions}
	}
	first := s.next
	s.next += int64(most)
	err := s.Sink.Apply(ctx, t)
	switch {
	case err == nil:
		s.out.add(s.written)
	case errors.Is(err, indexer.ErrConflict): // nothing is stored
		s.next = first
	case most > 0: // the database may have committed, and failed to say so
		s.doubt = first
		limited, done := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer done()
		if err := s.settle(limited); err != nil { // it is tried again before the next transaction
			s.out.log.Error("the outbox cannot be read", "error", err)
		}
	}
	s.waiting, s.written = nil, nil
	return err
}

// candidate reports whether it is not known yet that an account has a record of the signal
// collection: where relays do not list those that have, it was only read to find out. Nothing is
// told of it before.
func (s *sink) candidate(a *indexer.Account) bool {
	return a.State == indexer.Pending && !s.all && !a.Tracked
}

// introduced has onAccount called with changes of accounts that may have been candidates.
func (s *sink) introduced(t *indexer.Transaction) *indexer.Transaction {
	if !s.signals {
		return t
	}
	changed := &indexer.Transaction{Positions: t.Positions}
	for _, c := range t.Changes {
		if c.Account.State == indexer.Synchronized && !c.AccountChanged {
			told := *c
			told.AccountChanged = true
			c = &told
		}
		changed.Changes = append(changed.Changes, c)
	}
	return changed
}

// settleTimeout bounds the first attempt to find out whether events were stored.
const settleTimeout = 5 * time.Second

// settle finds out whether events were stored.
func (s *sink) settle(ctx context.Context) error {
	if s.doubt == 0 {
		return nil
	}
	rows, err := s.from(ctx, s.doubt)
	if err != nil {
		return err
	}
	s.doubt = 0
	s.out.add(rows)
	return nil
}

func (s *sink) onRecord(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
	s.left--
	if !s.silent[string(op.DID)] && s.filter(string(op.Collection)) {
		body, err := recordMessage(s.number, op)
		if err != nil {
			return err
		}
		s.waiting = append(s.waiting, row{id: s.number, did: op.DID, live: op.Live, body: body})
		s.number++
	}
	if s.left == 0 || len(s.waiting) >= rowsAtOnce {
		return s.flush(ctx, tx)
	}
	return nil
}

func (s *sink) onAccount(ctx context.Context, tx *sql.Tx, a *indexer.Account) error {
	if a.State == indexer.Removed {
		_, err := tx.ExecContext(ctx, s.sql("DELETE FROM tap_identity WHERE did = ?"), string(a.DID))
		return err
	}
	if s.silent[string(a.DID)] || s.candidate(a) || a.Handle == "" && a.Active { // its handle is not known yet
		return nil
	}
	e, old := identityOf(a), identityEvent{DID: a.DID}
	err := tx.QueryRowContext(ctx, s.sql("SELECT handle, active, status FROM tap_identity WHERE did = ?"), string(a.DID)).Scan(&old.Handle, &old.IsActive, &old.Status)
	if err != nil && !errors.Is(err, sql.ErrNoRows) || err == nil && old == e {
		return err
	}
	if _, err := tx.ExecContext(ctx, s.sql("INSERT INTO tap_identity (did, handle, active, status) VALUES (?, ?, ?, ?) ON CONFLICT (did) DO UPDATE SET "+
		"handle = excluded.handle, active = excluded.active, status = excluded.status"), string(e.DID), string(e.Handle), e.IsActive, e.Status); err != nil {
		return err
	}
	body, err := e.message(s.number)
	if err != nil {
		return err
	}
	s.waiting = append(s.waiting, row{id: s.number, did: a.DID, live: true, body: body})
	s.number++
	return s.flush(ctx, tx)
}

// flush inserts the events that wait.
func (s *sink) flush(ctx context.Context, tx *sql.Tx) error {
	for len(s.waiting) > 0 {
		n := min(len(s.waiting), rowsAtOnce)
		args := make([]any, 0, 4*n)
		for _, r := range s.waiting[:n] {
			args = append(args, r.id, string(r.did), r.live, string(r.body))
		}
		if _, err := tx.ExecContext(ctx, s.sql("INSERT INTO tap_outbox (id, did, live, event) VALUES (?, ?, ?, ?)"+
			strings.Repeat(", (?, ?, ?, ?)", n-1)), args...); err != nil {
			return err
		}
		s.written = append(s.written, s.waiting[:n]...)
		s.waiting = s.waiting[n:]
	}
	return nil
}
