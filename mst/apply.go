package mst

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Op sets a key to a value or, with an undefined Value, deletes it.
type Op struct {
	Key   string
	Value cid.Cid
}

// Change is what Apply did to a tree: all of it computed together.
type Change struct {
	// Tree is the tree after the operations.
	Tree *Tree
	// Root is its root.
	Root cid.Cid
	// New are the nodes that the tree before did not have, root first.
	New []car.Block
	// Removed are the nodes of the tree before that the new one does not have.
	Removed []cid.Cid
	// Proof are the further nodes of the new tree that the covering proof needs:
	// on the path of every key and of its neighbours on both sides. New and Proof
	// together invert the operations, in one batch or in any order.
	Proof []car.Block
	// Prev are the values before, one per operation, in the order they were
	// given; undefined where there was none.
	Prev []cid.Cid
}

// Apply returns the tree with operations applied, at most one per key, in any
// order. Deleting a key that is not there is an error that wraps ErrKeyNotFound. On
// any error, t is as it was and nothing is returned.
func (t *Tree) Apply(ops []Op) (*Change, error) {
	e := editorPool.Get().(*editor)
	defer e.release()
	e.t = t
	c := &Change{Prev: make([]cid.Cid, len(ops))}
	if err := e.prepare(ops, c.Prev); err != nil {
		return nil, err
	}
	if err := e.run(c); err != nil {
		return nil, err
	}
	if err := e.proof(c); err != nil {
		return nil, err
	}
	return c, nil
}

// edit is an operation on its way down the tree.
type edit struct {
	key    string
	height int
	value  value
	delete bool
	done   bool     // carried out: its key was met at its height
	prev   *cid.Cid // where the value before goes
}

// editor applies one batch.
type editor struct {
	t      *Tree
	edits  []edit
	levels [maxHeight + 1]scratch
	made   []made          // new nodes, children before parents
	used   []digest        // nodes of the tree before that were taken apart
	fresh  map[digest]bool // the made ones that the tree before did not have
}

type digest = dag.Digest

type made struct {
	n      *node
	digest digest
}

// scratch is what the editor needs at one height, kept for the next node and batch.
type scratch struct {
	items   []item
	gaps    []piece
	keys    []byte // old keys, spelled out
	lastKey int    // length of the last of them
	enc     []byte
	insert  []piece
}

var editorPool = sync.Pool{New: func() any { return new(editor) }}

func (e *editor) release() {
	e.t, e.fresh = nil, nil
	clear(e.edits)
	e.edits, e.used = e.edits[:0], e.used[:0]
	clear(e.made)
	e.made = e.made[:0]
	for i := range e.levels {
		l := &e.levels[i]
		clear(l.items)
		clear(l.gaps)
		clear(l.insert)
		l.items, l.gaps, l.insert = l.items[:0], l.gaps[:0], l.insert[:0]
	}
	editorPool.Put(e)
}

func (e *editor) prepare(ops []Op, prev []cid.Cid) error {
	for i, op := range ops {
		if !validKey(op.Key) {
			return &Error{Key: op.Key, Err: ErrInvalidKey}
		}
		ed := edit{key: op.Key, height: HeightForKey(op.Key), delete: !op.Value.Defined(), prev: &prev[i]}
		if !ed.delete {
			var ok bool
			if ed.value, ok = valueOf(op.Value); !ok {
				return &Error{Key: op.Key, Err: ErrLink}
			}
		}
		e.edits = append(e.edits, ed)
	}
	slices.SortFunc(e.edits, func(a, b edit) int { return strings.Compare(a.key, b.key) })
	for i := 1; i < len(e.edits); i++ {
		if e.edits[i].key == e.edits[i-1].key {
			return &Error{Key: e.edits[i].key, Err: ErrDuplicateKey}
		}
	}
	return nil
}

