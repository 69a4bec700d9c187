package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// repository is an account with n records of some 240 bytes, the data that all
// contenders work on.
type repository struct {
	n       int
	entries []mst.Entry
	records map[cid.Cid][]byte
	tree    *mst.Tree
	blocks  mst.BlockMap // nodes
	did     syntax.DID
	key     *crypto.PrivateKey
	commit  commit.Commit
	block   car.Block // of the commit
	file    []byte    // CAR, in pre-order
	fresh   car.Block // a record to be created
	newKeys []string  // where
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// record is a like.
func record(i int) car.Block {
	b := cbor.AppendMap(nil, 3)
	b = cbor.AppendText(cbor.AppendText(b, "$type"), "app.bsky.feed.like")
	b = cbor.AppendMap(cbor.AppendText(b, "subject"), 2)
	b = cbor.AppendText(cbor.AppendText(b, "cid"), msttest.Value(i).String())
	b = cbor.AppendText(cbor.AppendText(b, "uri"), fmt.Sprintf("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/%013d", i))
	b = cbor.AppendText(cbor.AppendText(b, "createdAt"), "2026-01-01T00:00:00.000Z")
	return car.Block{CID: dag.Sum(dag.CBOR, b), Data: b}
}

func newRepository(n int) *repository {
	r := &repository{n: n, records: make(map[cid.Cid][]byte), blocks: make(mst.BlockMap), did: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", fresh: record(-1)}
	for i, k := range msttest.RealisticKeys(n) {
		rec := record(i)
		r.entries = append(r.entries, mst.Entry{Key: k, Value: rec.CID})
		r.records[rec.CID] = rec.Data
	}
	for i := range 10_000 {
		r.newKeys = append(r.newKeys, r.entries[(i*7919)%n].Key+"x")
	}
	r.tree = must(mst.BuildSorted(r.entries))
	for b := range r.tree.Nodes() {
		r.blocks[b.CID] = b.Data
	}
	scalar := sha256.Sum256([]byte("benchmark"))
	r.key = must(crypto.ParsePrivateKey(crypto.K256, scalar[:]))
	var err error
	r.commit, r.block, err = commit.Sign(context.Background(), r.did, syntax.NewTID(time.UnixMicro(1_700_000_000_000_000), 1), r.tree.Root(), r.key)
	check(err)
	var buf bytes.Buffer
	w := must(car.NewWriter(&buf, r.block.CID))
	check(r.export(w))
	r.file = buf.Bytes()
	return r
}

// export writes the repository in pre-order, from memory.
func (r *repository) export(w *car.Writer) error {
	if err := w.Write(r.block); err != nil {
		return err
	}
	for it, err := range r.tree.PreOrder() {
		if err != nil {
			return err
		}
		b := it.Node
		if !b.CID.Defined() {
			b = car.Block{CID: it.Value, Data: r.records[it.Value]}
		}
		if err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Flush()
}

// newKey is a key that is not in the repository, near one that is.
func (r *repository) newKey(i int) string { return r.newKeys[i%len(r.newKeys)] }

// event makes the message of a commit that creates one record, like a server does.
func (r *repository) event(signer crypto.Signer, i int) *commit.Event {
	path := r.newKey(i)
	change := must(r.tree.Apply([]mst.Op{{Key: path, Value: r.fresh.CID}}))
	rev := syntax.NewTID(time.UnixMicro(1_700_000_001_000_000), 1)
	_, block, err := commit.Sign(context.Background(), r.did, rev, change.Root, signer)
	check(err)
	e := &commit.Event{
		Seq: 1, Repo: r.did, Commit: block.CID, Rev: rev, Since: r.commit.Rev, PrevData: r.commit.Data, Time: time.UnixMicro(1_700_000_001_000_000).UTC(),
		Ops: []commit.Op{{Action: commit.Create, Path: path, CID: r.fresh.CID}},
	}
	check(e.SetBlocks(block, change, []car.Block{r.fresh}, commit.Limits{}))
	return e
}

// message is the event's payload with its sequence number, as it goes over the wire.
func message(e *commit.Event) []byte {
	payload := e.Payload()
	r := cbor.NewReader(payload)
	n := must(r.Map())
	start := r.Pos()
	for range 2 { // behind "ops" and "rev"
		check(r.Skip())
		check(r.Skip())
	}
	out := cbor.AppendMap(nil, n+1)
	out = append(out, payload[start:r.Pos()]...)
	out = cbor.AppendInt(cbor.AppendText(out, "seq"), e.Seq)
	return append(out, payload[r.Pos():]...)
}
