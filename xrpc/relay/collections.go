package relay

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// collections notes what a commit changes of the collections that the account has records of. sound
// says that the commit's proof holds.
//
// A record that is created or updated shows that there is one. Whether a deletion was that of the
// last record of a collection, the proof tells: it has the path to where the record was, and so its
// neighbours. If neither is of the collection, no record is.
func (c *change) collections(e *commit.Event, sound bool) {
	var emptied map[syntax.NSID]bool
	for _, op := range e.Ops {
		name, _, _ := strings.Cut(op.Path, "/")
		nsid := syntax.NSID(name)
		if op.CID.Defined() {
			if !c.to.collections[nsid] {
				if _, err := syntax.ParseNSID(name); err == nil {
					c.collection(nsid, true)
				}
			}
			delete(emptied, nsid)
		} else if c.to.collections[nsid] {
			if emptied == nil {
				emptied = make(map[syntax.NSID]bool)
			}
			emptied[nsid] = true
		}
	}
	for _, op := range e.Ops { // one that was created before it came to a deletion
		if name, _, _ := strings.Cut(op.Path, "/"); op.CID.Defined() {
			delete(emptied, syntax.NSID(name))
		}
	}
	if len(emptied) == 0 {
		return
	}
	if !sound {
		c.to.state.Described = false // the host is asked
		return
	}
	src, err := slice(e.Blocks)
	for nsid := range emptied {
		if err == nil && isEmpty(src, c.to.head.Data, nsid) {
			c.collection(nsid, false)
		}
	}
}

// blocks are those of one message.
type blocks map[cid.Cid][]byte

// slice reads the blocks of a message.
func slice(file []byte) (blocks, error) {
	_, all, err := car.ReadAll(file, car.Limits{})
	if err != nil {
		return nil, err
	}
	b := make(blocks, len(all))
	for _, block := range all {
		b[block.CID] = block.Data
	}
	return b, nil
}

// Block implements mst.Source.
func (b blocks) Block(c cid.Cid) ([]byte, error) {
	if data, ok := b[c]; ok {
		return data, nil
	}
	return nil, mst.ErrPartial
}

// isEmpty reports whether a tree, of which the path is there to where a collection's record was
// deleted, has no record of the collection.
func isEmpty(src blocks, root cid.Cid, name syntax.NSID) bool {
	tree, err := mst.Open(mst.Checked{Source: src}, root, mst.Limits{})
	if err != nil {
		return false
	}
	from := string(name) + "/"
	for e, err := range tree.Walk(from) {
		// If the first key after from is not there to be seen, it is not the neighbour of what was
		// deleted, so it is of the collection.
		return err == nil && !strings.HasPrefix(e.Key, from)
	}
	return true
}

// describe asks the host of an account which collections it has.
func (r *Relay) describe(ctx context.Context, c *change) error {
	a := &c.to
	var names []string
	if store := r.local(a.identity.host); store != nil {
		var err error
		if names, err = collectionsOf(ctx, store.Repos, a.did); err != nil {
			return err
		}
	} else {
		var answer struct {
			Collections []string `json:"collections"`
		}
		if err := r.fetchJSON(ctx, a.identity.host, api.RepoDescribeRepoNSID, url.Values{"repo": {string(a.did)}}, &answer); err != nil {
			return err
		}
		names = answer.Collections
	}
	has := make(map[syntax.NSID]bool)
	for _, name := range names[:min(len(names), maxCollections)] {
		if nsid, err := syntax.ParseNSID(name); err == nil {
			has[nsid] = true
		}
	}
	for nsid := range a.collections {
		if !has[nsid] {
			c.collection(nsid, false)
		}
	}
	for nsid := range has {
		c.collection(nsid, true)
	}
	a.state.Described = true
	return nil
}

// collectionsOf lists the collections of a repository in a store.
func collectionsOf(ctx context.Context, repos storage.Repos, did syntax.DID) (names []string, err error) {
	err = repos.View(ctx, did, func(v storage.Reader) error {
		names = nil
		for from := ""; len(names) < maxCollections; {
			found := false
			for rec, err := range v.Records(ctx, storage.Range{From: from, KeysOnly: true}) {
				if err != nil {
					return err
				}
				name, _, _ := strings.Cut(rec.Path, "/")
				names, from, found = append(names, name), name+"0", true // '0' comes after '/'
				break
			}
			if !found {
				break
			}
		}
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		err = errors.New("relay: the local host has no repository " + string(did))
	}
	return names, err
}