// run rebuilds the tree.
func (e *editor) run(c *Change) error {
	height := -1
	var pieces []piece
	if e.t.root != nil {
		height = int(e.t.root.height)
		pieces = []piece{{ref: ref{n: e.t.root, digest: e.t.digest, height: height}}}
	}
	for i := range e.edits {
		if !e.edits[i].delete {
			height = max(height, e.edits[i].height)
		}
	}
	next := &Tree{lazy: e.t.lazy}
	top := ref{height: -1}
	if height >= 0 {
		var err error
		if top, err = e.subtree(height, pieces, e.edits); err != nil {
			return err
		}
	} else if len(e.edits) > 0 {
		return &Error{Key: e.edits[0].key, Err: ErrKeyNotFound}
	}
	// A root without keys of its own gives way to what is below it.
	for top.height >= 0 {
		if top.n == nil {
			var err error
			if top.n, err = e.t.lazy.load(&top.digest, bounds{height: top.height}); err != nil {
				return err
			}
		}
		if top.n.count() > 0 {
			next.root, next.digest = top.n, top.digest
			break
		}
		if last := len(e.made) - 1; last >= 0 && e.made[last].n == top.n {
			e.made = e.made[:last]
		} else {
			e.used = append(e.used, top.digest)
		}
		top = ref{n: top.n.kids[0].Load(), digest: top.n.digestAt(len(top.n.data) - linkLen), height: top.height - 1}
	}
	c.Tree, c.Root = next, next.Root()
	e.difference(c)
	return nil
}

// difference fills in the new and the removed nodes. A node that was taken apart
// and came out the same is neither.
func (e *editor) difference(c *Change) {
	if (e.t.root == nil) != (c.Tree.root == nil) { // the empty tree has a block too
		if e.t.root == nil {
			c.Removed = append(c.Removed, emptyCID)
		} else {
			c.New = append(c.New, block(emptyNode, &emptyDigest))
		}
	}
	e.fresh = make(map[digest]bool, 2*len(e.made))
	isUsed := make(map[digest]bool, len(e.used))
	for _, d := range e.used {
		isUsed[d] = true
	}
	c.New = slices.Grow(c.New, len(e.made))
	for _, m := range slices.Backward(e.made) {
		if isUsed[m.digest] {
			isUsed[m.digest] = false
			continue
		}
		e.fresh[m.digest] = true
		c.New = append(c.New, block(m.n.data, &m.digest))
	}
	for _, d := range e.used {
		if isUsed[d] {
			isUsed[d] = false
			c.Removed = append(c.Removed, dag.CID(dag.CBOR, &d))
		}
	}
}

// ref is a subtree; its height is -1 if it is empty. The node may not be known.
type ref struct {
	n      *node
	digest digest
	height int
}

// piece is an old subtree, or the part of one, of which only some keys count.
type piece struct {
	ref
	lo, hi   string // its keys lie between, for it stands between these in the old tree; empty: unbounded
	from, to string // only keys between count; empty: no limit
}

// whole reports whether all of the subtree counts.
func (p *piece) whole() bool { return p.from == "" && p.to == "" }

// before and after report on which side of a key the piece is for certain.
func (p *piece) before(key string) bool {
	return p.hi != "" && p.hi <= key || p.to != "" && p.to <= key
}
func (p *piece) after(key string) bool {
	return p.lo != "" && p.lo >= key || p.from != "" && p.from >= key
}

// item is an entry of the node that is being made, with the gap that follows it.
// The first item of a node is the gap before all keys, and has no key.
type item struct {
	key        string
	value      value
	gap0, gap1 int // the old subtrees in the gap
	ed0, ed1   int // the edits in the gap
	sub        ref // what the gap becomes
}

