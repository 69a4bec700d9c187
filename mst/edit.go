package mst

import (
	"crypto/sha256"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// ref is a subtree: its top node, which may not be known, and that node's digest. Its
// height is -1 if it is empty.
type ref struct {
	n      *node
	digest string
	height int
}

// piece is an old subtree, or the part of one, of which only some keys count.
type piece struct {
	ref
	lo, hi   bound  // its keys lie between, for it stands between these in the old tree
	from, to string // only keys between count; empty: no limit
}

// bound is a key that bounds a subtree: spelled out, or where it can be found. The
// zero value is no bound.
type bound struct {
	key string
	at  edge
}

func (b bound) spell() string {
	if b.at.n != nil {
		return b.at.key()
	}
	return b.key
}

// whole reports whether all of the subtree counts.
func (p *piece) whole() bool { return p.from == "" && p.to == "" }

// before and after report on which side of a key the piece is for certain.
func (p *piece) before(key string) bool {
	return p.hi.key != "" && p.hi.key <= key || p.to != "" && p.to <= key
}
func (p *piece) after(key string) bool {
	return p.lo.key != "" && p.lo.key >= key || p.from != "" && p.from >= key
}

// item is an entry of the node that is being made, with the gap that follows it.
// The first item of a node is the gap before all keys, and has no key.
type item struct {
	key        string
	value      cid.Cid
	gap0, gap1 int // the old subtrees in the gap
	ed0, ed1   int // the edits in the gap
	sub        ref // what the gap becomes
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
	if len(pieces) == 1 && pieces[0].whole() && pieces[0].height == height {
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

// know loads the node of a piece if it is not known.
func (e *editor) know(p *piece) (err error) {
	if p.n == nil {
		p.n, err = e.t.lazy.load(dag.CID(dag.CBOR, (*digest)(bytesOf(p.digest))), p.lo.spell(), p.hi.spell(), p.height)
	}
	return err
}

// last reports whether edits are all done.
func last(edits []edit) bool {
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
func (e *editor) patch(p *piece, edits []edit) (r ref, ok bool, err error) {
	if err := e.know(p); err != nil {
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
			if len(s.hits) == 0 && last(edits[i+1:]) {
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
	e.used = append(e.used, p.digest)
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
		k := piece{ref: ref{n.kids()[h.kid].Load(), n.linkDigest(h.at), int(n.height) - 1}}
		lo, hi := n.around(h.gap, p.lo.at, p.hi.at)
		k.lo, k.hi = bound{p.lo.key, lo}, bound{p.hi.key, hi}
		s.gaps = append(s.gaps[:0], k)
		if h.sub, err = e.subtree(int(n.height)-1, s.gaps, edits[h.ed0:h.ed1]); err != nil {
			return ref{}, false, err
		}
		changed = changed || h.sub.digest != k.digest
		lost = lost || h.sub.height < 0
	}
	if !changed {
		e.used = slices.Delete(e.used, used, used+1) // nothing below was taken apart either
		return p.ref, true, nil
	}
	if lost {
		return e.without(s, p), true, nil
	}
	buf := []byte(n.data)
	next := newNode(stringOf(buf), int(n.height), int(n.links))
	next.adopt(n)
	kids := next.kids()
	for i := range s.hits {
		if h := &s.hits[i]; h.kid < 0 {
			copy(buf[h.at+cidAt:], h.value.KeyString())
		} else {
			copy(buf[h.at+len(linkStart):], h.sub.digest)
			kids[h.kid].Store(h.sub.n)
		}
	}
	return e.add(next, int(n.height)), true, nil
}

// without makes the node of a piece again, with what patch found, after one of its
// subtrees has become empty.
func (e *editor) without(s *scratch, p *piece) ref {
	s.items, s.keys = append(s.items[:0], item{}), s.keys[:0]
	es, link := p.n.entries()
	kid := 0
	gap := func() {
		it := &s.items[len(s.items)-1]
		if it.sub.height = -1; link > 0 {
			it.sub = ref{p.n.kids()[kid].Load(), p.n.linkDigest(link), p.height - 1}
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

// collect finds the keys of a height, edited, and the gaps between them.
func (e *editor) collect(s *scratch, height int, pieces []piece, edits []edit) error {
	s.widest = 0
	at := 0 // the next edit
	// advance carries out the edits before a key, or all that are left.
	advance := func(key string, all bool) error {
		for ; at < len(edits) && (all || edits[at].key < key); at++ {
			switch ed := &edits[at]; {
			case ed.done || ed.height < height: // for the gap
			case ed.delete() || ed.height > height:
				return &Error{Key: ed.key, Err: ErrKeyNotFound}
			default:
				ed.done = true
				s.insert = s.split(ed.key)
				s.push(item{key: ed.key, value: ed.value, ed0: at + 1}, at)
				for _, p := range s.insert {
					s.addGap(p)
				}
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
		if err := e.know(p); err != nil {
			return err
		}
		if p.from == "" { // else it was cut, and its first part is counted
			e.used = append(e.used, p.digest)
		}
		es, link := p.n.entries()
		s.widest = max(s.widest, es.left)
		kid, lo := 0, p.lo
		// sub adds the subtree between lo and hi to the present gap.
		sub := func(hi bound) {
			if link == 0 {
				return
			}
			k := piece{lo: lo, hi: hi, from: p.from, to: p.to}
			k.ref = ref{p.n.kids()[kid].Load(), p.n.linkDigest(link), height - 1}
			kid++
			if p.from != "" && k.before(p.from) || p.to != "" && k.after(p.to) {
				return
			}
			if k.from != "" && lo.key >= k.from {
				k.from = ""
			}
			if k.to != "" && hi.key != "" && hi.key <= k.to {
				k.to = ""
			}
			s.addGap(k)
		}
		for en, ok := es.next(); ok; en, ok = es.next() {
			key := s.spell(en)
			sub(bound{key: key})
			lo, link = bound{key: key}, en.tree
			if p.from != "" && key <= p.from || p.to != "" && key >= p.to {
				continue
			}
			if err := advance(key, false); err != nil {
				return err
			}
			it := item{key: key, value: p.n.linkCID(en.value), ed0: at}
			if at < len(edits) && edits[at].key == key && !edits[at].done {
				ed := &edits[at]
				ed.done = true
				*ed.prev = it.value
				if ed.delete() {
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
		return err
	}
	s.items[len(s.items)-1].ed1 = len(edits)
	return nil
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

// encode makes the node of a height from the items.
func (e *editor) encode(s *scratch, height int) ref {
	buf := cbor.AppendArray(append(s.enc[:0], nodeStart...), len(s.items)-1)
	prev, links := "", 0
	for i := range s.items {
		it := &s.items[i]
		if it.sub.height >= 0 {
			links++
		}
		if i > 0 {
			p := commonPrefix(prev, it.key)
			buf = appendLinks(appendKey(buf, p, it.key[p:]), it.sub.digest, it.value)
			prev = it.key
		}
	}
	buf = appendLink(append(buf, keyLeft...), s.items[0].sub.digest)
	s.enc = buf
	n := newNode(string(buf), height, links)
	kids := n.kids()
	for i := range s.items {
		if sub := &s.items[i].sub; sub.height >= 0 {
			kids[0].Store(sub.n)
			kids = kids[1:]
		}
	}
	return e.add(n, height)
}

// add takes down a node that was made.
func (e *editor) add(n *node, height int) ref {
	e.made = append(e.made, made{n, sha256.Sum256(bytesOf(n.data))})
	return ref{n, stringOf(e.made[len(e.made)-1].sum[:]), height}
}
