package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// noBlobs yields nothing.
func noBlobs(func(storage.BlobInfo, error) bool) {}

func staged(ctx context.Context, b storage.Blobs, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	if s, ok := b.(storage.StagedBlobs); ok {
		return s.Staged(ctx, did)
	}
	return noBlobs
}

// blobs makes the blobs of an account at the target what they are at the source.
func (m *Mover) blobs(ctx context.Context, did syntax.DID) error {
	from, to := m.cfg.From.Blobs, m.cfg.To.Blobs
	old, err := newCursor(to.List(ctx, did, cid.Undef))
	if err != nil {
		return err
	}
	defer old.close()
	var extra []cid.Cid
	for info, err := range from.List(ctx, did, cid.Undef) {
		if err != nil {
			return err
		}
		for old.ok && strings.Compare(old.value.CID.KeyString(), info.CID.KeyString()) < 0 {
			extra = append(extra, old.value.CID)
			if err := old.advance(); err != nil {
				return err
			}
		}
		if old.ok && old.value.CID == info.CID {
			mime := old.value.MIME
			if err := old.advance(); err != nil {
				return err
			}
			if mime != info.MIME {
				if err := to.SetMIME(ctx, did, info.CID, info.MIME); err != nil {
					return err
				}
			}
			continue
		}
		if err := m.blob(ctx, did, info, true); err != nil {
			return err
		}
	}
	for old.ok {
		extra = append(extra, old.value.CID)
		if err := old.advance(); err != nil {
			return err
		}
	}
	for _, c := range extra {
		if err := to.Delete(ctx, did, c); err != nil {
			return err
		}
	}
	return m.staged(ctx, did)
}

// staged copies blobs that are not promoted, and removes those that the source has no more.
func (m *Mover) staged(ctx context.Context, did syntax.DID) error {
	there := make(map[cid.Cid]bool)
	for info, err := range staged(ctx, m.cfg.From.Blobs, did) {
		if err != nil {
			return err
		}
		there[info.CID] = true
		if err := m.blob(ctx, did, info, false); err != nil {
			return err
		}
	}
	var extra []cid.Cid
	for info, err := range staged(ctx, m.cfg.To.Blobs, did) {
		if err != nil {
			return err
		}
		if !there[info.CID] {
			extra = append(extra, info.CID)
		}
	}
	for _, c := range extra {
		// It may have been staged, or promoted, at the source since.
		if _, _, err := m.cfg.From.Blobs.Stat(ctx, did, c); !errors.Is(err, storage.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		if err := m.cfg.To.Blobs.Delete(ctx, did, c); err != nil {
			return err
		}
	}
	return nil
}

// blob makes one blob what it is at the source.
func (m *Mover) blob(ctx context.Context, did syntax.DID, info storage.BlobInfo, promoted bool) error {
	to := m.cfg.To.Blobs
	have, isPromoted, err := to.Stat(ctx, did, info.CID)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if copied, err := m.copyBlob(ctx, did, info); err != nil || !copied {
			return err
		}
	case err != nil:
		return err
	case have.MIME != info.MIME:
		if err := to.SetMIME(ctx, did, info.CID, info.MIME); err != nil {
			return err
		}
	}
	if promoted && !isPromoted {
		return to.Promote(ctx, did, info.CID)
	}
	return nil
}

// copyBlob copies the bytes of a blob. It reports false if there are none that could be.
func (m *Mover) copyBlob(ctx context.Context, did syntax.DID, info storage.BlobInfo) (copied bool, err error) {
	r, _, err := m.cfg.From.Blobs.Open(ctx, did, info.CID)
	switch {
	case errors.Is(err, storage.ErrNotFound): // deleted since
		return false, nil
	case errors.Is(err, storage.ErrCorrupt):
		m.lost(did, info.CID, err.Error())
		return false, nil
	case err != nil:
		return false, err
	}
	defer r.Close()
	in := &limited{ctx: ctx, r: r, l: &m.rate}
	if m.shut {
		in.l = new(limiter)
	}
	got, err := m.cfg.To.Blobs.Stage(ctx, did, info.MIME, in, storage.BlobLimits{})
	if errors.Is(err, storage.ErrCorrupt) {
		m.lost(did, info.CID, err.Error())
		return false, nil
	} else if err != nil {
		return false, err
	}
	if got.CID != info.CID {
		m.lost(did, info.CID, fmt.Sprintf("its bytes are those of %s", got.CID))
		_, _, err := m.cfg.From.Blobs.Stat(ctx, did, got.CID)
		if errors.Is(err, storage.ErrNotFound) {
			err = m.cfg.To.Blobs.Delete(ctx, did, got.CID)
		}
		return false, err
	}
	m.count(func(p *Progress) { p.Blobs, p.Bytes = p.Blobs+1, p.Bytes+in.n })
	return true, nil
}
