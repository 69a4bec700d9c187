package cloudflare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

const (
	methodKVRead  = "kv.read"
	methodKVWrite = "kv.write"
)

// RemoteKV returns the key-value store of another object, which answers with [AnswerKV]. It is for
// the names of a host, which all of its accounts share. Each Get, and each page of Keys, is one
// call. A Write collects the writes of its function, and carries them out with one more call if
// everything that the function has read is unchanged. Otherwise it calls the function again. If
// something changes that a Read has already read, the Read fails with storage.ErrBusy. now is the
// clock, for keys that expire. Nil: time.Now.
func RemoteKV(call Call, now func() time.Time) storage.KV {
	if now == nil {
		now = time.Now
	}
	return remoteKV{remote{call}, now, make(chan struct{}, 1)}
}

// remote makes calls of another object.
type remote struct{ call Call }

type remoteKV struct {
	remote
	now func() time.Time
	// turn is full while a Write of this process runs: those would only outrun each other.
	turn chan struct{}
}

// maxTries bounds how often the function of a Write is called.
const maxTries = 50

func (k remoteKV) queries() *queries {
	return &queries{ask: func(ctx context.Context, seen []seenQuery, query []byte) ([]byte, error) {
		return k.bytes(ctx, methodKVRead, cbor.AppendBytes(appendSeen(cbor.AppendArray(nil, 2), seen), query))
	}}
}

// bytes is a call whose answer is bytes.
func (c remote) bytes(ctx context.Context, method string, body []byte) ([]byte, error) {
	r, err := c.ask(ctx, method, body)
	if err != nil {
		return nil, err
	}
	b, _ := r.Bytes()
	return b, r.Done()
}

// Read implements storage.KV.
func (k remoteKV) Read(ctx context.Context, fn func(storage.KVReader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return busy(fn(k.queries()))
}

// Write implements storage.KV.
func (k remoteKV) Write(ctx context.Context, fn func(storage.KVTx) error) error {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range maxTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		tx := &remoteTx{queries: k.queries(), now: k.now, writes: make(map[string]storage.KVWrite)}
		err := fn(tx)
		if err == nil && len(tx.writes) == 0 {
			return nil
		}
		if err != nil {
			if len(tx.seen) < 2 || errors.Is(err, errQueries) {
				if !tx.stale {
					return err
				}
				continue
			}
			tx.writes = nil // was it refused for what was true?
		}
		failed := k.commit(ctx, tx)
		switch {
		case errors.Is(failed, storage.ErrConflict), tx.stale:
			continue
		case err != nil:
			return err
		}
		return failed
	}
	return fmt.Errorf("%w: a transaction in another object was outrun %d times", storage.ErrBusy, maxTries)
}

// commit carries out the writes of a transaction, if what it has read is still so.
func (k remoteKV) commit(ctx context.Context, tx *remoteTx) error {
	b := appendSeen(cbor.AppendArray(nil, 2), tx.seen)
	b = cbor.AppendArray(b, len(tx.writes))
	for _, key := range slices.Sorted(maps.Keys(tx.writes)) {
		w := tx.writes[key]
		b = appendValue(appendKey(cbor.AppendArray(b, 3), w.Key), w.Value)
		b = appendTime(b, w.Expires)
	}
	r, err := k.ask(ctx, methodKVWrite, b)
	if err != nil {
		return err
	}
	return r.Done()
}

// remoteTx reads by queries, and through what it has written.
type remoteTx struct {
	*queries
	now    func() time.Time
	writes map[string]storage.KVWrite
	stale  bool // something that was read has changed
}

func (tx *remoteTx) note(err error) error {
	tx.stale = tx.stale || errors.Is(err, storage.ErrConflict)
	return err
}

// deleted reports whether a write leaves nothing to read.
func (tx *remoteTx) deleted(w storage.KVWrite) bool {
	return w.Value == nil || !w.Expires.IsZero() && !tx.now().Before(w.Expires)
}

// Get implements storage.KVTx.
func (tx *remoteTx) Get(ctx context.Context, key string) ([]byte, error) {
	w, ok := tx.writes[key]
	switch {
	case ok && tx.deleted(w):
		return nil, fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
	case ok:
		return slices.Clone(w.Value), nil
	}
	value, err := tx.queries.Get(ctx, key)
	return value, tx.note(err)
}

