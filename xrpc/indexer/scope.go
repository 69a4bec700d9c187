package indexer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/lexicon/syntax"
)

// Scope selects accounts and collections. It includes an account if All, DIDs or Signal does, or if
// Indexer.Track was called for it.
type Scope struct {
	// All includes every account of the sources.
	All bool
	// DIDs includes these accounts.
	DIDs []syntax.DID
	// Signal includes accounts that have a record in one of these collections. If an account no
	// longer has one, it stays until its repository is read again.
	Signal []string
	// Collections selects the collections to index. Nil: all. Then repairs are cheaper too, because
	// the indexer knows the whole tree of a repository.
	Collections []string
}

// Collections are given as NSIDs, "com.example.note", or as all that begin with some segments,
// "com.example.*".
func checkCollections(list []string) error {
	for _, c := range list {
		name := c
		if head, ok := strings.CutSuffix(c, ".*"); ok {
			name = head + ".x.x" // any head of one segment or more
		}
		if _, err := syntax.ParseNSID(name); err != nil {
			return fmt.Errorf("indexer: collection %.80q: %w", c, err)
		}
	}
	return nil
}

// newFilterOf reads the text of a filter.
func newFilterOf(text string) *filter {
	if text == "*" {
		return newFilter(nil, true)
	}
	return newFilter(strings.Fields(text), false)
}

// filter is a set of collections.
type filter struct {
	all      bool
	exact    map[string]bool
	prefixes []string // with their dot
	text     string
}

func newFilter(list []string, nilIsAll bool) *filter {
	f := &filter{all: nilIsAll && list == nil, exact: make(map[string]bool), text: "*"}
	if f.all {
		return f
	}
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	for _, c := range list {
		if head, ok := strings.CutSuffix(c, "*"); ok {
			f.prefixes = append(f.prefixes, head)
		} else {
			f.exact[c] = true
		}
	}
	f.text = strings.Join(list, " ")
	return f
}

func (f *filter) has(collection string) bool {
	if f.all || f.exact[collection] {
		return true
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(collection, p) {
			return true
		}
	}
	return false
}

func (f *filter) hasPath(path string) bool {
	if f.all {
		return true
	}
	collection, _, _ := strings.Cut(path, "/")
	return f.has(collection)
}

// within reports whether all that f has is known to be in the filter of a text.
func (f *filter) within(text string) bool {
	if text == "*" {
		return true
	}
	if f.all {
		return false
	}
	outer := newFilter(strings.Fields(text), false)
	for c := range f.exact {
		if !outer.has(c) {
			return false
		}
	}
	for _, p := range f.prefixes {
		if !slices.ContainsFunc(outer.prefixes, func(o string) bool { return strings.HasPrefix(p, o) }) {
			return false
		}
	}
	return true
}

// scope is a Scope that is ready for use.
type scope struct {
	Scope
	dids    map[syntax.DID]bool
	signal  *filter
	records *filter
	text    string // names it
}

func newScope(s Scope) (*scope, error) {
	if err := checkCollections(s.Signal); err != nil {
		return nil, err
	}
	if err := checkCollections(s.Collections); err != nil {
		return nil, err
	}
	x := &scope{Scope: s, dids: make(map[syntax.DID]bool), signal: newFilter(s.Signal, false), records: newFilter(s.Collections, true)}
	h := sha256.New()
	for _, did := range slices.Sorted(slices.Values(s.DIDs)) {
		if _, err := syntax.ParseDID(string(did)); err != nil {
			return nil, fmt.Errorf("indexer: %w", err)
		}
		x.dids[did] = true
		fmt.Fprintln(h, did)
	}
	fmt.Fprintln(h, s.All, x.signal.text)
	fmt.Fprintln(h, x.records.text)
	x.text = hex.EncodeToString(h.Sum(nil))
	return x, nil
}

// wants reports whether an account is in the scope.
func (s *scope) wants(a *Account) bool {
	return s.All || a.Tracked || s.dids[a.DID] || a.Signaled && len(s.Signal) > 0
}

// signals reports whether a commit has a record of Signal.
func (s *scope) signals(ops []commit.Op) bool {
	if len(s.Signal) == 0 {
		return false
	}
	return slices.ContainsFunc(ops, func(op commit.Op) bool { return op.Action != commit.Delete && s.signal.hasPath(op.Path) })
}

// lists reports whether the accounts of a source are to be listed.
func (s *scope) lists() bool { return s.All || len(s.Signal) > 0 }
