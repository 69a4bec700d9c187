package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/spool"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/storage"
)

// ErrInvalidImport: the CAR file of an import is not the verified export of the
// account's repository. The error says why.
var ErrInvalidImport = errors.New("repo: invalid import")

// maxDrift is how far ahead of our clock the revision of an import may be.
const maxDrift = 5 * time.Minute

// Import is what goes along with the import of a repository.
type Import struct {
	// Keys, if there are any, are those of which one must have signed the file's
	// commit. A server that takes imports without signing them anew hands out
	// commits by the key of the server before it: see the keys of the DID's past.
	Keys []*crypto.PublicKey
	// Limits bounds the file.
	Limits car.Limits
	// Events, Checks and KV are part of the same step: see Batch.
	Events []storage.Event
	Checks []storage.KVCheck
	KV     []storage.KVWrite
	// Sync adds a #sync event. There is never a #commit event: an import says nothing about
	// single records.
	Sync bool
}

// Import puts the records of a CAR file in the place of all records of a
// repository, or creates it with them. The file may have its blocks in any
// order. It is verified as a whole: the repository must be that of did, each
// block must match its CID, the tree must be well-formed, each record canonical.
// The new commit is signed with the account's key at this host and has a later revision than
// both the old head and the file's.
//
// The file is spooled to disk first, so that a slow upload holds up nobody.
// Memory grows with the tree, not with the records. Records may refer to
// blobs that are not here yet: see BlobRefs of storage.Reader.
//
// A file that does not pass gives ErrInvalidImport. Nothing is changed then.
func (h *Host) Import(ctx context.Context, did syntax.DID, r io.Reader, in Import) (Result, error) {
	file, err := h.spool.Create()
	if err != nil {
		return Result{}, err
	}
	defer file.Close()
	limit := in.Limits.TotalBytes
	if limit == 0 {
		limit = 16 << 30
	}
	if n, err := io.Copy(file, io.LimitReader(r, limit+1)); errors.Is(err, spool.ErrFull) {
		return Result{}, fmt.Errorf("%w: %w", ErrBusy, err)
	} else if err != nil {
		return Result{}, err
	} else if n > limit {
		return Result{}, fmt.Errorf("%w: more than %d bytes", ErrInvalidImport, limit)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Result{}, err
	}

	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	for try := 0; ; try++ {
		res, err := h.importFile(ctx, did, file.File, &in)
		if err == nil || !errors.Is(err, storage.ErrConflict) || len(in.Checks) > 0 || try == maxRetries {
			return res, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return Result{}, err
		}
	}
}

// importFile is one attempt at an import.
func (h *Host) importFile(ctx context.Context, did syntax.DID, file *os.File, in *Import) (Result, error) {
	h.cache.drop(did)
	prev, err := h.store.Repos.Head(ctx, did)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return Result{}, err
	}
	rd, err := commit.ReadRepo(file, commit.RepoOptions{DID: did, CAR: in.Limits, TempDir: h.temp})
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrInvalidImport, err)
	}
	defer rd.Close()
	if !signedBy(rd.Commit(), in.Keys) {
		return Result{}, fmt.Errorf("%w: the commit is not signed by a key of the account", ErrInvalidImport)
	}
	if rd.Commit().Rev.Time().After(h.now().Add(maxDrift)) {
		return Result{}, fmt.Errorf("%w: revision %s lies in the future", ErrInvalidImport, rd.Commit().Rev)
	}
	b := mst.NewBuilder()
	next := state{}
	final := func() (*storage.Change, error) {
		var err error
		if next.tree, err = b.Tree(); err != nil {
			return nil, err
		}
		_, head, block, err := h.sign(ctx, did, max(prev.Rev, rd.Commit().Rev), next.tree)
		if err != nil {
			return nil, err
		}
		next.head = head
		change := &storage.Change{Prev: prev, Head: head, Commit: block, Events: in.Events, Checks: in.Checks, KV: in.KV}
		if in.Sync {
			change.Events = append(change.Events[:len(change.Events):len(change.Events)], h.syncEvent(did, head, block))
		}
		return change, nil
	}
	seq, err := h.store.Repos.Replace(ctx, did, h.imported(ctx, did, rd.Records(), b, &next.records), final)
	if err != nil {
		return Result{}, err
	}
	h.cache.put(did, next)
	return Result{Head: next.head, Changed: true, Seq: seq}, nil
}

// signedBy reports whether one of the keys, if there are any, signed a commit.
func signedBy(c commit.Commit, keys []*crypto.PublicKey) bool {
	for _, key := range keys {
		if c.Verify(key) == nil {
			return true
		}
	}
	return len(keys) == 0
}

// imported passes on the records of a file, adds them to the tree and counts them.
func (h *Host) imported(ctx context.Context, did syntax.DID, records iter.Seq2[commit.RepoRecord, error], b *mst.Builder, count *int) iter.Seq2[storage.RecordChange, error] {
	return func(yield func(storage.RecordChange, error) bool) {
		for rec, err := range records {
			change := storage.RecordChange{Path: rec.Path, CID: rec.CID, Data: rec.Data}
			if err != nil {
				err = fmt.Errorf("%w: %w", ErrInvalidImport, err)
			} else if err = b.Add(rec.Path, rec.CID); err == nil {
				change.Blobs, err = h.importedBlobs(ctx, did, &rec)
			}
			*count++
			if !yield(change, err) || err != nil {
				return
			}
		}
	}
}

// importedBlobs checks a record and returns the blobs it refers to, in either
// form. Those that are here already become permanent.
func (h *Host) importedBlobs(ctx context.Context, did syntax.DID, rec *commit.RepoRecord) (refs []cid.Cid, err error) {
	if _, _, err := syntax.ParsePath(rec.Path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidImport, err)
	}
	if err := data.Valid(rec.Data, data.Limits{}); err != nil {
		return nil, fmt.Errorf("%w: record %s: %w", ErrInvalidImport, rec.Path, err)
	}
	if !bytes.Contains(rec.Data, []byte("mimeType")) {
		return nil, nil
	}
	v, err := data.Decode(rec.Data, data.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%w: record %s: %w", ErrInvalidImport, rec.Path, err)
	}
	seen := make(map[cid.Cid]bool)
	for _, blob := range data.Blobs(v) {
		if codec, _, ok := dag.Split(blob.Ref); !ok || codec != dag.Raw || seen[blob.Ref] {
			continue
		}
		seen[blob.Ref] = true
		refs = append(refs, blob.Ref)
		switch _, promoted, err := h.store.Blobs.Stat(ctx, did, blob.Ref); {
		case errors.Is(err, storage.ErrNotFound):
		case err != nil:
			return nil, err
		case !promoted:
			if err := h.store.Blobs.Promote(ctx, did, blob.Ref); err != nil {
				return nil, err
			}
		}
	}
	return refs, nil
}
