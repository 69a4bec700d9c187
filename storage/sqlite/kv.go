package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/pdskit/pdskit/storage"
)

// hostKeys is the namespace of the keys that belong to no account.
const hostKeys = 0

// get returns a value of a namespace, or ErrNotFound.
const selectValue = "SELECT value FROM kv WHERE repo = ? AND key = ? AND (expires IS NULL OR expires > ?)"

func (c *conn) get(id int64, key string, now time.Time) (value []byte, err error) {
	found, err := c.row(func(s *sqlite3.Stmt) error {
		value = nonNil(s.ColumnBlob(0, nil))
		return nil
	}, selectValue, id, key, now)
	if err == nil && !found {
		err = fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
	}
	return value, err
}

// compare reports whether there is a key, and with a certain value.
func (c *conn) compare(id int64, key string, want []byte, now time.Time) (found, same bool, err error) {
	found, err = c.row(func(s *sqlite3.Stmt) error {
		same = bytes.Equal(s.ColumnRawBlob(0), want)
		return nil
	}, selectValue, id, key, now)
	return found, same, err
}

func (c *conn) set(id int64, key string, value []byte, expires time.Time) error {
	if key == "" {
		return errors.New("sqlite: empty key")
	}
	return c.exec("INSERT OR REPLACE INTO kv (repo, key, value, expires) VALUES (?, ?, ?, ?)", id, key, nonNil(value), expires)
}

func (c *conn) delete(id int64, key string) error {
	return c.exec("DELETE FROM kv WHERE repo = ? AND key = ?", id, key)
}

// kvReader reads one namespace.
type kvReader struct {
	c   *conn
	id  int64
	now time.Time
}

func (k kvReader) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, err := k.c.get(k.id, key, k.now)
	return value, fail(ctx, err)
}

func (k kvReader) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	where, args := ranged("key", k.id, rng)
	return func(yield func(storage.KVPair, error) bool) {
		for p, err := range each(ctx, k.c, columnPair, "SELECT key, value, expires FROM kv "+where, args...) {
			if err == nil && !p.Expires.IsZero() && !k.now.Before(p.Expires) {
				continue
			}
			if rng.KeysOnly {
				p.Value = nil
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

func columnPair(s *sqlite3.Stmt) (storage.KVPair, error) {
	return storage.KVPair{Key: s.ColumnText(0), Value: nonNil(s.ColumnBlob(1, nil)), Expires: columnTime(s, 2)}, nil
}

// kvTx is a namespace in a transaction.
type kvTx struct{ kvReader }

func (k kvTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fail(ctx, k.c.set(k.id, key, value, expires))
}

func (k kvTx) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return fail(ctx, k.c.delete(k.id, key))
}

type kv struct {
	*DB
	moving bool // writes a store that is shut, too
}

var _ storage.KV = kv{}

func (d kv) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	return d.read(ctx, func(c *conn) error { return fn(kvReader{c, hostKeys, d.cfg.Now()}) })
}

// Write implements storage.KV. It runs fn while it holds the store's only writer, so fn must not
// wait for another write.
func (d kv) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return d.writer.do(ctx, step{fn: func(c *conn) error {
		write := func() error { return fn(kvTx{kvReader{c, hostKeys, d.cfg.Now()}}) }
		if d.moving {
			return c.whileShut(write)
		}
		return write()
	}})
}
