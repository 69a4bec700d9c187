package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Action is what a [Write] does. The zero Action is not valid: it gives [ErrInvalidWrite].
type Action uint8

// Create fails with [ErrRecordExists] if there is a record at the path. Update and Delete fail with
// [ErrRecordNotFound] if there is none. Put creates or updates, and does nothing if the record
// already has the value.
const (
	Create Action = iota + 1
	Update
	Put
	Delete
)

// A Write is one intended change of one record.
type Write struct {
	Action     Action
	Collection syntax.NSID
	RKey       syntax.RecordKey
	// Record is the new value in canonical DAG-CBOR, of at most 1,000,000 bytes. Its
	// $type must be the collection.
	Record []byte
	// Encoded is the record as encoded bytes together with its decoded value. If it is set, Record
	// is not used, and the bytes are not decoded again.
	Encoded *data.Encoded
	// Swap, if not nil, is the CID that the record must have now; an undefined
	// CID means that there must be no record.
	Swap *cid.Cid
}

// A Batch is a set of writes that take effect as one commit. Events and key-value writes of the
// same atomic change go with it.
type Batch struct {
	// Writes are carried out in order, each seeing those before it. The commit
	// has their net effect: at most one operation per path.
	Writes []Write
	// SwapCommit, if defined, is the CID that the head commit must have.
	SwapCommit cid.Cid
	// Events are appended to the log before the commit's own event.
	Events []storage.Event
	// Sync adds a #sync event after the commit's.
	Sync bool
	// Silent leaves out the #commit event, for accounts that are not active.
	Silent bool
	// Checks and KV are preconditions and writes in the account's own key-value namespace. Keys
	// that begin with "index/" or "sweep/" are reserved for the host.
	Checks []storage.KVCheck
	KV     []storage.KVWrite
	// KeepDuplicates turns off [Index.Unique] for this batch: no record is replaced.
	KeepDuplicates bool
	// Guard, if not nil, decides whether the batch may still be applied. Create does not call it,
	// because there is no repository yet.
	Guard Guard
	// Assumed is what Guard returned for an earlier snapshot, such as the one in which the request
	// was authenticated. Empty means that Guard was not called yet. Apply uses these checks as
	// preconditions and does not call Guard again, unless one of them no longer holds or there is
	// nothing to store.
	Assumed []storage.KVCheck
	// Signer signs the commit. Nil means Config.Signer. Set it if the same change stores a new
	// signing key, as the creation of an account does.
	Signer crypto.Signer

	resign  bool // make a commit even if nothing changes
	unswept bool // the commit fails if there was a sweep of blobs meanwhile
}

// A Guard decides whether a repository may still be changed. It is called under the account's lock,
// with a snapshot, at each attempt to apply the change. Its error refuses the change. The checks
// that it returns become preconditions of the change, so what the guard read still holds at the
// moment of the commit.
//
// A request is authenticated when it begins, but its effect is a later transaction. A guard repeats
// the check (the session, the account's status) in that transaction.
type Guard func(ctx context.Context, r storage.Reader) ([]storage.KVCheck, error)

// Result says what a batch did.
type Result struct {
	// Head is the repository's head after the batch.
	Head storage.Head
	// Changed is false if the writes had no net effect, so that no commit was made.
	Changed bool
	// Seq is the sequence number of the last event, or 0.
	Seq int64
	// Records has one entry per write, in order.
	Records []RecordResult
	// Replaced are the paths of records that new records replaced: see [Index.Unique].
	Replaced []string
	// Ahead is the revision of an imported file if it lies too far in the future and was ignored.
	// Otherwise it is empty.
	Ahead syntax.TID
	// Legacy is how many records of an import break the present rules of the data model: see
	// [data.RecordRefs].
	Legacy int
}

// RecordResult is the outcome of one write.
type RecordResult struct {
	Path string
	CID  cid.Cid // undefined: deleted
	Prev cid.Cid // before this write; undefined: there was none
}

// maxRetries bounds how often a lost race is run again.
const maxRetries = 8

// Create makes a repository with its first commit. A batch without writes is allowed: it makes the
// commit of an empty repository. Errors are [ErrRepoExists] and those of [Host.Apply].
func (h *Host) Create(ctx context.Context, did syntax.DID, b Batch) (Result, error) {
	if err := checkAside(b.Events, b.KV); err != nil {
		return Result{}, err
	}
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	b.Assumed = nil
	res, _, err := h.apply(ctx, did, state{tree: mst.Empty()}, &b)
	if errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrConflict) {
		if _, headErr := h.store.Repos.Head(ctx, did); headErr == nil {
			return Result{}, ErrRepoExists
		}
	}
	return res, err
}

