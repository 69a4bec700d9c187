package mst

import (
	"strings"

	"github.com/pdskit/pdskit/internal/cbor"
)

// splice carries out one edit that inserts or deletes a key of a node where no subtree is beside
// it, so that no link comes or goes: what most edits come down to in the end. Only the entry itself
// and the prefix of the one behind it change; the rest is copied. It reports whether it could.
func (e *editor) splice(p *piece, ed *edit, sp *place) (r ref, ok bool, err error) {
	n := p.n
	if sp.link > 0 || sp.after > 0 {
		return ref{}, false, nil
	}
	count := n.count()
	_, start := uintAt(n.data, len(nodeStart))
	s := &e.levels[n.height]
	buf := append(s.enc[:0], nodeStart...)
	if sp.found {
		ed.done, ed.isolated, *ed.prev = true, true, n.linkCID(sp.value)
		if count == 1 { // no links either
			e.used = append(e.used, p.id)
			return ref{height: -1}, true, nil
		}
		buf = append(cbor.AppendArray(buf, count-1), n.data[start:sp.at]...)
		rest := sp.value + linkLen
		es := entries{data: n.data, pos: rest, left: count - sp.index - 1}
		if next, more := es.next(); more && next.prefix > sp.before {
			// It has to say what it shared with the deleted key alone.
			es = entries{data: n.data, pos: sp.at, left: 1}
			old, _ := es.next()
			buf = appendKey(buf, sp.before, old.suffix[:next.prefix-sp.before]+next.suffix)
			rest = next.links()
		}
		buf = append(buf, n.data[rest:]...)
	} else {
		if count+1 > e.most {
			return ref{}, false, &Error{Key: strings.Clone(ed.key), Err: ErrTooManyEntries}
		}
		ed.done, ed.isolated = true, true
		buf = append(cbor.AppendArray(buf, count+1), n.data[start:sp.at]...)
		buf = appendLinks(appendKey(buf, sp.before, ed.key[sp.before:]), "", ed.value)
		rest := sp.at
		es := entries{data: n.data, pos: sp.at, left: count - sp.index}
		if next, more := es.next(); more && sp.next > next.prefix {
			// It shares more with the new key than with the one before.
			buf = appendKey(buf, sp.next, next.suffix[sp.next-next.prefix:])
			rest = next.links()
		}
		buf = append(buf, n.data[rest:]...)
	}
	s.enc = buf
	e.used = append(e.used, p.id)
	next := newNode(e.data(buf), int(n.height), int(n.links))
	next.adopt(n, e.t.lazy != nil)
	return e.add(next, int(n.height)), true, nil
}
