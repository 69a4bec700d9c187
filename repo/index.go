package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Index describes keys that a Host derives from the records of every account and stores in the
// account's key-value namespace: for example posts by hashtag, or likes by their subject.
//
// The keys of a record are a pure function of the record, so the host maintains them for every kind
// of write. A batch updates them in the same transaction as its records. If an index is missing or
// outdated, the host builds it from the records at its first use. This happens after an import, or
// after a write by a program without this Index. A build uses bounded memory and short
// transactions; other writes of the account wait for it.
//
// Beside the keys, the host stores the head commit that they belong to. It never uses the keys of
// another commit.
type Index struct {
	// Name is 1 to 32 lower-case letters, digits and hyphens. It is unique within a host.
	Name string
	// Version must change whenever Keys returns other keys for the same record. If the version,
	// name or collections of any index change, all indexes of an account are rebuilt.
	Version string
	// Collections limits the index to records of these collections. Empty means all.
	Collections []syntax.NSID
	// Keys returns the keys of a record in any order, or nil. The record is untrusted input. A
	// record that breaks the present rules of the data model has no value, only bytes. Keys is
	// called concurrently, and must not keep the record.
	//
	// Keys sort by their bytes. A key is stored as a hash if it is longer than 256 bytes, has
	// control characters, or is not valid UTF-8.
	Keys func(collection syntax.NSID, rkey syntax.RecordKey, record *data.Encoded) []string
	// Unique makes a new record replace earlier records with the same key: they are deleted in the
	// same commit, as far as the limit on operations allows. An update or an import replaces
	// nothing. If several new records of one batch share a key, the last one stays. See also
	// Batch.KeepDuplicates.
	Unique bool
	// Replaces are prefixes of obsolete keys in the account's namespace. Keys with such a prefix
	// are deleted when the index is built.
	Replaces []string
}

// SubjectIndex returns a unique index: an account has at most one record for each subject in a
// collection. subjects says, for each collection, which text of a record is its subject: the name
// of a property ("subject") or a path into objects ("subject.uri"). Records without such a text are
// not indexed.
func SubjectIndex(name string, subjects map[syntax.NSID]string) Index {
	subjects = maps.Clone(subjects)
	version, _ := json.Marshal(subjects) // text, which always has a JSON form, in sorted order
	return Index{
		Name: name, Version: "2 " + string(version), Unique: true,
		Collections: slices.Sorted(maps.Keys(subjects)),
		Keys: func(collection syntax.NSID, _ syntax.RecordKey, record *data.Encoded) []string {
			value, err := record.Value()
			if err != nil {
				value = legacyValue(record.CBOR())
			}
			for name := range strings.SplitSeq(subjects[collection], ".") {
				m, _ := value.(map[string]any)
				value = m[name]
			}
			if subject, _ := value.(string); subject != "" {
				return []string{string(collection) + " " + subject}
			}
			return nil
		},
	}
}

// legacyValue returns what the JSON of a legacy record says, or nil.
func legacyValue(record []byte) any {
	text, err := data.AppendRecordJSON(nil, record)
	if err != nil {
		return nil
	}
	value, err := data.PlainJSON(text)
	if err != nil {
		return nil
	}
	return value
}

// Keys in an account's namespace:
//
//	index/                                   the stamp: which head and which indexes the rows belong to;
//	                                         or the mark of a build in progress
//	index/NAME/KEY \x01 COLLECTION/RKEY      a row, with the value 1
const (
	indexPrefix = "index/"
	stampKey    = indexPrefix
	rowEnd      = "\x01" // less than any character of a key
)

const (
	maxIndexName = 32
	maxIndexKey  = 256     // bytes of a key that is not hashed
	buildRows    = 2000    // records, or rows, of one transaction of a build
	buildBytes   = 1 << 20 // of the records of one such transaction
)

// indexSet is the indexes of a host.
type indexSet struct {
	list  []Index
	print []byte // a hash of all that says which rows there must be
}

