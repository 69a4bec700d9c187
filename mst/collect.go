package mst

import (
	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
)

// speller spells out bounds, of which many come more than once.
type speller struct {
	at  edge
	key []byte
}

// spell returns the key of a bound, which is good until the next call.
func (s *speller) spell(b bound) string {
	if b.at.n == nil {
		return b.key
	}
	if s.at != b.at {
		s.key, s.at = b.at.n.appendKey(s.key[:0], b.at.i), b.at
	}
	return stringOf(s.key)
}

// item is an entry of the node that is being made, with the gap that follows it.
// The first item of a node is the gap before all keys, and has no key.
type item struct {
	key        string
	value      cid.Cid
	gap0, gap1 int // the old subtrees in the gap
	ed0, ed1   int // the edits in the gap
	sub        ref // what the gap becomes
	link       int // where the new node has the link to it
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
		if err := e.load(p); err != nil {
			return err
		}
		if p.from == "" { // else it was cut, and its first part is counted
			e.used = append(e.used, p.id)
		}
		es, link := p.n.entries()
		s.widest = max(s.widest, es.left)
		kid, lo := 0, p.lo
		// sub adds the subtree between lo and hi to the present gap.
		sub := func(hi bound) {
			if link == 0 {
				return
			}
			k := piece{slot: &p.n.kids()[kid], lo: lo, hi: hi, from: p.from, to: p.to}
			k.ref = ref{n: k.slot.Load(), id: p.n.linkID(link), height: height - 1}
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
			buf = appendKey(buf, p, it.key[p:])
			it.link = len(buf)
			buf = appendLinks(buf, it.sub.id, it.value)
			prev = it.key
		}
	}
	buf = append(buf, keyLeft...)
	s.items[0].link = len(buf)
	buf = appendLink(buf, s.items[0].sub.id)
	s.enc = buf
	n := newNode(e.data(buf), height, links)
	kids := n.kids()
	for i := range s.items {
		if sub := &s.items[i].sub; sub.height >= 0 {
			kids[0].Store(sub.n)
			kids = kids[1:]
			e.linked(sub, n, s.items[i].link)
		}
	}
	return e.add(n, height)
}
