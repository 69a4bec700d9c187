package mst

import (
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/internal/dag"
)

// Op sets a key to a value or, with an undefined Value, deletes it.
type Op struct {
	Key   string
	Value cid.Cid
}

// Change is the result of Apply. All parts are computed from the same operations.
type Change struct {
	// Tree is the tree after the operations.
	Tree *Tree
	// Root is its root.
	Root cid.Cid
	// New are the nodes of the new tree that the old tree does not have, root first.
	New []car.Block
	// Removed are the nodes of the old tree that the new tree does not have.
	Removed []cid.Cid
	// Proof are the further nodes of the new tree that the covering proof needs: those on the path
	// of every key and of its neighbours on both sides. New and Proof together are enough to invert
	// the operations, in one batch or one by one in any order.
	Proof []car.Block
	// Prev are the old values, one for each operation, in the order of the operations; undefined if
	// there was none.
	Prev []cid.Cid
}

// Apply returns the tree with operations applied. They may have any order, with at most one
// operation for each key. Deleting a missing key is an error that wraps ErrKeyNotFound. If a node
// would grow beyond MaxEntries keys, the error wraps ErrTooManyEntries. t is never changed.
func (t *Tree) Apply(ops []Op) (*Change, error) {
	e := newEditor(t, MaxEntries)
	defer e.release()
	var c *Change
	if len(ops) == 1 {
		one := new(struct {
			Change
			prev [1]cid.Cid
		})
		c = &one.Change
		c.Prev = one.prev[:]
	} else {
		c = &Change{Prev: make([]cid.Cid, len(ops))}
	}
	if err := e.prepare(ops, c.Prev); err != nil {
		return nil, err
	}
	var err error
	if c.Tree, err = e.run(); err != nil {
		return nil, err
	}
	c.Root = c.Tree.Root()
	e.account(c)
	if err := e.prove(c); err != nil {
		return nil, err
	}
	return c, nil
}

// edit is an operation on its way down the tree.
type edit struct {
	key      string
	height   int
	value    cid.Cid // undefined: delete
	done     bool    // carried out: its key was met at its height
	isolated bool    // carried out in a node that has no subtree beside the key
	prev     *cid.Cid
}

func (ed *edit) delete() bool { return !ed.value.Defined() }

// editor applies one batch.
type editor struct {
	t        *Tree
	most     int // entries of one node, unless it had more
	edits    []edit
	levels   [maxHeight + 1]scratch
	height   int      // levels below this were used
	made     []made   // new nodes, children before parents
	used     []string // ids of nodes of the tree before that were taken apart
	fresh    nodeSet  // the made ones that the tree before did not have
	lo, hi   speller  // of bounds of nodes that are loaded
	rootOnly bool     // what is made is needed only while the editor works
	room     []byte   // if so: for blocks
	rooms    []byte   // all of it, for the next batch
}

type made struct {
	n   *node
	id  id
	cid string // the same, where the parent has it; empty: not known
}

var editorPool = sync.Pool{New: func() any { return new(editor) }}

// newEditor returns an editor that may write nodes of so many entries.
func newEditor(t *Tree, most int) *editor {
	e := editorPool.Get().(*editor)
	e.t, e.most = t, most
	return e
}

// release gives the editor back, without what it holds of trees.
func (e *editor) release() {
	e.t, e.rootOnly = nil, false
	e.lo.at, e.hi.at = edge{}, edge{}
	if e.room = nil; len(e.rooms) > 64<<10 {
		e.rooms = nil
	}
	clear(e.edits)
	clear(e.used)
	clear(e.made)
	e.edits, e.used, e.made = e.edits[:0], e.used[:0], e.made[:0]
	e.fresh.clear()
	for i := range e.height {
		e.levels[i].release()
	}
	e.height = 0
	editorPool.Put(e)
}

func (e *editor) prepare(ops []Op, prev []cid.Cid) error {
	for i, op := range ops {
		if !validKey(op.Key) {
			return &Error{Key: op.Key, Err: ErrInvalidKey}
		}
		if op.Value.Defined() && !validValue(op.Value) {
			return &Error{Key: op.Key, Err: ErrLink}
		}
		e.edits = append(e.edits, edit{key: op.Key, height: HeightForKey(op.Key), value: op.Value, prev: &prev[i]})
	}
	if len(ops) > 1 {
		slices.SortFunc(e.edits, func(a, b edit) int { return strings.Compare(a.key, b.key) })
	}
	for i := 1; i < len(e.edits); i++ {
		if e.edits[i].key == e.edits[i-1].key {
			return &Error{Key: e.edits[i].key, Err: ErrDuplicateKey}
		}
	}
	return nil
}

