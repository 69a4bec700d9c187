package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/storage"
)

// Config has the settings of a DB. The zero value works.
type Config struct {
	// Schema is the database schema that has the tables. It is created if necessary. Processes with
	// the same schema are nodes of one host. Empty: the search_path of the connection string, if
	// that has exactly one name, else "pdskit".
	Schema string
	// Name is the name of this process's connections in pg_stat_activity, and for an operator who
	// must stop it before a migration: up to 50 bytes. Empty: "pdskit".
	Name string
	// Replica is the connection string of a standby for [DB.Lagging]. Empty: there is none.
	Replica string
	// Readers bounds the connections for Views and for reading keys and events; further calls wait.
	// A function passed to View or Read that itself calls View or Read needs two. There are at most
	// eleven more connections for other purposes. 0: 16.
	Readers int
	// Wait bounds how long a call waits for a free connection, for a server that does not answer,
	// or for the outcome of a commit whose connection broke. Then the error is storage.ErrBusy or
	// ErrUnknown. 0: 10 seconds.
	Wait time.Duration
	// Timeout bounds how long a writing transaction waits for a lock, and how long it may be idle.
	// Each of its statements may take twice as long; a reading transaction has five times as long.
	// So a paused or disconnected node blocks the others for at most a few Timeouts. 0: 2 seconds.
	Timeout time.Duration
	// Idle bounds how long the function of a View or Read may pause between reads. After that the
	// server ends the snapshot, and further reads fail. 0: one minute.
	Idle time.Duration
	// Poll is how often the log is checked for events of other nodes, in case a notification was
	// lost. 0: one second.
	Poll time.Duration
	// Partition is the time span, in sequence numbers, of each new partition of the event log. Trim
	// deletes whole partitions. 0: 6 hours.
	Partition time.Duration
	// Relaxed trades durability for speed (synchronous_commit=off): after a crash of the server,
	// the last moments may be lost. After a crash of this process, nothing is lost.
	Relaxed bool
	// Behind, if not nil, is called if the newest event of the database is older than one that this
	// process has served. Then the server has lost acknowledged data, as after a failover to a
	// standby that lagged. New numbers are greater than the served ones nevertheless. Behind is
	// called on a goroutine of the store.
	Behind func(newest, served int64)
	// SnapshotTime is how long a snapshot of the whole store may stay open. 0: one hour.
	SnapshotTime time.Duration
	// Now is the clock, for sequence numbers and expiry. Nil: time.Now.
	Now func() time.Time
}

