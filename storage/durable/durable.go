package durable

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Config configures a DB. Objects is required, and Shared or Directory.
type Config struct {
	// Shared holds what is not in objects. If Directory is nil, its Repos is the directory of
	// accounts, as with NewDirectory.
	Shared storage.Store
	// Directory, if not nil, replaces Shared.Repos and Shared.KV, so that it may be remote. Then
	// parts of Shared may be missing; DB.Store lacks them too. Shared.Repos, if present, lists the
	// accounts.
	Directory Directory
	// Objects opens the stores of the accounts.
	Objects Objects
	// Mirror, if not nil, reports whether the directory has a copy of an account's key, in its own
	// namespace of the account. It is for small keys without expiry from which lists of accounts
	// are made. The copy changes with the account, so a reader of the directory sees the same
	// values as a reader of the account. Mirror must not select AlarmKey, and its results must
	// never change.
	Mirror func(key string) bool
	// MaxOpen bounds the number of open objects. It is exceeded only while all open objects are in
	// use. 0: 256, or 16 for GOOS=js.
	MaxOpen int
	// Alarms configures the calls of alarms.
	Alarms Alarms
	// Now is the clock, for alarms and the expiry of keys. Nil: time.Now.
	Now func() time.Time
}

// Validate returns an error that names what is missing.
func (c Config) Validate() error {
	switch {
	case c.Objects == nil:
		return errors.New("durable: Config.Objects is missing")
	case c.Directory != nil:
		return nil
	case c.Shared.Repos == nil:
		return errors.New("durable: Config.Shared.Repos is missing")
	case c.Shared.Events == nil:
		return errors.New("durable: Config.Shared.Events is missing")
	case c.Shared.Blobs == nil:
		return errors.New("durable: Config.Shared.Blobs is missing")
	case c.Shared.KV == nil:
		return errors.New("durable: Config.Shared.KV is missing")
	}
	return nil
}

// DB implements the contract of package storage over objects.
type DB struct {
	cfg       Config
	directory Directory
	marker    Marker
	alarms    caller

	mu      sync.Mutex
	open    map[syntax.DID]*object
	closing int  // how many of those are being closed
	idle    list // of open objects that nobody uses; the least recently used first
	closed  bool
	users   sync.WaitGroup
	stats   Stats
}

// Stats counts events of objects since the DB was made.
type Stats struct {
	Open       int   // open now
	Opened     int64 // times that an object was opened
	Hibernated int64 // times that an idle object was closed to make room
	Recovered  int64 // steps that were completed after a failure
}

// ErrClosed is returned by all methods after Close.
var ErrClosed = errors.New("durable: store is closed")

// New returns a store. It first completes interrupted changes, if Objects is a [Marker].
func New(ctx context.Context, cfg Config) (*DB, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.MaxOpen <= 0 {
		cfg.MaxOpen = defaultMaxOpen
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	db := &DB{cfg: cfg, directory: cfg.Directory, open: make(map[syntax.DID]*object)}
	db.idle.init()
	db.alarms = caller{Alarms: cfg.Alarms, now: cfg.Now, repos: repos{db}, index: noIndex, forget: forgetNothing}
	if db.directory == nil {
		d := directory{cfg.Shared}
		db.directory, db.alarms.index, db.alarms.forget = d, d.alarms, db.forgetAlarm
	}
	db.alarms.init()
	if db.marker, _ = cfg.Objects.(Marker); db.marker != nil {
		for _, did := range db.marker.Marked() {
			if err := db.recover(ctx, did); err != nil {
				db.Close()
				return nil, fmt.Errorf("durable: complete a step of %s: %w", did, err)
			}
		}
	}
	return db, nil
}

// recover uses an object once, which completes its last step, and deletes what an interrupted
// Replace has left. A broken one is left to those who use it.
func (db *DB) recover(ctx context.Context, did syntax.DID) error {
	o, err := db.acquire(ctx, did, false)
	if err == nil {
		err = sweep(ctx, db, did)
		db.release(o)
	}
	switch {
	case err == nil, errors.Is(err, storage.ErrNotFound):
		return db.marker.Unmark(did)
	case errors.Is(err, storage.ErrCorrupt):
		return nil
	}
	return err
}

// Store returns the parts of the store. Events, Blobs and KV are those of
// Config.Shared.
func (db *DB) Store() storage.Store {
	all := db.cfg.Shared
	all.Repos = repos{db}
	return all
}

// Stats returns the present counts.
func (db *DB) Stats() Stats {
	db.mu.Lock()
	defer db.mu.Unlock()
	st := db.stats
	st.Open = len(db.open)
	return st
}

// Close waits for running calls, including views, and closes all objects. It does not close
// Config.Shared.
func (db *DB) Close() error {
	db.mu.Lock()
	again := db.closed
	db.closed = true
	db.mu.Unlock()
	if again {
		return nil
	}
	db.users.Wait()
	var errs []error
	for {
		db.mu.Lock()
		o := db.idle.first()
		if o != nil {
			db.beginClose(o)
		}
		db.mu.Unlock()
		if o == nil {
			break
		}
		errs = append(errs, db.closeStore(o))
		db.forget(o)
	}
	return errors.Join(errs...)
}
