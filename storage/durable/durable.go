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
	// Shared has what is not in objects. Its Repos is used as the directory of
	// accounts, as NewDirectory says, if Directory is nil.
	Shared storage.Store
	// Directory, if not nil, is used in place of Shared.Repos and Shared.KV: so it may be far away.
	// Then parts of Shared may be missing, and are missing in DB.Store; Shared.Repos, if it is
	// there, lists the accounts.
	Directory Directory
	// Objects are the stores of the accounts.
	Objects Objects
	// Mirror, if not nil, says which of an account's keys the directory has a copy of, in its own
	// namespace of the account: small ones that never expire, of which lists of accounts are made.
	// The copy changes with the account, so a reader of the directory sees of these keys what a
	// reader of the account sees. It must not be AlarmKey, and must be the same at all times.
	Mirror func(key string) bool
	// MaxOpen bounds how many objects stay open. More are open only while
	// they are all in use. 0: 256, and in a browser or a Worker (GOOS=js) 16.
	MaxOpen int
	// Alarms says what is called when an account's alarm is due.
	Alarms Alarms
	// Now is the clock, for alarms and the expiry of keys. Nil: time.Now.
	Now func() time.Time
}

// Validate returns an error that says what is missing.
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

// Stats counts what happened to objects since the DB was made.
type Stats struct {
	Open       int   // open now
	Opened     int64 // times that an object was opened
	Hibernated int64 // times that an idle object was closed to make room
	Recovered  int64 // steps that were completed after a failure
}

// ErrClosed is returned by all methods after Close.
var ErrClosed = errors.New("durable: store is closed")

// New returns a store and completes steps that were interrupted, as far as
// Objects knows of them.
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

// Stats returns counts.
func (db *DB) Stats() Stats {
	db.mu.Lock()
	defer db.mu.Unlock()
	st := db.stats
	st.Open = len(db.open)
	return st
}

// Close waits for calls that run, views included, and closes all objects. It
// leaves Config.Shared open.
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
