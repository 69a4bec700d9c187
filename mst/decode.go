package mst

import (
	"math/bits"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/blockhash"
	"github.com/pdskit/pdskit/internal/dag"
)

// bounds is where a node stands in a tree: the open interval of its keys and its
// height.
type bounds struct {
	lo, hi string // empty: unbounded
	height int    // -1: that of its first key (the root)
}

// decoder checks and reads blocks of nodes. It is reused from node to node, so
// that checking allocates nothing.
type decoder struct {
	lim    Limits
	hashed bool // blocks are known to match their CIDs
	key    []byte
	heights
}

// failure is what decoding finds: an error and where.
type failure struct {
	at  int
	key string
	err error
}

func (f *failure) wrap(c cid.Cid) error {
	return &Error{Node: c, Offset: f.at, Key: f.key, Err: f.err}
}

// head reads the head of an item of a major type whose argument is at most
// 65,535 and encoded in the shortest form.
func head(s string, pos int, major byte) (v, next int, ok bool) {
	if pos >= len(s) || s[pos]>>5 != major {
		return 0, pos, false
	}
	switch info := s[pos] & 31; {
	case info < 24:
		return int(info), pos + 1, true
	case info == 24 && pos+1 < len(s):
		v = int(s[pos+1])
		return v, pos + 2, v >= 24
	case info == 25 && pos+2 < len(s):
		v = int(s[pos+1])<<8 | int(s[pos+2])
		return v, pos + 3, v > 255
	}
	return 0, pos, false
}

// link checks for null or a link at pos. at is the link's offset, or 0.
func link(s string, pos int) (at, next int, ok bool) {
	if pos < len(s) && s[pos] == null[0] {
		return 0, pos + 1, true
	}
	if len(s)-pos >= linkLen && s[pos:pos+len(linkStart)] == linkStart {
		return pos, pos + linkLen, true
	}
	return 0, pos, false
}

// valueLink checks for a link to a record at pos.
func valueLink(s string, pos int) (next int, ok bool) {
	if len(s)-pos < linkLen {
		return pos, false
	}
	l := s[pos : pos+linkLen]
	ok = l[:codecAt] == linkStart[:codecAt] && l[codecAt+1:len(linkStart)] == linkStart[codecAt+1:] &&
		(l[codecAt] == byte(dag.CBOR) || l[codecAt] == byte(dag.Raw))
	return pos + linkLen, ok
}

// decode checks a node completely, but for the nodes below it. It returns its
// height and the number of its links.
func (d *decoder) decode(s string, b bounds) (height, links int, f *failure) {
	d.n, d.height = 0, b.height
	height, links, f = d.decodeNode(s, b)
	if f != nil && d.n > 0 { // a key before has waited with another fault, maybe
		if earlier := d.checkHeights(); earlier != nil {
			f = earlier
		}
	}
	return height, links, f
}

// checkHeights checks the heights of keys that wait. That of the first key of a root becomes the
// root's.
func (d *decoder) checkHeights() *failure {
	var heads [2]uint64
	blockhash.Heads(&d.blocks, &heads)
	n := d.n
	d.n = 0
	for i := range n {
		h := bits.LeadingZeros64(heads[i]) / 2
		if heads[i] == 0 {
			h = HeightForKey(stringOf(d.blocks[i][:d.lens[i]]))
		}
		if d.height < 0 {
			d.height = h
		}
		if h != d.height {
			return &failure{d.starts[i], string(d.blocks[i][:d.lens[i]]), ErrHeight}
		}
	}
	return nil
}

