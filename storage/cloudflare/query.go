package cloudflare

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/storage"
)

// Reads of a store in another object. A read is a query: its bytes go to the other object, and the
// bytes of its answer come back. Each query is sent together with the earlier queries of the same
// snapshot and the hashes of their answers. The other object repeats those first, in the
// transaction of the new query. If an answer has changed, the call fails with ErrConflict. So
// everything that a reader has seen was true at one moment: that of the last query.
//
//	KVReader.Get ─▶ query ─▶ call [earlier queries with hashes, query] ─▶ one transaction of the store
const (
	queryGet    = 0 // key: a value, or null
	queryKeys   = 1 // from, to, reverse, keys only: a page of pairs, and whether there are more
	queryHead   = 2 // of a repository
	queryCommit = 3 // of a repository
)

// Limits on a page of pairs, and on the queries of one snapshot.
const (
	queryRows  = 500
	queryBytes = 1 << 20
	maxQueries = 2000
)

// errQueries: a reader has asked for more than a snapshot by calls can hold together.
var errQueries = fmt.Errorf("%w: more than %d reads of one snapshot in another object", storage.ErrInvalid, maxQueries)

// seenQuery is a query that was answered.
type seenQuery struct {
	query []byte
	hash  [sha256.Size]byte
}

// queries reads a snapshot by queries. It is for one goroutine.
type queries struct {
	// ask makes the call; the earlier queries are those of seen.
	ask     func(ctx context.Context, seen []seenQuery, query []byte) (answer []byte, err error)
	seen    []seenQuery
	answers map[string][]byte
}

func (q *queries) do(ctx context.Context, query []byte) ([]byte, error) {
	if a, ok := q.answers[string(query)]; ok {
		return a, nil
	}
	if len(q.seen) >= maxQueries {
		return nil, errQueries
	}
	answer, err := q.ask(ctx, q.seen, query)
	if err != nil {
		return nil, err
	}
	q.note(query, answer)
	return answer, nil
}

// note remembers an answer.
func (q *queries) note(query, answer []byte) {
	if q.answers == nil {
		q.answers = make(map[string][]byte)
	}
	q.answers[string(query)] = answer
	q.seen = append(q.seen, seenQuery{query, sha256.Sum256(answer)})
}

// Get implements storage.KVReader.
func (q *queries) Get(ctx context.Context, key string) ([]byte, error) {
	answer, err := q.do(ctx, appendKey(cbor.AppendUint(cbor.AppendArray(nil, 2), queryGet), key))
	if err != nil {
		return nil, err
	}
	r := cbor.NewReader(answer)
	value := readValue(r)
	if err := r.Done(); err != nil {
		return nil, err
	}
	if value == nil {
		return nil, fmt.Errorf("%w: key %q", storage.ErrNotFound, key)
	}
	return bytes.Clone(value), nil
}

// Keys implements storage.KVReader.
func (q *queries) Keys(ctx context.Context, rng storage.Range) iter.Seq2[storage.KVPair, error] {
	return func(yield func(storage.KVPair, error) bool) {
		for rng := rng; ; {
			answer, err := q.do(ctx, appendRange(nil, rng))
			if err != nil {
				yield(storage.KVPair{}, err)
				return
			}
			page, more, err := readPairs(answer)
			if err != nil {
				yield(storage.KVPair{}, err)
				return
			}
			for _, p := range page {
				if err := ctx.Err(); err != nil {
					yield(storage.KVPair{}, err)
					return
				}
				if !yield(p, nil) {
					return
				}
			}
			if !more || len(page) == 0 {
				return
			}
			if last := page[len(page)-1].Key; rng.Reverse {
				rng.To = last
			} else {
				rng.From = last + "\x00"
			}
		}
	}
}

func appendRange(b []byte, rng storage.Range) []byte {
	b = cbor.AppendUint(cbor.AppendArray(b, 5), queryKeys)
	b = appendKey(appendKey(b, rng.From), rng.To)
	return cbor.AppendBool(cbor.AppendBool(b, rng.Reverse), rng.KeysOnly)
}

