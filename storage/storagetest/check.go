package storagetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// Options says what CheckStore checks.
type Options struct {
	// Key returns an account's signing key, or nil if signatures of the account
	// are not to be checked. Nil: no signatures are checked.
	Key func(did syntax.DID) *crypto.PublicKey
	// Silent allows for commits without an event (see repo.Batch).
	Silent bool
	// Blobs asks that exactly those blobs are promoted to which records refer. After
	// an import some are missing, and before a sweep there are too many.
	Blobs bool
}

// CheckStore reads everything in a store and returns all contradictions, each an
// error that wraps storage.ErrCorrupt, joined:
//
//   - of a repository: the tree of its records has the root of its head; the
//     commit block is that of the head and is signed; each record's data matches
//     its CID and is found by it; references to blobs are those in the records;
//   - of the log: numbers ascend within the bounds; each message is well-formed;
//     each commit inverts to the state that the one before it left; the
//     last one leads to the head; there is no commit of a deleted repository;
//   - of blobs, if asked: none is missing and none is left over.
//
// Its memory grows with the number of repositories and of references to blobs. The store
// should be at rest. Parts of the store that are nil are left out.
func CheckStore(ctx context.Context, s storage.Store, opt Options) error {
	c := &checker{ctx: ctx, store: s, opt: opt, last: map[syntax.DID]commit.State{}}
	if s.Events != nil {
		c.log()
	}
	if s.Repos != nil {
		c.repos()
	}
	return errors.Join(c.errs...)
}

type checker struct {
	ctx   context.Context
	store storage.Store
	opt   Options
	last  map[syntax.DID]commit.State // what the log says
	errs  []error
}

func (c *checker) corrupt(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%w: "+format, append([]any{storage.ErrCorrupt}, args...)...))
}

// failed notes an error that is no contradiction, such as of I/O.
func (c *checker) failed(err error) bool {
	if err != nil {
		c.errs = append(c.errs, err)
	}
	return err != nil
}

func (c *checker) log() {
	oldest, newest, err := c.store.Events.Bounds(c.ctx)
	if c.failed(err) {
		return
	}
	if oldest < 1 || newest < 0 || oldest > newest+1 {
		c.corrupt("bounds of the log are %d and %d", oldest, newest)
	}
	v := commit.Verifier{Key: c.key}
	if c.opt.Key == nil {
		v.Key = nil
	}
	var seq int64
	for ev, err := range c.store.Events.Since(c.ctx, 0) {
		if c.failed(err) {
			return
		}
		if ev.Seq <= seq || ev.Seq > newest {
			c.corrupt("event %d comes after %d, and the newest is %d", ev.Seq, seq, newest)
		}
		seq = ev.Seq
		if err := c.event(&v, ev); err != nil {
			c.corrupt("event %d of %s: %w", ev.Seq, ev.DID, err)
		}
	}
}

func (c *checker) key(_ context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
	if key := c.opt.Key(did); key != nil {
		return key, nil
	}
	return nil, commit.ErrNoKey
}

var errOtherAccount = errors.New("the message is about another account")

func (c *checker) event(v *commit.Verifier, ev storage.Event) error {
	if v.Key != nil && c.opt.Key(ev.DID) == nil {
		v = &commit.Verifier{}
	}
	msg, err := commit.Decode(ev.Kind, ev.Payload)
	if err != nil {
		return err
	}
	switch msg := msg.(type) {
	case *commit.Event:
		last, ok := c.last[ev.DID]
		if !ok || c.opt.Silent {
			last = commit.State{Rev: msg.Since, Data: msg.PrevData}
		}
		v := *v
		v.Limits = commit.Limits{Ops: len(msg.Ops) + 1, Blocks: len(msg.Blocks) + 1}
		if c.last[ev.DID], _, err = v.Commit(c.ctx, last, msg); err != nil {
			return err
		}
	case *commit.Sync:
		if c.last[ev.DID], err = v.Sync(c.ctx, commit.State{}, msg); err != nil {
			return err
		}
	}
	if msg.About() != ev.DID {
		return errOtherAccount
	}
	return nil
}

func (c *checker) repos() {
	var last syntax.DID
	there := map[syntax.DID]bool{}
	for info, err := range c.store.Repos.List(c.ctx, "") {
		if c.failed(err) {
			return
		}
		if info.DID <= last {
			c.corrupt("List yields %s after %s", info.DID, last)
		}
		last = info.DID
		there[info.DID] = true
		head, err := c.store.Repos.Head(c.ctx, info.DID)
		if c.failed(err) {
			return
		}
		if head != info.Head {
			c.corrupt("%s: Head and List differ", info.DID)
		}
		err = c.store.Repos.View(c.ctx, info.DID, func(r storage.Reader) error {
			if r.Head() != head {
				c.corrupt("%s: Head and View differ", info.DID)
			}
			return c.repo(info.DID, r)
		})
		if err != nil {
			c.corrupt("%s: %w", info.DID, err)
		}
		if st, ok := c.last[info.DID]; ok && !c.opt.Silent && (st.Rev != head.Rev || st.Data != head.Data) {
			c.corrupt("%s: the last event leads to %s, the head is %s", info.DID, st.Rev, head.Rev)
		}
	}
	for did := range c.last {
		if !there[did] {
			c.corrupt("%s: there are commits in the log, but no repository", did)
		}
	}
}

