package search

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// createExtension makes the type of vectors known.
func (x *Index) createExtension(ctx context.Context, tx Tx) error {
	there, err := list(ctx, tx, number, `SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'`)
	if err != nil {
		return err
	}
	if there[0] == 0 {
		return ErrNoPGVector
	}
	// Indexes of other names may do this at the same time.
	if err := x.exec(ctx, tx, `SELECT pg_advisory_xact_lock(hashtext('pdskit search: pgvector'))`); err != nil {
		return err
	}
	return x.exec(ctx, tx, `CREATE EXTENSION IF NOT EXISTS vector`)
}

// vectorColumn reads the column vector of NAME_vector as bytes, which decode takes.
func (x *Index) vectorColumn() string {
	if x.PGVector {
		return "vector_send(vector)"
	}
	return "vector"
}

// vectorParam is a vector as a parameter: what it is written as in a statement, and the value.
func (x *Index) vectorParam(v []float32, n int) (string, any) {
	if !x.PGVector {
		return fmt.Sprintf("$%d", n), encode(v)
	}
	b := []byte{'['}
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return fmt.Sprintf("CAST($%d AS vector)", n), string(append(b, ']'))
}

// decodeSent reads what vector_send gives: the number of dimensions, two bytes, and the values, all
// big-endian.
func (x *Index) decodeSent(b []byte) ([]float32, error) {
	if len(b) != 4+4*x.Dim {
		return nil, fmt.Errorf("%w: a stored vector has %d bytes, not %d", ErrSchema, len(b), 4+4*x.Dim)
	}
	v := make([]float32, x.Dim)
	for i := range v {
		v[i] = math.Float32frombits(binary.BigEndian.Uint32(b[4+4*i:]))
	}
	return v, nil
}

// byPGVector returns the nearest documents. The server computes with float32, in an order of its
// own: vectors that its rounding leaves in question are read and compared again.
func (x *Index) byPGVector(ctx context.Context, q Querier, unit []float32, filter []Condition, depth int) ([]scored, error) {
	param, value := x.vectorParam(unit, 1)
	where, args := x.conditions(filter, "doc", []any{value, depth - 1, 2 * x.rounding()})
	// <#> is the negative product, so that the nearest come first.
	docs, err := list(ctx, q, number, x.sql(`WITH near AS MATERIALIZED (SELECT doc, vector <#> `+param+` AS d FROM NAME_vector WHERE 1=1`+where+`)
		SELECT doc FROM near WHERE d <= coalesce((SELECT d FROM near ORDER BY d OFFSET $2 LIMIT 1), 'infinity') + $3`), args...)
	if err != nil {
		return nil, err
	}
	n := &nearest{k: depth}
	err = x.settle(ctx, q, unit, n, docs)
	return n.exact, err
}

// rounding bounds the error of a product of vectors of length 1 that is computed in float32, in any
// order: of n dimensions, n times the unit roundoff, and a little for the lengths.
func (x *Index) rounding() float64 { return 1.1*float64(x.Dim)*0x1p-24 + 1e-6 }
