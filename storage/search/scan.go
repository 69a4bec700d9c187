package search

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// A search compares copies of vectors while it reads the next ones: one goroutine reads, others
// compare.
const (
	maxWorkers  = 4
	batchBlocks = 8
)

// batch is some blocks.
type batch struct {
	block []int64
	pass  []uint64 // the slots that pass the filter
	slots []byte
}

// batches are kept for the next search.
var batches = sync.Pool{New: func() any { return new(batch) }}

// reset makes a batch empty, with room for blocks of a size.
func (b *batch) reset(size int) {
	b.block, b.pass = b.block[:0], b.pass[:0]
	b.slots = slices.Grow(b.slots[:0], batchBlocks*size)
}

// workers returns how many goroutines compare.
func workers() int { return max(1, min(runtime.GOMAXPROCS(0), maxWorkers)) }

// scan compares the next blocks, and returns the last one.
func (x *Index) scan(ctx context.Context, q Querier, p *probe, n *nearest, mask map[int64]uint64, after int64) (int64, error) {
	rows, err := q.QueryContext(ctx, x.sql(`SELECT block, slots FROM NAME_block WHERE block > $1 ORDER BY block LIMIT $2`), after, x.limits().blocks)
	if err != nil {
		return 0, wrap(err)
	}
	defer rows.Close()
	// Each worker has candidates of its own. What it drops is worse than k of those.
	parts := make([]nearest, workers())
	full := make(chan *batch)
	free := make(chan *batch, len(parts)+1)
	for range cap(free) {
		free <- batches.Get().(*batch)
	}
	var wg sync.WaitGroup
	for i := range parts {
		parts[i] = nearest{k: n.k, least: n.floor()}
		wg.Go(func() {
			for b := range full {
				x.compare(p, b, &parts[i])
				free <- b
			}
		})
	}
	last, err := x.read(rows, mask, after, full, free)
	close(full)
	wg.Wait()
	for range cap(free) {
		batches.Put(<-free)
	}
	if err != nil {
		return 0, err
	}
	for i := range parts {
		for _, c := range parts[i].some {
			n.merge(c)
		}
	}
	return last, nil
}

// read copies blocks into batches and hands these over. It returns the last block.
func (x *Index) read(rows *sql.Rows, mask map[int64]uint64, last int64, full chan<- *batch, free <-chan *batch) (int64, error) {
	size := blockSlots * x.slotSize()
	var b *batch
	defer func() { // whatever happens, as scan gets all batches back
		if b != nil {
			full <- b
		}
	}()
	for rows.Next() {
		var slots sql.RawBytes
		if err := rows.Scan(&last, &slots); err != nil {
			return 0, wrap(err)
		}
		if len(slots) != size {
			return 0, fmt.Errorf("%w: a block has %d bytes, not %d", ErrSchema, len(slots), size)
		}
		pass := ^uint64(0)
		if mask != nil {
			if pass = mask[last]; pass == 0 {
				continue
			}
		}
		if b == nil {
			b = <-free
			b.reset(size)
		}
		b.block, b.pass, b.slots = append(b.block, last), append(b.pass, pass), append(b.slots, slots...)
		if len(b.block) == batchBlocks {
			full <- b
			b = nil
		}
	}
	return last, wrap(rows.Err())
}

// compare adds the candidates of a batch.
func (x *Index) compare(p *probe, b *batch, n *nearest) {
	size := x.slotSize()
	for i, block := range b.block {
		slots := b.slots[i*blockSlots*size:][:blockSlots*size]
		for k := range blockSlots {
			slot := slots[k*size : (k+1)*size]
			if b.pass[i]>>k&1 == 0 || slot[0]|slot[1]|slot[2]|slot[3] == 0 {
				continue
			}
			score, radius := p.bounds(slot)
			n.add(block*blockSlots+int64(k), score, radius)
		}
	}
}
