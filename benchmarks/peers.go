package main

import (
	"bytes"
	"context"
	"io"

	atmoscar "github.com/jcalabro/atmos/car"
	atmoscbor "github.com/jcalabro/atmos/cbor"
	atmoscrypto "github.com/jcalabro/atmos/crypto"
	atmosmst "github.com/jcalabro/atmos/mst"
	atmosrepo "github.com/jcalabro/atmos/repo"

	"github.com/bluesky-social/indigo/api/atproto"
	indigorepo "github.com/bluesky-social/indigo/atproto/repo"
	indigomst "github.com/bluesky-social/indigo/atproto/repo/mst"
	blocks "github.com/ipfs/go-block-format"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst/msttest"
)

func (r *repository) publicKey(context.Context, syntax.DID, bool) (*crypto.PublicKey, error) {
	return r.key.PublicKey(), nil
}

// atmosCID is a CID in atmos' form.
func atmosCID(c cid.Cid) atmoscbor.CID { return must(atmoscbor.ParseCIDBytes(c.Bytes())) }

func (r *repository) atmosEntries() (keys []string, values []atmoscbor.CID) {
	for _, e := range r.entries {
		keys = append(keys, e.Key)
		values = append(values, atmosCID(e.Value))
	}
	return keys, values
}

func (r *repository) atmosStore() *atmosmst.MemBlockStore {
	store := atmosmst.NewMemBlockStore()
	for c, data := range r.blocks {
		check(store.PutBlock(atmosCID(c), data))
	}
	return store
}

// atmosTree is the repository's tree, loaded.
func (r *repository) atmosTree() (*atmosmst.MemBlockStore, *atmosmst.Tree) {
	store := r.atmosStore()
	t := atmosmst.LoadTree(store, atmosCID(r.tree.Root()))
	check(t.LoadAll())
	return store, t
}

func (r *repository) atmosBuild() func() {
	keys, values := r.atmosEntries()
	want := atmosCID(r.tree.Root())
	return func() {
		t := atmosmst.NewTree(atmosmst.NewMemBlockStore())
		for i, k := range keys {
			check(t.Insert(k, values[i]))
		}
		if must(t.RootCID()) != want {
			panic("another root")
		}
	}
}

func (r *repository) atmosLoad() func() {
	store := r.atmosStore()
	root := atmosCID(r.tree.Root())
	return func() { check(atmosmst.LoadTree(store, root).LoadAll()) }
}

func (r *repository) atmosChange() func() {
	_, t := r.atmosTree()
	want := atmosCID(r.tree.Root())
	v := atmosCID(msttest.Value(0))
	i := 0
	return func() {
		i++
		key := r.newKey(i)
		check(t.Insert(key, v))
		must(t.RootCID())
		check(t.Remove(key))
		if must(t.RootCID()) != want {
			panic("another root")
		}
	}
}

func (r *repository) atmosGet() func() {
	_, t := r.atmosTree()
	_, values := r.atmosEntries()
	i := 0
	return func() {
		i = (i + 7919) % r.n
		if v, err := t.Get(r.entries[i].Key); err != nil || *v != values[i] {
			panic("another value")
		}
	}
}

func (r *repository) atmosWalk() func() {
	_, t := r.atmosTree()
	return func() {
		n := 0
		check(t.Walk(func(string, atmoscbor.CID) error {
			n++
			return nil
		}))
		if n != r.n {
			panic("another tree")
		}
	}
}

func (r *repository) atmosDiff() func() {
	store, t := r.atmosTree()
	for _, op := range r.tenChanges() {
		check(t.Insert(op.Key, atmosCID(op.Value)))
	}
	old, next := atmosCID(r.tree.Root()), must(t.WriteBlocks(store))
	return func() {
		if len(must(atmosmst.Diff(store, old, next))) != 10 {
			panic("another difference")
		}
	}
}

func (r *repository) atmosReadCAR() func() {
	return func() {
		rd := must(atmoscar.NewReader(bytes.NewReader(r.file)))
		for {
			if _, err := rd.Next(); err == io.EOF {
				return
			} else {
				check(err)
			}
		}
	}
}

