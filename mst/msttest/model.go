package msttest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/mst"
)

// Model is a tree that is built anew from its sorted entries whenever its nodes are needed. It
// follows the text of the Repository specification as literally as possible and shares no code with
// package mst, so both are unlikely to have the same error.
type Model map[string]cid.Cid

// Height returns the height of a key: the number of leading zero bits of its SHA-256 hash, divided
// by two and rounded down.
func Height(key string) int {
	zeros := 0
	for _, b := range sha256.Sum256([]byte(key)) {
		zeros += bits.LeadingZeros8(b)
		if b != 0 {
			break
		}
	}
	return zeros / 2
}

// Keys returns the model's keys in ascending order.
func (m Model) Keys() []string { return slices.Sorted(maps.Keys(m)) }

// Entries returns the model's entries in ascending order of keys.
func (m Model) Entries() []mst.Entry {
	list := make([]mst.Entry, 0, len(m))
	for _, k := range m.Keys() {
		list = append(list, mst.Entry{Key: k, Value: m[k]})
	}
	return list
}

// Apply applies operations. If one deletes a missing key, it returns an error and changes nothing.
func (m Model) Apply(ops []mst.Op) error {
	for _, op := range ops {
		if _, ok := m[op.Key]; !ok && !op.Value.Defined() {
			return fmt.Errorf("delete of %q, which is not there", op.Key)
		}
	}
	for _, op := range ops {
		if op.Value.Defined() {
			m[op.Key] = op.Value
		} else {
			delete(m, op.Key)
		}
	}
	return nil
}

// Root returns the CID of the root node.
func (m Model) Root() cid.Cid { return m.Nodes()[0].CID }

// Nodes returns all nodes in pre-order, the root first.
func (m Model) Nodes() []car.Block {
	keys := m.Keys()
	top := 0
	for _, k := range keys {
		top = max(top, Height(k))
	}
	var nodes []car.Block
	m.node(keys, top, &nodes)
	return nodes
}

// node adds the node of a height over some keys, and those below it.
func (m Model) node(keys []string, height int, nodes *[]car.Block) cid.Cid {
	at := len(*nodes)
	*nodes = append(*nodes, car.Block{})

	// subtree is the link to what lies between two keys of this height.
	subtree := func(keys []string) []byte {
		if len(keys) == 0 {
			return cbor.AppendNull(nil)
		}
		return cbor.AppendLink(nil, m.node(keys, height-1, nodes).KeyString())
	}
	own := func(k string) bool { return Height(k) == height }
	gap := func() (keysBefore []string) {
		n := slices.IndexFunc(keys, own)
		if n < 0 {
			n = len(keys)
		}
		keysBefore, keys = keys[:n], keys[n:]
		return keysBefore
	}

	left := subtree(gap())
	var entries []byte
	count, last := 0, ""
	for len(keys) > 0 {
		key := keys[0]
		keys = keys[1:]
		shared := 0
		for shared < min(len(last), len(key)) && last[shared] == key[shared] {
			shared++
		}
		entries = cbor.AppendMap(entries, 4)
		entries = cbor.AppendBytes(cbor.AppendText(entries, "k"), []byte(key[shared:]))
		entries = cbor.AppendUint(cbor.AppendText(entries, "p"), uint64(shared))
		entries = append(cbor.AppendText(entries, "t"), subtree(gap())...)
		entries = cbor.AppendLink(cbor.AppendText(entries, "v"), m[key].KeyString())
		count, last = count+1, key
	}
	data := cbor.AppendMap(nil, 2)
	data = cbor.AppendArray(cbor.AppendText(data, "e"), count)
	data = append(data, entries...)
	data = append(cbor.AppendText(data, "l"), left...)
	(*nodes)[at] = car.Block{CID: dag.Sum(dag.CBOR, data), Data: data}
	return (*nodes)[at].CID
}

// BlockMap returns blocks as a Source.
func BlockMap(blocks []car.Block) mst.BlockMap {
	m := make(mst.BlockMap, len(blocks))
	for _, b := range blocks {
		m[b.CID] = b.Data
	}
	return m
}
