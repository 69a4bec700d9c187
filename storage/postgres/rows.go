package postgres

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/jackc/pgx/v5"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// row is the columns of a row in binary format. They are valid until the next row is read.
type row [][]byte

func (r row) int(col int) int64 {
	if len(r[col]) != 8 {
		return 0 // NULL
	}
	return int64(binary.BigEndian.Uint64(r[col]))
}

func (r row) string(col int) string { return string(r[col]) }

// bytes copies a column.
func (r row) bytes(col int) []byte { return slices.Clone(nonNil(r[col])) }

// cid reads a CID that we wrote.
func (r row) cid(col int) (cid.Cid, error) {
	if len(r[col]) == 0 {
		return cid.Undef, nil
	}
	codec, digest, ok := dag.SplitBytes(r[col])
	if !ok {
		return cid.Undef, fmt.Errorf("%w: %x is no CID of the data model", storage.ErrCorrupt, r[col])
	}
	return dag.CID(codec, &digest), nil
}

// head reads a head from three columns.
func (r row) head(col int) (h storage.Head, err error) {
	if h.Commit, err = r.cid(col); err != nil {
		return h, err
	}
	h.Data, err = r.cid(col + 1)
	h.Rev = syntax.TID(r.string(col + 2))
	return h, err
}

// time reads a point in time in microseconds; NULL is the zero time.
func (r row) time(col int) time.Time {
	if r[col] == nil {
		return time.Time{}
	}
	return time.UnixMicro(r.int(col)).UTC()
}

// expiry is the value of a column for a point in time; the zero time is NULL.
func expiry(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	micro := t.UnixMicro()
	return &micro
}

func cidBytes(c cid.Cid) []byte {
	if !c.Defined() {
		return []byte{}
	}
	return c.Bytes()
}

// nonNil is for columns that are not NULL: a nil slice is no bytes.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// batch is statements that are sent together.
type batch struct{ pgx.Batch }

// each queues a query, and fn for each of its rows.
func (b *batch) each(fn func(row) error, sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := fn(rows.RawValues()); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}
