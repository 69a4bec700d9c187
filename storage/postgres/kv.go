package postgres

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
)

// space is a namespace of keys.
type space struct {
	table  string
	column string // of the account, or ""
	id     int64
}

var hostKeys = space{table: "host_key"}

func accountKeys(id int64) space { return space{table: "account_key", column: "repo", id: id} }

// get returns a value of a namespace, or ErrNotFound.
func (s space) get(ctx context.Context, c *conn, key string, now time.Time) (value []byte, err error) {
	b := &batch{}
	found := s.queueGet(b, key, now, &value)
	if err := c.send(ctx, b); err != nil {
		return nil, fail(ctx, err)
	}
	return value, found(key)
}

// queueGet queues the query for a value. found is called when it was carried out.
func (s space) queueGet(b *batch, key string, now time.Time, value *[]byte) (found func(key string) error) {
	*value = nil
	sql, args := "SELECT value FROM "+s.table+" WHERE key = $1 AND (expires IS NULL OR expires > $2)", []any{[]byte(key), now.UnixMicro()}
	if s.column != "" {
		sql += " AND " + s.column + " = $3"
		args = append(args, s.id)
	}
	b.each(func(r row) error {
		*value = r.bytes(0)
		return nil
	}, sql, args...)
	return func(key string) error {
		if *value == nil {
			return fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
		}
		return nil
	}
}

// keys yields the pairs of a range that have not expired.
func (s space) keys(ctx context.Context, c *conn, rng storage.Range, now time.Time) iter.Seq2[storage.KVPair, error] {
	return s.keysAfter(ctx, c, rng, now, func() error { return nil })
}

// keysAfter is keys with a function that is called before each page is read.
func (s space) keysAfter(ctx context.Context, c *conn, rng storage.Range, now time.Time, before func() error) iter.Seq2[storage.KVPair, error] {
	q := &ranged{table: s.table, key: "key", space: s.column, id: s.id, columns: "expires", data: "value", Range: rng}
	q.where, q.args = "(expires IS NULL OR expires > $1)", []any{now.UnixMicro()}
	next := func(p *page) (string, []any, error) {
		sql, args := q.next(p)
		return sql, args, before()
	}
	return readAfter(ctx, c, next, func(r row) (storage.KVPair, error) {
		p := storage.KVPair{Key: r.string(0), Expires: r.time(1)}
		if len(r) > 2 {
			p.Value = r.bytes(2)
		}
		return p, nil
	}, func(p storage.KVPair) { q.after(p.Key) })
}

type kv struct {
	*DB
	moving bool // writes a store that is shut, too
}

var _ storage.KV = kv{}

// kvReader reads the host's keys in a snapshot.
type kvReader struct {
	c   *conn
	now time.Time
}

func (k kvReader) Get(ctx context.Context, key string) ([]byte, error) {
	return hostKeys.get(ctx, k.c, key, k.now)
}

func (k kvReader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return hostKeys.keys(ctx, k.c, rng, k.now)
}

func (d kv) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	now := d.cfg.Now()
	return d.reads.view(ctx, func(b *batch) { // a snapshot is that of the first query
		b.Queue("SELECT 1")
	}, func() error { return nil }, func(c *conn) error { return fn(kvReader{c, now}) })
}

// Write implements storage.KV. It runs fn in a serializable transaction of the server, and again if
// that conflicts with another node's. Within one process, only one runs at a time.
func (d kv) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case d.kvTurn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.kvTurn }()
	if d.isClosed() {
		return errClosed
	}
	begin := time.Now()
	for attempt := 1; ; attempt++ {
		retry, err := d.try(ctx, fn)
		if !retry {
			return err
		}
		if time.Since(begin) > d.cfg.Wait {
			return busy(err)
		}
		if blocked(err) {
			d.endStalledSessions(ctx)
		}
		pause := time.Duration(rand.Int64N(int64(min(attempt, 50)) * int64(2*time.Millisecond)))
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
}