// subtree makes the subtree of a height out of pieces, in key order and of that
// height or less, and edits in its range that are done or of that height or less.
//
// All kinds of change come down to this: the keys of this height are those of
// the pieces, edited; between them are gaps, each with the old subtrees that
// fall into it. Deleting a key leaves a gap with two pieces, which the next lower
// height joins; a new key cuts a piece in two. A gap with one whole piece and no
// edits is the old subtree, untouched and unread.
func (e *editor) subtree(height int, pieces []piece, edits []edit) (ref, error) {
	if !slices.ContainsFunc(edits, func(ed edit) bool { return !ed.done }) {
		if len(pieces) == 0 {
			return ref{height: -1}, nil
		}
		if len(pieces) == 1 && pieces[0].whole() && pieces[0].height == height {
			return pieces[0].ref, nil
		}
	}
	s := &e.levels[height]
	s.items, s.gaps, s.keys = append(s.items[:0], item{}), s.gaps[:0], s.keys[:0]
	same, err := e.collect(s, height, pieces, edits)
	if err != nil {
		return ref{}, err
	}
	for i := range s.items {
		it := &s.items[i]
		if height == 0 {
			it.sub.height = -1
			continue
		}
		if it.sub, err = e.subtree(height-1, s.gaps[it.gap0:it.gap1], edits[it.ed0:it.ed1]); err != nil {
			return ref{}, err
		}
	}
	switch {
	case len(s.items) == 1 && s.items[0].sub.height < 0:
		return ref{height: -1}, nil
	case len(s.items) > MaxEntries+1 && same == nil:
		return ref{}, &Error{Key: strings.Clone(s.items[1].key), Err: ErrTooManyEntries}
	}
	return e.encode(s, height, same), nil
}

// collect finds the keys of a height, edited, and the gaps between them. If all keys
// are those of one whole piece, it returns that.
func (e *editor) collect(s *scratch, height int, pieces []piece, edits []edit) (same *piece, err error) {
	if len(pieces) == 1 && pieces[0].height == height && pieces[0].whole() {
		same = &pieces[0]
	}
	at := 0 // the next edit
	// advance carries out the edits before a key, or all that are left.
	advance := func(key string, all bool) error {
		for ; at < len(edits) && (all || edits[at].key < key); at++ {
			switch ed := &edits[at]; {
			case ed.done || ed.height < height: // for the gap
			case ed.delete || ed.height > height:
				return &Error{Key: ed.key, Err: ErrKeyNotFound}
			default:
				ed.done = true
				s.insert = s.split(ed.key)
				s.push(item{key: ed.key, value: ed.value, ed0: at + 1}, at)
				for _, p := range s.insert {
					s.addGap(p)
				}
				same = nil
			}
		}
		return nil
	}
	for i := range pieces {
		p := &pieces[i]
		if p.height < height {
			s.addGap(*p)
			continue
		}
		if p.n == nil {
			if p.n, err = e.t.lazy.load(&p.digest, bounds{p.lo, p.hi, p.height}); err != nil {
				return nil, err
			}
		}
		e.used = append(e.used, p.digest)
		es, link := p.n.entries()
		kid, lo := 0, p.lo
		// sub adds the subtree between lo and hi to the present gap.
		sub := func(hi string) {
			if link == 0 {
				return
			}
			k := piece{lo: lo, hi: hi, from: p.from, to: p.to}
			k.ref = ref{p.n.kids[kid].Load(), p.n.digestAt(link), height - 1}
			kid++
			if p.from != "" && k.before(p.from) || p.to != "" && k.after(p.to) {
				return
			}
			if k.from != "" && lo >= k.from {
				k.from = ""
			}
			if k.to != "" && hi != "" && hi <= k.to {
				k.to = ""
			}
			s.addGap(k)
		}
		for en, ok := es.next(); ok; en, ok = es.next() {
			key := s.spell(en)
			sub(key)
			lo, link = key, en.tree
			if p.from != "" && key <= p.from || p.to != "" && key >= p.to {
				continue
			}
			if err := advance(key, false); err != nil {
				return nil, err
			}
			it := item{key: key, value: p.n.valueAt(en.value), ed0: at}
			if at < len(edits) && edits[at].key == key && !edits[at].done {
				ed := &edits[at]
				ed.done = true
				*ed.prev = it.value.cid()
				if ed.delete {
					same = nil
					continue
				}
				it.value = ed.value
				it.ed0 = at + 1
			}
			s.push(it, at)
		}
		sub(p.hi)
	}
	if err := advance("", true); err != nil {
		return nil, err
	}
	s.items[len(s.items)-1].ed1 = len(edits)
	return same, nil
}