func (c *Config) setDefaults() {
	positive(&c.Readers, 16)
	positive(&c.Wait, 10*time.Second)
	positive(&c.Timeout, 2*time.Second)
	positive(&c.Idle, time.Minute)
	positive(&c.Poll, time.Second)
	positive(&c.Partition, 6*time.Hour)
	positive(&c.SnapshotTime, time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Name == "" {
		c.Name = "pdskit"
	}
}

func positive[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	cfg   Config
	known int      // versions of the schema
	node  [16]byte // names this process in the table ticket

	reads, lookups *pool // of Views and pages; of look-ups that call nobody else's functions
	lanes, bulk    *pool // of steps and transactions; of what is done in pieces
	replica        *pool // nil: none

	writer writer
	kvTurn chan struct{} // full while a KV.Write runs
	kvLane lane

	snapshots chan struct{} // has a place for each that may be open
	numbers   numbers
	parts     parts

	newest   atomic.Int64                 // newest sequence number seen
	outdated atomic.Pointer[VersionError] // a newer program has migrated the schema
	behind   atomic.Int64                 // the newest of the database when that was last reported as too old

	notify chan struct{} // has room for one: full when other nodes are to be told
	stop   context.CancelFunc
	work   sync.WaitGroup

	// mu guards these.
	mu      sync.Mutex
	closed  bool
	open    map[storage.Snapshot]bool
	dropped []int64       // sets of failed calls of Replace
	changed chan struct{} // closed and replaced when newest grows
}

// Open connects to a server, PostgreSQL 14 or later, and creates or migrates the schema. Errors are
// *VersionError, *NodesError, and those of the connection.
//
// The URL is a libpq connection string: postgres://user:password@host/database?sslmode=verify-full,
// or keywords and values. With several hosts and target_session_attrs=read-write, connections go to
// the primary. A connection pooler must work in session mode.
func Open(ctx context.Context, url string, cfg Config) (*DB, error) {
	cfg.setDefaults()
	db := &DB{cfg: cfg, known: len(versions), kvTurn: make(chan struct{}, 1), changed: make(chan struct{}), notify: make(chan struct{}, 1)}
	db.open = make(map[storage.Snapshot]bool)
	db.snapshots = make(chan struct{}, max(1, cfg.Readers/4))
	if _, err := rand.Read(db.node[:]); err != nil {
		return nil, err
	}
	server, err := db.setUp(ctx, url)
	if err != nil {
		return nil, fail(ctx, err)
	}
	if err := db.newPools(url, server); err != nil {
		db.closePools()
		return nil, err
	}
	db.writer.init(db)
	db.kvLane = lane{db: db, id: laneKV}
	if err := db.start(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// server is what is known of the server.
type server struct {
	version int // as in server_version_num
	commit  string
}

// setUp looks at the server and brings the schema up to date.
func (db *DB) setUp(ctx context.Context, url string) (s server, err error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return s, err
	}
	if db.cfg.Schema == "" {
		if db.cfg.Schema = cfg.RuntimeParams["search_path"]; db.cfg.Schema == "" {
			db.cfg.Schema = "pdskit"
		}
	}
	cfg.RuntimeParams["search_path"] = pgIdentifier(db.cfg.Schema)
	cfg.RuntimeParams["application_name"] = db.cfg.Name
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = db.cfg.Wait
	}
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return s, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	err = c.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit')").Scan(&s.version, &s.commit)
	if err != nil {
		return s, err
	}
	if s.version < 140000 {
		return s, fmt.Errorf("postgres: the server has version %d; 14 is the oldest that will do", s.version/10000)
	}
	if err := db.migrate(ctx, c, versions[:], needs[:]); err != nil {
		return s, err
	}
	return s, db.enter(ctx, c)
}

// enter reads what a process must know, and adds its tickets.
func (db *DB) enter(ctx context.Context, c *pgx.Conn) error {
	var b batch
	var last, first, after int64
	b.Queue("INSERT INTO ticket (node, lane, last, seq, seen) SELECT $1, l, 0, 0, now() FROM unnest($2::bigint[]) l ON CONFLICT DO NOTHING", db.node[:], []int64{laneSteps, laneKV})
	b.each(func(r row) error {
		last = r.int(0)
		return nil
	}, "SELECT last FROM log")
	b.each(func(r row) error { // the partitions with the greatest numbers
		if after == 0 {
			after = r.int(1)
		}
		if r.int(1) >= first || first == 0 {
			first = r.int(0)
		}
		return nil
	}, "SELECT first, after FROM part ORDER BY first DESC LIMIT 2")
	if err := c.SendBatch(ctx, &b.Batch).Close(); err != nil {
		return err
	}
	db.newest.Store(last)
	if seq := db.floor(last); first <= seq && seq < after {
		db.parts.after = after
	}
	return nil
}

// newPools makes the pools.
func (db *DB) newPools(url string, s server) (err error) {
	t := db.cfg.Timeout
	read := settings(db.cfg.Schema, db.cfg.Name)
	read["default_transaction_read_only"] = "on"
	read["statement_timeout"] = milliseconds(5 * t)
	read["idle_in_transaction_session_timeout"] = milliseconds(db.cfg.Idle)
	write := settings(db.cfg.Schema, db.cfg.Name)
	write["statement_timeout"] = milliseconds(2 * t)
	write["lock_timeout"] = milliseconds(t)
	write["idle_in_transaction_session_timeout"] = milliseconds(t)
	switch {
	case db.cfg.Relaxed:
		write["synchronous_commit"] = "off"
	case s.commit == "off":
		write["synchronous_commit"] = "on"
	}
	bulk := make(map[string]string)
	for key, value := range write {
		bulk[key] = value
	}
	bulk["statement_timeout"] = milliseconds(5 * t)
	for _, p := range []struct {
		to     **pool
		url    string
		size   int
		params map[string]string
	}{
		{&db.reads, url, db.cfg.Readers, read}, {&db.lookups, url, 4, read},
		{&db.lanes, url, 3, write}, {&db.bulk, url, 4, bulk},
		{&db.replica, db.cfg.Replica, db.cfg.Readers, read},
	} {
		if p.url == "" {
			continue
		}
		if *p.to, err = db.newPool(p.url, p.size, p.params); err != nil {
			return err
		}
	}
	return nil
}

// start makes the first partition, and starts what a process does by itself.
func (db *DB) start(ctx context.Context) error {
	if db.parts.after == 0 {
		if err := db.parts.ensure(ctx, db, db.floor(db.newest.Load()), 1); err != nil {
			return err
		}
	}
	background, cancel := context.WithCancel(context.Background())
	db.stop = cancel
	db.work.Go(func() { db.listen(background) })
	db.work.Go(func() { db.notifyNodes(background) })
	return nil
}

// Store returns the store. Its Blobs is nil: the bytes of blobs are kept elsewhere.
func (db *DB) Store() storage.Store {
	return storage.Store{Repos: repos{db, db.reads}, Events: events{db, db.reads, db.lookups}, KV: kv{DB: db}}
}

// Close waits for running steps, and closes the connections. Later calls fail. A View that still
// runs keeps its connection until its function returns.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	close(db.changed) // those who wait look at closed
	db.mu.Unlock()
	db.endSnapshots()
	db.writer.close()
	if db.stop != nil {
		db.stop()
	}
	db.work.Wait()
	db.closePools()
	return nil
}

func (db *DB) closePools() {
	done := make(chan struct{})
	go func() { // waits for connections that are in use
		for _, p := range []*pool{db.reads, db.lookups, db.lanes, db.bulk, db.replica} {
			if p != nil {
				p.Close()
			}
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(db.cfg.Timeout):
	}
}

// useless returns why the database can no longer be used by this program, or nil.
func (db *DB) useless() error {
	if e := db.outdated.Load(); e != nil {
		return e
	}
	return nil
}

func (db *DB) isClosed() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.closed
}

func pgIdentifier(name string) string { return pgx.Identifier{name}.Sanitize() }
