package msttest

import (
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// Vector is a tree that a strict reader must refuse.
type Vector struct {
	// Name names the fault.
	Name string
	// Root is the tree's root, and Blocks are its nodes.
	Root   cid.Cid
	Blocks mst.BlockMap
	// Keys are some of its keys, to look up.
	Keys []string
	// Valid means that it is well-formed, but larger than any honest tree. A reader may accept or
	// refuse it, but must not need excessive time or memory.
	Valid bool
}

// rawEntry is an entry of a node as it will be written, right or wrong. Links
// are in CBOR; an empty tree link means null.
type rawEntry struct {
	prefix int64
	suffix string
	tree   string
	value  string
}

const nullLink = "\xf6"

// rawLink is a link of any form to a CID given in binary.
func rawLink(cid string) string { return string(cbor.AppendLink(nil, cid)) }

// good is the link to the i-th record.
func good(i int) string { return rawLink(Value(i).KeyString()) }

func (e rawEntry) encode() string {
	if e.tree == "" {
		e.tree = nullLink
	}
	if e.value == "" {
		e.value = good(0)
	}
	b := cbor.AppendMap(nil, 4)
	b = cbor.AppendBytes(cbor.AppendText(b, "k"), []byte(e.suffix))
	b = cbor.AppendInt(cbor.AppendText(b, "p"), e.prefix)
	b = append(cbor.AppendText(b, "t"), e.tree...)
	return string(append(cbor.AppendText(b, "v"), e.value...))
}

// rawNode writes a node.
func rawNode(left string, entries ...rawEntry) string {
	if left == "" {
		left = nullLink
	}
	b := cbor.AppendArray(cbor.AppendText(cbor.AppendMap(nil, 2), "e"), len(entries))
	for _, e := range entries {
		b = append(b, e.encode()...)
	}
	return string(append(cbor.AppendText(b, "l"), left...))
}

// spelled makes entries of keys, compressed as they must be.
func spelled(keys ...string) []rawEntry {
	var list []rawEntry
	last := ""
	for i, k := range keys {
		p := 0
		for p < min(len(last), len(k)) && last[p] == k[p] {
			p++
		}
		list = append(list, rawEntry{prefix: int64(p), suffix: k[p:], value: good(i)})
		last = k
	}
	return list
}

// join writes a node of some keys with links to the left and behind them.
func join(left string, keys []string, trees ...string) string {
	entries := spelled(keys...)
	for i, t := range trees {
		entries[i].tree = t
	}
	return rawNode(left, entries...)
}

// forge collects the blocks of vectors.
type forge struct {
	vectors []Vector
	blocks  mst.BlockMap
	keys    []string
}

// node adds a block and returns the link to it.
func (f *forge) node(data string) string {
	c := dag.Sum(dag.CBOR, []byte(data))
	if f.blocks == nil {
		f.blocks = make(mst.BlockMap)
	}
	f.blocks[c] = []byte(data)
	return rawLink(c.KeyString())
}

// tree ends a vector whose root is a block.
func (f *forge) tree(name, root string) {
	f.node(root)
	f.cid(name, dag.Sum(dag.CBOR, []byte(root)))
}

// cid ends a vector with a root of any form.
func (f *forge) cid(name string, root cid.Cid) {
	f.vectors = append(f.vectors, Vector{Name: name, Root: root, Blocks: f.blocks, Keys: f.keys})
	f.blocks, f.keys = nil, nil
}
