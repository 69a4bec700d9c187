package check

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// acceptedPrefix begins the keys, in the host's namespace, of blobs that were accepted as lost for
// good: "lost-blob/DID/CID".
const acceptedPrefix = "lost-blob/"

func acceptedKey(did syntax.DID, blob string) string {
	return acceptedPrefix + string(did) + "/" + blob
}

// ErrNoBlobs: records refer to blobs, and none of them exists.
var ErrNoBlobs = errors.New("check: records refer to blobs, but none of them is there")

// Excused reports whether a missing blob is not a problem: its account is incomplete (see
// [Checker].Incomplete), or it was accepted as lost.
func (c Checker) Excused(ctx context.Context, did syntax.DID, blob string) (bool, error) {
	if c.Incomplete != nil {
		if ok, err := c.Incomplete(ctx, did); err != nil || ok {
			return ok, err
		}
	}
	if c.Store.KV == nil {
		return false, nil
	}
	err := c.Store.KV.Read(ctx, func(r storage.KVReader) error {
		_, err := r.Get(ctx, acceptedKey(did, blob))
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Limits of BlobsThere.
const (
	perAccount = 10   // blobs of an account
	maxLooked  = 2000 // accounts without a sign of trouble
)

// BlobsThere returns ErrNoBlobs if there are missing blobs that are not excused, and no blob
// exists, for example because their disk is not mounted. It is for the start of a server and reads
// as little as possible: it stops at the first blob that exists. While it finds no missing blob, it
// examines only some accounts.
func (c Checker) BlobsThere(ctx context.Context) error {
	looked, missing := 0, false
	for info, err := range c.Store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		if looked++; looked > maxLooked && !missing {
			return nil
		}
		there := false
		err = c.Store.Repos.View(ctx, info.DID, func(r storage.Reader) (err error) {
			var lost bool
			there, lost, err = c.someThere(ctx, info.DID, r, !missing)
			missing = missing || lost
			return err
		})
		if err != nil && !errors.Is(err, storage.ErrNotFound) { // deleted meanwhile
			return err
		}
		if there {
			return nil
		}
	}
	if missing {
		return ErrNoBlobs
	}
	return nil
}

// someThere reports whether one of an account's first blobs is there, and, if asked, whether one
// that should be is not.
func (c Checker) someThere(ctx context.Context, did syntax.DID, r storage.Reader, ask bool) (there, lost bool, err error) {
	n, last := 0, cid.Undef
	for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
		if err != nil || n == perAccount {
			return false, lost, err
		}
		if ref.Blob == last {
			continue
		}
		n++
		last = ref.Blob
		switch _, promoted, err := c.Store.Blobs.Stat(ctx, did, ref.Blob); {
		case err == nil && promoted, errors.Is(err, storage.ErrCorrupt):
			return true, false, nil
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			return false, false, err
		}
		if ask && !lost {
			excused, err := c.Excused(ctx, did, ref.Blob.String())
			if err != nil {
				return false, false, err
			}
			lost = !excused
		}
	}
	return false, lost, nil
}

// blob looks for a blob, and reads it.
func (a *account) blob(ctx context.Context, ref storage.BlobRef) error {
	if a.opt.Blobs == NoBlobs {
		return nil
	}
	there, err := a.lookAt(ctx, ref.Blob)
	if err == nil && !there && !a.opt.Strict {
		// It may have been deleted, with what refers to it, since the snapshot was taken.
		wanted := false
		err := a.Store.Repos.View(ctx, a.did, func(r storage.Reader) (err error) {
			wanted, err = r.HasBlobRef(ctx, ref.Blob)
			return err
		})
		if errors.Is(err, storage.ErrNotFound) || err == nil && !wanted {
			return nil
		} else if err != nil {
			return err
		}
	}
	if (err != nil || !there) && ctx.Err() == nil && a.opt.From != nil {
		back, putErr := a.putBack(ctx, ref.Blob)
		if putErr != nil {
			a.wrong(BadBlob, "blob %s: putting it back: %v", ref.Blob, putErr)
			return ctx.Err()
		}
		if back {
			a.PutBack++
			there, err = a.lookAt(ctx, ref.Blob)
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		a.wrong(BadBlob, "blob %s: %v", ref.Blob, err)
	case !there:
		return a.missing(ctx, ref)
	default:
		a.Blobs++
	}
	return nil
}

// lookAt reports whether a blob is there. Its error says that it is damaged, or cannot be read.
func (a *account) lookAt(ctx context.Context, want cid.Cid) (there bool, err error) {
	_, promoted, err := a.Store.Blobs.Stat(ctx, a.did, want)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil || !promoted || a.opt.Blobs == FindBlobs {
		return promoted, err
	}
	f, info, err := a.Store.Blobs.Open(ctx, a.did, want)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return false, err
	}
	_, digest, _ := dag.Split(want)
	if !bytes.Equal(h.Sum(nil), digest[:]) || n != info.Size {
		return false, errors.New("its bytes are others")
	}
	return true, nil
}

// putBack copies a blob from where there are copies, and reports whether there is one.
func (a *account) putBack(ctx context.Context, blob cid.Cid) (bool, error) {
	f, info, err := a.opt.From(ctx, a.did, blob)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := a.Store.Blobs.Stage(ctx, a.did, info.MIME, f, storage.BlobLimits{Size: info.Size}); err != nil {
		return false, err
	}
	return true, a.Store.Blobs.Promote(ctx, a.did, blob)
}

// missing notes a blob that is not there.
func (a *account) missing(ctx context.Context, ref storage.BlobRef) error {
	blob := ref.Blob.String()
	if a.MissingBlobs++; len(a.Missing) < maxListed {
		a.Missing = append(a.Missing, Blob{a.did, blob})
	}
	excused, err := a.Excused(ctx, a.did, blob)
	switch {
	case err != nil || excused:
		return err
	case a.opt.AcceptMissing:
		a.accepted = append(a.accepted, acceptedKey(a.did, blob))
		if len(a.accepted) < 1000 {
			return nil
		}
		return a.accept(ctx)
	}
	a.LostBlobs++
	a.wrong(LostBlob, "blob %s is lost, which %s refers to", blob, ref.Path)
	return nil
}

// unused looks for permanent blobs that no record refers to.
func (a *account) unused(ctx context.Context) error {
	for info, err := range a.Store.Blobs.List(ctx, a.did, cid.Undef) {
		if err != nil {
			return err
		}
		if used, err := a.r.HasBlobRef(ctx, info.CID); err != nil {
			return err
		} else if !used {
			a.wrong(UnusedBlob, "no record refers to blob %s", info.CID)
		}
	}
	return nil
}

// accept writes down which blobs were accepted as lost.
func (x *run) accept(ctx context.Context) error {
	keys := x.accepted
	x.accepted = nil
	if len(keys) == 0 {
		return nil
	}
	return x.Store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, key := range keys {
			if err := tx.Set(ctx, key, []byte{}, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget removes what was accepted: of the accounts that are about to be looked at again.
func (x *run) forget(ctx context.Context) error {
	prefixes := []string{acceptedPrefix}
	if x.opt.Accounts != nil {
		prefixes = nil
		for _, did := range x.opt.Accounts {
			prefixes = append(prefixes, acceptedPrefix+string(did)+"/")
		}
	}
	for _, prefix := range prefixes {
		within := storage.Prefix(prefix)
		within.KeysOnly = true
		for more := true; more; {
			err := x.Store.KV.Write(ctx, func(tx storage.KVTx) error {
				var keys []string
				for pair, err := range tx.Keys(ctx, within) {
					if err != nil {
						return err
					}
					if keys = append(keys, pair.Key); len(keys) == 1000 {
						break
					}
				}
				for _, key := range keys {
					if err := tx.Delete(ctx, key); err != nil {
						return err
					}
				}
				more = len(keys) > 0
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
