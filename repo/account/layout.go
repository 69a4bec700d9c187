package account

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/storedjson"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// layout says which of the keys in the host's namespace there are, and how many accounts.
type layout struct {
	Version int `json:"version"`
	Count   int `json:"count"`
	// Phase and After say how far the migration from an earlier version has come: After is the last
	// DID or key that was processed.
	Phase string `json:"phase,omitempty"`
	After string `json:"after,omitempty"`
}

const (
	layoutKey = "accounts"
	// layoutVersion is the present one. Version 0 had names that were reserved with an expiry, no
	// notes of operations, no "deleteafter/" and no count. Version 1 had no "moderated/".
	layoutVersion = 2
)

func readLayout(ctx context.Context, r storage.KVReader) (l layout, err error) {
	doc, err := r.Get(ctx, layoutKey)
	if errors.Is(err, storage.ErrNotFound) {
		return l, nil
	} else if err != nil {
		return l, err
	}
	return l, json.Unmarshal(doc, &l)
}

func putLayout(ctx context.Context, tx storage.KVTx, l layout) error {
	return putJSON(ctx, tx, layoutKey, l)
}

func putNote(ctx context.Context, tx storage.KVTx, key string, n note) error {
	return putJSON(ctx, tx, key, n)
}

func putJSON(ctx context.Context, tx storage.KVTx, key string, v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Set(ctx, key, doc, time.Time{})
}

// Count returns the number of accounts. It reads one key. A pending operation may not be counted
// yet.
func (s *Store) Count(ctx context.Context) (n int, err error) {
	err = s.store.KV.Read(ctx, func(r storage.KVReader) error {
		l, err := readLayout(ctx, r)
		n = l.Count
		return err
	})
	return n, err
}

// addCount counts accounts that were made or, with a negative number, deleted.
func addCount(ctx context.Context, tx storage.KVTx, n int) error {
	if n == 0 {
		return nil
	}
	l, err := readLayout(ctx, tx)
	if err != nil {
		return err
	}
	l.Count += n
	return putLayout(ctx, tx, l)
}

// Repair completes the pending operations of processes that have died, and so releases names that
// no account has. Its cost depends on the number of pending operations. Call it at start, before
// the Store is used, and then from time to time, such as once a minute. It may run concurrently
// with everything else.
//
// The first call on a store that an earlier version has written migrates it: it writes the keys by
// which this version finds accounts. That reads all accounts, in transactions of bounded size, and
// continues after an interruption.
func (s *Store) Repair(ctx context.Context) error { return s.repair(ctx, s.abandoned) }

// RepairAlone is [Store.Repair] at the start of a process that uses the storage exclusively, for
// example under a lock. All pending operations are then those of dead processes, so their names are
// released at once, and not after ten minutes. Do not call it while any Store over the same storage
// is in use.
func (s *Store) RepairAlone(ctx context.Context) error {
	return s.repair(ctx, func(string, note) bool { return true })
}

func (s *Store) repair(ctx context.Context, over func(key string, n note) bool) error {
	if err := s.indexInvites(ctx); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	type left struct {
		did syntax.DID
		id  string
	}
	var list []left
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for doc, err := range storedjson.Documents[note](ctx, r, pendingPrefix) {
			if err != nil {
				return err
			}
			if over(doc.Key, doc.Value) {
				did, id, _ := cutLast(strings.TrimPrefix(doc.Key, pendingPrefix))
				list = append(list, left{syntax.DID(did), id})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, l := range list {
		if err := (&operation{Store: s, did: l.did, id: l.id}).finish(ctx); err != nil {
			return err
		}
	}
	return nil
}

// cutLast cuts a text at its last slash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// migratePage is how many accounts, or keys, one transaction of migrate sees to.
const migratePage = 200

// Phases of migrate.
const (
	phaseAccounts = ""      // each account gets its keys, and is counted
	phaseKeys     = "keys/" // keys that accounts have given up, or whose account is gone, go; with their prefix
)

// migrate brings the keys of an earlier version up to date. No other version may write meanwhile.
// It costs nothing once it has found that there is nothing to do.
func (s *Store) migrate(ctx context.Context) error {
	for !s.migrated.Load() {
		var l layout
		err := s.store.KV.Read(ctx, func(r storage.KVReader) (err error) {
			l, err = readLayout(ctx, r)
			return err
		})
		if err != nil {
			return err
		}
		if l.Version >= layoutVersion {
			s.migrated.Store(true)
			break
		}
		if l.Phase == phaseAccounts {
			err = s.migrateAccounts(ctx, l)
		} else {
			err = s.migrateKeys(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// migrateStep writes a page, and how far that brings the migration, if it is still where it was.
func (s *Store) migrateStep(ctx context.Context, from, to layout, fn func(storage.KVTx) error) error {
	return s.store.KV.Write(ctx, func(tx storage.KVTx) error {
		now, err := readLayout(ctx, tx)
		if err != nil || now != from {
			return err // another process was faster
		}
		if err := fn(tx); err != nil {
			return err
		}
		return putLayout(ctx, tx, to)
	})
}

func (s *Store) migrateAccounts(ctx context.Context, l layout) error {
	var page []Account
	for a, err := range s.after(ctx, syntax.DID(l.After)) {
		if err != nil {
			return err
		}
		if page = append(page, a); len(page) == migratePage {
			break
		}
	}
	next := l
	if l.After == "" {
		next.Count = 0 // version 1 had one
	}
	next.Count += len(page)
	if len(page) < migratePage {
		next.Phase, next.After = phaseKeys+indexPrefixes[0], ""
	} else {
		next.After = string(page[len(page)-1].DID)
	}
	return s.migrateStep(ctx, l, next, func(tx storage.KVTx) error {
		for _, a := range page {
			for _, key := range a.indexKeys() {
				if owner, err := tx.Get(ctx, key); err != nil && !errors.Is(err, storage.ErrNotFound) {
					return err
				} else if err == nil && string(owner) != string(a.DID) {
					continue // Check says so
				}
				if err := tx.Set(ctx, key, []byte(a.DID), time.Time{}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *Store) migrateKeys(ctx context.Context, l layout) error {
	prefix := strings.TrimPrefix(l.Phase, phaseKeys)
	rng := storage.Prefix(prefix)
	if l.After != "" {
		rng.From = l.After + "\x00"
	}
	var page []storage.KVPair
	err := s.store.KV.Read(ctx, func(r storage.KVReader) error {
		for pair, err := range r.Keys(ctx, rng) {
			if err != nil {
				return err
			}
			if page = append(page, pair); len(page) == migratePage {
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var drop []string
	for _, pair := range page {
		a, err := s.ByDID(ctx, syntax.DID(pair.Value))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if !slices.Contains(a.indexKeys(), pair.Key) {
			drop = append(drop, pair.Key)
		}
	}
	next := l
	switch {
	case len(page) == migratePage:
		next.After = page[len(page)-1].Key
	case prefix == indexPrefixes[len(indexPrefixes)-1]:
		next = layout{Version: layoutVersion, Count: l.Count}
	default:
		for i, p := range indexPrefixes[:len(indexPrefixes)-1] {
			if p == prefix {
				next.Phase, next.After = phaseKeys+indexPrefixes[i+1], ""
			}
		}
	}
	return s.migrateStep(ctx, l, next, func(tx storage.KVTx) error {
		for _, key := range drop {
			if err := tx.Delete(ctx, key); err != nil {
				return err
			}
		}
		return nil
	})
}