// answerQuery answers a query in a snapshot of a store.
func answerQuery(ctx context.Context, s storage.KVReader, query []byte) ([]byte, error) {
	r := cbor.NewReader(query)
	n, _ := r.Array()
	kind, err := r.Uint()
	if err != nil {
		return nil, err
	}
	repo, _ := s.(storage.Reader)
	switch {
	case kind == queryGet && n == 2:
		key := readKey(r)
		if err := r.Done(); err != nil {
			return nil, err
		}
		value, err := s.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			return appendValue(nil, nil), nil
		} else if err != nil {
			return nil, err
		}
		return cbor.AppendBytes(nil, value), nil
	case kind == queryKeys && n == 5:
		var rng storage.Range
		rng.From = readKey(r)
		rng.To = readKey(r)
		rng.Reverse, _ = r.Bool()
		rng.KeysOnly, _ = r.Bool()
		if err := r.Done(); err != nil {
			return nil, err
		}
		return answerKeys(ctx, s, rng)
	case kind == queryHead && n == 1 && repo != nil && r.Done() == nil:
		return appendHead(nil, repo.Head()), nil
	case kind == queryCommit && n == 1 && repo != nil && r.Done() == nil:
		block, err := repo.Commit(ctx)
		if errors.Is(err, storage.ErrNotFound) {
			return appendValue(nil, nil), nil
		} else if err != nil {
			return nil, err
		}
		return cbor.AppendBytes(nil, block), nil
	}
	return nil, errMessage
}

// answerKeys is a page of pairs.
func answerKeys(ctx context.Context, s storage.KVReader, rng storage.Range) ([]byte, error) {
	var b []byte
	n, more := 0, false
	for p, err := range s.Keys(ctx, rng) {
		if err != nil {
			return nil, err
		}
		if more = n == queryRows || len(b) >= queryBytes; more {
			break
		}
		n++
		b = appendKey(cbor.AppendArray(b, 3), p.Key)
		b = appendTime(appendValue(b, p.Value), p.Expires)
	}
	return append(cbor.AppendArray(cbor.AppendBool(cbor.AppendArray(nil, 2), more), n), b...), nil
}

func readPairs(answer []byte) (page []storage.KVPair, more bool, err error) {
	r := cbor.NewReader(answer)
	expect(r, 2)
	more, _ = r.Bool()
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 3)
		var p storage.KVPair
		p.Key = readKey(r)
		p.Value = bytes.Clone(readValue(r))
		p.Expires = readTime(r)
		page = append(page, p)
	}
	return page, more, r.Done()
}

// appendKey appends a key, which may be any bytes.
func appendKey(b []byte, key string) []byte { return cbor.AppendBytes(b, []byte(key)) }

func readKey(r *cbor.Reader) string {
	b, _ := r.Bytes()
	return string(b)
}

// appendTime appends a time to the microsecond; 0 is none.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return cbor.AppendInt(b, 0)
	}
	return cbor.AppendInt(b, t.UnixMicro())
}

func readTime(r *cbor.Reader) (t time.Time) {
	if us, _ := r.Int(); us != 0 {
		if t = time.UnixMicro(us).UTC(); t.IsZero() {
			_ = r.Fail(errMessage)
		}
	}
	return t
}

func appendSeen(b []byte, seen []seenQuery) []byte {
	b = cbor.AppendArray(b, len(seen))
	for _, s := range seen {
		b = cbor.AppendBytes(cbor.AppendBytes(cbor.AppendArray(b, 2), s.query), s.hash[:])
	}
	return b
}

func readSeen(r *cbor.Reader) (seen []seenQuery) {
	n, _ := r.Array()
	for i := 0; i < n && r.Err() == nil; i++ {
		expect(r, 2)
		var s seenQuery
		s.query, _ = r.Bytes()
		hash, _ := r.Bytes()
		if copy(s.hash[:], hash) != len(s.hash) || len(hash) != len(s.hash) {
			_ = r.Fail(errMessage)
		}
		seen = append(seen, s)
	}
	if len(seen) > maxQueries {
		_ = r.Fail(errQueries)
	}
	return seen
}

// errSeen: what a reader has seen is not so any more.
var errSeen = fmt.Errorf("%w: what was read in another object has changed meanwhile", storage.ErrConflict)

// stillSo checks that earlier queries have the answers that they had.
func stillSo(ctx context.Context, s storage.KVReader, seen []seenQuery) error {
	for _, x := range seen {
		answer, err := answerQuery(ctx, s, x.query)
		if err != nil {
			return err
		}
		if sha256.Sum256(answer) != x.hash {
			return errSeen
		}
	}
	return nil
}

// answerSnapshot answers the bytes [earlier queries, query] in a snapshot.
func answerSnapshot(ctx context.Context, s storage.KVReader, seen []seenQuery, query []byte) ([]byte, error) {
	if err := stillSo(ctx, s, seen); err != nil {
		return nil, err
	}
	return answerQuery(ctx, s, query)
}

// busy is what a reader is told whose snapshot is gone: to try again.
func busy(err error) error {
	if errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("%w: %w", storage.ErrBusy, err)
	}
	return err
}
