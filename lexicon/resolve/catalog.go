package resolve

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// ValidateRecord validates a record and its key with the schema from Base, or with the resolved
// one. If the schema is not available, the error matches lexicon.ErrUnknownSchema.
func (r *Resolver) ValidateRecord(ctx context.Context, collection syntax.NSID, rkey syntax.RecordKey, record any) error {
	if r.Base != nil {
		if _, ok := r.Base.Lookup(collection); ok {
			err := r.Base.ValidateRecord(collection, rkey, record)
			if !errors.Is(err, lexicon.ErrUnknownSchema) {
				return err
			}
		}
	}
	c, err := r.Catalog(ctx, collection)
	if err != nil {
		return err
	}
	return c.ValidateRecord(collection, rkey, record)
}

// Catalog returns a catalog with a document and everything that it refers to, directly or
// indirectly, from Base or the network. It must not be changed. Only the document itself is
// essential: references that are not available are missing, and so is what exceeds MaxRefs or twice
// MaxSize in total.
func (r *Resolver) Catalog(ctx context.Context, id syntax.NSID) (*lexicon.Catalog, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	first, size, err := r.document(ctx, id)
	if err != nil {
		return nil, err
	}
	docs := []*lexicon.Document{first}
	seen := map[syntax.NSID]bool{id: true}
	left, budget := or(r.MaxRefs, 64), 2*r.maxSize()-size
	for level := docs; len(level) > 0; {
		var names []syntax.NSID
		for _, doc := range level {
			for name := range doc.References() {
				if !seen[name] && left > 0 {
					seen[name] = true
					left--
					names = append(names, name)
				}
			}
		}
		level = r.documents(ctx, names, &budget)
		docs = append(docs, level...)
	}
	return r.catalogs.of(id, docs), nil
}

// documents returns those of the named documents that can be had and that the budget, in bytes,
// has room for.
func (r *Resolver) documents(ctx context.Context, names []syntax.NSID, budget *int) (docs []*lexicon.Document) {
	found, sizes := make([]*lexicon.Document, len(names)), make([]int, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { found[i], sizes[i], _ = r.document(ctx, name) })
	}
	wg.Wait()
	for i, doc := range found {
		if doc != nil && sizes[i] <= *budget {
			*budget -= sizes[i]
			docs = append(docs, doc)
		}
	}
	return docs
}

// catalogs keeps a few catalogs, with what was compiled in them, for as long as they have the
// same documents.
type catalogs struct {
	mu   sync.Mutex
	byID map[syntax.NSID]compiled
}

type compiled struct {
	docs    []*lexicon.Document
	catalog *lexicon.Catalog
}

func (c *catalogs) of(id syntax.NSID, docs []*lexicon.Document) *lexicon.Catalog {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.byID[id]; ok && slices.Equal(have.docs, docs) {
		return have.catalog
	}
	const most = 64
	if c.byID == nil || len(c.byID) >= most {
		c.byID = make(map[syntax.NSID]compiled) // compiling again costs microseconds
	}
	catalog := new(lexicon.Catalog)
	catalog.Add(docs...)
	c.byID[id] = compiled{docs, catalog}
	return catalog
}
