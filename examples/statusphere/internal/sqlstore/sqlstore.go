// Package sqlstore keeps the sessions of package client in a SQL database, by database/sql. It is
// written for SQLite, and simple enough for other databases: they need other column types and
// placeholders.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"iter"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/oauth/client"
)

// Schema makes the tables. Times are in milliseconds since 1970.
const Schema = `
	CREATE TABLE IF NOT EXISTS oauth_session (id TEXT PRIMARY KEY, did TEXT NOT NULL, value BLOB NOT NULL) STRICT;
	CREATE INDEX IF NOT EXISTS oauth_session_did ON oauth_session (did, id);
	CREATE TABLE IF NOT EXISTS oauth_login (name TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER NOT NULL) STRICT;
	CREATE INDEX IF NOT EXISTS oauth_login_expires ON oauth_login (expires);
	CREATE TABLE IF NOT EXISTS oauth_lock (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires INTEGER NOT NULL) STRICT;`

// Store is a client.SessionStore, a client.StateStore and a client.Locker in the tables of Schema.
// It is safe for concurrent use, by several processes too. A lock is a lease: it ends with its ttl
// if its holder has crashed.
//
// In SQLite, set a busy timeout, so that processes wait for each other, and leave "synchronous" at
// FULL: tokens that a power failure takes back end sessions.
type Store struct {
	DB *sql.DB
	// MaxLogins bounds how many logins are kept that are under way, which anybody can begin; the
	// oldest leave first. 0: 10,000.
	MaxLogins int
}

// changed runs a statement and reports whether it has changed a row.
func (s *Store) changed(ctx context.Context, query string, args ...any) (bool, error) {
	result, err := s.DB.ExecContext(ctx, query, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Get implements client.SessionStore.
func (s *Store) Get(ctx context.Context, id client.SessionID) (value []byte, err error) {
	err = s.DB.QueryRowContext(ctx, "SELECT value FROM oauth_session WHERE id = ?", string(id)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		err = client.ErrNotFound
	}
	return value, err
}

// CompareAndSwap implements client.SessionStore.
func (s *Store) CompareAndSwap(ctx context.Context, id client.SessionID, old, new []byte) error {
	var ok bool
	var err error
	if old == nil {
		ok, err = s.changed(ctx, "INSERT INTO oauth_session (id, did, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", string(id), string(id.DID()), new)
	} else {
		ok, err = s.changed(ctx, "UPDATE oauth_session SET value = ? WHERE id = ? AND value = ?", new, string(id), old)
	}
	if err == nil && !ok {
		err = client.ErrConflict
	}
	return err
}

// Delete implements client.SessionStore.
func (s *Store) Delete(ctx context.Context, id client.SessionID, old []byte) error {
	if old == nil {
		_, err := s.changed(ctx, "DELETE FROM oauth_session WHERE id = ?", string(id))
		return err
	}
	ok, err := s.changed(ctx, "DELETE FROM oauth_session WHERE id = ? AND value = ?", string(id), old)
	if err != nil || ok {
		return err
	}
	if _, err := s.Get(ctx, id); !errors.Is(err, client.ErrNotFound) {
		return client.ErrConflict
	}
	return nil
}

// page is how many sessions are read at once. No query is open while the caller works.
const page = 100

// List implements client.SessionStore.
func (s *Store) List(ctx context.Context, did syntax.DID) iter.Seq2[client.SessionID, error] {
	return func(yield func(client.SessionID, error) bool) {
		for after := ""; ; {
			ids, err := s.ids(ctx, did, after)
			if err != nil {
				yield("", err)
				return
			}
			for _, id := range ids {
				if !yield(id, nil) {
					return
				}
			}
			if len(ids) < page {
				return
			}
			after = string(ids[page-1])
		}
	}
}

func (s *Store) ids(ctx context.Context, did syntax.DID, after string) (ids []client.SessionID, err error) {
	query, args := "SELECT id FROM oauth_session WHERE id > ? ORDER BY id LIMIT ?", []any{after, page}
	if did != "" {
		query, args = "SELECT id FROM oauth_session WHERE did = ? AND id > ? ORDER BY id LIMIT ?", []any{string(did), after, page}
	}
	rows, err := s.DB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, client.SessionID(id))
	}
	return ids, rows.Err()
}

// Put implements client.StateStore. It removes logins that have expired, and those that are too
// many.
func (s *Store) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	if _, err := s.changed(ctx, "DELETE FROM oauth_login WHERE expires <= ?", time.Now().UnixMilli()); err != nil {
		return err
	}
	_, err := s.changed(ctx, "INSERT INTO oauth_login (name, value, expires) VALUES (?, ?, ?)", key, value, expires.UnixMilli())
	if err != nil {
		return err
	}
	most := s.MaxLogins
	if most <= 0 {
		most = 10_000
	}
	_, err = s.changed(ctx, "DELETE FROM oauth_login WHERE expires <= (SELECT expires FROM oauth_login ORDER BY expires DESC LIMIT 1 OFFSET ?)", most)
	return err
}

// Take implements client.StateStore.
func (s *Store) Take(ctx context.Context, key string) (value []byte, err error) {
	var expires int64
	err = s.DB.QueryRowContext(ctx, "DELETE FROM oauth_login WHERE name = ? RETURNING value, expires", key).Scan(&value, &expires)
	if errors.Is(err, sql.ErrNoRows) || err == nil && expires <= time.Now().UnixMilli() {
		return nil, client.ErrNotFound
	}
	return value, err
}

// Lock implements client.Locker.
func (s *Store) Lock(ctx context.Context, name string, ttl time.Duration) (unlock func(), err error) {
	owner := rand.Text()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		now := time.Now()
		ok, err := s.changed(ctx, `INSERT INTO oauth_lock (name, owner, expires) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires = excluded.expires WHERE oauth_lock.expires <= ?`,
			name, owner, now.Add(ttl).UnixMilli(), now.UnixMilli())
		if err != nil {
			return nil, err
		}
		if ok {
			ctx := context.WithoutCancel(ctx)
			return sync.OnceFunc(func() {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				s.changed(ctx, "DELETE FROM oauth_lock WHERE name = ? AND owner = ?", name, owner) // else it expires
			}), nil
		}
		select {
		case <-time.After(wait/2 + mathrand.N(wait)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
