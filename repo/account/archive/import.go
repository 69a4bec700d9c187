package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Imported is the result of [Import].
type Imported struct {
	Manifest *Manifest `json:"archive"`
	// Rev is the new revision of the account.
	Rev syntax.TID `json:"rev"`
	// Blobs is how many blobs were restored; the others existed.
	Blobs int `json:"blobs"`
	// Missing is how many blobs records refer to that are neither here nor in the archive.
	Missing int `json:"missingBlobs"`
}

// Import replaces the records, preferences and blobs of an existing account with those of an
// archive. Later writes are lost. The repository is signed again with a later revision. If the
// account is active, a #sync event announces that to the network.
//
// The whole archive is verified before anything is changed. If Import is interrupted later, run it
// again: each step can be repeated.
//
// Stop the server first if it may have the account's repository in memory, unless its store notices
// changes by other processes.
func Import(ctx context.Context, accounts *account.Store, path string, opt Options) (*Imported, error) {
	progress := opt.Progress
	opt.Progress = nil
	m, err := Verify(ctx, path, opt)
	if err != nil {
		return nil, err
	}
	a, err := accounts.ByDID(ctx, m.DID)
	if errors.Is(err, account.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s (%s)", ErrNoAccount, m.DID, m.Handle)
	} else if err != nil {
		return nil, err
	}
	in := repo.Import{
		Sync: a.Status() == account.Active, Unverified: opt.AnyKey,
		Limits: repo.ImportLimits{Expanded: math.MaxInt64, Records: math.MaxInt}, // its owner's, who had it here
	}
	if !opt.AnyKey {
		key, err := accounts.Signer(ctx, a.DID)
		if err != nil {
			return nil, err
		}
		in.Keys = []*crypto.PublicKey{key.PublicKey()}
	}
	opt.Progress = progress
	x := &importer{ctx: ctx, accounts: accounts, did: a.DID, in: in, opt: opt, mime: make(map[cid.Cid]string), out: Imported{Manifest: m}}
	for _, b := range m.Blobs {
		c, err := cid.Decode(b.CID)
		if err != nil {
			return nil, bad("%w", err)
		}
		x.mime[c] = b.MIME
	}
	if err := files(path, x.file); err != nil {
		return nil, err
	}
	return &x.out, x.missing()
}

// importer takes the files of an archive that was verified.
type importer struct {
	ctx      context.Context
	accounts *account.Store
	did      syntax.DID
	in       repo.Import
	opt      Options
	mime     map[cid.Cid]string
	done     int
	out      Imported
}

func (x *importer) file(name string, r io.Reader) error {
	if c, ok := blobName(name); ok {
		return x.blob(c, r)
	}
	switch name {
	case repoName:
		res, err := x.accounts.Host().Import(x.ctx, x.did, r, x.in)
		x.out.Rev = res.Head.Rev
		return err
	case preferencesName:
		list, _, err := readPreferences(r)
		if err != nil {
			return err
		}
		return x.accounts.SetPreferences(x.ctx, account.Trusted(x.did), func(preferences) ([]account.Preference, error) { return list, nil })
	}
	return nil
}

func (x *importer) blob(c cid.Cid, r io.Reader) error {
	x.done++
	defer func() { x.opt.progress(x.done) }()
	host := x.accounts.Host()
	if have, _, err := host.OpenBlob(x.ctx, x.did, c); err == nil {
		_, err := checkBlob(x.ctx, have, c)
		if have.Close(); err == nil {
			return nil
		}
	} else if !errors.Is(err, repo.ErrBlobNotFound) && !errors.Is(err, storage.ErrCorrupt) {
		return err
	}
	info, err := host.UploadBlob(x.ctx, x.did, x.mime[c], r, 0)
	if err != nil {
		return fmt.Errorf("blob %s: %w", c, err)
	}
	if info.CID != c {
		return bad("blob %s was changed while it was read", c)
	}
	x.out.Blobs++
	return nil
}

// missing counts the blobs that are not there.
func (x *importer) missing() error {
	for after := cid.Undef; ; {
		refs, next, err := x.accounts.Host().MissingBlobs(x.ctx, x.did, after, 500)
		if err != nil {
			return err
		}
		if x.out.Missing += len(refs); !next.Defined() {
			return nil
		}
		after = next
	}
}

// blobHash hashes a blob.
type blobHash struct{ hash.Hash }

func newHash(c cid.Cid) (blobHash, error) {
	if p := c.Prefix(); p.Version != 1 || p.Codec != cid.Raw || p.MhType != 0x12 || p.MhLength != sha256.Size {
		return blobHash{}, errors.New("its CID is not one of a blob")
	}
	return blobHash{sha256.New()}, nil
}

func (h blobHash) is(c cid.Cid) bool {
	digest := c.Hash()
	return string(h.Sum(nil)) == string(digest[len(digest)-sha256.Size:])
}
