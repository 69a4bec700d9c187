package repo

import (
	"context"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// keptBlocks is how many bytes of blocks are kept between looking for them and writing them.
// Others are read twice.
const keptBlocks = 256 << 10

// ExportBlocks writes a CAR file without roots that has the blocks with the given CIDs: the commit,
// tree nodes and records of the repository's present state. Each block is written once, in the
// order of cids. If the repository lacks any of them, nothing is written, and missing has those
// CIDs.
//
// Memory and slow readers are handled as in [Host.Export].
func (h *Host) ExportBlocks(ctx context.Context, did syntax.DID, cids []cid.Cid, w io.Writer) (missing []cid.Cid, err error) {
	if w == nil {
		return nil, errNoWriter
	}
	err = h.spooled(ctx, w, func(w io.Writer) error {
		return h.viewTree(ctx, did, func(r storage.Reader) error {
			missing, err = h.exportBlocks(ctx, did, r, cids, w)
			return err
		})
	})
	return missing, err
}

func (h *Host) exportBlocks(ctx context.Context, did syntax.DID, r storage.Reader, cids []cid.Cid, w io.Writer) (missing []cid.Cid, err error) {
	var list []cid.Cid // without repetitions
	seen := make(map[cid.Cid]bool, len(cids))
	nodes := make(map[cid.Cid]bool)   // wanted, and neither commit nor record
	found := make(map[cid.Cid][]byte) // all nodes, and the first of the others
	records := make(map[cid.Cid]bool) // that are not in found
	kept := 0
	for _, c := range cids {
		if seen[c] {
			continue
		}
		seen[c] = true
		list = append(list, c)
		data, err := h.block(ctx, r, c)
		switch {
		case err == ErrRecordNotFound:
			nodes[c] = true
		case err != nil:
			return nil, err
		case kept+len(data) > keptBlocks:
			records[c] = true
		default:
			found[c] = data
			kept += len(data)
		}
	}
	if len(nodes) > 0 {
		tree, err := h.treeOf(did, r)
		if err != nil {
			return nil, err
		}
		if err := findNodes(tree, nodes, found); err != nil {
			return nil, err
		}
	}
	for _, c := range list {
		if found[c] == nil && !records[c] {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return missing, nil
	}
	out, err := car.NewWriter(w)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		data := found[c]
		if records[c] {
			if data, err = h.block(ctx, r, c); err != nil {
				return nil, err
			}
		}
		if err := out.Write(car.Block{CID: c, Data: data}); err != nil {
			return nil, err
		}
	}
	return nil, out.Flush()
}

// block returns the commit or a record of a snapshot by its CID, or ErrRecordNotFound.
func (h *Host) block(ctx context.Context, r storage.Reader, c cid.Cid) ([]byte, error) {
	if c == r.Head().Commit {
		return r.Commit(ctx)
	}
	rec, err := r.RecordByCID(ctx, c)
	return rec.Data, notFound(err, ErrRecordNotFound)
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
