package lexicon

import (
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
)

// localRefs checks references within a document.
func (r *reader) localRefs(doc *Document) {
	for path, full := range references(doc) {
		if id, name := splitName(full.name); id == doc.ID {
			if reason := full.check(doc.Defs[name]); reason != "" {
				r.err = &SchemaError{Path: path(), Reason: reason}
				return
			}
		}
	}
}

// reference is a name that a document refers to.
type reference struct {
	name    string
	variant bool // of a union
}

// check says why a definition cannot be referred to, or "".
func (r reference) check(t Type) string {
	switch t.(type) {
	case nil:
		return "there is no definition " + quote(r.name)
	case *Object, *Record:
		return ""
	case *Boolean, *Integer, *String, *Bytes, *CIDLink, *Blob, *Array:
		if !r.variant {
			return ""
		}
		return quote(r.name) + " is a " + t.TypeName() + ", but what a union refers to must be an object or a record"
	}
	return quote(r.name) + " is a " + t.TypeName() + ", which cannot be referred to"
}

// references yields all references of a document, in order, each with a function that says its path
// while the iteration is there. Paths can be as long as the document: one for each reference would
// be too much.
func references(doc *Document) iter.Seq2[func() string, reference] {
	return func(yield func(func() string, reference) bool) {
		s := refScan{yield: yield}
		for _, name := range sortedNames(doc) {
			s.path = append(s.path[:0], "defs", name)
			if !s.typ(doc.Defs[name]) {
				return
			}
		}
	}
}

type refScan struct {
	path  []string
	yield func(func() string, reference) bool
}

func (s *refScan) under(t Type, path ...string) bool {
	n := len(s.path)
	s.path = append(s.path, path...)
	ok := s.typ(t)
	s.path = s.path[:n]
	return ok
}

func (s *refScan) emit(r reference, path ...string) bool {
	return s.yield(func() string { return strings.Join(slices.Concat(s.path, path), "/") }, r)
}

// typ scans a type and reports whether to go on.
func (s *refScan) typ(t Type) bool {
	switch t := t.(type) {
	case *Ref:
		return s.emit(reference{name: t.Ref}, "ref")
	case *Union:
		for i, name := range t.Refs {
			if !s.emit(reference{name, true}, "refs", strconv.Itoa(i)) {
				return false
			}
		}
	case *Array:
		return s.under(t.Items, "items")
	case *Object:
		for _, p := range t.Properties {
			if !s.under(p.Type, "properties", p.Name) {
				return false
			}
		}
	case *Record:
		return s.under(t.Schema, "record")
	case *Query:
		return s.body(t.Output, "output")
	case *Procedure:
		return s.body(t.Input, "input") && s.body(t.Output, "output")
	case *Subscription:
		return s.under(t.Message, "message", "schema")
	}
	return true
}

func (s *refScan) body(b *Body, path string) bool {
	return b == nil || b.Schema == nil || s.under(b.Schema, path, "schema")
}

// References yields the names of the other documents that a document refers to, each once.
func (d *Document) References() iter.Seq[syntax.NSID] {
	return func(yield func(syntax.NSID) bool) {
		seen := map[syntax.NSID]bool{d.ID: true}
		for _, ref := range references(d) {
			if id, _ := splitName(ref.name); !seen[id] {
				seen[id] = true
				if !yield(id) {
					return
				}
			}
		}
	}
}

// Check returns nil if every reference in every document leads to a definition that may be referred
// to. Otherwise it returns *SchemaError values, joined.
func (c *Catalog) Check() error {
	var errs []error
	for doc := range c.Documents() {
		for path, ref := range references(doc) {
			t, _ := c.Definition(ref.name)
			if reason := ref.check(t); reason != "" {
				errs = append(errs, &SchemaError{ID: string(doc.ID), Path: path(), Reason: reason})
			}
		}
	}
	return errors.Join(errs...)
}