// checkAside checks what goes along with a change. An event that cannot be read would stay in the
// log, and end the stream of every subscriber that comes to it.
func checkAside(events []storage.Event, kv []storage.KVWrite) error {
	for i, ev := range events {
		m, err := commit.Decode(ev.Kind, ev.Payload)
		if err == nil && m.About() != ev.DID {
			err = fmt.Errorf("it is of %.64q, its message of %s", ev.DID, m.About())
		}
		if err != nil {
			return fmt.Errorf("%w: event %d: %w", ErrInvalidBatch, i, err)
		}
	}
	for _, w := range kv {
		if w.Key == "" || strings.HasPrefix(w.Key, indexPrefix) || strings.HasPrefix(w.Key, sweepPrefix) {
			return fmt.Errorf("%w: key %.64q is empty or the host's", ErrInvalidBatch, w.Key)
		}
	}
	return nil
}

// Apply carries out a batch of writes. It returns after the commit is durable.
//
// Apply retries if another process has changed the repository, and if something that the guard read
// has changed. So swaps and guards are always checked against the state that the batch is applied
// to. If a batch fails, or changes nothing, on a cached state, Apply checks that this state is
// still the stored one, and retries if it is not.
//
// Errors are those of this package, those of the guard, and [storage.ErrConflict] for a check in
// Batch.Checks that does not hold.
func (h *Host) Apply(ctx context.Context, did syntax.DID, b Batch) (Result, error) {
	if err := checkAside(b.Events, b.KV); err != nil {
		return Result{}, err
	}
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	for try := 0; ; try++ {
		st, err := h.load(ctx, did)
		if err != nil {
			return Result{}, err
		}
		res, asked, err := h.apply(ctx, did, st, &b)
		conflict := errors.Is(err, storage.ErrConflict)
		if !asked && !conflict {
			// The store has not said anything of the state yet.
			now, headErr := h.store.Repos.Head(ctx, did)
			if now == st.head || headErr != nil && err != nil {
				return res, err
			}
			h.cache.drop(did)
			if headErr != nil {
				return Result{}, notFound(headErr, ErrRepoNotFound)
			}
			if try == maxRetries {
				return Result{}, storage.ErrConflict
			}
			b.Assumed = nil
			continue
		}
		if !conflict || try == maxRetries {
			return res, err
		}
		now, loadErr := h.load(ctx, did)
		if h.stale != nil {
			h.stale(did)
		}
		if loadErr != nil || now.head == st.head && now.indexed == st.indexed && b.Guard == nil && (h.stale == nil && !b.unswept || try > 0) {
			return res, err // the state is what we took it for: a KV check failed
		}
		b.Assumed = nil
	}
}

// apply carries out a batch on a state. asked says whether the store has compared the state with
// what is stored. On any error apply forgets what it knows of the repository, so that the next
// batch starts from the store.
func (h *Host) apply(ctx context.Context, did syntax.DID, st state, b *Batch) (res Result, asked bool, err error) {
	defer func() {
		if err != nil {
			h.cache.drop(did)
		}
	}()
	guarded, looked := b.Assumed, false
	guard := func() (err error) {
		if b.Guard == nil || looked || st.head == (storage.Head{}) {
			return nil
		}
		looked = true
		guarded, err = h.checkGuard(ctx, did, b.Guard)
		return err
	}
	if len(guarded) == 0 {
		if err := guard(); err != nil {
			return Result{}, false, err
		}
	}
	if b.SwapCommit.Defined() && b.SwapCommit != st.head.Commit {
		return Result{}, false, &SwapError{Current: st.head.Commit}
	}
	edits, results, err := plan(st.tree, b.Writes)
	if err != nil {
		return Result{}, false, err
	}
	res = Result{Head: st.head, Records: results}
	change := storage.Change{Prev: st.head, Head: st.head, Events: b.Events, Checks: append(slices.Clip(b.Checks), guarded...), KV: b.KV}
	next := st
	if len(edits) > 0 || b.resign || st.head == (storage.Head{}) {
		if next, err = h.commitIndexed(ctx, did, st, edits, b, &change, &res); err != nil {
			return Result{}, false, err
		}
		res.Head, res.Changed = next.head, true
	} else if len(b.Events)+len(b.KV)+len(b.Checks) == 0 {
		return res, false, guard()
	}
	if res.Seq, err = h.store.Repos.Apply(ctx, did, &change); err != nil {
		return Result{}, true, notFound(err, ErrRepoNotFound)
	}
	h.cache.put(did, next)
	return res, true, nil
}