// Set implements storage.KVTx.
func (tx *remoteTx) Set(ctx context.Context, key string, value []byte, expires time.Time) error {
	if key == "" {
		return fmt.Errorf("%w: empty key", storage.ErrInvalid)
	}
	tx.writes[key] = storage.KVWrite{Key: key, Value: append([]byte{}, value...), Expires: expires}
	return ctx.Err()
}

// Delete implements storage.KVTx.
func (tx *remoteTx) Delete(ctx context.Context, key string) error {
	tx.writes[key] = storage.KVWrite{Key: key}
	return ctx.Err()
}

// Keys implements storage.KVTx.
func (tx *remoteTx) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	var own []storage.KVWrite // of the range, in its order
	for key, w := range tx.writes {
		if key >= rng.From && (rng.To == "" || key < rng.To) {
			own = append(own, w)
		}
	}
	before := func(a, b string) bool { return (a < b) != rng.Reverse && a != b }
	slices.SortFunc(own, func(a, b storage.KVWrite) int {
		n := cmp.Compare(a.Key, b.Key)
		if rng.Reverse {
			n = -n
		}
		return n
	})
	return func(yield func(storage.KVPair, error) bool) {
		left := own
		// until yields what was written here before a key; done: all of it.
		until := func(key string, done bool) bool {
			for len(left) > 0 && (done || before(left[0].Key, key)) {
				w := left[0]
				left = left[1:]
				if tx.deleted(w) {
					continue
				}
				p := storage.KVPair{Key: w.Key, Value: slices.Clone(w.Value), Expires: w.Expires}
				if rng.KeysOnly {
					p.Value = nil
				}
				if !yield(p, nil) {
					return false
				}
			}
			return true
		}
		for p, err := range tx.queries.Keys(ctx, rng) {
			if err != nil {
				yield(p, tx.note(err))
				return
			}
			if !until(p.Key, false) {
				return
			}
			if _, over := tx.writes[p.Key]; over {
				continue
			}
			if !yield(p, nil) {
				return
			}
		}
		until("", true)
	}
}

// AnswerKV returns a function that answers the calls of [RemoteKV] from a store.
func AnswerKV(kv storage.KV) Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		r := cbor.NewReader(body)
		expect(r, 2)
		seen := readSeen(r)
		var values []byte
		n := 1
		var err error
		switch method {
		case methodKVRead:
			query, _ := r.Bytes()
			if err = r.Done(); err == nil {
				err = kv.Read(ctx, func(s storage.KVReader) (err error) {
					values, err = answerSnapshot(ctx, s, seen, query)
					return err
				})
				values, n = cbor.AppendBytes(nil, values), 2
			}
		case methodKVWrite:
			var list []storage.KVWrite
			if list, err = readWrites(r); err == nil {
				err = kv.Write(ctx, func(tx storage.KVTx) error { return applyWrites(ctx, tx, seen, list) })
			}
		default:
			return nil, noMethod(method)
		}
		return answered(n, values, err), nil
	}
}

func noMethod(method string) error { return fmt.Errorf("cloudflare: no method %.100q", method) }

// answered is the answer of a call: n items, of which the first says that there is no error.
func answered(n int, values []byte, err error) []byte {
	if err != nil {
		return appendError(err)
	}
	return append(cbor.AppendUint(cbor.AppendArray(nil, n), 0), values...)
}

func readWrites(r *cbor.Reader) (list []storage.KVWrite, err error) {
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 3)
		var w storage.KVWrite
		w.Key = readKey(r)
		w.Value = readValue(r)
		w.Expires = readTime(r)
		list = append(list, w)
	}
	return list, r.Done()
}

func applyWrites(ctx context.Context, tx storage.KVTx, seen []seenQuery, list []storage.KVWrite) error {
	if err := stillSo(ctx, tx, seen); err != nil {
		return err
	}
	for _, w := range list {
		var err error
		if w.Value == nil {
			err = tx.Delete(ctx, w.Key)
		} else {
			err = tx.Set(ctx, w.Key, w.Value, w.Expires)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Answers returns a function that dispatches calls by the part of their method before the first
// dot: see [AnswerKV], [AnswerRepos], [AnswerEvents] and [AnswerDirectory].
func Answers(parts map[string]Call) Call {
	return func(ctx context.Context, method string, body []byte) ([]byte, error) {
		part, _, _ := strings.Cut(method, ".")
		if answer := parts[part]; answer != nil {
			return answer(ctx, method, body)
		}
		return nil, noMethod(method)
	}
}
