package mst

import (
	"crypto/sha256"
	"sync/atomic"
	"unsafe"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/blockhash"
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
	data   string                // the block; a string only to take less room
	first  *atomic.Pointer[node] // the first of the kids: one per non-null link, in order, "l" first
	links  int32                 // how many there are
	height int8
	left   bool // "l" is not null
}

// set fills in a node, but for its kids.
func (n *node) set(data string, height, links int) {
	n.data, n.height, n.links = data, int8(height), int32(links)
	at := len(data) - linkLen
	n.left = at > len(keyLeft) && data[at-len(keyLeft):at+len(linkStart)] == keyLeft+linkStart
}

// kids are the nodes that the links lead to; nil pointers if they are not known.
func (n *node) kids() []atomic.Pointer[node] { return unsafe.Slice(n.first, n.links) }

// Encoded pieces of a node.
const (
	nodeStart  = "\xa2\x61e" // map of 2, "e"
	entryStart = "\xa4\x61k"
	keyPrefix  = "\x61p"
	keyTree    = "\x61t"
	keyValue   = "\x61v"
	keyLeft    = "\x61l"
	null       = "\xf6"

	cidStart  = "\x01\x71\x12\x20"                // CIDv1 dag-cbor sha-256 32
	linkStart = "\xd8\x2a\x58\x25\x00" + cidStart // tag 42, 37 bytes, 0x00
	linkLen   = len(linkStart) + sha256.Size
	cidAt     = len(linkStart) - len(cidStart) // of the CID in a link
	codecAt   = cidAt + 1                      // of its codec

	emptyNode = nodeStart + "\x80" + keyLeft + null
)

var (
	emptyDigest = blockhash.Sum([]byte(emptyNode))
	emptyCID    = dag.CID(dag.CBOR, &emptyDigest)
)

// id is the binary CID of a node.
type id [dag.CIDLen]byte

// set computes the id of a block.
func (i *id) set(data []byte) {
	sum := blockhash.Sum(data)
	copy(i[copy(i[:], cidStart):], sum[:])
}

// view returns the id as a string, which is good as long as the id does not change.
func (i *id) view() string { return stringOf(i[:]) }

// linkCID is the CID in the link at an offset. It shares memory with the node.
func (n *node) linkCID(link int) cid.Cid { return dag.Wrap(n.data[link+cidAt : link+linkLen]) }

// linkID is the same as a string.
func (n *node) linkID(link int) string { return n.data[link+cidAt : link+linkLen] }

// validValue reports whether a CID may be a value in a tree.
func validValue(c cid.Cid) bool {
	s := c.KeyString()
	return len(s) == dag.CIDLen && s[0] == cidStart[0] && s[2:4] == cidStart[2:] && (s[1] == byte(dag.CBOR) || s[1] == byte(dag.Raw))
}

// entry is an entry of a node as the trusted reader sees it.
type entry struct {
	prefix int    // length of what the key shares with the one before
	suffix string // the rest of it
	value  int    // offset of the link to the record
	tree   int    // offset of the link to the next subtree; 0: null
}

// links is the offset of the links of an entry, which follow its key.
func (e *entry) links() int {
	if e.tree > 0 {
		return e.tree
	}
	return e.value - len(keyValue) - len(null)
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
	return es, n.leftLink()
}

// leftLink is the offset of the left link, or 0.
func (n *node) leftLink() int {
	if n.left {
		return len(n.data) - linkLen
	}
	return 0
}

// count is the number of entries.
func (n *node) count() int {
	c, _ := uintAt(n.data, len(nodeStart))
	return c
}

// uintAt reads the argument of a CBOR head that is known to be valid.
func uintAt(s string, pos int) (v, next int) {
	v = int(s[pos] & 31)
	if v < 24 {
		return v, pos + 1
	}
	return longUintAt(s, pos, v)
}