// commitIndexed is commit with the indexes of the state, if they are kept.
func (h *Host) commitIndexed(ctx context.Context, did syntax.DID, st state, edits []edit, b *Batch, change *storage.Change, res *Result) (next state, err error) {
	isNew := st.head == (storage.Head{})
	if isNew {
		st.indexed = len(h.indexes.list) > 0
	}
	var out indexed
	for room := max(commit.MaxOps-len(edits), 0); ; room /= 2 {
		if out, err = h.index(ctx, did, &st, edits, b.KeepDuplicates, room); err != nil {
			return state{}, err
		}
		try := *change
		next, err = h.commit(ctx, did, st, out.edits, b, &try)
		if errors.Is(err, ErrTooManyWrites) && len(out.edits) > len(edits) && room > 0 {
			continue // what is replaced makes the event too large: replace less
		}
		if *change = try; err != nil || !st.indexed {
			return next, err
		}
		break
	}
	next.indexed, res.Replaced = true, out.replaced
	if !isNew { // another process may have other indexes
		change.Checks = append(slices.Clip(change.Checks), storage.KVCheck{Key: stampKey, Value: h.indexes.stamp(st.head)})
	}
	change.KV = append(slices.Clip(change.KV), out.rows...)
	change.KV = append(change.KV, storage.KVWrite{Key: stampKey, Value: h.indexes.stamp(next.head)})
	return next, nil
}

// checkGuard asks a guard about the present state of a repository.
func (h *Host) checkGuard(ctx context.Context, did syntax.DID, guard Guard) (checks []storage.KVCheck, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		checks, err = guard(ctx, r)
		return err
	})
	return checks, err
}

// edit is the net effect of a batch on one path.
type edit struct {
	path      string
	prev, cid cid.Cid // undefined: no record
	record    *data.Encoded
	blobs     []data.Blob
	untyped   bool // the record has no $type
}

// plan runs the writes over the tree and returns their net effect, without the
// paths that end as they began, and what each write did.
func plan(tree *mst.Tree, writes []Write) ([]edit, []RecordResult, error) {
	edits := make([]edit, 0, len(writes))
	index := make(map[string]int, len(writes))
	results := make([]RecordResult, 0, len(writes))
	for i := range writes {
		w := &writes[i]
		path := string(w.Collection) + "/" + string(w.RKey)
		at, ok := index[path]
		if !ok {
			prev, _, err := tree.Get(path)
			if err != nil {
				return nil, nil, err
			}
			at = len(edits)
			index[path] = at
			edits = append(edits, edit{path: path, prev: prev, cid: prev})
		}
		e := &edits[at]
		res := RecordResult{Path: path, Prev: e.cid}
		if err := e.write(w); err != nil {
			return nil, nil, err
		}
		res.CID = e.cid
		results = append(results, res)
	}
	edits = slices.DeleteFunc(edits, func(e edit) bool { return e.prev == e.cid })
	return edits, results, nil
}

// write carries out one write on a path.
func (e *edit) write(w *Write) error {
	var c cid.Cid
	var blobs []data.Blob
	untyped := false
	record := w.Encoded
	switch {
	case record == nil:
		record = data.DecodeLazily(w.Record)
	case w.Record != nil:
		return fmt.Errorf("%w: %s: it has both Record and Encoded", ErrInvalidWrite, e.path)
	}
	switch w.Action {
	case Create, Update, Put, Delete:
	default:
		return fmt.Errorf("%w: %s: unknown action %d", ErrInvalidWrite, e.path, w.Action)
	}
	if w.Action != Delete {
		b := record.CBOR()
		if len(b) > commit.MaxRecord {
			return fmt.Errorf("%w: %s has %d bytes, more than %d", ErrInvalidRecord, e.path, len(b), commit.MaxRecord)
		}
		var err error
		if w.Encoded != nil {
			blobs, err = record.BlobRefs()
		} else {
			blobs, err = data.BlobRefs(b)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalidRecord, e.path, err)
		}
		c = dag.Sum(dag.CBOR, b)
		if w.Action == Put && c == e.cid {
			return nil
		}
		typ, ok := data.TypeOf(b)
		if ok && typ != string(w.Collection) {
			return &TypeError{Path: e.path, Collection: w.Collection, Type: typ}
		}
		untyped = !ok
	}
	if w.Swap != nil && *w.Swap != e.cid {
		return &SwapError{Path: e.path, Current: e.cid}
	}
	switch exists := e.cid.Defined(); {
	case w.Action == Create && exists:
		return fmt.Errorf("%w: %s", ErrRecordExists, e.path)
	case (w.Action == Update || w.Action == Delete) && !exists:
		return fmt.Errorf("%w: %s", ErrRecordNotFound, e.path)
	}
	if _, _, err := syntax.ParsePath(e.path); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	e.cid, e.record, e.blobs, e.untyped = c, record, blobs, untyped
	return nil
}

