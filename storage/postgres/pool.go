package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/storage"
)

// pool is connections of one kind.
type pool struct {
	*pgxpool.Pool
	size   int32
	wait   time.Duration
	closed func() bool
	// useless returns why the schema can no longer be used, or nil.
	useless func() error
	// grace is how long what was sent may go on after its context has ended, and limit how long in
	// all. To break it off would cost the connection, with the snapshot or the transaction in it.
	grace, limit time.Duration
	pin          string // not empty: all connections read a snapshot of this name
}

// settings are those of all sessions. Every statement of this package walks an index, whatever the
// planner knows about the tables: so plans are made once and do not change with the statistics.
func settings(schema, name string) map[string]string {
	return map[string]string{
		"search_path":      pgIdentifier(schema),
		"application_name": name,
		"plan_cache_mode":  "force_generic_plan",
		"enable_seqscan":   "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
		"jit": "off",
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }

// newPool makes a pool. It connects when a connection is needed.
func (db *DB) newPool(url string, size int, params map[string]string) (*pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns, cfg.MinConns = int32(size), 0
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.PingTimeout = db.cfg.Timeout
	for key, value := range params {
		cfg.ConnConfig.RuntimeParams[key] = value
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = db.cfg.Timeout
	}
	p, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	return &pool{Pool: p, size: int32(size), wait: db.cfg.Wait, closed: db.isClosed, useless: db.useless, grace: db.cfg.Timeout / 2, limit: 5 * db.cfg.Timeout}, nil
}

// conn is a connection in use.
type conn struct {
	*pgxpool.Conn
	pool *pool
	kept bool // it is another conn's
}

// take waits for a free connection to a server that answers, for Config.Wait at most. If the pool
// is that of a snapshot, it has begun to read it.
func (p *pool) take(ctx context.Context) (*conn, error) {
	c, err := p.acquire(ctx)
	if err != nil || p.pin == "" {
		return c, err
	}
	if err := c.enter(ctx); err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

func (p *pool) acquire(ctx context.Context) (*conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := p.useless(); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	var last error
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		c, err := p.Acquire(limited)
		switch {
		case err == nil:
			return &conn{Conn: c, pool: p}, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case p.closed():
			return nil, errClosed
		case limited.Err() == nil && !transient(err): // no such database, a wrong password
			return nil, err
		case last == nil || limited.Err() == nil:
			last = err
		}
		if sleep.For(limited, pause) != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, fmt.Errorf("%w: no connection for %v (of %d): %w", storage.ErrBusy, p.wait, p.size, last)
		}
	}
}

// context returns the context of one exchange with the server, which outlives ctx by the grace
// time.
func (p *pool) context(ctx context.Context) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.limit)
	if ctx.Done() == nil {
		return inner, cancel
	}
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(p.grace, cancel) })
	return inner, func() {
		stop()
		cancel()
	}
}

// send sends statements, and returns when all are done.
func (c *conn) send(ctx context.Context, b *batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	inner, cancel := c.pool.context(ctx)
	defer cancel()
	return c.SendBatch(inner, &b.Batch).Close()
}

// exec sends one statement.
func (c *conn) exec(ctx context.Context, sql string, args ...any) (rows int64, err error) {
	inner, cancel := c.pool.context(ctx)
	defer cancel()
	tag, err := c.Exec(inner, sql, args...)
	return tag.RowsAffected(), err
}

// end undoes a transaction, if there is one, and gives the connection back. One that does not
// answer is closed.
func (c *conn) end() {
	if c.kept {
		return
	}
	if pg := c.Conn.Conn().PgConn(); !pg.IsClosed() && pg.TxStatus() != 'I' {
		_, _ = c.exec(context.Background(), "ROLLBACK")
	}
	c.Release() // closes it if it is still in a transaction
}

// drop closes a connection of which nothing is known.
func (c *conn) drop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // do not wait for a farewell
	_ = c.Hijack().Close(ctx)
}

// retry calls fn, which is not a step and may run again, until it succeeds or fails for good.
func (p *pool) retry(ctx context.Context, fn func(c *conn) error) error {
	begin := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		c, err := p.take(ctx)
		if err != nil {
			return fail(ctx, err)
		}
		err = fn(c)
		if err == nil || !transient(err) || ctx.Err() != nil {
			c.end()
			return fail(ctx, err)
		}
		c.end()
		if time.Since(begin) > p.wait {
			return busy(err)
		}
		if err := sleep.For(ctx, pause); err != nil {
			return err
		}
	}
}
