package repo

import (
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Export writes a repository as a CAR file: the commit, then the tree in
// pre-order with the records in their places, which is the order that lets a
// reader verify it in one pass (Repository specification, CAR File
// Serialization).
//
// With a revision in since, records written in that revision or before are left
// out; all nodes of the tree are there. If the repository has not changed since,
// the CAR has no blocks.
//
// Memory does not grow with the repository's records, and the snapshot is read at the
// store's speed, however slow w is. Nothing is written to w when there is no
// such repository (ErrRepoNotFound).
func (h *Host) Export(ctx context.Context, did syntax.DID, since syntax.TID, w io.Writer) error {
	st, err := h.warm(ctx, did, since)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(st.tree) // so that the cache finds it
	return h.spooled(ctx, w, func(w io.Writer) error {
		return h.viewTree(ctx, did, func(r storage.Reader) error {
			return h.export(ctx, did, since, r, w)
		})
	})
}

func (h *Host) export(ctx context.Context, did syntax.DID, since syntax.TID, r storage.Reader, w io.Writer) error {
	if since != "" && since >= r.Head().Rev {
		out, err := car.NewWriter(w, r.Head().Commit)
		if err != nil {
			return err
		}
		return out.Flush()
	}
	tree, err := h.treeOf(ctx, did, r)
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
	next, stop := iter.Pull2(r.Records(ctx, storage.Range{}))
	defer stop()
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
		rec, err, ok := next()
		switch {
		case err != nil:
			return err
		case !ok || rec.Path != item.Key || rec.CID != item.Value:
			return fmt.Errorf("%w: %s: the tree has record %s, the store does not", storage.ErrCorrupt, did, item.Key)
		case rec.Rev <= since:
			continue
		}
		if err := out.Write(car.Block{CID: rec.CID, Data: rec.Data}); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Proof returns the commit's CID and the blocks that prove to a holder of the
// account's key that a record is in the repository, or that it is not: the
// commit, the path through the tree, and the record if there is one.
func (h *Host) Proof(ctx context.Context, did syntax.DID, collection syntax.NSID, rkey syntax.RecordKey) (root cid.Cid, blocks []car.Block, err error) {
	path := string(collection) + "/" + string(rkey)
	err = h.viewTree(ctx, did, func(r storage.Reader) error {
		tree, err := h.treeOf(ctx, did, r)
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

// Blocks returns blocks of a repository's present state by CID: its commit, nodes
// of its tree and records. CIDs that it does not have are returned as missing.
func (h *Host) Blocks(ctx context.Context, did syntax.DID, cids []cid.Cid) (blocks []car.Block, missing []cid.Cid, err error) {
	err = h.viewTree(ctx, did, func(r storage.Reader) error {
		found := make(map[cid.Cid][]byte, len(cids))
		nodes := make(map[cid.Cid]bool) // wanted, and neither commit nor record
		for _, c := range cids {
			if c == r.Head().Commit {
				block, err := r.Commit(ctx)
				if err != nil {
					return err
				}
				found[c] = block
				continue
			}
			switch rec, err := r.RecordByCID(ctx, c); {
			case err == nil:
				found[c] = rec.Data
			case notFound(err, ErrRecordNotFound) == ErrRecordNotFound:
				nodes[c] = true
			default:
				return err
			}
		}
		if len(nodes) > 0 {
			tree, err := h.treeOf(ctx, did, r)
			if err != nil {
				return err
			}
			if err := findNodes(tree, nodes, found); err != nil {
				return err
			}
		}
		for _, c := range cids {
			if data, ok := found[c]; ok {
				blocks = append(blocks, car.Block{CID: c, Data: data})
			} else {
				missing = append(missing, c)
			}
		}
		return nil
	})
	return blocks, missing, err
}

// findNodes looks for nodes of a tree by their CIDs, in one walk.
func findNodes(tree *mst.Tree, wanted map[cid.Cid]bool, found map[cid.Cid][]byte) error {
	for node, err := range tree.Nodes() {
		if err != nil {
			return err
		}
		if wanted[node.CID] {
			found[node.CID] = node.Data
			if delete(wanted, node.CID); len(wanted) == 0 {
				return nil
			}
		}
	}
	return nil
}
