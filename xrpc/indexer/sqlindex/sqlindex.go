// Package sqlindex is a sink of package indexer over database/sql, for SQLite and PostgreSQL. The
// application writes only its own rows, in the sink's transaction:
//
//	sink := &sqlindex.Sink{DB: db, OnRecord: func(ctx context.Context, tx *sql.Tx, op *indexer.Op) error {
//		if op.Action == commit.Delete {
//			_, err := tx.ExecContext(ctx, "DELETE FROM note WHERE uri = ?", op.URI())
//			return err
//		}
//		…
//	}}
//	if err := sink.Create(ctx); err != nil { … }
//
// The indexer's tables are beside those of the application: ix_account, ix_record and ix_position.
//
// For SQLite, use the driver github.com/ncruces/go-sqlite3/driver, with WAL, a busy_timeout and
// immediate transactions:
//
//	sql.Open("sqlite3", "file:index.sqlite?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
//
// For PostgreSQL, use github.com/jackc/pgx/v5/stdlib. There the indexer may use several concurrent
// transactions: see Indexer.Writers.
package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/xrpc/indexer"
)

// Sink is an indexer.Sink. Set the fields before use. It is safe for concurrent use.
type Sink struct {
	// DB is the database. Required.
	DB *sql.DB
	// Postgres means that DB is PostgreSQL; otherwise it is SQLite.
	Postgres bool
	// OnRecord applies an operation to the application's rows, in the transaction that records it.
	// An error or a panic rolls the transaction back: the account's repository is read again later,
	// which repeats the operation. An invalid record should not be an error: ignore it, as if it
	// did not exist. Nil: only the paths and CIDs of records are stored.
	//
	// It must only use tx, and must not use tx or ctx after it returns. It must be fast, since
	// others wait. Leave slow work, such as a request, to another goroutine: write a row for it.
	OnRecord func(ctx context.Context, tx *sql.Tx, op *indexer.Op) error
	// OnAccount, if not nil, is called for an account that is new, whose Active, Status, Host or
	// Handle have changed, or that was removed from the scope. In the last case State is
	// indexer.Removed, and all its records were deleted before.
	OnAccount func(ctx context.Context, tx *sql.Tx, a *indexer.Account) error

	mu    sync.Mutex
	stmts map[string]*sql.Stmt
}

// columns of ix_account, in the order of scan.
const columns = "did, version, active, status, host, handle, state, rev, data, filter, tracked, signaled, due, read, tries, error"

const schema = `
CREATE TABLE IF NOT EXISTS ix_account (
	did      TEXT PRIMARY KEY,
	version  BIGINT NOT NULL,
	active   BOOLEAN NOT NULL,
	status   TEXT NOT NULL,
	host     TEXT NOT NULL,
	handle   TEXT NOT NULL,
	state    TEXT NOT NULL,
	rev      TEXT NOT NULL,
	data     TEXT NOT NULL,
	filter   TEXT NOT NULL,
	tracked  BOOLEAN NOT NULL,
	signaled BOOLEAN NOT NULL,
	due      BIGINT,
	read     BIGINT NOT NULL,
	tries    BIGINT NOT NULL,
	error    TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ix_account_due ON ix_account (host, due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS ix_record (
	did  TEXT NOT NULL,
	path TEXT NOT NULL,
	cid  BLOB NOT NULL,
	PRIMARY KEY (did, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ix_position (
	name TEXT PRIMARY KEY,
	text TEXT NOT NULL
);`

// Create creates the indexer's tables if they do not exist.
func (s *Sink) Create(ctx context.Context) error {
	text := schema
	if s.Postgres {
		text = strings.NewReplacer("WITHOUT ROWID", "", "BLOB", "BYTEA", "path TEXT", `path TEXT COLLATE "C"`,
			"did      TEXT", `did TEXT COLLATE "C"`, "did  TEXT", `did TEXT COLLATE "C"`).Replace(text)
	}
	for _, one := range strings.Split(text, ";") {
		if strings.TrimSpace(one) == "" {
			continue
		}
		if _, err := s.DB.ExecContext(ctx, one); err != nil {
			return fmt.Errorf("sqlindex: %w", err)
		}
	}
	return nil
}

// stmt is a statement, prepared once.
func (s *Sink) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	st := s.stmts[query]
	s.mu.Unlock()
	if st != nil {
		return st, nil
	}
	text := query
	if s.Postgres {
		text = dollars(query)
	}
	st, err := s.DB.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	// The database may have been busy for a while, which nobody else has to wait for.
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.stmts[query]; other != nil {
		st.Close()
		return other, nil
	}
	if s.stmts == nil {
		s.stmts = make(map[string]*sql.Stmt)
	}
	s.stmts[query] = st
	return st, nil
}

