package mst

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
)

// ref is a subtree: its top node, which may not be known, and that node's id. Its
// height is -1 if it is empty.
type ref struct {
	n      *node
	id     string
	height int
	made   int // if the editor made the node: its index among the made ones, plus 1
}

// piece is an old subtree, or the part of one, of which only some keys count.
type piece struct {
	ref
	slot     *atomic.Pointer[node] // where its parent keeps the top node; nil: the root
	lo, hi   bound                 // its keys lie between, for it stands between these in the old tree
	from, to string                // only keys between count; empty: no limit
}

// bound is a key that bounds a subtree: spelled out, or where it can be found. The
// zero value is no bound.
type bound struct {
	key string
	at  edge
}

// unrestricted reports whether all of the subtree counts.
func (p *piece) unrestricted() bool { return p.from == "" && p.to == "" }

// before and after report on which side of a key the piece is for certain.
func (p *piece) before(key string) bool {
	return p.hi.key != "" && p.hi.key <= key || p.to != "" && p.to <= key
}
func (p *piece) after(key string) bool {
	return p.lo.key != "" && p.lo.key >= key || p.from != "" && p.from >= key
}

// scratch is what the editor needs at one height, kept for the next node and batch.
type scratch struct {
	items   []item
	gaps    []piece
	insert  []piece
	hits    []hit
	keys    []byte // old keys, spelled out
	lastKey int    // length of the last of them
	widest  int    // entries of the widest old node
	enc     []byte
}

func (s *scratch) release() {
	clear(s.items)
	clear(s.gaps)
	clear(s.insert)
	clear(s.hits)
	s.items, s.gaps, s.insert, s.hits = s.items[:0], s.gaps[:0], s.insert[:0], s.hits[:0]
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
	pending := 0
	for i := range edits {
		if !edits[i].done {
			pending++
		}
	}
	if pending == 0 && len(pieces) == 0 {
		return ref{height: -1}, nil
	}
	if len(pieces) == 1 && pieces[0].unrestricted() && pieces[0].height == height {
		if pending == 0 {
			return pieces[0].ref, nil
		}
		if pending <= 4 {
			if r, ok, err := e.patch(&pieces[0], edits); ok || err != nil {
				return r, err
			}
		}
	}
	s := &e.levels[height]
	s.items, s.gaps, s.keys = append(s.items[:0], item{}), s.gaps[:0], s.keys[:0]
	if err := e.collect(s, height, pieces, edits); err != nil {
		return ref{}, err
	}
	for i := range s.items {
		it := &s.items[i]
		if height == 0 {
			it.sub.height = -1
			continue
		}
		var err error
		if it.sub, err = e.subtree(height-1, s.gaps[it.gap0:it.gap1], edits[it.ed0:it.ed1]); err != nil {
			return ref{}, err
		}
	}
	switch {
	case len(s.items) == 1 && s.items[0].sub.height < 0:
		return ref{height: -1}, nil
	case len(s.items)-1 > max(e.most, s.widest):
		return ref{}, &Error{Key: strings.Clone(s.items[1].key), Err: ErrTooManyEntries}
	}
	return e.encode(s, height), nil
}

// load loads the node of a piece if it is not known. The other pieces of the same subtree find it
// in its parent.
func (e *editor) load(p *piece) (err error) {
	if p.n == nil && p.slot != nil {
		p.n = p.slot.Load()
	}
	if p.n != nil {
		return nil
	}
	p.n, err = e.t.lazy.load(dag.Wrap(p.id), e.lo.spell(p.lo), e.hi.spell(p.hi), p.height)
	if err == nil && p.slot != nil {
		p.slot.Store(p.n)
	}
	return err
}

// allDone reports whether all edits are done.
func allDone(edits []edit) bool {
	for i := range edits {
		if !edits[i].done {
			return false
		}
	}
	return true
}

// hit is a place in a node where something changes: a value, or a subtree.
type hit struct {
	at       int // offset of the link
	kid      int // -1: a value
	gap      int // index of the key behind the gap
	ed0, ed1 int
	value    cid.Cid
	sub      ref
}

