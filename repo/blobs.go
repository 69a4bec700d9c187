package repo

import (
	"context"
	"errors"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// UploadBlob stores a blob of at most max bytes (0: no limit). The blob stays invisible until a
// record refers to it. If a record already does, as after an import, the blob is visible at once. A
// blob that is too long gives [storage.ErrTooLarge]. One that exceeds Config.BlobQuota gives
// [storage.ErrQuota], and one that exceeds Config.UnusedBlobs gives [ErrUnusedBlobs].
//
// If a blob is uploaded again with another MIME type, the new type replaces the old one, unless a
// record refers to the blob.
func (h *Host) UploadBlob(ctx context.Context, did syntax.DID, mime string, r io.Reader, max int64) (storage.BlobInfo, error) {
	if r == nil {
		return storage.BlobInfo{}, errNoReader
	}
	limits := storage.BlobLimits{Size: max}
	if h.quota != nil {
		var err error
		if limits.Quota, err = h.quota(ctx, did); err != nil {
			return storage.BlobInfo{}, err
		}
	}
	info, err := h.store.Blobs.Stage(ctx, did, mime, r, limits)
	if err != nil {
		return info, err
	}
	// Under the lock, so that no sweep comes between.
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return info, err
	}
	defer unlock()
	used, err := h.hasBlobRef(ctx, did, info.CID)
	switch {
	case err == nil && used:
		err = h.store.Blobs.Promote(ctx, did, info.CID)
	case err == nil && info.MIME != mime:
		info.MIME = mime
		err = h.store.Blobs.SetMIME(ctx, did, info.CID, mime)
	}
	if err == nil && !used {
		err = h.roomForUnused(ctx, did, info.CID)
	}
	return info, err
}

// roomForUnused deletes a blob that was staged and that is more than Config.UnusedBlobs allows. Only
// then it is known whether a record refers to it. The account's lock is held. If another process
// imports a record just now that refers to the blob, that is missing then, as the caller is told.
func (h *Host) roomForUnused(ctx context.Context, did syntax.DID, c cid.Cid) error {
	list, ok := h.store.Blobs.(storage.StagedBlobs)
	if h.unused == nil || !ok {
		return nil
	}
	most, err := h.unused(ctx, did)
	if err != nil || most <= 0 {
		return err
	}
	n := 0
	for _, err := range list.Staged(ctx, did) {
		if err != nil {
			return err
		}
		if n++; n > most {
			return errors.Join(ErrUnusedBlobs, h.store.Blobs.Delete(context.WithoutCancel(ctx), did, c))
		}
	}
	return nil
}

// OpenBlob opens a blob that a record refers to, or returns ErrBlobNotFound. The
// caller closes it.
func (h *Host) OpenBlob(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
	used, err := h.hasBlobRef(ctx, did, c)
	if err != nil {
		return nil, storage.BlobInfo{}, err
	}
	if !used {
		return nil, storage.BlobInfo{}, ErrBlobNotFound
	}
	blob, info, err := h.store.Blobs.Open(ctx, did, c)
	return blob, info, notFound(err, ErrBlobNotFound)
}

func (h *Host) hasBlobRef(ctx context.Context, did syntax.DID, c cid.Cid) (used bool, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		used, err = r.HasBlobRef(ctx, c)
		return err
	})
	return used, err
}

// Limits on the references that one call of Blobs or MissingBlobs reads.
const (
	// maxRefs bounds the references.
	maxRefs = 20_000
	// sameRefs is how many references to one blob are looked at one by one.
	sameRefs = 256
	// statRefs is how many references a look at a blob itself stands for.
	statRefs = 10
)

// Blobs returns up to limit CIDs of blobs that records refer to, in the order of their binary form.
// It starts behind the CID after (undefined: at the first), and considers only records that were
// written after the revision since (empty: all). A blob that very many records refer to may be
// listed although those records are older.
//
// A call reads a bounded number of references, so a page may have fewer CIDs than limit, or none.
// If there may be more, next is the value of after for the next page. Otherwise it is undefined.
func (h *Host) Blobs(ctx context.Context, did syntax.DID, after cid.Cid, since syntax.TID, limit int) (refs []cid.Cid, next cid.Cid, err error) {
	next, err = h.blobPage(ctx, did, after, since, 0, func(ref storage.BlobRef) (bool, error) {
		if len(refs) >= limit {
			return false, nil
		}
		refs = append(refs, ref.Blob)
		return true, nil
	})
	return refs, next, err
}

// MissingBlobs returns up to limit references to blobs that have not been uploaded, at most one for
// each blob, in the order of their CIDs. An import leaves such references. after and next are as in
// [Host.Blobs].
func (h *Host) MissingBlobs(ctx context.Context, did syntax.DID, after cid.Cid, limit int) (refs []storage.BlobRef, next cid.Cid, err error) {
	next, err = h.blobPage(ctx, did, after, "", statRefs, func(ref storage.BlobRef) (bool, error) {
		if len(refs) >= limit {
			return false, nil
		}
		_, _, err := h.store.Blobs.Stat(ctx, did, ref.Blob)
		if errors.Is(err, storage.ErrNotFound) {
			refs, err = append(refs, ref), nil
		}
		return true, err
	})
	return refs, next, err
}

// blobPage calls fn with a reference to each blob after one of them, until fn returns false or
// enough has been looked at. cost is how many references a call of fn stands for. It returns the
// last blob before the end, or an undefined CID if there are no more.
func (h *Host) blobPage(ctx context.Context, did syntax.DID, after cid.Cid, since syntax.TID, cost int, fn func(storage.BlobRef) (bool, error)) (next cid.Cid, err error) {
	err = h.View(ctx, did, func(r storage.Reader) error {
		next = after
		looked := 0
		for more := true; more; {
			more = false
			blob, same, done := cid.Undef, 0, false
			for ref, err := range r.BlobRefs(ctx, next, "") {
				if err != nil {
					return err
				}
				if ref.Blob != blob {
					if blob.Defined() {
						next = blob
					}
					if looked >= maxRefs {
						return nil
					}
					blob, same, done = ref.Blob, 0, false
				}
				looked++
				same++
				if !done && (ref.Rev > since || same == sameRefs) {
					done = true
					looked += cost
					if ok, err := fn(ref); !ok || err != nil {
						return err
					}
				}
				if same == sameRefs { // skip the others
					next, more = blob, true
					break
				}
			}
			if looked >= maxRefs && more {
				return nil
			}
		}
		next = cid.Undef
		return nil
	})
	return next, err
}
