package repo

import (
	"context"
	"errors"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Stats counts the contents of a repository.
type Stats struct {
	Head    storage.Head
	Records int
	Nodes   int // of the tree
	Blobs   int // that records refer to
	Missing int // of those, not uploaded
}

// Stats counts the contents of a repository. It scans the references to blobs and, if the tree is
// not cached, the records.
func (h *Host) Stats(ctx context.Context, did syntax.DID) (st Stats, err error) {
	err = h.viewTree(ctx, did, func(r storage.Reader) error {
		st = Stats{Head: r.Head()}
		tree, err := h.treeOf(did, r)
		if err != nil {
			return err
		}
		shape, err := tree.Stats()
		if err != nil {
			return err
		}
		st.Records, st.Nodes = shape.Keys, shape.Nodes
		var last cid.Cid
		for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
			if err != nil {
				return err
			}
			if ref.Blob == last {
				continue
			}
			last = ref.Blob
			st.Blobs++
			if _, _, err := h.store.Blobs.Stat(ctx, did, ref.Blob); errors.Is(err, storage.ErrNotFound) {
				st.Missing++
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return st, err
}

// CacheStats describes the cache of trees.
type CacheStats struct {
	Trees        int    // with one that is larger than the limit
	Bytes, Limit int64  // as estimated
	Hits, Misses uint64 // since the host was made
}

// CacheStats returns the present numbers of the cache of trees.
func (h *Host) CacheStats() CacheStats {
	c := &h.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	st := CacheStats{len(c.entries), c.size, c.limit, c.hits, c.misses}
	if c.large.state.tree != nil {
		st.Trees++
		st.Bytes += c.large.state.bytes()
	}
	return st
}

// SpoolBytes returns how many bytes of exports and imports are in temporary files now.
func (h *Host) SpoolBytes() int64 { return h.spool.Used() }