// patch carries out edits in a whole node whose keys stay as they are, as those of
// almost all nodes above an edit do. Then nothing changes but hashes, each 32 bytes
// at a known place. If keys or links come or go, it says so and does nothing, unless
// splice can do it.
//
// A node, with the links to its subtrees between its keys (there is none between m and t):
//
//	l   d   l   m   t   l
//	│       │           │
//	a–c     e–k         u–z
//
//	edit        where seek finds it        what happens
//	set d       a key of the node          hit: the value of d is overwritten
//	set f       in the gap after d         hit: the subtree e–k is edited, its link overwritten
//	delete f    in the gap after d         the same; if nothing is left of e–k: without
//	set g, h    in the same gap            one hit for both: ed0 to ed1
//	delete m    a key, no link beside it   splice, if it is the last edit and there was no hit
//	set n       this height, in no gap     splice, likewise
//	delete d    a key with links beside    not here: two subtrees become one
//	set f       this height, in a gap      not here: a subtree is cut in two
//	set n       lower, where no link is    not here: a link comes
//	delete n    lower, where no link is    ErrKeyNotFound
func (e *editor) patch(p *piece, edits []edit) (r ref, ok bool, err error) {
	if err := e.load(p); err != nil {
		return ref{}, false, err
	}
	n := p.n
	s := &e.levels[n.height]
	s.hits = s.hits[:0]
	for i := range edits {
		ed := &edits[i]
		if ed.done {
			continue
		}
		sp := n.seek(ed.key)
		switch {
		case sp.found && ed.delete(), !sp.found && ed.height == int(n.height) && !ed.delete():
			if len(s.hits) == 0 && allDone(edits[i+1:]) {
				return e.splice(p, ed, &sp)
			}
			return ref{}, false, nil
		case sp.found:
			s.hits = append(s.hits, hit{at: sp.value, kid: -1, ed0: i})
		case ed.height >= int(n.height), sp.link == 0 && ed.delete():
			return ref{}, false, &Error{Key: ed.key, Err: ErrKeyNotFound}
		case sp.link == 0:
			return ref{}, false, nil
		default:
			if last := len(s.hits) - 1; last >= 0 && s.hits[last].at == sp.link {
				s.hits[last].ed1 = i + 1
				continue
			}
			s.hits = append(s.hits, hit{at: sp.link, kid: sp.kid, gap: sp.index, ed0: i, ed1: i + 1})
		}
	}
	used := len(e.used)
	e.used = append(e.used, p.id)
	changed, lost := false, false
	for i := range s.hits {
		h := &s.hits[i]
		if h.kid < 0 {
			ed := &edits[h.ed0]
			ed.done = true
			h.value, *ed.prev = ed.value, n.linkCID(h.at)
			changed = changed || *ed.prev != ed.value
			continue
		}
		slot := &n.kids()[h.kid]
		k := piece{ref: ref{n: slot.Load(), id: n.linkID(h.at), height: int(n.height) - 1}, slot: slot}
		lo, hi := n.around(h.gap, p.lo.at, p.hi.at)
		k.lo, k.hi = bound{p.lo.key, lo}, bound{p.hi.key, hi}
		s.gaps = append(s.gaps[:0], k)
		if h.sub, err = e.subtree(int(n.height)-1, s.gaps, edits[h.ed0:h.ed1]); err != nil {
			return ref{}, false, err
		}
		changed = changed || h.sub.id != k.id
		lost = lost || h.sub.height < 0
	}
	if !changed {
		e.used = slices.Delete(e.used, used, used+1) // nothing below was taken apart either
		return p.ref, true, nil
	}
	if lost {
		return e.rebuildWithoutChild(s, p), true, nil
	}
	data := e.data(bytesOf(n.data))
	buf := bytesOf(data) // nobody else has it yet
	next := newNode(data, int(n.height), int(n.links))
	next.adopt(n, e.t.lazy != nil)
	kids := next.kids()
	for i := range s.hits {
		if h := &s.hits[i]; h.kid < 0 {
			copy(buf[h.at+cidAt:], h.value.KeyString())
		} else {
			copy(buf[h.at+cidAt:], h.sub.id)
			kids[h.kid].Store(h.sub.n)
			e.linked(&h.sub, next, h.at)
		}
	}
	return e.add(next, int(n.height)), true, nil
}

// rebuildWithoutChild makes the node of a piece again, with what patch found, after one of its
// subtrees has become empty.
func (e *editor) rebuildWithoutChild(s *scratch, p *piece) ref {
	s.items, s.keys = append(s.items[:0], item{}), s.keys[:0]
	es, link := p.n.entries()
	kid := 0
	gap := func() {
		it := &s.items[len(s.items)-1]
		if it.sub.height = -1; link > 0 {
			it.sub = ref{n: p.n.kids()[kid].Load(), id: p.n.linkID(link), height: p.height - 1}
			kid++
		}
		for i := range s.hits {
			if h := &s.hits[i]; h.kid >= 0 && h.at == link {
				it.sub = h.sub
			}
		}
	}
	gap()
	for en, ok := es.next(); ok; en, ok = es.next() {
		it := item{key: s.spell(en), value: p.n.linkCID(en.value)}
		for i := range s.hits {
			if h := &s.hits[i]; h.kid < 0 && h.at == en.value {
				it.value = h.value
			}
		}
		s.items = append(s.items, it)
		link = en.tree
		gap()
	}
	if len(s.items) == 1 && s.items[0].sub.height < 0 {
		return ref{height: -1}
	}
	return e.encode(s, p.height)
}

// data returns a copy of the block of a node that is made.
func (e *editor) data(block []byte) string {
	if !e.rootOnly {
		return string(block)
	}
	if len(e.room) < len(block) {
		e.room = make([]byte, max(len(block), 16<<10))
		e.rooms = e.room
	}
	data := e.room[:len(block):len(block)]
	e.room = e.room[len(block):]
	copy(data, block)
	return stringOf(data)
}

// add takes down a node that was made.
func (e *editor) add(n *node, height int) ref {
	e.made = append(e.made, made{n: n})
	m := &e.made[len(e.made)-1]
	m.id.set(bytesOf(n.data))
	return ref{n, m.id.view(), height, len(e.made)}
}

// linked takes down that a node, made too, has a link to a subtree at an offset: that is where the
// CID of a made node is kept.
func (e *editor) linked(sub *ref, parent *node, link int) {
	if sub.made > 0 {
		e.made[sub.made-1].cid = parent.linkID(link)
	}
}
