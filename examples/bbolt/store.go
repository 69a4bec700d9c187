package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The buckets. A key that has several parts begins with those of a fixed length, or ends a part
// with a zero byte.
var (
	reposBucket   = []byte("repos")   // DID → set, revision of the set, head, commit block
	recordsBucket = []byte("records") // set, path → CID, revision, CIDs of blobs, data
	cidsBucket    = []byte("cids")    // set, CID of a record, path → nothing
	refsBucket    = []byte("refs")    // set, CID of a blob, path → revision
	deadBucket    = []byte("dead")    // set, which belongs to no repository → nothing
	keysBucket    = []byte("keys")    // DID, 0, key → expiry, value
	kvBucket      = []byte("kv")      // key → expiry, value
	eventsBucket  = []byte("events")  // number → time, DID, kind, payload
	byDIDBucket   = []byte("bydid")   // DID, 0, number → nothing
	logBucket     = []byte("log")     // newest, trimmed → number
)

// DB is a store in one file of bbolt, with the bytes of blobs in files beside it. One process at a
// time may have it open.
type DB struct {
	db    *bolt.DB
	blobs *blobfs.Store
	turn  chan struct{} // has room for one: full while somebody writes

	mu      sync.Mutex
	changed chan struct{}    // closed and replaced when the log has grown
	staging map[uint64]bool  // sets that a Replace is filling
	now     func() time.Time // the clock
}

// maxSize is what the file may grow to. The whole of it is mapped when the store is opened: bbolt
// would else wait for all readers when the file outgrows its map, and a view that writes would wait
// for itself. On Windows, a file has the size of its map from the start, so that it gets a smaller
// one.
const maxSize, maxSizeWindows int64 = 64 << 30, 1 << 30

// Open opens the store that is kept in a directory, which is made if there is none. It waits while
// another process has it open, until the context ends.
func Open(ctx context.Context, dir string) (*DB, error) { return open(ctx, dir, maxSize) }

func open(ctx context.Context, dir string, size int64) (*DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if size = min(size, math.MaxInt/2); runtime.GOOS == "windows" {
		size = min(size, maxSizeWindows)
	}
	s := &DB{turn: make(chan struct{}, 1), changed: make(chan struct{}), staging: map[uint64]bool{}, now: time.Now}
	for {
		var err error
		s.db, err = bolt.Open(filepath.Join(dir, "store.bolt"), 0o600, &bolt.Options{
			Timeout: 50 * time.Millisecond, InitialMmapSize: int(size), MaxSize: int(size), FreelistType: bolt.FreelistMapType,
		})
		if err == nil {
			break
		}
		if !errors.Is(err, bolterrors.ErrTimeout) {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	s.db.AllocSize = 1 << 20 // by which the file grows
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{reposBucket, recordsBucket, cidsBucket, refsBucket, deadBucket, keysBucket, kvBucket, eventsBucket, byDIDBucket, logBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.blobs, err = blobfs.Open(filepath.Join(dir, "blobs"), blobfs.Config{})
	}
	if err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// Close closes the store. It waits for views that are open.
func (s *DB) Close() error { return s.db.Close() }

// Store returns the four stores.
func (s *DB) Store() storage.Store {
	return storage.Store{Repos: repos{s}, Events: events{s}, KV: kv{s}, Blobs: s.blobs}
}

// read gives fn a snapshot.
func (s *DB) read(ctx context.Context, fn func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(fn)
}

// write gives fn a transaction, which is committed, and on disk, if there is no error. Writers take
// turns. bbolt has a lock for that, but who waits for a lock does not notice that his context ends.
func (s *DB) write(ctx context.Context, fn func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turn }()
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	before := newest(tx)
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	grown := newest(tx) != before
	if err := tx.Commit(); err != nil {
		return full(err)
	}
	if grown {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return nil
}

// full gives an error its name if there was no room.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, bolterrors.ErrMaxSizeReached) {
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	}
	return err
}

// row is a row of a bucket. Its bytes are the reader's.
type row struct{ key, value []byte }

// rows yields the rows of a range of keys. with calls its function with the bucket. Rows are read
// by pages, and no cursor is open while the loop runs: it may change the bucket, and if with opens
// a transaction each time, a slow loop holds none.
func rows(ctx context.Context, with func(func(*bolt.Bucket) error) error, r storage.Range) iter.Seq2[row, error] {
	const pageRows, pageBytes = 256, 256 << 10
	return func(yield func(row, error) bool) {
		for {
			var page []row
			size := 0
			err := ctx.Err()
			if err == nil {
				err = with(func(b *bolt.Bucket) error {
					for key, value := range scan(b, r) {
						page = append(page, row{bytes.Clone(key), bytes.Clone(value)})
						if size += len(value); size >= pageBytes || len(page) == pageRows {
							break
						}
					}
					return nil
				})
			}
			if err != nil {
				yield(row{}, err)
				return
			}
			for _, x := range page {
				if err := ctx.Err(); err != nil {
					yield(row{}, err)
					return
				}
				if !yield(x, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			if last := string(page[len(page)-1].key); r.Reverse {
				r.To = last
			} else {
				r.From = last + "\x00" // the least key greater than last
			}
		}
	}
}

// scan yields the rows of a range of keys, without copies, while the bucket does not change.
func scan(b *bolt.Bucket, r storage.Range) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := b.Cursor()
		if !r.Reverse {
			for k, v := c.Seek([]byte(r.From)); k != nil && (r.To == "" || string(k) < r.To) && yield(k, v); k, v = c.Next() {
			}
			return
		}
		k, v := c.Last()
		if r.To != "" {
			if after, _ := c.Seek([]byte(r.To)); after != nil {
				k, v = c.Prev()
			} else {
				k, v = c.Last()
			}
		}
		for ; k != nil && string(k) >= r.From && yield(k, v); k, v = c.Prev() {
		}
	}
}

// within turns a range of keys that follow a prefix into one of whole keys.
func within(prefix string, r storage.Range) storage.Range {
	all := storage.Prefix(prefix)
	all.Reverse, all.KeysOnly, all.From = r.Reverse, r.KeysOnly, prefix+r.From
	if r.To != "" {
		all.To = prefix + r.To
	}
	return all
}

// pack puts fields into one value, each after its length.
func pack(fields ...[]byte) (b []byte) {
	for _, f := range fields {
		b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
	}
	return b
}

// unpack is the inverse of pack, for as many fields as there are.
func unpack(b []byte, fields ...*[]byte) error {
	for _, f := range fields {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return fmt.Errorf("%w: a value of %d bytes does not have its fields", storage.ErrCorrupt, len(b))
		}
		*f, b = b[size:][:n:n], b[size+int(n):]
	}
	return nil
}

// number is a number as a key or a part of one: numbers compare as their bytes do.
func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// parseNumber is the inverse of number; what is no number is 0.
func parseNumber(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
