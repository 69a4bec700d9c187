package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Checker = (*Store)(nil)

// maxProblems bounds how many problems are yielded.
const maxProblems = 1000

// errEnough ends a check whose caller has left the loop, or that has found enough.
var errEnough = errors.New("enough")

// Problems implements storage.Checker. It reports what Check finds, and rows of blobs whose object
// does not lead back to them. Unless opt.SkipBytes is set, it reads all objects and reports wrong
// hashes.
func (s *Store) Problems(ctx context.Context, opt storage.CheckOptions) iter.Seq2[storage.Problem, error] {
	return func(yield func(storage.Problem, error) bool) {
		n := 0
		found := func(did syntax.DID, format string, args ...any) error {
			if n++; !yield(storage.Problem{DID: did, What: fmt.Sprintf(format, args...)}, nil) || n == maxProblems {
				return errEnough
			}
			return nil
		}
		lost := map[blobID]bool{}
		_, err := s.Check(ctx, func(l Lost) error {
			if id, ok := idOf(l.DID, l.CID); ok {
				lost[id] = true
			}
			if l.Has < 0 {
				return found(l.DID, "the object %s of blob %s is missing", l.Object, l.CID)
			}
			return found(l.DID, "the object %s of blob %s has %d bytes, and should have %d", l.Object, l.CID, l.Has, l.Size)
		})
		if errors.Is(err, storage.ErrCorrupt) {
			err = found("", "%v", err)
		}
		if err == nil {
			err = s.checkRows(ctx, opt, lost, found)
		}
		if err != nil && !errors.Is(err, errEnough) {
			yield(storage.Problem{}, fail("check", err))
		}
	}
}

// found is told of a problem. Its error ends the check.
type found func(did syntax.DID, format string, args ...any) error

// checkRows checks the rows of all blobs, a page at a time. Those that are lost are known already.
func (s *Store) checkRows(ctx context.Context, opt storage.CheckOptions, lost map[blobID]bool, found found) error {
	for page := storage.Prefix(blobPrefix); ; {
		var ids []blobID
		wrong := map[blobID]string{}
		err := s.kv.Read(ctx, func(r storage.KVReader) error {
			ids = nil
			clear(wrong)
			for pair, err := range r.Keys(ctx, page) {
				if err != nil {
					return err
				}
				id := blobID(strings.TrimPrefix(pair.Key, blobPrefix))
				ids = append(ids, id)
				x, err := parseRow(pair.Value, pair.Key)
				if err == nil {
					_, _, err = id.split()
				}
				if err != nil {
					wrong[id] = err.Error()
				} else if back, err := r.Get(ctx, objectPrefix+x.Object); errors.Is(err, storage.ErrNotFound) || err == nil && string(back) != string(id) {
					wrong[id] = fmt.Sprintf("the object %s of %s belongs to %.200q", x.Object, pair.Key, back)
				} else if err != nil {
					return err
				}
				if len(ids) == sweepPage {
					break
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			if what := wrong[id]; what != "" {
				err = found(id.did(), "%s", what)
			} else if !opt.SkipBytes && !lost[id] {
				err = s.checkBytes(ctx, id, found)
			}
			if err != nil {
				return err
			}
		}
		if len(ids) < sweepPage {
			return nil
		}
		page.From = blobPrefix + string(ids[len(ids)-1]) + "\x00"
	}
}

// checkBytes reads a blob, which compares its bytes with its CID. One that is missing was deleted
// meanwhile.
func (s *Store) checkBytes(ctx context.Context, id blobID, found found) error {
	did, c, err := id.split()
	if err != nil {
		return err
	}
	r, _, err := s.Open(ctx, did, c)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
		err = errors.Join(err, r.Close())
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, storage.ErrCorrupt):
		return found(did, "%v", err)
	case errors.Is(err, storage.ErrNotFound):
		return nil
	}
	return err
}