// commit computes the next state and fills in the change: tree, commit, event
// and records, all from the same edits. It promotes the blobs of new records.
func (h *Host) commit(ctx context.Context, did syntax.DID, st state, edits []edit, b *Batch, change *storage.Change) (state, error) {
	if st.head != (storage.Head{}) && slices.ContainsFunc(edits, func(e edit) bool { return len(e.blobs) > 0 }) {
		checks, err := h.unswept(ctx, did)
		if err != nil {
			return state{}, err
		}
		change.Checks, b.unswept = append(slices.Clip(change.Checks), checks...), true
	}
	ops := make([]mst.Op, len(edits))
	refs := make([][]cid.Cid, len(edits))
	for i, e := range edits {
		ops[i] = mst.Op{Key: e.path, Value: e.cid}
		if !e.cid.Defined() {
			continue
		}
		var err error
		if refs[i], err = h.promote(ctx, did, e); err != nil {
			return state{}, err
		}
		if e.untyped {
			collection, _, _ := strings.Cut(e.path, "/")
			return state{}, &TypeError{Path: e.path, Collection: syntax.NSID(collection)}
		}
	}
	delta, err := st.tree.Apply(ops)
	if err != nil {
		return state{}, err
	}
	s, err := h.sign(ctx, did, b.Signer, st.head.Rev, delta.Tree.Root())
	if err != nil {
		return state{}, err
	}
	head, block := s.head, s.block
	change.Head, change.Commit = head, block
	change.Checks = append(slices.Clip(change.Checks), s.checks...)
	next := state{head: head, tree: delta.Tree, size: st.size}

	ev := commit.Event{Repo: did, Commit: head.Commit, Rev: s.rev, Since: st.head.Rev, PrevData: st.head.Data, Time: h.now()}
	var records []car.Block
	for i, e := range edits {
		op := commit.Op{Action: commit.Update, Path: e.path, CID: e.cid, Prev: e.prev}
		switch {
		case !e.prev.Defined():
			op.Action = commit.Create
			next.size += treeBytes(e.path)
		case !e.cid.Defined():
			op.Action = commit.Delete
			next.size -= treeBytes(e.path)
		}
		ev.Ops = append(ev.Ops, op)
		rc := storage.RecordChange{Path: e.path, CID: e.cid}
		if e.cid.Defined() {
			rc.Data = e.record.CBOR()
			records = append(records, car.Block{CID: e.cid, Data: rc.Data})
			rc.Blobs = refs[i]
		}
		change.Records = append(change.Records, rc)
	}
	slices.SortFunc(change.Records, func(a, b storage.RecordChange) int {
		return strings.Compare(a.Path, b.Path)
	})
	if !b.Silent {
		if err := ev.SetBlocks(car.Block{CID: head.Commit, Data: block}, delta, records, commit.Limits{}); err != nil {
			if errors.Is(err, commit.ErrTooLarge) {
				err = fmt.Errorf("%w: %w", ErrTooManyWrites, err)
			}
			return state{}, err
		}
		change.Events = append(slices.Clip(change.Events), EventOf(&ev))
	}
	if b.Sync {
		change.Events = append(slices.Clip(change.Events), h.syncEvent(did, head, block))
	}
	return next, nil
}

// promote makes the blobs of a new record permanent and returns their CIDs.
func (h *Host) promote(ctx context.Context, did syntax.DID, e edit) ([]cid.Cid, error) {
	var refs []cid.Cid
	for _, b := range e.blobs {
		info, promoted, err := h.store.Blobs.Stat(ctx, did, b.Ref)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, fmt.Errorf("%w: %s", ErrBlobNotFound, b.Ref)
		} else if err != nil {
			return nil, err
		}
		// What a record says of a blob is held against the upload, unless another record has said
		// it before. That may be an old one, whose word nobody checked.
		used := false
		if promoted {
			if used, err = h.hasBlobRef(ctx, did, b.Ref); err != nil && !errors.Is(err, ErrRepoNotFound) {
				return nil, err
			}
		}
		if !used {
			bad := &BlobError{Ref: b.Ref, RecordPath: e.path}
			if b.Size != info.Size {
				bad.Field, bad.Got, bad.Have = "size", strconv.FormatInt(b.Size, 10), strconv.FormatInt(info.Size, 10)
				return nil, bad
			}
			if b.MIME != info.MIME {
				bad.Field, bad.Got, bad.Have = "mimeType", b.MIME, info.MIME
				return nil, bad
			}
		}
		if !promoted {
			if err := h.store.Blobs.Promote(ctx, did, b.Ref); err != nil {
				return nil, err
			}
		}
		if !slices.Contains(refs, b.Ref) {
			refs = append(refs, b.Ref)
		}
	}
	return refs, nil
}
