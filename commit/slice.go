package commit

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/mst"
)

// Limits of the protocol (Sync specification).
const (
	MaxOps    = 200       // operations of one commit
	MaxRecord = 1_000_000 // bytes of one record
	MaxBlocks = 2_000_000 // bytes of one event's CAR slice
)

// Limits bounds events. Zero fields mean the protocol's limits.
type Limits struct {
	Ops    int
	Record int
	Blocks int
}

func (l Limits) withDefaults() Limits {
	if l.Ops == 0 {
		l.Ops = MaxOps
	}
	if l.Record == 0 {
		l.Record = MaxRecord
	}
	if l.Blocks == 0 {
		l.Blocks = MaxBlocks
	}
	return l
}

// ErrTooLarge: a commit exceeds a limit of the protocol.
var ErrTooLarge = errors.New("commit: too large for one event")

// SetBlocks sets the event's CAR slice: the commit, the new nodes of the tree with the covering
// proof, and the records that the operations create or update. Ops must be set before.
func (e *Event) SetBlocks(commit car.Block, change *mst.Change, records []car.Block, lim Limits) error {
	if change == nil {
		return errors.New("commit: the blocks of an event need the tree's change")
	}
	lim = lim.withDefaults()
	if len(e.Ops) > lim.Ops {
		return fmt.Errorf("%w: %d operations, at most %d", ErrTooLarge, len(e.Ops), lim.Ops)
	}
	size := 64
	for _, set := range [][]car.Block{{commit}, change.New, change.Proof, records} {
		for _, b := range set {
			size += len(b.Data) + 40
		}
	}
	e.Blocks = car.Append(make([]byte, 0, size), []cid.Cid{commit.CID}, commit)
	e.Blocks = car.AppendBlocks(e.Blocks, change.New...)
	e.Blocks = car.AppendBlocks(e.Blocks, change.Proof...)
	var written map[cid.Cid]bool
	if len(records) > 1 {
		written = make(map[cid.Cid]bool, len(records))
	}
	for _, r := range records {
		if len(r.Data) > lim.Record {
			return fmt.Errorf("%w: a record of %d bytes, at most %d", ErrTooLarge, len(r.Data), lim.Record)
		}
		if !written[r.CID] {
			if written != nil {
				written[r.CID] = true
			}
			e.Blocks = car.AppendBlocks(e.Blocks, r)
		}
	}
	if len(e.Blocks) > lim.Blocks {
		return fmt.Errorf("%w: %d bytes of blocks, at most %d", ErrTooLarge, len(e.Blocks), lim.Blocks)
	}
	return nil
}
