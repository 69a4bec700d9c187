package mst

import (
	"errors"

	"github.com/ipfs/go-cid"
)

// StreamVerifier checks a tree whose blocks come one after the other in pre-order (see
// [Tree.PreOrder]), with memory for one path only. Use it like this:
//
//	for want, ok := v.Next(); ok; want, ok = v.Next() {
//		read the block of want.CID;
//		if want.Key == "" { v.Node(data) } // else it is the record of that key
//	}
//
// It checks all that Load checks, except the hashes of blocks: whoever reads the blocks checks
// those. Make one with [NewStreamVerifier]; the zero value does not work. It is for one goroutine.
type StreamVerifier struct {
	decoder decoder
	frames  []vframe
	depth   int
	root    cid.Cid
	started bool
	nodes   int
	next    []byte // a key
	keys    keyArena
}

// vframe is a node whose content is being asked for.
type vframe struct {
	n      node
	es     entries
	en     entry
	link   int // to be asked for next, if not 0
	atKey  bool
	key    []byte // of en
	lo, hi []byte // bounds of what comes next, and of the node
}

// Want is what a StreamVerifier needs next: a node, or the record of a key.
type Want struct {
	CID cid.Cid
	Key string // of a record; empty: a node
}

// NewStreamVerifier returns a verifier for the tree with the given root.
func NewStreamVerifier(root cid.Cid, lim Limits) (*StreamVerifier, error) {
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	return &StreamVerifier{decoder: decoder{lim: lim.withDefaults()}, root: root}, nil
}

// Next returns what is needed next, or false when the tree is complete. If it is a node, Node or
// Skip must be called before the next call of Next.
func (v *StreamVerifier) Next() (w Want, ok bool) {
	if !v.started {
		return Want{CID: v.root}, true
	}
	for v.depth > 0 {
		f := &v.frames[v.depth-1]
		switch {
		case f.link > 0:
			return Want{CID: f.n.linkCID(f.link)}, true
		case f.atKey:
			w = Want{CID: f.n.linkCID(f.en.value), Key: v.keys.make(stringOf(f.key), "")}
			f.atKey = false
			f.lo = append(f.lo[:0], f.key...)
			f.link = f.en.tree
			return w, true
		}
		var more bool
		if f.en, more = f.es.next(); !more {
			v.depth--
			continue
		}
		f.key = append(f.key[:f.en.prefix], f.en.suffix...)
		f.atKey = true
	}
	return Want{}, false
}

// errNotWanted says that a StreamVerifier was given a node that it did not ask for.
var errNotWanted = errors.New("node was not asked for")

// Skip skips the node that Next returned. Readers that look for further faults use it after a fault
// in that node.
func (v *StreamVerifier) Skip() {
	v.started = true
	if v.depth > 0 {
		v.frames[v.depth-1].link = 0
	}
}

// Node checks the block of the node that Next returned, and copies what it keeps.
func (v *StreamVerifier) Node(data []byte) error {
	want := v.root
	b := bounds{height: -1}
	if v.started {
		if v.depth == 0 || v.frames[v.depth-1].link == 0 {
			return &Error{Err: errNotWanted}
		}
		f := &v.frames[v.depth-1]
		want = f.n.linkCID(f.link)
		b.height = int(f.n.height) - 1
		b.lo = stringOf(f.lo)
		// The upper bound is the next key of this node, or that of the node itself.
		b.hi = stringOf(f.hi)
		es := f.es
		if next, ok := es.next(); ok {
			v.next = append(append(v.next[:0], f.key[:next.prefix]...), next.suffix...)
			b.hi = stringOf(v.next)
		}
		f.link = 0
	}
	if v.nodes++; v.nodes > v.decoder.lim.Nodes {
		return &Error{Node: want, Err: ErrTooLarge}
	}
	if !v.started && string(data) == emptyNode {
		v.started = true
		return nil
	}
	height, links, fail := v.decoder.decode(stringOf(data), b)
	if fail != nil {
		return fail.wrap(want)
	}
	v.started = true
	if v.depth == len(v.frames) {
		v.frames = append(v.frames, vframe{})
	}
	f := &v.frames[v.depth]
	v.depth++
	f.n.set(string(data), height, links)
	f.es, f.link = f.n.entries()
	f.lo, f.hi = append(f.lo[:0], b.lo...), append(f.hi[:0], b.hi...)
	f.key, f.atKey = f.key[:0], false
	return nil
}
