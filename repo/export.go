package repo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Export writes a repository as a CAR file: the commit, then the tree in pre-order with the records
// in their places. A reader can verify this order in one pass (Repository specification, CAR File
// Serialization).
//
// With a revision in since, the file has at least what changed since that revision: a reader who
// has the repository of then can build the present one. If the event log covers all commits since,
// the file has the commit, the new tree nodes, and the records written since. Otherwise it has
// more: all nodes, or even all records. If nothing has changed, the file has no blocks.
//
// Memory does not grow with the number of records. The snapshot is read at the store's speed,
// however slow w is: see Config.TempDir. If there is no such repository, nothing is written, and
// the error is [ErrRepoNotFound].
func (h *Host) Export(ctx context.Context, did syntax.DID, since syntax.TID, w io.Writer) error {
	if w == nil {
		return errNoWriter
	}
	st, err := h.loadTree(ctx, did, since)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(st.tree) // so that the cache finds it
	return h.spooled(ctx, w, func(w io.Writer) error {
		buf := exportBuffers.Get().(*bufio.Writer)
		buf.Reset(w)
		defer func() {
			buf.Reset(nil)
			exportBuffers.Put(buf)
		}()
		// The log is read before the snapshot, because a store need not allow one within the other.
		// So the repository may change in between; then the log is read again. In the end, what the
		// log said of an earlier head is used: exportChanges checks it against the tree.
		for attempt := 1; ; attempt++ {
			was, err := h.historySince(ctx, did, since)
			if err != nil {
				return err
			}
			err = h.viewTree(ctx, did, func(r storage.Reader) error {
				if r.Head() != was.head && attempt < maxAttempts {
					return errMoved
				}
				return h.export(ctx, did, since, was, r, buf)
			})
			if err != errMoved {
				return err
			}
		}
	})
}

// exportBuffers are for the next export. A car.Writer needs no buffer of its own over one that is
// large enough.
var exportBuffers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}

func (h *Host) export(ctx context.Context, did syntax.DID, since syntax.TID, was history, r storage.Reader, w io.Writer) error {
	if since != "" && since == r.Head().Rev {
		out, err := car.NewWriter(w, r.Head().Commit)
		if err != nil {
			return err
		}
		return out.Flush()
	}
	if since > r.Head().Rev || was.extent == strange {
		since = "" // a state that was never ours
	}
	tree, err := h.treeOf(did, r)
	if err != nil {
		return err
	}
	out, err := car.NewWriter(w, r.Head().Commit)
	if err != nil {
		return err
	}
	block, err := r.Commit(ctx)
	if err != nil {
		return err
	}
	if err := out.Write(car.Block{CID: r.Head().Commit, Data: block}); err != nil {
		return err
	}
	if was.extent == covered {
		if done, err := h.exportChanges(ctx, tree, was, r, out); done || err != nil {
			return err
		}
	}
	records := storage.Records(ctx, r, storage.Range{})
	defer records.Close()
	for item, err := range tree.PreOrder() {
		if err != nil {
			return err
		}
		if item.Node.CID.Defined() {
			if err := out.Write(item.Node); err != nil {
				return err
			}
			continue
		}
		switch ok := records.Next(); {
		case records.Err() != nil:
			return records.Err()
		case !ok || string(records.Path()) != item.Key || string(records.CID()) != item.Value.KeyString():
			return fmt.Errorf("%w: %s: the tree has record %s, the store does not", storage.ErrCorrupt, did, item.Key)
		case since != "" && records.Rev() <= since:
			continue
		}
		if err := out.Write(car.Block{CID: item.Value, Data: records.Data()}); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Proof returns the commit's CID and the blocks that prove that a record is in the repository, or
// that it is not: the commit, the path through the tree, and the record if there is one. Whoever
// knows the account's public key can check it with [commit.VerifyRecord].
func (h *Host) Proof(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (root cid.Cid, blocks []car.Block, err error) {
	path := string(collection) + "/" + string(rkey)
	err = h.viewTree(ctx, did, func(r storage.Reader) error {
		tree, err := h.treeOf(did, r)
		if err != nil {
			return err
		}
		block, err := r.Commit(ctx)
		if err != nil {
			return err
		}
		nodes, err := tree.Proof(path)
		if err != nil {
			return err
		}
		root = r.Head().Commit
		blocks = append([]car.Block{{CID: root, Data: block}}, nodes...)
		switch rec, err := r.Record(ctx, path); {
		case err == nil:
			blocks = append(blocks, car.Block{CID: rec.CID, Data: rec.Data})
		case notFound(err, ErrRecordNotFound) != ErrRecordNotFound:
			return err
		}
		return nil
	})
	return root, blocks, err
}
