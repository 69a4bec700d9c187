package mst

import "encoding/binary"

// keyWalk walks the keys of a tree in order. It is one loop over the entries of a node, without a
// call for each: whole repositories are listed by it.
type keyWalk struct {
	t     *Tree
	from  string // keys less than this are left out
	yield func(Entry, error) bool
	room  []byte // for keys
	used  int    // of it
}

// step is how many bytes are copied at a time: it costs less to copy a few bytes too many than to
// count them.
const step = 32

// node walks a subtree whose bounds are lo and hi; false if the walk is over.
func (w *keyWalk) node(n *node, lo, hi edge) bool {
	data := n.data
	count, pos := uintAt(data, len(nodeStart))
	index, kid, link := 0, 0, n.leftLink()
	var key []byte // the last one, and what is behind it: at least step bytes
	if from := w.from; from != "" {
		// Go to the first key that is not less, through the gap before it.
		s := n.seek(from)
		index, kid, pos, link = s.index, s.kid, s.at, s.link
		if index > 0 {
			key = append([]byte(n.key(index-1)), make([]byte, step)...)
		}
		if s.found && link > 0 {
			link, kid = 0, kid+1
		}
		if link == 0 {
			w.from = "" // what comes now is not less
		}
	}
	room, used := w.room, w.used
	base, same := key, 0
	for ; ; index++ {
		if link > 0 {
			w.used = used
			if !w.kid(n, index, kid, link, lo, hi) {
				return false
			}
			kid++
			room, used = w.room, w.used
		}
		if index == count {
			w.used = used
			return true
		}
		// The steps of entries.next, without a call.
		size, start := uintAt(data, pos+len(entryStart))
		prefix, tree := uintAt(data, start+size+len(keyPrefix))
		tree += len(keyTree)
		value := tree + len(null) + len(keyValue)
		if link = tree; data[tree] == null[0] {
			link = 0
		} else {
			value = tree + linkLen + len(keyValue)
		}
		pos = value + linkLen

		length := prefix + size
		from := bytesOf(data[start:]) // behind the suffix there are more than step bytes: a link at least
		if prefix == 0 {
			key, base, same = from, from, 0 // it is there in one piece
		} else {
			if len(room)-used < length+2*step {
				w.grow(length)
				room, used = w.room, 0
			}
			to := room[used:]
			if prefix > same {
				base = key
			}
			same = prefix
			join(to, base, prefix, from, size)
			key = to
			used += length
		}
		if !w.yield(Entry{stringOf(key[:length]), n.linkCID(value)}, nil) {
			return false
		}
	}
}

// leaf is node for one without subtrees, from its first key: most keys are in such.
func (w *keyWalk) leaf(n *node) bool {
	data := n.data
	count, pos := uintAt(data, len(nodeStart))
	room, used := w.room, w.used
	var key, base []byte
	same := 0
	for ; count > 0; count-- {
		size, start := uintAt(data, pos+len(entryStart))
		prefix, tree := uintAt(data, start+size+len(keyPrefix))
		value := tree + len(keyTree) + len(null) + len(keyValue)
		pos = value + linkLen
		length := prefix + size
		from := bytesOf(data[start:])
		if prefix == 0 {
			key, base, same = from, from, 0
		} else {
			if len(room)-used < length+2*step {
				w.grow(length)
				room, used = w.room, 0
			}
			to := room[used:]
			if prefix > same {
				base = key
			}
			same = prefix
			join(to, base, prefix, from, size)
			key = to
			used += length
		}
		if !w.yield(Entry{stringOf(key[:length]), n.linkCID(value)}, nil) {
			return false
		}
	}
	w.used = used
	return true
}

// join writes a prefix of one key and a suffix behind it. There are at least step bytes behind each
// of the three.
func join(to, base []byte, prefix int, from []byte, size int) {
	copyStep(to, base)
	for i := step; i < prefix; i += step {
		copyStep(to[i:], base[i:])
	}
	rest := to[prefix:]
	copyStep(rest, from)
	for i := step; i < size; i += step {
		copyStep(rest[i:], from[i:])
	}
}

// copyStep copies step bytes. An assignment of arrays would call a function, as they may overlap.
func copyStep(to, from []byte) {
	to, from = to[:step], from[:step]
	a, b := binary.LittleEndian.Uint64(from), binary.LittleEndian.Uint64(from[8:])
	c, d := binary.LittleEndian.Uint64(from[16:]), binary.LittleEndian.Uint64(from[24:])
	binary.LittleEndian.PutUint64(to, a)
	binary.LittleEndian.PutUint64(to[8:], b)
	binary.LittleEndian.PutUint64(to[16:], c)
	binary.LittleEndian.PutUint64(to[24:], d)
}

// kid walks one subtree of a node: that of the gap before the index-th key.
func (w *keyWalk) kid(n *node, index, kid, link int, lo, hi edge) bool {
	k := n.kids()[kid].Load()
	if k != nil && k.links == 0 {
		if w.from == "" {
			return w.leaf(k)
		}
		return w.node(k, edge{}, edge{}) // bounds are for what is still to be loaded
	}
	lo, hi = n.around(index, lo, hi)
	if k == nil {
		var err error
		if k, err = w.t.kid(n, kid, link, lo, hi); err != nil {
			w.yield(Entry{}, err)
			return false
		}
	}
	return w.node(k, lo, hi)
}

// grow makes room for a key, and for many more: up to 4 KiB, since whoever keeps one key keeps all.
func (w *keyWalk) grow(key int) {
	w.room = make([]byte, max(key+2*step, min(max(128, 2*len(w.room)), 4<<10)))
}