func longUintAt(s string, pos, info int) (v, next int) {
	if info == 24 {
		return int(s[pos+1]), pos + 2
	}
	return int(s[pos+1])<<8 | int(s[pos+2]), pos + 3 // nothing in a node is longer than 65,535
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

// place is where a key is in a node, or would be.
type place struct {
	found bool
	index int // how many keys are less
	at    int // offset of the entry of the key, or of the next one, or of the end of all
	value int // if found: offset of the link to the record
	after int // if found: offset of the link behind the key; 0: null
	link  int // offset of the link before the key; 0: null
	kid   int // of that link, among the kids

	// How many bytes the key has in common with the keys on both sides. If it is found, before
	// is the length of its prefix, and next is of no meaning.
	before, next int
}

// seek finds the place of a key.
//
// Prefixes make it cheap: as each is as long as it can be, most keys are known to
// be less or greater than the wanted one by the length of their prefix alone.
//
// What it keeps from entry to entry is in variables of its own, for the compiler has structs of that
// many fields in memory.
func (n *node) seek(key string) place {
	data := n.data
	count, pos := uintAt(data, len(nodeStart))
	index, kid, link, before, next := 0, 0, n.leftLink(), 0, 0
	for ; index < count; index++ {
		// The steps of entries.next, without a call.
		size, start := uintAt(data, pos+len(entryStart))
		prefix, tree := uintAt(data, start+size+len(keyPrefix))
		tree += len(keyTree)
		value := tree + len(null) + len(keyValue)
		if data[tree] == null[0] {
			tree = 0
		} else {
			value = tree + linkLen + len(keyValue)
		}
		if prefix <= before {
			if prefix < before {
				next = prefix
				break // greater than the key before where that one still agreed
			}
			shared := prefix
			if prefix < len(key) && size > 0 && data[start] == key[prefix] {
				shared += commonPrefix(data[start:start+size], key[prefix:])
			}
			switch same := shared - prefix; {
			case same == size && shared == len(key):
				return place{found: true, index: index, at: pos, value: value, after: tree, link: link, kid: kid, before: before}
			case same < size && (shared == len(key) || data[start+same] > key[shared]):
				return place{index: index, at: pos, link: link, kid: kid, before: before, next: shared}
			}
			before = shared
		} // else it agrees with the key before where that one was less
		if link > 0 {
			kid++
		}
		link = tree
		pos = value + linkLen
	}
	return place{index: index, at: pos, link: link, kid: kid, before: before, next: next}
}

// key spells out the i-th key.
func (n *node) key(i int) string {
	return stringOf(n.appendKey(make([]byte, 0, 64), i)) // most keys are shorter
}

// appendKey spells out the i-th key into an empty buffer.
func (n *node) appendKey(b []byte, i int) []byte {
	es, _ := n.entries()
	for range i + 1 {
		e, _ := es.next()
		b = append(b[:e.prefix], e.suffix...)
	}
	return b
}

// edge is a bound of a subtree: a key of a node above it, spelled out only when
// somebody asks. The zero value is no bound.
type edge struct {
	n *node
	i int
}

func (e edge) key() string {
	if e.n == nil {
		return ""
	}
	return e.n.key(e.i)
}

// around returns the bounds of the gap before the i-th key, given those of the node.
func (n *node) around(i int, lo, hi edge) (edge, edge) {
	if i > 0 {
		lo = edge{n, i - 1}
	}
	if i < n.count() {
		hi = edge{n, i}
	}
	return lo, hi
}

// bytesOf views a string as bytes, which must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf views bytes as a string. They must not be changed afterwards.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// block is a node as others see it.
func block(data string, c cid.Cid) car.Block { return car.Block{CID: c, Data: bytesOf(data)} }

var emptyBlock = block(emptyNode, emptyCID)

// appendKey encodes the key of an entry, up to where its tree link stands.
func appendKey(b []byte, prefix int, suffix string) []byte {
	b = append(b, entryStart...)
	b = cbor.AppendHead(b, cbor.MajorBytes, uint64(len(suffix)))
	b = append(b, suffix...)
	b = append(b, keyPrefix...)
	b = cbor.AppendUint(b, uint64(prefix))
	return append(b, keyTree...)
}

// appendLinks encodes the rest of an entry: a link to a subtree, given by its id, or
// null if that is empty, and one to a record.
func appendLinks(b []byte, tree string, value cid.Cid) []byte {
	return appendLink(append(appendLink(b, tree), keyValue...), value.KeyString())
}

func appendLink(b []byte, id string) []byte {
	if id == "" {
		return append(b, null...)
	}
	return append(append(b, linkStart[:cidAt]...), id...)
}

// maker makes nodes in batches, for less work and less garbage.
type maker struct {
	nodes []node
	kids  []atomic.Pointer[node]
}

const batch = 64

// node makes a node. Its kids are for the caller to store.
func (m *maker) node(data string, height, links int) *node {
	if len(m.nodes) == 0 {
		m.nodes = make([]node, batch)
	}
	n := &m.nodes[0]
	m.nodes = m.nodes[1:]
	n.set(data, height, links)
	if links > 0 {
		if len(m.kids) < links {
			m.kids = make([]atomic.Pointer[node], max(batch, links))
		}
		n.first = &m.kids[0]
		m.kids = m.kids[links:]
	}
	return n
}

// newNode makes one node by itself, with its kids in the same piece of memory unless
// they are many. The numbers of kids fill the allocator's classes of sizes.
func newNode(data string, height, links int) *node {
	var n *node
	switch {
	case links == 0:
		n = new(node)
	case links <= 2:
		n = nodeAnd[[2]atomic.Pointer[node]]()
	case links <= 4:
		n = nodeAnd[[4]atomic.Pointer[node]]()
	case links <= 6:
		n = nodeAnd[[6]atomic.Pointer[node]]()
	case links <= 8:
		n = nodeAnd[[8]atomic.Pointer[node]]()
	case links <= 12:
		n = nodeAnd[[12]atomic.Pointer[node]]()
	case links <= 16:
		n = nodeAnd[[16]atomic.Pointer[node]]()
	case links <= 24:
		n = nodeAnd[[24]atomic.Pointer[node]]()
	default:
		n = new(node)
		n.first = &make([]atomic.Pointer[node], links)[0]
	}
	n.set(data, height, links)
	return n
}

// nodeAnd makes a node with its kids behind it.
func nodeAnd[K any]() *node {
	x := new(struct {
		node
		kids K
	})
	x.node.first = (*atomic.Pointer[node])(unsafe.Pointer(&x.kids))
	return &x.node
}

// adopt gives a new node the kids of an old one that has as many. If the tree is lazy, somebody may
// be about to store one of those.
func (n *node) adopt(old *node, lazy bool) {
	kids, from := n.kids(), old.kids()
	if !lazy && len(kids) > 0 {
		copy(pointers(kids), pointers(from))
		return
	}
	for i := range from {
		kids[i].Store(from[i].Load())
	}
}

// pointers views kids that nobody changes.
func pointers(kids []atomic.Pointer[node]) []*node {
	return unsafe.Slice((**node)(unsafe.Pointer(&kids[0])), len(kids))
}

var _ [0]struct{} = [unsafe.Sizeof(atomic.Pointer[node]{}) - unsafe.Sizeof((*node)(nil))]struct{}{}
