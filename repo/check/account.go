package check

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
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

// maxMoves bounds how often a repository is looked at again because it was written meanwhile.
const maxMoves = 10

// account checks a repository. An error ends the check.
func (x *run) account(ctx context.Context, info storage.RepoInfo) error {
	before, accepted := *x.Report, x.accepted
	var head storage.Head
	for try := 0; ; try++ {
		err := x.Store.Repos.View(ctx, info.DID, func(r storage.Reader) error {
			head = r.Head()
			return x.repository(ctx, info.DID, r)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && x.Found == before.Found {
			break
		}
		// What is wrong only because the account was deleted, or written, meanwhile is not wrong.
		now, headErr := x.Store.Repos.Head(ctx, info.DID)
		gone := errors.Is(headErr, storage.ErrNotFound) && x.opt.Accounts == nil && !x.opt.Strict
		gone = gone && (head != storage.Head{} || errors.Is(err, storage.ErrNotFound)) // else it has none
		if gone || headErr == nil && now != head && head != (storage.Head{}) && try < maxMoves {
			*x.Report, x.accepted = before, accepted
			if gone {
				return nil
			}
			continue
		}
		if err != nil {
			x.Add(BadRepo, info.DID, "%v", err)
		}
		break
	}
	if x.opt.Strict {
		x.compare(ctx, info, head)
	}
	if x.IsAhead(head.Rev) {
		if x.Report.Ahead++; len(x.AheadAccounts) < maxListed {
			x.AheadAccounts = append(x.AheadAccounts, aheadAt(info.DID, head.Rev))
		}
	}
	return nil
}

// compare compares what the store says of a head in several places, at rest.
func (x *run) compare(ctx context.Context, info storage.RepoInfo, head storage.Head) {
	did := info.DID
	if now, err := x.Store.Repos.Head(ctx, did); errors.Is(err, storage.ErrNotFound) && head == (storage.Head{}) {
		// An account without a head.
	} else if err != nil {
		x.Add(BadRepo, did, "%v", err)
	} else if now != head {
		x.Add(BadRepo, did, "Head and View differ")
	}
	if x.opt.Accounts != nil {
		return
	}
	if info.Head != head {
		x.Add(BadList, did, "List and View differ")
	}
	if st, ok := x.last[did]; ok && !x.opt.Silent && (st.Rev != head.Rev || st.Data != head.Data) {
		x.Add(BadLog, did, "the last event leads to %s, the head is %s", st.Rev, head.Rev)
	}
	delete(x.last, did)
}

// account is a repository that is looked at, in one snapshot.
type account struct {
	*run
	did syntax.DID
	r   storage.Reader
	// refs counts the references to blobs that the index must have, and adds up their hashes.
	refs  refSum
	seed  maphash.Seed
	loose int // references that the index may have
}

// refSum stands for a set of references, in whatever order they come.
type refSum struct {
	n   int
	sum uint64
}

func (s *refSum) add(h uint64) { s.n, s.sum = s.n+1, s.sum+h }

func (a *account) hash(r storage.BlobRef) uint64 {
	return maphash.String(a.seed, r.Blob.KeyString()+"\x00"+string(r.Rev)+"\x00"+r.Path)
}

// repository checks what is in a snapshot. Its error says that it cannot be read.
func (x *run) repository(ctx context.Context, did syntax.DID, r storage.Reader) error {
	a := &account{run: x, did: did, r: r, seed: maphash.MakeSeed()}
	if r.Head() == (storage.Head{}) {
		return a.withoutHead(ctx)
	}
	if err := a.commit(ctx); err != nil {
		return err
	}
	if err := a.records(ctx); err != nil {
		return err
	}
	if err := a.references(ctx); err != nil {
		return err
	}
	if x.opt.Strict && x.opt.Blobs != NoBlobs {
		return a.unused(ctx)
	}
	return nil
}

// withoutHead checks that there is nothing of a repository in an account that has no head.
func (a *account) withoutHead(ctx context.Context) error {
	for rec, err := range a.r.Records(ctx, storage.Range{KeysOnly: true}) {
		if err != nil {
			return err
		}
		a.wrong(BadRecord, "there is the record %s, but no head", rec.Path)
		break
	}
	for ref, err := range a.r.BlobRefs(ctx, cid.Undef, "") {
		if err != nil {
			return err
		}
		a.wrong(BadReference, "the index of blobs has %s, but there is no head", ref.Blob)
		break
	}
	return nil
}

func (a *account) wrong(kind Kind, format string, args ...any) { a.Add(kind, a.did, format, args...) }

// commit checks the commit block.
func (a *account) commit(ctx context.Context) error {
	head := a.r.Head()
	block, err := a.r.Commit(ctx)
	if err != nil {
		return err
	}
	if !dag.Matches(head.Commit, block) {
		a.wrong(BadCommit, "the commit block does not match the head")
		return nil
	}
	obj, err := commit.Parse(block)
	if err != nil {
		a.wrong(BadCommit, "%v", err)
		return nil
	}
	if obj.DID != a.did || obj.Rev != head.Rev || obj.Data != head.Data {
		a.wrong(BadCommit, "the head is %s of tree %s, the commit is %s of tree %s by %s", head.Rev, head.Data, obj.Rev, obj.Data, obj.DID)
		return nil
	}
	if a.Key == nil {
		return nil
	}
	key, err := a.Key(ctx, a.did)
	switch {
	case err != nil:
		a.wrong(BadKey, "signing key: %v", err)
	case key != nil:
		if err := obj.Verify(key); err != nil {
			a.wrong(BadCommit, "commit %s: %v", head.Rev, err)
		}
	}
	return nil
}

// records checks the records, and that they are those that are signed.
func (a *account) records(ctx context.Context) error {
	root, err := mst.RootOf(func(yield func(mst.Entry, error) bool) {
		for rec, err := range a.r.Records(ctx, storage.Range{}) {
			if err == nil {
				err = a.record(ctx, rec)
			}
			if !yield(mst.Entry{Key: rec.Path, Value: rec.CID}, err) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("its records: %w", err)
	}
	if head := a.r.Head(); root != head.Data {
		a.wrong(BadTree, "the records make tree %s, the head has %s", root, head.Data)
	}
	return nil
}

func (a *account) record(ctx context.Context, rec storage.Record) error {
	a.Records++
	a.Bytes += int64(len(rec.Data))
	if !dag.Matches(rec.CID, rec.Data) {
		a.wrong(BadRecord, "the data of %s does not match its CID", rec.Path)
		return nil
	}
	if rec.Rev == "" || rec.Rev > a.r.Head().Rev {
		a.wrong(BadRecord, "%s was written in %q, the head is %s", rec.Path, rec.Rev, a.r.Head().Rev)
	}
	if _, _, err := syntax.ParsePath(rec.Path); err != nil {
		a.wrong(BadRecord, "%v", err)
	}
	switch found, err := a.r.RecordByCID(ctx, rec.CID); {
	case errors.Is(err, storage.ErrNotFound):
		a.wrong(BadRecord, "%s is not found by its CID", rec.Path)
	case err != nil:
		return err
	case found.CID != rec.CID:
		a.wrong(BadRecord, "by the CID of %s another record is found, %s", rec.Path, found.Path)
	}
	must, may, err := blobRefs(rec)
	if err != nil {
		a.wrong(BadRecord, "%s: %v", rec.Path, err)
		return nil
	}
	for _, c := range must {
		a.refs.add(a.hash(storage.BlobRef{Blob: c, Path: rec.Path, Rev: rec.Rev}))
	}
	a.loose += len(may)
	return nil
}

// blobRefs returns the blobs of which the index must have a reference from a record, and those of
// which it may. Records that were imported may be from before the data model, and have references
// of the legacy form, which are not in the index if the record was not imported.
func blobRefs(rec storage.Record) (must, may []cid.Cid, err error) {
	all, _, err := data.RecordRefs(rec.Data)
	if err != nil || len(all) == 0 {
		return nil, nil, err
	}
	present, err := data.BlobRefs(rec.Data)
	if err != nil {
		return all, nil, nil
	}
	for _, c := range all {
		if slices.ContainsFunc(present, func(b data.Blob) bool { return b.Ref == c }) {
			must = append(must, c)
		} else {
			may = append(may, c)
		}
	}
	return must, may, nil
}

// references compares the index of blobs with the records, and looks at the blobs.
func (a *account) references(ctx context.Context) error {
	var index refSum
	last, blob := "", cid.Undef
	for ref, err := range a.r.BlobRefs(ctx, cid.Undef, "") {
		if err != nil {
			return fmt.Errorf("index of blobs: %w", err)
		}
		index.add(a.hash(ref))
		place := ref.Blob.KeyString() + ref.Path
		if place <= last {
			a.wrong(BadReference, "the index of blobs is not in order at %s in %s", ref.Blob, ref.Path)
		}
		last = place
		if ref.Blob == blob {
			continue
		}
		blob = ref.Blob
		if ok, err := a.r.HasBlobRef(ctx, blob); err != nil {
			return err
		} else if !ok {
			a.wrong(BadReference, "blob %s of %s counts as not referred to", blob, ref.Path)
		}
		if err := a.blob(ctx, ref); err != nil {
			return err
		}
	}
	if index == a.refs && a.loose == 0 {
		return nil
	}
	return a.differences(ctx)
}

// differences finds what the index of blobs has too many or too few, by a look at the record of
// each reference.
func (a *account) differences(ctx context.Context) error {
	must := 0
	for ref, err := range a.r.BlobRefs(ctx, cid.Undef, "") {
		if err != nil {
			return err
		}
		rec, err := a.r.Record(ctx, ref.Path)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		var needed, allowed []cid.Cid
		if err == nil && rec.Rev == ref.Rev {
			needed, allowed, _ = blobRefs(rec) // the record itself has been complained of
		}
		switch {
		case slices.Contains(needed, ref.Blob):
			must++
		case !slices.Contains(allowed, ref.Blob):
			a.wrong(BadReference, "the index of blobs has %s in %s of %s, the record does not", ref.Blob, ref.Path, ref.Rev)
		}
	}
	if must != a.refs.n {
		a.wrong(BadReference, "the index of blobs has %d of the %d references in the records", must, a.refs.n)
	}
	return nil
}

// key is Checker.Key for a commit.Verifier.
func (x *run) key(ctx context.Context, did syntax.DID, _ bool) (*crypto.PublicKey, error) {
	return x.Key(ctx, did)
}