// decodeNode is decode, but for the heights of keys that wait when it fails.
func (d *decoder) decodeNode(s string, b bounds) (height, links int, f *failure) {
	if len(s) > d.lim.NodeBytes {
		return 0, 0, &failure{0, "", ErrTooLarge}
	}
	if !strings.HasPrefix(s, nodeStart) {
		return 0, 0, &failure{0, "", ErrEncoding}
	}
	count, pos, ok := head(s, len(nodeStart), 4)
	if !ok {
		return 0, 0, &failure{pos, "", ErrEncoding}
	}
	if count > d.lim.Entries {
		return 0, 0, &failure{pos, "", ErrTooManyEntries}
	}
	key := d.key[:0]
	slashAt := 0
	for i := range count {
		start := pos
		if !strings.HasPrefix(s[pos:], entryStart) {
			return 0, 0, &failure{pos, "", ErrEncoding}
		}
		n, next, ok := head(s, pos+len(entryStart), 2)
		if !ok || n > len(s)-next {
			return 0, 0, &failure{next, "", ErrEncoding}
		}
		suffix := s[next : next+n]
		if pos = next + n; !strings.HasPrefix(s[pos:], keyPrefix) {
			return 0, 0, &failure{pos, "", ErrEncoding}
		}
		p, next, ok := head(s, pos+len(keyPrefix), 0)
		if !ok {
			return 0, 0, &failure{next, "", ErrEncoding}
		}
		// The prefix must exist and be the longest possible: then the keys differ
		// at the first byte of the suffix, which alone decides their order.
		switch {
		case p > len(key):
			return 0, 0, &failure{start, "", ErrPrefix}
		case p < len(key) && len(suffix) > 0 && suffix[0] == key[p]:
			return 0, 0, &failure{start, "", ErrPrefix}
		case i > 0 && (len(suffix) == 0 || p < len(key) && suffix[0] < key[p]):
			return 0, 0, &failure{start, "", ErrOrder}
		}
		key = append(key[:p], suffix...)
		if slashAt, ok = validSuffix(suffix, p, slashAt); !ok || !validParts(len(key), slashAt) {
			return 0, 0, &failure{start, string(key), ErrInvalidKey}
		}
		if i == 0 && stringOf(key) <= b.lo && b.lo != "" {
			return 0, 0, &failure{start, string(key), ErrOrder}
		}
		short := blockhash.Able && len(key) <= maxShort
		if short {
			d.add(key, start)
		}
		if d.n == 2 || d.n == 1 && !short {
			if f := d.checkHeights(); f != nil {
				return 0, 0, f
			}
		}
		if !short {
			if h := HeightForKey(stringOf(key)); d.height < 0 {
				d.height = h
			} else if h != d.height {
				return 0, 0, &failure{start, string(key), ErrHeight}
			}
		}
		if pos = next; !strings.HasPrefix(s[pos:], keyTree) {
			return 0, 0, &failure{pos, "", ErrEncoding}
		}
		tree, next, ok := link(s, pos+len(keyTree))
		if !ok {
			return 0, 0, &failure{next, "", ErrLink}
		}
		if tree > 0 {
			links++
		}
		if pos = next; !strings.HasPrefix(s[pos:], keyValue) {
			return 0, 0, &failure{pos, "", ErrEncoding}
		}
		if pos, ok = valueLink(s, pos+len(keyValue)); !ok {
			return 0, 0, &failure{pos, "", ErrLink}
		}
	}
	if d.n > 0 {
		if f := d.checkHeights(); f != nil {
			return 0, 0, f
		}
	}
	height = d.height
	d.key = key // keep what it has grown to
	if count > 0 && b.hi != "" && stringOf(key) >= b.hi {
		return 0, 0, &failure{pos, string(key), ErrOrder}
	}
	if !strings.HasPrefix(s[pos:], keyLeft) {
		return 0, 0, &failure{pos, "", ErrEncoding}
	}
	left, next, ok := link(s, pos+len(keyLeft))
	switch {
	case !ok:
		return 0, 0, &failure{next, "", ErrLink}
	case next != len(s):
		return 0, 0, &failure{next, "", ErrEncoding}
	case left > 0:
		links++
	}
	switch {
	case count == 0 && (links == 0 || b.height < 0):
		return 0, 0, &failure{0, "", ErrEmptyNode} // the root of the empty tree does not come here
	case links > 0 && height == 0:
		return 0, 0, &failure{0, "", ErrHeight}
	case height > d.lim.Height:
		return 0, 0, &failure{0, "", ErrTooLarge}
	}
	return height, links, nil
}

// check checks the block of a CID, of codec dag-cbor.
func (d *decoder) check(data []byte, c cid.Cid, b bounds) (height, links int, err error) {
	if !d.hashed {
		if sum := blockhash.Sum(data); string(sum[:]) != c.KeyString()[len(cidStart):] {
			return 0, 0, (&failure{0, "", ErrHash}).wrap(c)
		}
	}
	height, links, f := d.decode(stringOf(data), b)
	if f != nil {
		return 0, 0, f.wrap(c)
	}
	return height, links, nil
}
