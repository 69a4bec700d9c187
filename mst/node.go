package mst

import (
	"crypto/sha256"
	"sync/atomic"
	"unsafe"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// node is one node of a tree: the bytes of its block, which are valid, and the
// nodes that its links lead to, as far as they are known. It never changes, but
// that a kid becomes known.
//
// The block is the canonical CBOR of
//
//	{"e": [{"k": suffix, "p": prefix length, "t": link or null, "v": link}, …], "l": link or null}
//
// Its own hash is not kept: it stands in the parent, or in the Tree.
type node struct {
	data   string                 // the block; a string only to take less room
	kids   []atomic.Pointer[node] // one per non-null link, in order: "l" first
	height int8
}

// Encoded pieces of a node.
const (
	nodeStart  = "\xa2\x61e" // map of 2, "e"
	entryStart = "\xa4\x61k"
	keyPrefix  = "\x61p"
	keyTree    = "\x61t"
	keyValue   = "\x61v"
	keyLeft    = "\x61l"
	null       = "\xf6"

	linkStart = "\xd8\x2a\x58\x25\x00\x01\x71\x12\x20" // tag 42, 37 bytes, 0x00, CIDv1 dag-cbor sha-256 32
	linkLen   = len(linkStart) + sha256.Size
	codecAt   = 6 // of the codec in a link

	emptyNode = nodeStart + "\x80" + keyLeft + null
)

var (
	emptyDigest = sha256.Sum256([]byte(emptyNode))
	emptyCID    = dag.CID(dag.CBOR, &emptyDigest)
)

// value is the CID of a record without what all of them share.
type value struct {
	digest dag.Digest
	codec  dag.Codec
}

// valueOf returns the value of a CID; false if it may not stand in a tree.
func valueOf(c cid.Cid) (v value, ok bool) {
	v.codec, v.digest, ok = dag.Split(c)
	return v, ok
}

func (v *value) cid() cid.Cid { return dag.CID(v.codec, &v.digest) }

// entry is an entry of a node as the trusted reader sees it.
type entry struct {
	prefix int    // length of what the key shares with the one before
	suffix string // the rest of it
	value  int    // offset of the link to the record
	tree   int    // offset of the link to the next subtree; 0: null
}

// entries reads the entries of a valid node.
type entries struct {
	data string
	pos  int
	left int // entries still to come
}

// entries starts reading, and returns the offset of the left link, or 0.
func (n *node) entries() (es entries, left int) {
	es.data = n.data
	es.left, es.pos = uintAt(n.data, len(nodeStart))
	if at := len(n.data) - linkLen; at > 2 && n.data[at-2:at+len(linkStart)] == keyLeft+linkStart {
		left = at
	}
	return es, left
}

// count is the number of entries.
func (n *node) count() int {
	c, _ := uintAt(n.data, len(nodeStart))
	return c
}

// uintAt reads the argument of a CBOR head that is known to be valid.
func uintAt(s string, pos int) (v, next int) {
	info := s[pos] & 31
	switch {
	case info < 24:
		return int(info), pos + 1
	case info == 24:
		return int(s[pos+1]), pos + 2
	default: // nothing in a node is longer than 65,535
		return int(s[pos+1])<<8 | int(s[pos+2]), pos + 3
	}
}

func (es *entries) next() (e entry, ok bool) {
	if es.left == 0 {
		return e, false
	}
	es.left--
	s := es.data
	n, pos := uintAt(s, es.pos+len(entryStart))
	e.suffix = s[pos : pos+n]
	e.prefix, pos = uintAt(s, pos+n+len(keyPrefix))
	pos += len(keyTree)
	if s[pos] == null[0] {
		pos++
	} else {
		e.tree = pos
		pos += linkLen
	}
	e.value = pos + len(keyValue)
	es.pos = e.value + linkLen
	return e, true
}

// digestAt is the hash in the link at an offset.
func (n *node) digestAt(link int) dag.Digest {
	return dag.Digest(bytesOf(n.data[link+len(linkStart) : link+linkLen]))
}

// valueAt is the value in the link at an offset.
func (n *node) valueAt(link int) value {
	return value{digest: n.digestAt(link), codec: dag.Codec(n.data[link+codecAt])}
}

// bytesOf views a string as bytes, which must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf views bytes as a string. They must not be changed afterwards.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// hash is the node's digest.
func (n *node) hash() dag.Digest { return sha256.Sum256(bytesOf(n.data)) }

// block is a node as others see it.
func block(data string, digest *dag.Digest) car.Block {
	return car.Block{CID: dag.CID(dag.CBOR, digest), Data: bytesOf(data)}
}

// appendEntry encodes an entry. A nil tree is a null link.
func appendEntry(b []byte, prefix int, suffix string, tree *dag.Digest, v *value) []byte {
	b = append(b, entryStart...)
	b = cbor.AppendHead(b, cbor.MajorBytes, uint64(len(suffix)))
	b = append(b, suffix...)
	b = append(b, keyPrefix...)
	b = cbor.AppendUint(b, uint64(prefix))
	b = appendLink(append(b, keyTree...), tree)
	b = append(append(b, keyValue...), linkStart...)
	b[len(b)-len(linkStart)+codecAt] = byte(v.codec)
	return append(b, v.digest[:]...)
}

func appendLink(b []byte, digest *dag.Digest) []byte {
	if digest == nil {
		return append(b, null...)
	}
	return append(append(b, linkStart...), digest[:]...)
}
