package indexer

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
)

var noCID cid.Cid

// since takes the CAR file of what is new since the revision that the sink has. The sink knows all
// paths and CIDs, so the old tree is computed. The new one is read from the file and the nodes of
// the old one, and the difference is held against its root. Where blocks are missing, the error is
// errWhole.
func (f *fetch) since(ctx context.Context, s *spool, key *crypto.PublicKey) error {
	old, err := f.oldTree(ctx)
	if err != nil {
		return err
	}
	file, err := car.IndexFile(s.reader(), car.IndexOptions{Limits: car.Limits{TotalBytes: f.maxRepo()}, Temp: f.Temp})
	if err != nil {
		return err
	}
	defer file.Close()
	c, err := f.commitOf(file, key)
	if err != nil {
		return err
	}
	changes, err := difference(old, file, c.Data)
	if err != nil {
		return err
	}
	return f.chunks(ctx, commit.State{Rev: c.Rev, Data: c.Data}, func(emit func(Op) error) error {
		for _, ch := range changes {
			op := Op{DID: f.d.a.DID, Rev: c.Rev, CID: ch.New, Prev: ch.Old}
			if op.Collection, op.RKey, err = syntax.ParsePath(ch.Key); err != nil {
				return err
			}
			switch {
			case !ch.New.Defined():
				op.Action = commit.Delete
			case ch.Old.Defined():
				op.Action = commit.Update
			default:
				op.Action = commit.Create
			}
			if ch.New.Defined() {
				if op.Record, err = file.Block(ch.New); err != nil {
					return err
				}
			}
			if err := emit(op); err != nil {
				return err
			}
		}
		return nil
	})
}

// oldTree is the tree of what the sink has.
func (f *fetch) oldTree(ctx context.Context) (*mst.Tree, error) {
	b := mst.NewBuilder()
	n := 0
	have := &pages{ctx: ctx, sink: f.Sink, did: f.d.a.DID}
	for e, err := range have.all {
		if err != nil {
			return nil, err
		}
		if n++; n > sinceRecords {
			return nil, fmt.Errorf("%w: there are more than %d records", errWhole, sinceRecords)
		}
		if err := b.Add(e.Key, e.Value); err != nil {
			return nil, fmt.Errorf("%w: %w", errWhole, err)
		}
	}
	tree, err := b.Tree()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errWhole, err)
	}
	if tree.Root() != f.d.a.Data { // as after a comparison that was broken off
		return nil, fmt.Errorf("%w: the records in the sink have another root than their commit", errWhole)
	}
	return tree, nil
}

// commitOf reads and verifies the commit of a CAR file.
func (f *fetch) commitOf(file *car.FileIndex, key *crypto.PublicKey) (commit.Commit, error) {
	roots := file.Roots()
	if len(roots) != 1 {
		return commit.Commit{}, fmt.Errorf("the CAR file has %d roots, not one", len(roots))
	}
	block, err := file.Block(roots[0])
	if errors.Is(err, car.ErrNotFound) {
		return commit.Commit{}, fmt.Errorf("%w: the commit is missing", errWhole)
	} else if err != nil {
		return commit.Commit{}, fmt.Errorf("the commit: %w", err)
	}
	c, err := commit.Parse(block)
	if err != nil {
		return c, err
	}
	if c.DID != f.d.a.DID {
		return c, fmt.Errorf("the commit is that of %s", c.DID)
	}
	if err := c.Verify(key); err != nil {
		return c, err
	}
	return c, f.plausible(c.Rev)
}

// nodesAndFile has the nodes of the old tree and the blocks of a file, all of which were checked.
type nodesAndFile struct {
	old  map[cid.Cid][]byte
	file *car.FileIndex
}

// Block implements mst.Source.
func (b *nodesAndFile) Block(c cid.Cid) ([]byte, error) {
	if data, ok := b.old[c]; ok {
		return data, nil
	}
	data, err := b.file.Block(c)
	if errors.Is(err, car.ErrNotFound) {
		err = fmt.Errorf("%w: %s", mst.ErrPartial, c)
	}
	return data, err
}

// difference returns what leads from a tree to that of a root, of which a file has what is new. All
// records of it are in the file.
func difference(old *mst.Tree, file *car.FileIndex, root cid.Cid) ([]mst.DiffEntry, error) {
	src := &nodesAndFile{old: make(map[cid.Cid][]byte), file: file}
	for b, err := range old.Nodes() {
		if err != nil {
			return nil, err
		}
		src.old[b.CID] = b.Data
	}
	partial := func(err error) error {
		if errors.Is(err, mst.ErrPartial) || errors.Is(err, car.ErrNotFound) {
			return fmt.Errorf("%w: %w", errWhole, err)
		}
		return err
	}
	tree, err := mst.Open(mst.Checked{Source: src}, root, mst.Limits{})
	if err != nil {
		return nil, partial(err)
	}
	var list []mst.DiffEntry
	var ops []mst.Op
	for e, err := range mst.Diff(old, tree) {
		if err != nil {
			return nil, partial(err)
		}
		if len(list) == sinceChanges {
			return nil, fmt.Errorf("%w: more than %d records differ", errWhole, sinceChanges)
		}
		if e.New.Defined() {
			record, err := file.Block(e.New)
			if err != nil {
				return nil, partial(err)
			}
			if len(record) > commit.MaxRecord {
				return nil, fmt.Errorf("record %s has %d bytes", e.Key, len(record))
			}
		}
		list, ops = append(list, e), append(ops, mst.Op{Key: e.Key, Value: e.New})
	}
	// The difference is proven by carrying it out.
	if len(ops) > 0 {
		change, err := old.Apply(ops)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errWhole, err)
		}
		if change.Root != root {
			return nil, fmt.Errorf("%w: it does not lead to the new root", errWhole)
		}
	} else if old.Root() != root {
		return nil, fmt.Errorf("%w: it does not lead to the new root", errWhole)
	}
	return list, nil
}