// dollars writes placeholders as PostgreSQL has them.
func dollars(query string) string {
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c != '?' {
			b.WriteRune(c)
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

// Close frees prepared statements. It does not close DB.
func (s *Sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, st := range s.stmts {
		errs = append(errs, st.Close())
	}
	s.stmts = nil
	return errors.Join(errs...)
}

// micros is a time as it is stored; nil: none.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

type scanner interface{ Scan(to ...any) error }

func scan(row scanner) (a indexer.Account, err error) {
	var due sql.NullInt64
	var read int64
	var root string
	if err = row.Scan(&a.DID, &a.Version, &a.Active, &a.Status, &a.Host, &a.Handle, &a.State, &a.Rev, &root, &a.Filter,
		&a.Tracked, &a.Signaled, &due, &read, &a.Tries, &a.Error); err != nil {
		return a, err
	}
	if root != "" {
		if a.Data, err = cid.Decode(root); err != nil {
			return a, fmt.Errorf("sqlindex: account %s: %w", a.DID, err)
		}
	}
	if due.Valid {
		a.Due = time.UnixMicro(due.Int64).UTC()
	}
	if read != 0 {
		a.Read = time.UnixMicro(read).UTC()
	}
	return a, nil
}

// Account implements indexer.Sink.
func (s *Sink) Account(ctx context.Context, did syntax.DID) (indexer.Account, error) {
	st, err := s.stmt(ctx, "SELECT "+columns+" FROM ix_account WHERE did = ?")
	if err != nil {
		return indexer.Account{}, err
	}
	a, err := scan(st.QueryRowContext(ctx, string(did)))
	if errors.Is(err, sql.ErrNoRows) {
		return indexer.Account{DID: did}, nil
	}
	return a, err
}

// Accounts implements indexer.Sink.
func (s *Sink) Accounts(ctx context.Context, after syntax.DID, limit int) ([]indexer.Account, error) {
	return s.accounts(ctx, "SELECT "+columns+" FROM ix_account WHERE did > ? ORDER BY did LIMIT ?", string(after), limit)
}

// dueHosts goes from host to host in the index, however many accounts each has.
const dueHosts = `WITH RECURSIVE h (host) AS (
	SELECT min(host) FROM ix_account WHERE due IS NOT NULL
	UNION ALL
	SELECT (SELECT min(host) FROM ix_account WHERE due IS NOT NULL AND host > h.host) FROM h WHERE h.host IS NOT NULL
) SELECT host FROM h WHERE host IS NOT NULL`

// Due implements indexer.Sink.
func (s *Sink) Due(ctx context.Context, now time.Time, without []string, perHost, limit int) (list []indexer.Account, err error) {
	hosts, err := s.dueHosts(ctx)
	if err != nil {
		return nil, err
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	leave := make(map[string]bool, len(without))
	for _, h := range without {
		leave[h] = true
	}
	for _, h := range hosts {
		if leave[h] {
			continue
		}
		n := limit - len(list)
		if h != "" {
			n = min(n, perHost)
		}
		if n <= 0 {
			break
		}
		of, err := s.accounts(ctx, "SELECT "+columns+" FROM ix_account WHERE due IS NOT NULL AND host = ? AND due <= ? ORDER BY due LIMIT ?", h, now.UnixMicro(), n)
		if err != nil {
			return nil, err
		}
		list = append(list, of...)
	}
	return list, nil
}

func (s *Sink) dueHosts(ctx context.Context) (hosts []string, err error) {
	st, err := s.stmt(ctx, dueHosts)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, rows.Err()
}

func (s *Sink) accounts(ctx context.Context, query string, args ...any) ([]indexer.Account, error) {
	st, err := s.stmt(ctx, query)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, args...)
	return collect(rows, err)
}

func collect(rows *sql.Rows, err error) (list []indexer.Account, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		a, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

// Records implements indexer.Sink.
func (s *Sink) Records(ctx context.Context, did syntax.DID, after string, limit int) ([]mst.Entry, error) {
	st, err := s.stmt(ctx, "SELECT path, cid FROM ix_record WHERE did = ? AND path > ? ORDER BY path LIMIT ?")
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, string(did), after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []mst.Entry
	for rows.Next() {
		var e mst.Entry
		var raw sql.RawBytes
		if err := rows.Scan(&e.Key, &raw); err != nil {
			return nil, err
		}
		if e.Value, err = cid.Cast(append([]byte(nil), raw...)); err != nil {
			return nil, fmt.Errorf("sqlindex: record %s of %s: %w", e.Key, did, err)
		}
		list = append(list, e)
	}
	return list, rows.Err()
}

// Position implements indexer.Sink.
func (s *Sink) Position(ctx context.Context, name string) (text string, err error) {
	st, err := s.stmt(ctx, "SELECT text FROM ix_position WHERE name = ?")
	if err != nil {
		return "", err
	}
	if err = st.QueryRowContext(ctx, name).Scan(&text); errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return text, err
}
