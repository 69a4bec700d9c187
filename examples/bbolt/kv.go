package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	bolt "go.etcd.io/bbolt"
)

// kv implements storage.KV.
type kv struct{ *DB }

// namespace is a set of keys in a transaction: those of the host, or of one account. It implements
// storage.KVTx; in a snapshot, only what reads may be called.
type namespace struct {
	tx     *bolt.Tx
	bucket []byte
	prefix string
	now    time.Time
}

func account(tx *bolt.Tx, did syntax.DID, now time.Time) namespace {
	return namespace{tx, keysBucket, string(did) + "\x00", now}
}

func host(tx *bolt.Tx, now time.Time) namespace { return namespace{tx, kvBucket, "", now} }

func (s kv) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	return s.read(ctx, func(tx *bolt.Tx) error { return fn(host(tx, s.now())) })
}

func (s kv) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	return s.write(ctx, func(tx *bolt.Tx) error { return fn(host(tx, s.now())) })
}

// parseValue reads the value of a key, and reports whether it has not expired.
func (n namespace) parseValue(b []byte) (value []byte, expires time.Time, live bool, err error) {
	var at []byte
	if err := unpack(b, &at, &value); err != nil {
		return nil, time.Time{}, false, err
	}
	if len(at) > 0 {
		expires = time.UnixMilli(int64(parseNumber(at))).UTC()
	}
	return value, expires, expires.IsZero() || n.now.Before(expires), nil
}

// get returns a value, whose bytes are those of the row, or false.
func (n namespace) get(key string) (value []byte, ok bool, err error) {
	b := n.tx.Bucket(n.bucket).Get([]byte(n.prefix + key))
	if b == nil {
		return nil, false, nil
	}
	value, _, live, err := n.parseValue(b)
	if !live {
		return nil, false, err
	}
	return value, true, err
}

func (n namespace) set(key string, value []byte, expires time.Time) error {
	var at []byte
	if !expires.IsZero() {
		at = number(uint64(expires.UnixMilli()))
	}
	return n.tx.Bucket(n.bucket).Put([]byte(n.prefix+key), pack(at, value))
}

func (n namespace) delete(key string) error {
	return n.tx.Bucket(n.bucket).Delete([]byte(n.prefix + key))
}

func (n namespace) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, ok, err := n.get(key)
	if err == nil && !ok {
		err = fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), nil
}

func (n namespace) Keys(ctx context.Context, r storage.Range) iter.Seq2[storage.KVPair, error] {
	with := func(fn func(*bolt.Bucket) error) error { return fn(n.tx.Bucket(n.bucket)) }
	return func(yield func(storage.KVPair, error) bool) {
		for x, err := range rows(ctx, with, within(n.prefix, r)) {
			var pair storage.KVPair
			if err == nil {
				var live bool
				pair.Key = string(x.key[len(n.prefix):])
				if pair.Value, pair.Expires, live, err = n.parseValue(x.value); err == nil && !live {
					continue
				}
				if r.KeysOnly {
					pair.Value = nil
				}
			}
			if !yield(pair, err) || err != nil {
				return
			}
		}
	}
}

func (n namespace) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if key == "" {
		return errors.New("bbolt: empty key")
	}
	return n.set(key, value, expires)
}

func (n namespace) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.delete(key)
}

// sweepKeys deletes the keys that have expired.
func (s *DB) sweepKeys(ctx context.Context) error {
	for _, bucket := range [][]byte{keysBucket, kvBucket} {
		for r := (storage.Range{}); ; {
			next := ""
			err := s.write(ctx, func(tx *bolt.Tx) error {
				next = ""
				n := namespace{tx: tx, now: s.now()}
				rows := 0
				_, err := deleteRows(tx.Bucket(bucket), r, func(key, value []byte) (del, stop bool) {
					_, _, live, err := n.parseValue(value)
					if rows++; rows == sweepRows {
						next = string(key) + "\x00"
					}
					return err == nil && !live, next != ""
				})
				return err
			})
			if err != nil {
				return err
			}
			if r.From = next; next == "" {
				break
			}
		}
	}
	return nil
}