// try runs fn in a transaction, and reports whether that may be done again.
func (d kv) try(ctx context.Context, fn func(storage.KVTx) error) (retry bool, err error) {
	c, err := d.lanes.take(ctx)
	if err != nil {
		return false, fail(ctx, err)
	}
	held := true
	defer func() { // also if fn panics
		if held {
			c.end()
		}
	}()
	tx := &kvTx{lane: &d.kvLane, c: c, now: d.cfg.Now()}
	tx.pending.Queue("BEGIN ISOLATION LEVEL SERIALIZABLE")
	if d.moving {
		tx.pending.Queue(passSQL)
	}
	if err := fn(tx); err != nil { // its own, if the transaction is well
		return tx.err != nil && transient(tx.err) && ctx.Err() == nil, err
	}
	if tx.err != nil {
		return transient(tx.err) && ctx.Err() == nil, fail(ctx, tx.err)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if !tx.began && !tx.writes {
		return false, nil
	}
	if err := tx.begin(ctx); err != nil { // before what may not be done twice is sent
		return transient(err) && ctx.Err() == nil, fail(ctx, err)
	}
	number := d.kvLane.next()
	if tx.writes {
		d.kvLane.writeNumber(&tx.pending, number)
	}
	tx.pending.Queue("COMMIT")
	err = c.send(context.WithoutCancel(ctx), &tx.pending)
	switch {
	case err == nil:
		return false, nil
	case refused(err) || !tx.writes:
		return transient(err), fail(ctx, err)
	}
	c.drop()
	held = false
	committed, _, unknown := d.kvLane.outcome(number)
	if unknown != nil {
		return false, unknown
	}
	return !committed && transient(err), map[bool]error{false: err}[committed]
}

// kvTx is the host's keys in a transaction. What it writes is sent with the next statement that
// reads, or with the commit.
type kvTx struct {
	lane    *lane
	c       *conn
	now     time.Time
	pending batch
	began   bool // the transaction has begun at the server, and has locked the ticket
	writes  bool
	err     error // of the transaction, which so has ended
}

// begin sends what is pending, if the transaction has not begun.
func (k *kvTx) begin(ctx context.Context) error {
	if k.began {
		return nil
	}
	return k.flush(ctx, nil)
}

// flush sends what is pending and a query after it.
func (k *kvTx) flush(ctx context.Context, query func(b *batch)) error {
	if k.err != nil {
		return k.err
	}
	b := k.pending
	k.pending = batch{}
	registered := k.began
	if !k.began {
		// The ticket is locked after BEGIN and before all else.
		rest := b.QueuedQueries[1:]
		b = batch{pgx.Batch{QueuedQueries: b.QueuedQueries[:1:1]}}
		k.lane.lock(&b, &registered)
		b.QueuedQueries = append(b.QueuedQueries, rest...)
	}
	if query != nil {
		query(&b)
	}
	if b.Len() == 0 {
		return nil
	}
	err := k.c.send(ctx, &b)
	if err == nil && !registered {
		if err = k.lane.register(ctx); err == nil {
			err = errNoTicket
		}
	}
	if err != nil {
		k.err = err
		return fail(ctx, err)
	}
	k.began = true
	return nil
}

func (k *kvTx) Get(ctx context.Context, key string) (value []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var found func(string) error
	if err := k.flush(ctx, func(b *batch) { found = hostKeys.queueGet(b, key, k.now, &value) }); err != nil {
		return nil, err
	}
	return value, found(key)
}

func (k *kvTx) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return func(yield func(storage.KVPair, error) bool) {
		err := ctx.Err()
		if err == nil {
			err = k.flush(ctx, nil)
		}
		if err != nil {
			yield(storage.KVPair{}, err)
			return
		}
		// What the loop writes is sent before the next page is read.
		next := func() error { return k.flush(ctx, nil) }
		for p, e := range hostKeys.keysAfter(ctx, k.c, rng, k.now, next) {
			if e != nil && ctx.Err() == nil {
				k.err = e
			}
			if !yield(p, e) || e != nil {
				return
			}
		}
	}
}

func (k *kvTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := validKey(key); err != nil {
		return err
	}
	k.writes = true
	k.pending.Queue("INSERT INTO host_key (key, value, expires) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires = excluded.expires",
		[]byte(key), append([]byte{}, value...), expiry(expires))
	return k.bounded(ctx)
}

func (k *kvTx) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.writes = true
	k.pending.Queue("DELETE FROM host_key WHERE key = $1", []byte(key))
	return k.bounded(ctx)
}

// maxPending bounds how many statements are in memory.
const maxPending = 1000

func (k *kvTx) bounded(ctx context.Context) error {
	if k.pending.Len() < maxPending {
		return nil
	}
	return k.flush(ctx, nil)
}