// addGap adds an old subtree to the present gap.
func (s *scratch) addGap(p piece) {
	s.gaps = append(s.gaps, p)
	s.items[len(s.items)-1].gap1 = len(s.gaps)
}

// push ends the present gap, whose edits end at ed1, and begins that of an item.
func (s *scratch) push(it item, ed1 int) {
	s.items[len(s.items)-1].ed1 = ed1
	it.gap0, it.gap1 = len(s.gaps), len(s.gaps)
	s.items = append(s.items, it)
}

// split cuts the present gap at a key: it keeps the pieces before the key and
// returns those after it.
func (s *scratch) split(key string) (rest []piece) {
	it := &s.items[len(s.items)-1]
	rest = s.insert[:0]
	kept := s.gaps[:it.gap0]
	for _, p := range s.gaps[it.gap0:] {
		switch {
		case p.before(key):
			kept = append(kept, p)
		case p.after(key):
			rest = append(rest, p)
		default:
			l, r := p, p
			l.to, r.from = key, key
			kept, rest = append(kept, l), append(rest, r)
		}
	}
	s.gaps = kept
	it.gap1 = len(kept)
	return rest
}

// spell writes out the key of an entry. The result is good until the height is
// worked on again.
func (s *scratch) spell(en entry) string {
	// The key before of the same node is the last that was spelled.
	start := len(s.keys)
	if en.prefix > 0 {
		s.keys = append(s.keys, s.keys[start-s.lastKey:start-s.lastKey+en.prefix]...)
	}
	s.keys = append(s.keys, en.suffix...)
	s.lastKey = len(s.keys) - start
	return stringOf(s.keys[start:])
}

// encode makes the node of a height from the items. Where the keys are those of an old
// node and the links stand where they stood, only hashes change.
func (e *editor) encode(s *scratch, height int, same *piece) ref {
	var buf []byte
	if same != nil {
		if buf = patch(s.items, same.n); buf == nil {
			buf = s.encode()
		} else if string(buf) == same.n.data {
			e.used = e.used[:len(e.used)-1] // nothing below was taken apart either
			return same.ref
		}
	} else {
		buf = s.encode()
	}
	n := &node{data: stringOf(buf), height: int8(height)}
	links := 0
	for i := range s.items {
		if s.items[i].sub.height >= 0 {
			links++
		}
	}
	if links > 0 {
		n.kids = make([]atomic.Pointer[node], 0, links)
		for i := range s.items {
			if sub := &s.items[i].sub; sub.height >= 0 {
				n.kids = n.kids[:len(n.kids)+1]
				n.kids[len(n.kids)-1].Store(sub.n)
			}
		}
	}
	r := ref{n, sha256.Sum256(buf), height}
	e.made = append(e.made, made{n, r.digest})
	return r
}

// patch overwrites the hashes in a copy of a node with those of items that have
// the same keys. It returns nil if a link is to come or to go.
func patch(items []item, old *node) []byte {
	buf := []byte(old.data)
	es, at := old.entries()
	for i := range items {
		if i > 0 {
			en, _ := es.next()
			buf[en.value+codecAt] = byte(items[i].value.codec)
			copy(buf[en.value+len(linkStart):], items[i].value.digest[:])
			at = en.tree
		}
		if (at > 0) != (items[i].sub.height >= 0) {
			return nil
		}
		if at > 0 {
			copy(buf[at+len(linkStart):], items[i].sub.digest[:])
		}
	}
	return buf
}

// encode encodes the items as a node, in bytes of its own.
func (s *scratch) encode() []byte {
	buf := cbor.AppendArray(append(s.enc[:0], nodeStart...), len(s.items)-1)
	link := func(it *item) *digest {
		if it.sub.height < 0 {
			return nil
		}
		return &it.sub.digest
	}
	prev := ""
	for i := 1; i < len(s.items); i++ {
		it := &s.items[i]
		p := commonPrefix(prev, it.key)
		buf = appendEntry(buf, p, it.key[p:], link(it), &it.value)
		prev = it.key
	}
	buf = appendLink(append(buf, keyLeft...), link(&s.items[0]))
	s.enc = buf
	return slices.Clone(buf)
}
