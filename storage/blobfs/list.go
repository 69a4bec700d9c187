package blobfs

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// pageSize is how many digests List sorts at a time: 512 KiB of them.
const pageSize = 16 << 10

// List implements storage.Blobs. Its memory does not grow with the number of blobs: it reads the
// folder once for every 16,384 of them. Blobs that are added or removed meanwhile may or may not be
// listed.
func (s *Store) List(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		if err := s.list(ctx, s.account(did).dir, after.Bytes(), pageSize, yield); err != nil {
			yield(storage.BlobInfo{}, err)
		}
	}
}

// Staged implements storage.StagedBlobs. It reads the folder of all staged blobs.
func (s *Store) Staged(ctx context.Context, did syntax.DID) iter.Seq2[storage.BlobInfo, error] {
	return func(yield func(storage.BlobInfo, error) bool) {
		a := s.account(did)
		var found []cid.Cid
		err := eachName(filepath.Dir(a.staged), func(name string) error {
			if blob, ok := strings.CutPrefix(name, filepath.Base(a.staged)); ok {
				if digest, ok := parseName(blob); ok {
					found = append(found, dag.CID(dag.Raw, &digest))
				}
			}
			return ctx.Err()
		})
		for i := 0; i < len(found) && err == nil; i++ {
			info, promoted, statErr := s.Stat(ctx, did, found[i])
			if errors.Is(statErr, storage.ErrNotFound) || promoted {
				continue
			}
			if err = statErr; err == nil && !yield(info, nil) {
				return
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(storage.BlobInfo{}, err)
		}
	}
}

func (s *Store) list(ctx context.Context, dir string, after []byte, size int, yield func(storage.BlobInfo, error) bool) error {
	for {
		page, err := listPage(ctx, dir, after, size)
		if err != nil {
			return err
		}
		for i := range page {
			if err := ctx.Err(); err != nil {
				return err
			}
			c := dag.CID(dag.Raw, &page[i])
			f, info, err := openFile(filepath.Join(dir, c.String()), c)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			if !yield(info, nil) {
				return nil
			}
		}
		if len(page) < size {
			return nil
		}
		after = dag.AppendCID(nil, dag.Raw, &page[size-1])
	}
}

// listPage returns, in order, the first size digests of a folder whose CIDs are
// greater than after.
func listPage(ctx context.Context, dir string, after []byte, size int) ([]dag.Digest, error) {
	var page digests // a heap while it is being filled, its greatest on top
	err := eachName(dir, func(name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		digest, ok := parseName(name)
		if !ok || bytes.Compare(dag.AppendCID(nil, dag.Raw, &digest), after) <= 0 {
			return nil
		}
		if len(page) < size {
			heap.Push(&page, digest)
		} else if bytes.Compare(digest[:], page[0][:]) < 0 {
			page[0] = digest
			heap.Fix(&page, 0)
		}
		return nil
	})
	if err == nil {
		err = ctx.Err()
	}
	slices.SortFunc(page, func(a, b dag.Digest) int { return bytes.Compare(a[:], b[:]) })
	return page, err
}

// digests is a heap.
type digests []dag.Digest

func (d digests) Len() int           { return len(d) }
func (d digests) Less(i, j int) bool { return bytes.Compare(d[i][:], d[j][:]) > 0 }
func (d digests) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *digests) Push(x any)        { *d = append(*d, x.(dag.Digest)) }
func (d *digests) Pop() any          { panic("not used") }