// run makes the tree after the edits.
func (e *editor) run() (*Tree, error) {
	top := ref{height: -1}
	height := -1
	var pieces []piece
	if root := e.t.root; root != nil {
		top = ref{n: root, id: e.t.cid.KeyString(), height: int(root.height)}
		height = top.height
		pieces = []piece{{ref: top}}
	}
	for i := range e.edits {
		if ed := &e.edits[i]; !ed.delete() {
			height = max(height, ed.height)
		}
	}
	e.height = height + 1
	if height >= 0 {
		var err error
		if top, err = e.subtree(height, pieces, e.edits); err != nil {
			return nil, err
		}
	} else if len(e.edits) > 0 {
		return nil, &Error{Key: e.edits[0].key, Err: ErrKeyNotFound}
	}
	// A root without keys of its own gives way to what is below it.
	for top.height >= 0 {
		if top.n == nil {
			var err error
			if top.n, err = e.t.lazy.load(dag.Wrap(top.id), "", "", top.height); err != nil {
				return nil, err
			}
		}
		if top.n.count() > 0 {
			return newTree(top.n, top.id, e.t.lazy), nil
		}
		if last := len(e.made) - 1; last >= 0 && e.made[last].n == top.n {
			e.made = e.made[:last]
		} else {
			e.used = append(e.used, top.id)
		}
		top = ref{n: top.n.kids()[0].Load(), id: top.n.linkID(len(top.n.data) - linkLen), height: top.height - 1}
	}
	return &Tree{lazy: e.t.lazy}, nil
}

// account fills in the new and the removed nodes. A node that was taken apart and came
// out the same is neither.
func (e *editor) account(c *Change) {
	if (e.t.root == nil) != (c.Tree.root == nil) { // the empty tree has a block too
		if e.t.root == nil {
			c.Removed = append(c.Removed, emptyCID)
		} else {
			c.New = append(c.New, emptyBlock)
		}
	}
	var kept map[id]bool
	isolated := e.allIsolated()
	if !isolated {
		kept = e.unchanged()
	}
	c.New = slices.Grow(c.New, len(e.made))
	for i := len(e.made) - 1; i >= 0; i-- {
		m := &e.made[i]
		if kept != nil && kept[m.id] {
			continue
		}
		if !isolated {
			e.fresh.add(m.n)
		}
		id := dag.Wrap(m.cid)
		if m.n == c.Tree.root {
			id = c.Root
		} else if m.cid == "" {
			id = dag.Wrap(string(m.id[:]))
		}
		c.New = append(c.New, block(m.n.data, id))
	}
	c.Removed = slices.Grow(c.Removed, len(e.used))
	for _, used := range e.used {
		if kept == nil || !kept[id(bytesOf(used))] {
			c.Removed = append(c.Removed, dag.Wrap(used)) // it stands in the tree before
		}
	}
}

// allIsolated reports whether all edits were carried out in nodes that have no subtree beside the
// key. Then no made node equals one of the tree before, and all nodes on the paths of the keys are
// made.
func (e *editor) allIsolated() bool {
	for i := range e.edits {
		if !e.edits[i].isolated {
			return false
		}
	}
	return true
}

// newTree returns a tree, which keeps a copy of the root's id.
func newTree(root *node, rootID string, lazy *lazy) *Tree {
	t := new(struct {
		Tree
		id id
	})
	copy(t.id[:], rootID)
	t.Tree = Tree{root: root, cid: dag.Wrap(t.id.view()), lazy: lazy}
	return &t.Tree
}

// unchanged returns the ids of nodes that are both made and used, or nil if there
// are none.
func (e *editor) unchanged() (kept map[id]bool) {
	keep := func(i *id) {
		if kept == nil {
			kept = make(map[id]bool)
		}
		kept[*i] = true
	}
	if len(e.used) <= 32 {
		for i := range e.made {
			m := &e.made[i]
			for _, used := range e.used {
				if m.id.view() == used {
					keep(&m.id)
				}
			}
		}
		return kept
	}
	used := make(map[id]bool, len(e.used))
	for _, u := range e.used {
		used[id(bytesOf(u))] = true
	}
	for i := range e.made {
		if m := &e.made[i]; used[m.id] {
			keep(&m.id)
		}
	}
	return kept
}

// nodeSet is a set of nodes, small or large.
type nodeSet struct {
	few  []*node
	many map[*node]bool
}

// add reports whether the node is new to the set.
func (s *nodeSet) add(n *node) bool {
	if s.many == nil {
		if slices.Contains(s.few, n) {
			return false
		}
		if len(s.few) < 64 {
			s.few = append(s.few, n)
			return true
		}
		s.many = make(map[*node]bool)
		for _, n := range s.few {
			s.many[n] = true
		}
	}
	if s.many[n] {
		return false
	}
	s.many[n] = true
	return true
}

func (s *nodeSet) clear() {
	clear(s.few)
	s.few, s.many = s.few[:0], nil
}