// newIndexSet checks indexes. Wrong ones are a mistake in the program: it panics.
func newIndexSet(list []Index) indexSet {
	type definition struct {
		Name, Version string
		Collections   []syntax.NSID
	}
	var all []definition
	seen := make(map[string]bool)
	for _, x := range list {
		legal := strings.Trim(x.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && x.Name != "" && len(x.Name) <= maxIndexName
		switch {
		case !legal:
			panic(fmt.Sprintf("repo: Config.Indexes: %q is not a name of an index", x.Name))
		case seen[x.Name]:
			panic(fmt.Sprintf("repo: Config.Indexes: two indexes are called %q", x.Name))
		case x.Keys == nil:
			panic(fmt.Sprintf("repo: Config.Indexes: index %q has no function Keys", x.Name))
		case slices.Contains(x.Replaces, ""):
			panic(fmt.Sprintf("repo: Config.Indexes: index %q would replace the whole namespace", x.Name))
		}
		seen[x.Name] = true
		all = append(all, definition{x.Name, x.Version, slices.Sorted(slices.Values(x.Collections))})
	}
	text, _ := json.Marshal(all)
	sum := sha256.Sum256(text)
	return indexSet{list: slices.Clone(list), print: sum[:16]}
}

// stamp is the value of stampKey for a head.
func (x *indexSet) stamp(head storage.Head) []byte {
	return append(head.Commit.Bytes(), x.print...)
}

// current reports whether the rows of a snapshot are those of its head.
func (x *indexSet) current(ctx context.Context, r storage.Reader) (bool, error) {
	if len(x.list) == 0 {
		return false, nil
	}
	stamp, err := r.Get(ctx, stampKey)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && bytes.Equal(stamp, x.stamp(r.Head())), err
}

// has reports whether an index has records of a collection.
func (x *Index) has(collection syntax.NSID) bool {
	return len(x.Collections) == 0 || slices.Contains(x.Collections, collection)
}

// rowPrefix is what the rows of a key begin with.
func (x *Index) rowPrefix(key string) string {
	plain := len(key) <= maxIndexKey && utf8.ValidString(key) && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' })
	if !plain {
		sum := sha256.Sum256([]byte(key))
		key = "sha256:" + hex.EncodeToString(sum[:])
	}
	return indexPrefix + x.Name + "/" + key + rowEnd
}

// prefixes returns what the rows of a record begin with, each once.
func (x *Index) prefixes(path string, record *data.Encoded) []string {
	collection, rkey, err := syntax.ParsePath(path)
	if err != nil || !x.has(collection) {
		return nil
	}
	var list []string
	for _, key := range x.Keys(collection, rkey, record) {
		list = append(list, x.rowPrefix(key))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// rows returns the keys of all rows of a record.
func (x *indexSet) rows(path string, record *data.Encoded) (rows []string) {
	for i := range x.list {
		for _, prefix := range x.list[i].prefixes(path, record) {
			rows = append(rows, prefix+path)
		}
	}
	return rows
}

// affectedBy reports whether edits touch records that may have keys.
func (x *indexSet) affectedBy(edits []edit) bool {
	for i := range x.list {
		for _, e := range edits {
			if collection, _, err := syntax.ParsePath(e.path); err == nil && x.list[i].has(collection) {
				return true
			}
		}
	}
	return false
}

// unique returns what the rows of an edit's unique keys begin with; none unless it makes a record.
func (x *indexSet) unique(e *edit) (prefixes []string) {
	if e.prev.Defined() || !e.cid.Defined() {
		return nil
	}
	for i := range x.list {
		if x.list[i].Unique {
			prefixes = append(prefixes, x.list[i].prefixes(e.path, e.record)...)
		}
	}
	return prefixes
}

// indexed is what indexes make of edits.
type indexed struct {
	edits    []edit            // with the deletes of what is replaced
	rows     []storage.KVWrite // changes of rows
	replaced []string          // paths
}

// index works out what edits on a state change in its indexes, and what they replace. If that
// depends on an index that is out of date, it is built first. An index that nobody needs yet is
// left as it is. At most room records are replaced; with keep, none.
func (h *Host) index(ctx context.Context, did syntax.DID, st *state, edits []edit, keep bool, room int) (out indexed, err error) {
	out.edits = edits
	x := &h.indexes
	if !x.affectedBy(edits) {
		return out, nil
	}
	if !st.indexed {
		needed := !keep && slices.ContainsFunc(edits, func(e edit) bool { return len(x.unique(&e)) > 0 })
		if !needed {
			return out, nil
		}
		if err := h.buildIndexes(ctx, did, st.head); err != nil {
			return out, err
		}
		st.indexed = true
	}
	if st.head == (storage.Head{}) { // nothing is stored yet
		err = x.derive(ctx, st, nil, keep, room, &out)
		return out, err
	}
	err = h.viewAt(ctx, did, st.head, func(r storage.Reader) error {
		out = indexed{edits: edits}
		return x.derive(ctx, st, r, keep, room, &out)
	})
	return out, err
}

// derive fills in out for a snapshot; nil: the repository is new.
func (x *indexSet) derive(ctx context.Context, st *state, r storage.Reader, keep bool, room int, out *indexed) error {
	if !keep {
		if err := x.replace(ctx, st, r, room, out); err != nil {
			return err
		}
	}
	for i := range out.edits {
		e := &out.edits[i]
		var before, after []string
		if e.prev.Defined() {
			rec, err := r.Record(ctx, e.path)
			if err != nil {
				return fmt.Errorf("repo: indexes of %s: %w", e.path, err)
			}
			before = x.rows(e.path, data.DecodeLazily(rec.Data))
		}
		if e.cid.Defined() {
			after = x.rows(e.path, e.record)
		}
		for _, row := range before {
			if !slices.Contains(after, row) {
				out.rows = append(out.rows, storage.KVWrite{Key: row})
			}
		}
		for _, row := range after {
			if !slices.Contains(before, row) {
				out.rows = append(out.rows, rowWrite(row))
			}
		}
	}
	return nil
}

func rowWrite(row string) storage.KVWrite { return storage.KVWrite{Key: row, Value: []byte("1")} }

// replace adds the deletes of the records whose unique keys new ones have, and takes out all but
// the last of several new ones.
func (x *indexSet) replace(ctx context.Context, st *state, r storage.Reader, room int, out *indexed) error {
	written := make(map[string]bool, len(out.edits))
	for _, e := range out.edits {
		written[e.path] = true
	}
	claimed := make(map[string]bool) // prefixes of rows, by new records that stay
	superseded := make(map[string]bool)
	var deletes []edit
	for i := len(out.edits) - 1; i >= 0; i-- {
		prefixes := x.unique(&out.edits[i])
		if slices.ContainsFunc(prefixes, func(p string) bool { return claimed[p] }) {
			superseded[out.edits[i].path] = true
			out.replaced = append(out.replaced, out.edits[i].path)
			continue
		}
		for _, prefix := range prefixes {
			claimed[prefix] = true
			if r == nil {
				continue
			}
			for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				if len(deletes) >= room {
					break
				}
				path := strings.TrimPrefix(pair.Key, prefix)
				if written[path] {
					continue // the batch says what becomes of it
				}
				old, ok, err := x.owner(ctx, st, r, path, prefix)
				if err != nil {
					return err
				}
				if ok {
					written[path] = true
					deletes = append(deletes, old)
					out.replaced = append(out.replaced, path)
				}
			}
		}
	}
	if len(deletes)+len(superseded) == 0 {
		return nil
	}
	out.edits = slices.DeleteFunc(slices.Clone(out.edits), func(e edit) bool { return superseded[e.path] })
	out.edits = append(out.edits, deletes...)
	return nil
}

// owner returns the delete of the record that a row points to, if that record has the key.
func (x *indexSet) owner(ctx context.Context, st *state, r storage.Reader, path, prefix string) (edit, bool, error) {
	now, ok, err := st.tree.Get(path)
	if err != nil || !ok {
		return edit{}, false, err
	}
	rec, err := r.Record(ctx, path)
	if errors.Is(err, storage.ErrNotFound) {
		return edit{}, false, nil
	} else if err != nil {
		return edit{}, false, err
	}
	return edit{path: path, prev: now}, slices.Contains(x.rows(path, data.DecodeLazily(rec.Data)), prefix+path), nil
}

// viewAt is View for a head; ErrConflict if the repository has another one.
func (h *Host) viewAt(ctx context.Context, did syntax.DID, head storage.Head, fn func(storage.Reader) error) error {
	return h.View(ctx, did, func(r storage.Reader) error {
		if r.Head() != head {
			return fmt.Errorf("%w: the repository of %s has moved on", storage.ErrConflict, did)
		}
		return fn(r)
	})
}

// buildIndexes makes the rows of a repository what its records say, in transactions of bounded
// size. The caller holds the account's lock, which keeps no other process away. So:
//
//   - The stamp is replaced by a mark first. Every transaction demands that the head and the mark
//     are still there, and the last one puts the stamp in the mark's place.
//   - Rows that are right are never taken away. Two processes that build the same indexes for the
//     same head thus help each other; of those with other indexes, the later one wins.
//
// A build that breaks off leaves the mark, which nobody takes for a stamp. A build runs to its end
// even if the caller hangs up: otherwise impatient clients would have it begin again and again.
func (h *Host) buildIndexes(ctx context.Context, did syntax.DID, head storage.Head) error {
	b := indexBuild{Host: h, ctx: context.WithoutCancel(ctx), did: did, head: head, mark: append([]byte("building "), h.indexes.print...)}
	current := false
	err := h.viewAt(b.ctx, did, head, func(r storage.Reader) (err error) {
		current, err = h.indexes.current(b.ctx, r)
		return err
	})
	if err != nil || current { // another process was faster
		return err
	}
	if err := b.apply(nil, []storage.KVWrite{{Key: stampKey, Value: b.mark}}); err != nil {
		return err
	}
	rows := storage.Prefix(indexPrefix)
	rows.From = stampKey + "\x00"
	if err := b.sweep(rows, b.right); err != nil {
		return err
	}
	for _, x := range h.indexes.list {
		for _, prefix := range x.Replaces {
			if err := b.sweep(storage.Prefix(prefix), nil); err != nil {
				return err
			}
		}
	}
	for _, rng := range h.indexes.ranges() {
		if err := b.fill(rng); err != nil {
			return err
		}
	}
	return b.write([]storage.KVWrite{{Key: stampKey, Value: h.indexes.stamp(head)}})
}

// indexBuild is a build that is under way.
type indexBuild struct {
	*Host
	ctx  context.Context
	did  syntax.DID
	head storage.Head
	mark []byte
}

// write writes keys while the build is still wanted; otherwise the error is ErrConflict.
func (b *indexBuild) write(kv []storage.KVWrite) error {
	return b.apply([]storage.KVCheck{{Key: stampKey, Value: b.mark}}, kv)
}

func (b *indexBuild) apply(checks []storage.KVCheck, kv []storage.KVWrite) error {
	_, err := b.store.Repos.Apply(b.ctx, b.did, &storage.Change{Prev: b.head, Head: b.head, Checks: checks, KV: kv})
	return notFound(err, ErrRepoNotFound)
}

// right reports whether a row is one of the record that it points to.
func (b *indexBuild) right(r storage.Reader, row string) (bool, error) {
	path := row[strings.LastIndex(row, rowEnd)+1:]
	rec, err := r.Record(b.ctx, path)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && slices.Contains(b.indexes.rows(path, data.DecodeLazily(rec.Data)), row), err
}

// sweep deletes the keys of a range, but for those to keep (nil: none).
func (b *indexBuild) sweep(rng storage.Range, keep func(r storage.Reader, key string) (bool, error)) error {
	for {
		var kv []storage.KVWrite
		last := ""
		err := b.viewAt(b.ctx, b.did, b.head, func(r storage.Reader) error {
			kv, last = nil, ""
			n := 0
			for pair, err := range r.Keys(b.ctx, rng) {
				if err != nil {
					return err
				}
				last = pair.Key
				kept := false
				if keep != nil {
					if kept, err = keep(r, pair.Key); err != nil {
						return err
					}
				}
				if !kept {
					kv = append(kv, storage.KVWrite{Key: pair.Key})
				}
				if n++; n == buildRows {
					break
				}
			}
			return nil
		})
		if err == nil && len(kv) > 0 {
			err = b.write(kv)
		}
		if err != nil || last == "" {
			return err
		}
		rng.From = last + "\x00" // the least key greater than last
	}
}

// fill writes the rows of the records in a range.
func (b *indexBuild) fill(rng storage.Range) error {
	for {
		var kv []storage.KVWrite
		last := ""
		err := b.viewAt(b.ctx, b.did, b.head, func(r storage.Reader) error {
			kv, last = nil, ""
			n, size := 0, 0
			for rec, err := range r.Records(b.ctx, rng) {
				if err != nil {
					return err
				}
				for _, row := range b.indexes.rows(rec.Path, data.DecodeLazily(rec.Data)) {
					kv = append(kv, rowWrite(row))
				}
				last = rec.Path
				n, size = n+1, size+len(rec.Data)
				if max(n, len(kv)) >= buildRows || size >= buildBytes {
					break
				}
			}
			return nil
		})
		if err == nil && len(kv) > 0 {
			err = b.write(kv)
		}
		if err != nil || last == "" {
			return err
		}
		rng.From = last + "\x00"
	}
}

// ranges are those of the paths that may have keys.
func (x *indexSet) ranges() []storage.Range {
	var names []syntax.NSID
	for i := range x.list {
		if len(x.list[i].Collections) == 0 {
			return []storage.Range{{}}
		}
		names = append(names, x.list[i].Collections...)
	}
	slices.Sort(names)
	var list []storage.Range
	for _, name := range slices.Compact(names) {
		list = append(list, collectionRange(name))
	}
	return list
}

// Find returns the paths of up to limit records that have a key in an index, in path order, or
// [ErrRepoNotFound]. It first builds the index if that is outdated.
func (h *Host) Find(ctx context.Context, did syntax.DID, index, key string, limit int) (paths []string, err error) {
	i := slices.IndexFunc(h.indexes.list, func(x Index) bool { return x.Name == index })
	if i < 0 {
		return nil, fmt.Errorf("repo: the host has no index %q", index)
	}
	prefix := h.indexes.list[i].rowPrefix(key)
	for try := 0; ; try++ {
		current := false
		err = h.View(ctx, did, func(r storage.Reader) (err error) {
			paths = nil
			if current, err = h.indexes.current(ctx, r); err != nil || !current {
				return err
			}
			for pair, err := range r.Keys(ctx, storage.Prefix(prefix)) {
				if err != nil {
					return err
				}
				if len(paths) == limit {
					break
				}
				paths = append(paths, strings.TrimPrefix(pair.Key, prefix))
			}
			return nil
		})
		if err != nil || current {
			return paths, err
		}
		if err := h.needIndexes(ctx, did); err != nil && !errors.Is(err, storage.ErrConflict) {
			return nil, err
		}
		if try == maxRetries {
			return nil, fmt.Errorf("%w: another process undoes the indexes of %s", storage.ErrConflict, did)
		}
	}
}

// needIndexes builds the indexes of a repository unless they are right.
func (h *Host) needIndexes(ctx context.Context, did syntax.DID) error {
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return err
	}
	defer unlock()
	// What is cached may say so, and another process have undone it since.
	h.cache.drop(did)
	st, err := h.load(ctx, did)
	if err != nil || st.indexed {
		return err
	}
	if err := h.buildIndexes(ctx, did, st.head); err != nil {
		h.cache.drop(did)
		return err
	}
	st.indexed = true
	h.cache.put(did, st)
	return nil
}
