package repo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/sleep"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// A blob is not part of a commit's transaction, and the account's lock does not stop other
// processes. So a sweep writes two keys in the account's namespace before it reads the references
// to blobs for the last time:
//
//	sweep/number   a new number for each sweep; it stays
//	sweep/now      the sweep that is deleting at the moment; expires
//
// A commit that refers to blobs has two preconditions: no sweep has begun since it looked for the
// blobs, and none is running. So either the sweep sees the commit's references, or the commit fails
// and looks again.
const (
	sweepPrefix = "sweep/"
	sweepNumber = sweepPrefix + "number"
	sweepNow    = sweepPrefix + "now"
)

const (
	// sweepTime is for how long a sweep deletes after it has said so, and sweepLife for how long
	// commits wait for one whose process has died. The difference is for clocks of several machines.
	sweepTime = 30 * time.Second
	sweepLife = 2 * time.Minute
	// sweepWait is how long a commit waits for a sweep, and sweepBlobs how many blobs one deletes.
	sweepWait  = 10 * time.Second
	sweepBlobs = 500
)

// SweepBlobs deletes an account's blobs that no record refers to and that were last uploaded before
// t. Call it from time to time, with t a day ago, together with Blobs.Collect for uploads that were
// never used.
//
// While SweepBlobs deletes, other processes cannot write records that refer to blobs of this
// account; they wait. If another process is sweeping the same account, SweepBlobs deletes nothing.
func (h *Host) SweepBlobs(ctx context.Context, did syntax.DID, t time.Time) (deleted int, err error) {
	unlock, err := h.locks.lock(ctx, did)
	if err != nil {
		return 0, err
	}
	defer unlock()
	var unused []cid.Cid
	err = h.View(ctx, did, func(r storage.Reader) error {
		for info, err := range h.store.Blobs.List(ctx, did, cid.Undef) {
			if err != nil {
				return err
			}
			if used, err := r.HasBlobRef(ctx, info.CID); err != nil {
				return err
			} else if !used && info.Created.Before(t) {
				unused = append(unused, info.CID)
			}
		}
		return nil
	})
	for page := range slices.Chunk(unused, sweepBlobs) {
		if err != nil {
			break
		}
		var n int
		n, err = h.sweepSome(ctx, did, page, t)
		deleted += n
	}
	return deleted, err
}

// sweepSome deletes those of some blobs that are still unused when commits know of the sweep.
func (h *Host) sweepSome(ctx context.Context, did syntax.DID, blobs []cid.Cid, t time.Time) (deleted int, err error) {
	began, number := time.Now(), []byte(rand.Text())
	at := h.now().Round(0) // the time of day, which goes on while a machine is suspended
	busy, err := h.setSweep(ctx, did, nil,
		storage.KVWrite{Key: sweepNumber, Value: number}, storage.KVWrite{Key: sweepNow, Value: number, Expires: at.Add(sweepLife)})
	if busy || err != nil {
		return 0, err
	}
	defer func() {
		_, ended := h.setSweep(context.WithoutCancel(ctx), did, number, storage.KVWrite{Key: sweepNow})
		err = errors.Join(err, ended)
	}()
	var unused []cid.Cid
	err = h.View(ctx, did, func(r storage.Reader) error {
		for _, c := range blobs {
			if used, err := r.HasBlobRef(ctx, c); err != nil {
				return err
			} else if !used {
				unused = append(unused, c)
			}
		}
		return nil
	})
	for _, c := range unused {
		if err != nil || max(time.Since(began), h.now().Round(0).Sub(at).Abs()) > sweepTime {
			break // the next sweep does what is left
		}
		info, _, statErr := h.store.Blobs.Stat(ctx, did, c)
		switch {
		case errors.Is(statErr, storage.ErrNotFound), statErr == nil && !info.Created.Before(t): // it was uploaded again
			continue
		case statErr != nil && !errors.Is(statErr, storage.ErrCorrupt):
			err = statErr
			continue
		}
		if err = h.store.Blobs.Delete(ctx, did, c); err == nil {
			deleted++
		}
	}
	return deleted, err
}

// setSweep writes keys of a sweep if the one that is under way, nil for none, is the given one. busy
// says that it is not.
func (h *Host) setSweep(ctx context.Context, did syntax.DID, now []byte, writes ...storage.KVWrite) (busy bool, err error) {
	for try := 0; ; try++ {
		_, under, err := h.sweepState(ctx, did)
		if err != nil {
			return false, err
		}
		if string(under) != string(now) {
			return true, nil
		}
		head, err := h.Head(ctx, did)
		if err != nil {
			return false, err
		}
		_, err = h.store.Repos.Apply(ctx, did, &storage.Change{Prev: head, Head: head, Checks: []storage.KVCheck{{Key: sweepNow, Value: now}}, KV: writes})
		if !errors.Is(err, storage.ErrConflict) || try == maxStepRetries {
			return false, notFound(err, ErrRepoNotFound)
		}
	}
}

// sweepState reads the number of the last sweep, and that of one that is under way; nil: none.
func (h *Host) sweepState(ctx context.Context, did syntax.DID) (number, now []byte, err error) {
	err = h.View(ctx, did, func(r storage.Reader) (err error) {
		if number, err = r.Get(ctx, sweepNumber); errors.Is(err, storage.ErrNotFound) {
			number, err = nil, nil
		}
		if err != nil {
			return err
		}
		if now, err = r.Get(ctx, sweepNow); errors.Is(err, storage.ErrNotFound) {
			now, err = nil, nil
		}
		return err
	})
	return number, now, err
}

// unswept waits until no sweep of an account is under way. It returns what a commit must find if it
// refers to blobs that are looked for afterwards.
func (h *Host) unswept(ctx context.Context, did syntax.DID) ([]storage.KVCheck, error) {
	begin := time.Now()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		number, now, err := h.sweepState(ctx, did)
		switch {
		case err != nil:
			return nil, err
		case now == nil:
			return []storage.KVCheck{{Key: sweepNumber, Value: number}, {Key: sweepNow}}, nil
		case time.Since(begin) > sweepWait:
			return nil, fmt.Errorf("%w: another process deletes blobs of the account", ErrBusy)
		}
		if err := sleep.For(ctx, pause); err != nil {
			return nil, err
		}
	}
}