// repo checks one repository and returns the first contradiction.
func (c *checker) repo(did syntax.DID, r storage.Reader) error {
	head := r.Head()
	block, err := r.Commit(c.ctx)
	if err != nil {
		return err
	}
	if !dag.Matches(head.Commit, block) {
		return errors.New("the commit block does not match the head")
	}
	obj, err := commit.Parse(block)
	if err != nil {
		return err
	}
	if obj.DID != did || obj.Rev != head.Rev || obj.Data != head.Data {
		return fmt.Errorf("the head is %s of tree %s, the commit is %s of tree %s by %s", head.Rev, head.Data, obj.Rev, obj.Data, obj.DID)
	}
	if c.opt.Key != nil {
		if key := c.opt.Key(did); key != nil {
			if err := obj.Verify(key); err != nil {
				return err
			}
		}
	}
	refs := map[string]bool{} // blob, path and revision → whether the index must have it
	used := map[cid.Cid]bool{}
	root, err := mst.RootOf(func(yield func(mst.Entry, error) bool) {
		for rec, err := range r.Records(c.ctx, storage.Range{}) {
			if err == nil {
				err = c.record(r, rec, refs, used)
			}
			if !yield(mst.Entry{Key: rec.Path, Value: rec.CID}, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if root != head.Data {
		return fmt.Errorf("the records make tree %s, the head has %s", root, head.Data)
	}
	if err := c.references(r, refs, used); err != nil {
		return err
	}
	if c.opt.Blobs && c.store.Blobs != nil {
		return c.blobs(did, used)
	}
	return nil
}

func (c *checker) record(r storage.Reader, rec storage.Record, refs map[string]bool, used map[cid.Cid]bool) error {
	if !dag.Matches(rec.CID, rec.Data) {
		return fmt.Errorf("the data of %s does not match its CID", rec.Path)
	}
	if rec.Rev == "" || rec.Rev > r.Head().Rev {
		return fmt.Errorf("%s was written in %q, the head is %s", rec.Path, rec.Rev, r.Head().Rev)
	}
	if _, _, err := syntax.ParsePath(rec.Path); err != nil {
		return err
	}
	found, err := r.RecordByCID(c.ctx, rec.CID)
	if err != nil {
		return fmt.Errorf("%s is not found by its CID: %w", rec.Path, err)
	}
	if found.CID != rec.CID {
		return fmt.Errorf("by the CID of %s another record is found, %s", rec.Path, found.Path)
	}
	// Records that were imported may be from before the data model, and have references of the
	// legacy form, which are not in the index if the record was not imported.
	all, _, err := data.RecordRefs(rec.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", rec.Path, err)
	}
	present, err := data.BlobRefs(rec.Data)
	for _, c := range all {
		must := err != nil || slices.ContainsFunc(present, func(b data.Blob) bool { return b.Ref == c })
		refs[refString(storage.BlobRef{Blob: c, Path: rec.Path, Rev: rec.Rev})] = must
		if must {
			used[c] = true
		}
	}
	return nil
}

// refString sorts like references do.
func refString(r storage.BlobRef) string {
	return r.Blob.KeyString() + r.Path + "\x00" + string(r.Rev)
}

// references compares the index of references with those in the records, of which some may be
// missing.
func (c *checker) references(r storage.Reader, want map[string]bool, used map[cid.Cid]bool) error {
	last := ""
	must := 0
	for _, m := range want {
		if m {
			must++
		}
	}
	for ref, err := range r.BlobRefs(c.ctx, cid.Undef, "") {
		if err != nil {
			return err
		}
		s := refString(ref)
		if _, ok := want[s]; !ok {
			return fmt.Errorf("the index of blobs has %s in %s of %s, the record does not", ref.Blob, ref.Path, ref.Rev)
		}
		if s <= last {
			return fmt.Errorf("the index of blobs is not in order at %s in %s", ref.Blob, ref.Path)
		}
		if ok, err := r.HasBlobRef(c.ctx, ref.Blob); err != nil || !ok {
			return fmt.Errorf("blob %s of %s counts as not referred to (%w)", ref.Blob, ref.Path, err)
		}
		last = s
		used[ref.Blob] = true
		if want[s] {
			must--
		}
	}
	if must != 0 {
		return fmt.Errorf("the index of blobs has %d references fewer than the records", must)
	}
	return nil
}

// blobs compares an account's promoted blobs with those that records refer to.
func (c *checker) blobs(did syntax.DID, used map[cid.Cid]bool) error {
	n := 0
	for info, err := range c.store.Blobs.List(c.ctx, did, cid.Undef) {
		if err != nil {
			return err
		}
		if !used[info.CID] {
			return fmt.Errorf("no record refers to blob %s", info.CID)
		}
		n++
	}
	if n != len(used) {
		return fmt.Errorf("%d blobs are promoted, records refer to %d", n, len(used))
	}
	return nil
}
