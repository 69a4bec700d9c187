package mst

import (
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
	if entries == nil {
		return nil, errNilEntries
	}
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

// RootOf returns the root of the tree of entries in strictly ascending key order. It does not keep
// the tree, so its memory does not grow with the number of entries.
func RootOf(entries iter.Seq2[Entry, error]) (cid.Cid, error) {
	if entries == nil {
		return cid.Undef, errNilEntries
	}
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

var (
	// errSpent says that a Builder was used after its result was taken.
	errSpent = errors.New("builder is spent")
	// errNoTree says that a Builder that only computes the root was asked for the tree.
	errNoTree = errors.New("builder makes no tree")
)

// Builder makes a tree from keys that are added in strictly ascending order. The zero value
// computes only the root, with memory for one path. [NewBuilder] returns one that keeps the tree. A
// Builder is for one goroutine. After an error it cannot be used any more.
type Builder struct {
	keep   bool
	levels []level // by height
	last   string  // the key before
	slash  int     // where it has its slash
	maker  maker
	arena  []byte // where blocks are put together in large pieces
	err    error
}

// level is the node of one height that is being filled.
type level struct {
	entries []byte // encoded; the last one without its links
	count   int
	key     string  // of the last entry
	value   cid.Cid // of the last entry
	left    id      // the left link
	tree    id      // the link behind the last entry, or, while there is none, the left link
	hasLeft bool
	hasTree bool
	kids    []*node
}

// arenaSize is how many bytes of blocks are allocated at once. As long as one block
// of them is in use, all are.
const arenaSize = 16 << 10

// firstArena is where that begins: the tree of a small repository takes little more than its blocks.
const firstArena = 1 << 10

// NewBuilder returns a Builder that keeps the tree.
func NewBuilder() *Builder { return &Builder{keep: true} }

// Add adds an entry. Its key must be greater than the one before. The *[Error] wraps [ErrOrder],
// [ErrInvalidKey], [ErrLink] (a value that no tree may have) or [ErrTooManyEntries].
func (b *Builder) Add(key string, v cid.Cid) error {
	if b.err == nil {
		b.err = b.add(key, v)
	}
	return b.err
}

func (b *Builder) add(key string, v cid.Cid) error {
	// What a key shares with the one before has been checked with that one.
	p := commonPrefix(b.last, key)
	slashAt, ok := validSuffix(key[p:], p, b.slash)
	switch {
	case !ok || !validParts(len(key), slashAt):
		return &Error{Key: key, Err: ErrInvalidKey}
	case p == len(key) || p < len(b.last) && key[p] < b.last[p]:
		return &Error{Key: key, Err: ErrOrder}
	case !validValue(v):
		return &Error{Key: key, Err: ErrLink}
	}
	b.last, b.slash = key, slashAt
	height := HeightForKey(key)
	for len(b.levels) <= height {
		b.levels = append(b.levels, level{})
	}
	b.closeBelow(height)
	l := &b.levels[height]
	switch {
	case l.count == MaxEntries:
		return &Error{Key: key, Err: ErrTooManyEntries}
	case l.count > 0:
		l.flush()
		p = commonPrefix(l.key, key)
	default:
		l.left, l.hasLeft, l.hasTree = l.tree, l.hasTree, false
		p = 0
	}
	l.entries = appendKey(l.entries, p, key[p:])
	l.key, l.value = key, v
	l.count++
	return nil
}

// flush encodes the links of the last entry, whose subtree is known now.
func (l *level) flush() {
	tree := ""
	if l.hasTree {
		tree = l.tree.view()
	}
	l.entries = appendLinks(l.entries, tree, l.value)
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
		up := &b.levels[h+1]
		up.hasTree = true
		if n := b.close(h, &up.tree); n != nil {
			up.kids = append(up.kids, n)
		}
	}
}

// close completes the node of a height and clears the level. It returns the node if it
// is to be kept, and its id.
func (b *Builder) close(height int, i *id) *node {
	l := &b.levels[height]
	left := ""
	switch {
	case l.count == 0:
		left = l.tree.view() // nothing but a link
	case l.hasLeft:
		left = l.left.view()
	}
	if l.count > 0 {
		l.flush()
	}
	size := len(nodeStart) + 3 + len(l.entries) + len(keyLeft) + linkLen
	if cap(b.arena)-len(b.arena) < size {
		b.arena = make([]byte, 0, max(min(arenaSize, max(firstArena, 2*cap(b.arena))), size))
	}
	buf := cbor.AppendArray(append(b.arena[len(b.arena):], nodeStart...), l.count)
	buf = append(buf, l.entries...)
	buf = appendLink(append(buf, keyLeft...), left)
	i.set(buf)
	var n *node
	if b.keep {
		b.arena = b.arena[:len(b.arena)+len(buf)]
		n = b.maker.node(stringOf(buf), height, len(l.kids))
		kids := n.kids()
		for i, k := range l.kids {
			kids[i].Store(k)
		}
	}
	l.entries, l.kids = l.entries[:0], l.kids[:0]
	l.count, l.hasLeft, l.hasTree = 0, false, false
	return n
}

// finish completes all levels and returns the root; nil and an undefined CID for
// the empty tree.
func (b *Builder) finish() (n *node, root cid.Cid, err error) {
	if b.err != nil {
		return nil, cid.Undef, b.err
	}
	b.err = &Error{Err: errSpent}
	top := len(b.levels) - 1
	for top >= 0 && b.levels[top].count == 0 {
		top--
	}
	if top < 0 {
		return nil, cid.Undef, nil
	}
	b.closeBelow(top)
	var i id
	n = b.close(top, &i)
	return n, dag.Wrap(string(i[:])), nil
}

// Tree returns the tree of the added entries. The Builder must be from [NewBuilder], and cannot be
// used afterwards.
func (b *Builder) Tree() (*Tree, error) {
	if !b.keep {
		return nil, &Error{Err: errNoTree}
	}
	n, root, err := b.finish()
	if err != nil {
		return nil, err
	}
	return &Tree{root: n, cid: root}, nil
}

// Root returns the root of the tree of the added entries. The Builder cannot be used afterwards.
func (b *Builder) Root() (cid.Cid, error) {
	_, root, err := b.finish()
	if err == nil && !root.Defined() {
		root = emptyCID
	}
	return root, err
}