func (r *repository) atmosLoadRepo() func() {
	return func() {
		_, _, err := atmosrepo.LoadCompleteFromCAR(bytes.NewReader(r.file))
		check(err)
	}
}

func (r *repository) atmosExport() func() {
	repo, _, err := atmosrepo.LoadCompleteFromCAR(bytes.NewReader(r.file))
	check(err)
	key := must(atmoscrypto.GenerateK256())
	return func() { check(repo.ExportCAR(io.Discard, key)) }
}

// atmosVerify inverts an event's slice. It gets the slice and the operation ready, as
// the package that decodes messages is not part of the race.
func (r *repository) atmosVerify() func() {
	type event struct {
		blocks []byte
		path   string
	}
	var list []event
	for i := range 100 {
		e := r.event(r.key, i)
		list = append(list, event{e.Blocks, e.Ops[0].Path})
	}
	want := atmosCID(r.tree.Root())
	i := 0
	return func() {
		i++
		e := list[i%len(list)]
		store, root, err := atmosrepo.LoadBlocksFromCAR(bytes.NewReader(e.blocks))
		check(err)
		c := must(atmosrepo.DecodeCommitCBOR(must(store.GetBlock(root))))
		t := atmosmst.LoadTree(store, c.Data)
		check(t.Remove(e.path))
		if must(t.RootCID()) != want {
			panic("another root")
		}
	}
}

func (r *repository) indigoStore() *indigorepo.TinyBlockstore {
	store := indigorepo.NewTinyBlockstore()
	for c, data := range r.blocks {
		check(store.Put(context.Background(), must(blocks.NewBlockWithCid(data, c))))
	}
	return store
}

func (r *repository) indigoTree() *indigomst.Tree {
	return must(indigomst.LoadTreeFromStore(context.Background(), r.indigoStore(), r.tree.Root()))
}

func (r *repository) indigoKeys() (keys [][]byte) {
	for _, e := range r.entries {
		keys = append(keys, []byte(e.Key))
	}
	return keys
}

func (r *repository) indigoBuild() func() {
	keys := r.indigoKeys()
	return func() {
		t := indigomst.NewEmptyTree()
		for i, k := range keys {
			must(t.Insert(k, r.entries[i].Value))
		}
		if *must(t.RootCID()) != r.tree.Root() {
			panic("another root")
		}
	}
}

func (r *repository) indigoLoad() func() {
	store := r.indigoStore()
	return func() { must(indigomst.LoadTreeFromStore(context.Background(), store, r.tree.Root())) }
}

func (r *repository) indigoChange() func() {
	t := r.indigoTree()
	v := msttest.Value(0)
	i := 0
	return func() {
		i++
		key := []byte(r.newKey(i))
		must(t.Insert(key, v))
		must(t.RootCID())
		must(t.Remove(key))
		if *must(t.RootCID()) != r.tree.Root() {
			panic("another root")
		}
	}
}

func (r *repository) indigoGet() func() {
	t, keys := r.indigoTree(), r.indigoKeys()
	i := 0
	return func() {
		i = (i + 7919) % r.n
		if v, err := t.Get(keys[i]); err != nil || *v != r.entries[i].Value {
			panic("another value")
		}
	}
}

func (r *repository) indigoWalk() func() {
	t := r.indigoTree()
	return func() {
		n := 0
		check(t.Walk(func([]byte, cid.Cid) error {
			n++
			return nil
		}))
		if n != r.n {
			panic("another tree")
		}
	}
}

func (r *repository) indigoLoadRepo() func() {
	return func() {
		_, _, err := indigorepo.LoadRepoFromCAR(context.Background(), bytes.NewReader(r.file))
		check(err)
	}
}

func (r *repository) indigoVerify() func() {
	list := r.messages()
	i := 0
	return func() {
		i++
		var e atproto.SyncSubscribeRepos_Commit
		check(e.UnmarshalCBOR(bytes.NewReader(list[i%len(list)])))
		must(indigorepo.VerifyCommitMessage(context.Background(), &e))
	}
}
