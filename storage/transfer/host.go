package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Errors of Enter.
var (
	// ErrNotReady: the store is the target of a move that is not finished.
	ErrNotReady = errors.New("transfer: data is being moved to this storage, and is not complete")
	// ErrLeft: the data was moved to another store.
	ErrLeft = errors.New("transfer: the data has been moved away from here")
	// ErrFinishing: the store refuses writes because a move is being finished, or was interrupted
	// at that point.
	ErrFinishing = errors.New("transfer: a move to other storage is being finished")
	// ErrBlobs: the blobs are in another place than the configuration says.
	ErrBlobs = errors.New("transfer: the blobs were moved to another place")
)

// Enter must be called by a server before it serves from a store. It fails if the store must not be
// used: a target that is not ready, or a source whose data was moved away. If the store is a target
// that is ready, Enter takes it: from then on the move cannot be aborted. blobs is the kind of
// place of the server's blobs, as in Config.Blobs; empty: it is not checked.
//
// If only blobs were moved, a server that starts with the new blobs opens the store for writes
// again. No process with the old configuration may be running then.
func Enter(ctx context.Context, s storage.Store, blobs string) error {
	return enter(ctx, s, blobs, true)
}

// Look is [Enter] for programs that only read a store, such as a check: it does not take the
// target.
func Look(ctx context.Context, s storage.Store, blobs string) error {
	return enter(ctx, s, blobs, false)
}

func enter(ctx context.Context, s storage.Store, blobs string, take bool) error {
	m, ok := s.Repos.(storage.Movable)
	if ok {
		if err := enterSource(ctx, s, m, blobs, take); err != nil {
			return err
		}
	}
	k, err := readMark(ctx, s.KV)
	if err != nil {
		return err
	}
	if !k.Only {
		switch k.State {
		case loading, givenUp:
			return ErrNotReady
		case ready:
			if !take {
				break
			}
			next := k
			next.State = taken
			err := setMark(ctx, s.KV, k, next, storage.KVWrite{Key: keyBlobs, Value: blobsValue(k.Blobs)})
			if errors.Is(err, ErrTaken) { // by another node, or it was given up
				if k, err = readMark(ctx, s.KV); err == nil && k.State != taken {
					err = ErrNotReady
				}
			}
			if err != nil {
				return err
			}
		}
	}
	place, err := placeOfBlobs(ctx, s.KV)
	if err == nil && place != "" && blobs != "" && place != blobs {
		err = fmt.Errorf("%w (%s)", ErrBlobs, place)
	}
	return err
}

// blobsValue is the value of keyBlobs, nil for none.
func blobsValue(place string) []byte {
	if place == "" {
		return nil
	}
	return []byte(place)
}

// enterSource is Enter for a store that may be the source of a move.
func enterSource(ctx context.Context, s storage.Store, m storage.Movable, blobs string, take bool) error {
	w, err := m.Watched(ctx)
	if err != nil || w.State != storage.Shut {
		return err
	}
	n, err := parseNote(w.Note)
	switch {
	case err != nil:
		return err
	case !n.Left:
		return fmt.Errorf("%w, to %s: go on with it, or abort it", ErrFinishing, n.Name)
	case !n.OnlyBlobs || n.Blobs != blobs:
		return fmt.Errorf("%w, to %s: %s", ErrLeft, n.Name, n.Hint)
	}
	if !take {
		return nil
	}
	k, err := readMark(ctx, s.KV)
	if err != nil {
		return err
	}
	next := k
	next.State = taken
	if err := setMark(ctx, m.Moving(), k, next, storage.KVWrite{Key: keyBlobs, Value: blobsValue(n.Blobs)}); err != nil {
		return err
	}
	return m.Unwatch(ctx)
}

// SetBlobs records the kind of place of a store's blobs, after they were moved by other means than
// a Mover, for example by restoring a backup. No server may use the store meanwhile.
func SetBlobs(ctx context.Context, kv storage.KV, place string) error {
	return kv.Write(ctx, func(tx storage.KVTx) error {
		_, err := tx.Get(ctx, keyBlobs)
		if errors.Is(err, storage.ErrNotFound) {
			return nil // it never mattered
		} else if err != nil {
			return err
		}
		return tx.Set(ctx, keyBlobs, blobsValue(place), time.Time{})
	})
}

func placeOfBlobs(ctx context.Context, kv storage.KV) (place string, err error) {
	err = kv.Read(ctx, func(r storage.KVReader) error {
		b, err := r.Get(ctx, keyBlobs)
		if errors.Is(err, storage.ErrNotFound) {
			err = nil
		}
		place = string(b)
		return err
	})
	return place, err
}

// Guard returns a store that can be moved with its blobs while it is used: it notes changes of
// blobs in the store, and refuses them while the store is shut. A store that is not storage.Movable
// is returned unchanged.
func Guard(s storage.Store) storage.Store {
	if m, ok := s.Repos.(storage.Movable); ok && s.Blobs != nil {
		s.Blobs = guarded{s.Blobs, m}
	}
	return s
}

type guarded struct {
	storage.Blobs
	m storage.Movable
}

// Stage notes the blob after its bytes are stored. If the store is then not shut, the move has not
// listed the blobs yet.
func (g guarded) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	if err := g.m.Touch(ctx, did); err != nil { // at once, and not after the upload
		return storage.BlobInfo{}, err
	}
	info, err := g.Blobs.Stage(ctx, did, mime, r, limits)
	if err == nil {
		err = g.m.Touch(ctx, did)
	}
	if err != nil {
		return storage.BlobInfo{}, err
	}
	return info, nil
}

// change makes a change of blobs. A store that is shut is found before, one that is watched must
// know afterwards.
func (g guarded) change(ctx context.Context, did syntax.DID, fn func() error) error {
	if err := g.m.Touch(ctx, did); err != nil {
		return err
	}
	return errors.Join(fn(), g.m.Touch(ctx, did))
}

// Promote needs no note of its own: the change of the account that follows is noted or refused.
func (g guarded) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if err := g.m.Touch(ctx, did); err != nil {
		return err
	}
	return g.Blobs.Promote(ctx, did, c)
}

func (g guarded) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	return g.change(ctx, did, func() error { return g.Blobs.SetMIME(ctx, did, c, mime) })
}

func (g guarded) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	return g.change(ctx, did, func() error { return g.Blobs.Delete(ctx, did, c) })
}

func (g guarded) DeleteAll(ctx context.Context, did syntax.DID) error {
	return g.change(ctx, did, func() error { return g.Blobs.DeleteAll(ctx, did) })
}

// Collect does nothing while the store is shut, because the target may use the same blobs.
func (g guarded) Collect(ctx context.Context, t time.Time) (int, error) {
	if w, err := g.m.Watched(ctx); err != nil || w.State == storage.Shut {
		return 0, errors.Join(err, storage.ErrMoved)
	}
	return g.Blobs.Collect(ctx, t)
}

// Staged implements storage.StagedBlobs, if the guarded store does.
func (g guarded) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return staged(ctx, g.Blobs, did)
}
