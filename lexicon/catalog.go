package lexicon

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"sync"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Catalog holds documents and their compiled form. The zero value is empty and ready to use. It is
// safe for concurrent use. Documents may be added during validation: a validation uses the
// documents as they were at its start.
type Catalog struct {
	mu   sync.RWMutex
	docs map[syntax.NSID]*held
	// What was compiled: main definitions by NSID, and definitions by full name. Add
	// empties both, as a new document may be what others refer to.
	roots map[syntax.NSID]*root
	nodes map[string]node
}

// held is a document of a catalog, which may be parsed when it is first asked for. It is shared by
// catalogs and safe for concurrent use.
type held struct {
	once sync.Once
	read func() *Document // nil: it was parsed
	doc  *Document
}

// get returns the document; of nil, nil.
func (h *held) get() *Document {
	if h == nil {
		return nil
	}
	h.once.Do(func() {
		if h.read != nil {
			h.doc, h.read = h.read(), nil
		}
	})
	return h.doc
}

// Add adds documents. A document replaces an earlier one with the same NSID.
func (c *Catalog) Add(docs ...*Document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.docs == nil {
		c.docs = make(map[syntax.NSID]*held)
	}
	for _, doc := range docs {
		c.docs[doc.ID] = &held{doc: doc}
	}
	c.roots, c.nodes = nil, nil
}

// AddFS adds all files of a file system whose names end in ".json", in all folders. Each must be a
// schema. After an error nothing was added.
func (c *Catalog) AddFS(fsys fs.FS) error {
	var docs []*Document
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		b, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		doc, err := ParseSchema(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		docs = append(docs, doc)
		return nil
	})
	if err != nil {
		return fmt.Errorf("lexicon: %w", err)
	}
	c.Add(docs...)
	return nil
}

// Lookup returns a document.
func (c *Catalog) Lookup(id syntax.NSID) (*Document, bool) {
	c.mu.RLock()
	h, ok := c.docs[id]
	c.mu.RUnlock()
	return h.get(), ok
}

// Definition returns a definition by its full name: "com.example.defs#view", or "com.example.thing"
// for a main definition.
func (c *Catalog) Definition(name string) (Type, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	t := c.definition(name)
	return t, t != nil
}

func (c *Catalog) definition(name string) Type {
	id, def := splitName(name)
	if doc := c.docs[id].get(); doc != nil {
		return doc.Defs[def]
	}
	return nil
}

// Documents yields all documents by NSID, ascending.
func (c *Catalog) Documents() iter.Seq[*Document] {
	c.mu.RLock()
	all := slices.Collect(maps.Values(c.docs))
	c.mu.RUnlock()
	docs := make([]*Document, len(all))
	for i, h := range all {
		docs[i] = h.get()
	}
	slices.SortFunc(docs, func(a, b *Document) int { return cmp.Compare(a.ID, b.ID) })
	return slices.Values(docs)
}

func sortedNames(doc *Document) []string { return slices.Sorted(maps.Keys(doc.Defs)) }

// root returns the compiled main definition of a document, or nil.
func (c *Catalog) root(id syntax.NSID) *root {
	c.mu.RLock()
	r, h := c.roots[id], c.docs[id]
	c.mu.RUnlock()
	if r != nil || h == nil {
		return r // and what is missing is not remembered: anyone can ask for names without end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r = c.compileRoot(c.docs[id].get())
	if c.roots == nil {
		c.roots = make(map[syntax.NSID]*root)
	}
	c.roots[id] = r
	return r
}

// node returns a compiled definition.
func (c *Catalog) node(name string) node {
	c.mu.RLock()
	n := c.nodes[name]
	c.mu.RUnlock()
	if n != nil {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compileName(name)
}
