package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// acceptedPrefix begins the keys, in the host's namespace, of blobs that were accepted as lost for
// good: "lost-blob/DID/CID".
const acceptedPrefix = "lost-blob/"

func acceptedKey(did syntax.DID, blob string) string {
	return acceptedPrefix + string(did) + "/" + blob
}

// ErrNoBlobs: the database knows of blobs, and not one of them is there.
var ErrNoBlobs = errors.New("the database knows of blobs, but none of them is there")

// Excused reports whether a blob that is not there need not be: because its account is not active
// yet, or no longer (one that is being moved here has its records before its blobs), or because it
// was accepted as lost.
func (s Server) Excused(ctx context.Context, did syntax.DID, blob string) (bool, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err == nil && a.Status() == account.Deactivated {
		return true, nil
	}
	err = s.Store.KV.Read(ctx, func(r storage.KVReader) error {
		_, err := r.Get(ctx, acceptedKey(did, blob))
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// perAccount is how many blobs of an account BlobsThere looks for.
const perAccount = 10

// BlobsThere returns ErrNoBlobs if records refer to blobs and none of those that it looks for, some
// of every account, is there, besides those that are excused: so it is when the disk that they are
// on is not mounted. As soon as it finds one, all is well.
func (s Server) BlobsThere(ctx context.Context) error {
	missing := false
	var enough = errors.New("enough")
	for info, err := range s.Store.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		n, last := 0, cid.Undef
		err = s.Store.Repos.View(ctx, info.DID, func(r storage.Reader) error {
			for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
				if err != nil || n == perAccount {
					return err
				}
				if ref.Blob == last {
					continue
				}
				n++
				last = ref.Blob
				switch _, promoted, err := s.Store.Blobs.Stat(ctx, info.DID, ref.Blob); {
				case err == nil && promoted, errors.Is(err, storage.ErrCorrupt):
					return enough
				case err != nil && !errors.Is(err, storage.ErrNotFound):
					return err
				}
				if missing {
					continue
				}
				excused, err := s.Excused(ctx, info.DID, ref.Blob.String())
				if err != nil {
					return err
				}
				missing = !excused
			}
			return nil
		})
		switch {
		case errors.Is(err, enough):
			return nil
		case err != nil && !errors.Is(err, storage.ErrNotFound): // deleted meanwhile
			return err
		}
	}
	if !missing {
		return nil
	}
	return fmt.Errorf("%w (folder %s): is the disk mounted that they are on, and PDS_BLOBSTORE_DISK_LOCATION right? "+
		"If they are lost, \"pds check -blobs-from BACKUP\" puts them back from a backup; if there is none, \"pds check -accept-missing-blobs\" lets the server go on without them", ErrNoBlobs, s.Folder)
}

// putBack copies a blob from where there are copies, and reports whether there is one.
func (c *checker) putBack(ctx context.Context, did syntax.DID, blob cid.Cid) (bool, error) {
	f, info, err := c.opt.From(ctx, did, blob)
	if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer f.Close()
	if _, err := c.Store.Blobs.Stage(ctx, did, info.MIME, f, storage.BlobLimits{Size: info.Size}); err != nil {
		return false, err
	}
	return true, c.Store.Blobs.Promote(ctx, did, blob)
}

// missing notes a blob that is not there.
func (c *checker) missing(ctx context.Context, did syntax.DID, ref storage.BlobRef) error {
	blob := ref.Blob.String()
	if c.report.MissingBlobs++; len(c.report.Missing) < maxListed {
		c.report.Missing = append(c.report.Missing, Blob{did, blob})
	}
	excused, err := c.Excused(ctx, did, blob)
	switch {
	case err != nil || excused:
		return err
	case c.opt.AcceptMissing:
		c.accepted = append(c.accepted, acceptedKey(did, blob))
		if len(c.accepted) < 1000 {
			return nil
		}
		return c.accept(ctx)
	}
	c.report.LostBlobs++
	c.wrong(did, "blob %s is lost, which %s refers to", blob, ref.Path)
	return nil
}

// accept writes down which blobs were accepted as lost.
func (c *checker) accept(ctx context.Context) error {
	keys := c.accepted
	c.accepted = nil
	if len(keys) == 0 {
		return nil
	}
	return c.Store.KV.Write(ctx, func(tx storage.KVTx) error {
		for _, key := range keys {
			if err := tx.Set(ctx, key, []byte{}, time.Time{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// forget removes what was accepted: of the accounts that are about to be looked at again.
func (c *checker) forget(ctx context.Context) error {
	prefixes := []string{acceptedPrefix}
	if c.opt.Accounts != nil {
		prefixes = nil
		for _, did := range c.opt.Accounts {
			prefixes = append(prefixes, acceptedPrefix+string(did)+"/")
		}
	}
	for _, prefix := range prefixes {
		within := storage.Prefix(prefix)
		within.KeysOnly = true
		for more := true; more; {
			err := c.Store.KV.Write(ctx, func(tx storage.KVTx) error {
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
