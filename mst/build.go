package mst

import (
	"crypto/sha256"
	"errors"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/cbor"
	"github.com/pdskit/pdskit/internal/dag"
)

// Entry is a key with its value.
type Entry struct {
	Key   string
	Value cid.Cid
}

// Build makes a tree from entries in strictly ascending key order, in one pass.
func Build(entries iter.Seq2[Entry, error]) (*Tree, error) {
	b := Builder{keep: true}
	for e, err := range entries {
		if err == nil {
			err = b.Add(e.Key, e.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	return b.Tree()
}

// BuildSorted is Build for entries in a slice.
func BuildSorted(entries []Entry) (*Tree, error) {
	return Build(func(yield func(Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	})
}

// RootOf returns the root of the tree of entries in strictly ascending key order,
// without making the tree: its memory does not grow with their number.
func RootOf(entries iter.Seq2[Entry, error]) (cid.Cid, error) {
	var b Builder
	for e, err := range entries {
		if err == nil {
			err = b.Add(e.Key, e.Value)
		}
		if err != nil {
			return cid.Undef, err
		}
	}
	return b.Root()
}

// errSpent says that a Builder was used after its result was taken.
var errSpent = errors.New("builder is spent")

// Builder makes a tree from keys that are added in strictly ascending order. The
// zero value computes only the root, with memory for one path; NewBuilder returns one that
// makes the tree. A Builder is for one goroutine, and of no use after an error.
type Builder struct {
	keep   bool
	levels []level // by height
	last   []byte  // the key before
	maker  maker
	arena  []byte // where blocks are put together in large pieces
	err    error
}

// level is the node of one height that is being filled.
type level struct {
	entries []byte // encoded, without the one that is pending
	count   int    // including the pending one
	key     []byte // the last key of the level: the pending one's

	// The pending entry waits for its subtree; before the first, the left link does.
	suffix  int // how many bytes of key are the suffix
	value   value
	tree    dag.Digest // of the pending entry, or the left link's
	hasTree bool
	left    dag.Digest // once there is an entry
	hasLeft bool
	kids    []*node
}

// NewBuilder returns a Builder that makes a tree.
func NewBuilder() *Builder { return &Builder{keep: true} }

// Add adds an entry.
func (b *Builder) Add(key string, v cid.Cid) error {
	if b.err != nil {
		return b.err
	}
	b.err = b.add(key, v)
	return b.err
}

func (b *Builder) add(key string, c cid.Cid) error {
	if !validKey(key) {
		return &Error{Key: key, Err: ErrInvalidKey}
	}
	if key <= string(b.last) {
		return &Error{Key: key, Err: ErrOrder}
	}
	v, ok := valueOf(c)
	if !ok {
		return &Error{Key: key, Err: ErrLink}
	}
	b.last = append(b.last[:0], key...)
	height := HeightForKey(key)
	for len(b.levels) <= height {
		b.levels = append(b.levels, level{})
	}
	b.closeBelow(height)
	l := &b.levels[height]
	if l.count == MaxEntries {
		return &Error{Key: key, Err: ErrTooManyEntries}
	}
	l.flush()
	if l.count == 0 {
		l.left, l.hasLeft, l.hasTree = l.tree, l.hasTree, false
	}
	p := 0
	if l.count > 0 {
		p = commonPrefix(string(l.key), key)
	}
	l.key = append(l.key[:0], key...)
	l.suffix = len(key) - p
	l.value = v
	l.count++
	return nil
}

// flush encodes the pending entry, whose subtree is known now.
func (l *level) flush() {
	if l.count == 0 {
		return
	}
	var tree *dag.Digest
	if l.hasTree {
		tree = &l.tree
	}
	p := len(l.key) - l.suffix
	l.entries = appendEntry(l.entries, p, stringOf(l.key[p:]), tree, &l.value)
	l.hasTree = false
}

// closeBelow completes the nodes of all heights below one, each the kid of the
// next, and links the last one at that height.
func (b *Builder) closeBelow(height int) {
	for h := range height {
		l := &b.levels[h]
		if l.count == 0 && !l.hasTree {
			continue
		}
		n, digest := b.close(h)
		up := &b.levels[h+1]
		up.tree, up.hasTree = digest, true
		if b.keep {
			up.kids = append(up.kids, n)
		}
	}
}

// close completes the node of a height and clears the level.
func (b *Builder) close(height int) (*node, dag.Digest) {
	l := &b.levels[height]
	l.flush()
	var left *dag.Digest
	switch {
	case l.count == 0:
		left = &l.tree // nothing but a link
	case l.hasLeft:
		left = &l.left
	}
	size := len(nodeStart) + 3 + len(l.entries) + len(keyLeft) + linkLen
	if cap(b.arena)-len(b.arena) < size {
		b.arena = make([]byte, 0, max(64<<10, size))
	}
	start := len(b.arena)
	buf := append(b.arena, nodeStart...)
	buf = cbor.AppendArray(buf, l.count)
	buf = append(buf, l.entries...)
	buf = appendLink(append(buf, keyLeft...), left)
	data := buf[start:len(buf):len(buf)]
	digest := sha256.Sum256(data)
	var n *node
	if b.keep {
		b.arena = buf
		n = b.maker.node(stringOf(data), height, len(l.kids))
		for i, k := range l.kids {
			n.kids[i].Store(k)
		}
	}
	*l = level{entries: l.entries[:0], key: l.key[:0], kids: l.kids[:0]}
	return n, digest
}

// finish completes all levels and returns the root.
func (b *Builder) finish() (*node, dag.Digest, error) {
	if b.err != nil {
		return nil, dag.Digest{}, b.err
	}
	top := len(b.levels) - 1
	for top >= 0 && b.levels[top].count == 0 {
		top--
	}
	if top < 0 {
		return nil, emptyDigest, nil
	}
	b.closeBelow(top)
	n, digest := b.close(top)
	return n, digest, nil
}

// Tree returns the tree of what was added. The Builder is spent after that.
func (b *Builder) Tree() (*Tree, error) {
	n, digest, err := b.finish()
	if err != nil {
		return nil, err
	}
	b.err = &Error{Err: errSpent}
	if n == nil {
		return Empty(), nil
	}
	return &Tree{root: n, digest: digest}, nil
}

// Root returns the root of what was added. The Builder is spent after that.
func (b *Builder) Root() (cid.Cid, error) {
	_, digest, err := b.finish()
	if err != nil {
		return cid.Undef, err
	}
	b.err = &Error{Err: errSpent}
	return dag.CID(dag.CBOR, &digest), nil
}
