package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Limits on what an export reads of the event log, which bound its work and memory. Beyond them,
// the export has all nodes.
const (
	maxHistoryEvents = 5000
	maxHistoryBytes  = 16 << 20
	maxHistoryOps    = 20_000
	maxAttempts      = 4
)

// errMoved: the repository has changed since the log was read.
var errMoved = errors.New("repo: the repository has changed")

// history is what the event log says of a repository since a revision.
type history struct {
	head   storage.Head
	extent extent
	data   cid.Cid            // if covered: the root then
	values map[string]cid.Cid // if covered: the values then of all paths that were written since
}

// extent is how far a history goes.
type extent int

const (
	unknown extent = iota // there are gaps, or it is too long
	covered               // back to the revision
	strange               // far enough to know that there was no such revision
)

// historySince reads the event log backwards from the repository's head, commit by commit. Every
// event names the revision and the root before it, so a gap shows.
func (h *Host) historySince(ctx context.Context, did syntax.DID, since syntax.TID) (was history, err error) {
	if was.head, err = h.Head(ctx, did); err != nil {
		return was, err
	}
	log, ok := h.store.Events.(storage.AccountEvents)
	if !ok || since == "" || since >= was.head.Rev {
		return was, nil
	}
	rev, data := was.head.Rev, was.head.Data
	values := make(map[string]cid.Cid)
	events, bytes, ops := 0, 0, 0
	for ev, err := range log.OfAccount(ctx, did) {
		if err != nil {
			return was, err
		}
		events++
		bytes += len(ev.Payload)
		if events > maxHistoryEvents || bytes > maxHistoryBytes {
			return was, nil
		}
		if ev.Kind != commit.KindCommit {
			continue
		}
		e, err := commit.DecodeEvent(ev.Payload)
		if err != nil {
			return was, nil // an event of another kind of host
		}
		if e.Rev > was.head.Rev {
			continue // newer than the head that was read
		}
		if ops += len(e.Ops); e.Rev != rev || ops > maxHistoryOps || rev == was.head.Rev && e.Commit != was.head.Commit {
			return was, nil
		}
		for _, op := range e.Ops {
			values[op.Path] = op.Prev // the oldest event is the last to say
		}
		rev, data = e.Since, e.PrevData
		switch {
		case rev == since:
			was.extent, was.data, was.values = covered, data, values
			return was, nil
		case rev < since:
			was.extent = strange
			return was, nil
		}
	}
	return was, nil
}

// exportChanges writes the nodes that a tree has and had not then, with the records that were
// written since. It reports whether it did: it writes nothing if the history does not lead to the
// root that it names.
func (h *Host) exportChanges(ctx context.Context, tree *mst.Tree, was history, r storage.Reader, out *car.Writer) (done bool, err error) {
	var undo []mst.Op
	changed := make(map[string]bool)
	for path, before := range was.values {
		now, _, err := tree.Get(path)
		if err != nil {
			return false, err
		}
		if now != before {
			undo = append(undo, mst.Op{Key: path, Value: before})
			changed[path] = now.Defined()
		}
	}
	before, err := tree.Apply(undo)
	if err != nil || before.Root != was.data {
		return false, nil
	}
	fresh := make(map[cid.Cid]bool, len(before.Removed))
	for _, c := range before.Removed { // on the way back
		fresh[c] = true
	}
	for item, err := range tree.PreOrderOf(func(c cid.Cid) bool { return fresh[c] }) {
		switch {
		case err != nil:
			return false, err
		case item.Node.CID.Defined():
			err = out.Write(item.Node)
		case changed[item.Key]:
			rec, recErr := r.Record(ctx, item.Key)
			switch {
			case errors.Is(recErr, storage.ErrNotFound) || recErr == nil && rec.CID != item.Value:
				err = fmt.Errorf("%w: the tree has record %s, the store does not", storage.ErrCorrupt, item.Key)
			case recErr != nil:
				err = recErr
			default:
				err = out.Write(car.Block{CID: rec.CID, Data: rec.Data})
			}
		}
		if err != nil {
			return false, err
		}
	}
	return true, out.Flush()
}
