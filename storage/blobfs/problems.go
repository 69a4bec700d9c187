package blobfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/storage"
)

var _ storage.Checker = (*Store)(nil)

// maxProblems bounds how many problems are yielded.
const maxProblems = 1000

// errEnough ends a check whose caller has left the loop, or that has found enough.
var errEnough = errors.New("enough")

// Problems implements storage.Checker. It checks that every file is in its place, has an intact
// trailer, and has the bytes that its name says. Files are named by a hash of the account, so
// problems have no DID.
func (s *Store) Problems(ctx context.Context, opt storage.CheckOptions) iter.Seq2[storage.Problem, error] {
	return func(yield func(storage.Problem, error) bool) {
		n := 0
		found := func(path, format string, args ...any) error {
			name, _ := filepath.Rel(s.dir, path)
			if n++; !yield(storage.Problem{What: name + ": " + fmt.Sprintf(format, args...)}, nil) || n == maxProblems {
				return errEnough
			}
			return nil
		}
		err := s.problems(ctx, opt, found)
		if err != nil && !errors.Is(err, errEnough) {
			yield(storage.Problem{}, fail("check", err))
		}
	}
}

// found is told of a problem of a path. Its error ends the check.
type found func(path, format string, args ...any) error

func (s *Store) problems(ctx context.Context, opt storage.CheckOptions, found found) error {
	staged := filepath.Join(s.dir, "staged")
	err := eachName(staged, func(name string) error {
		hash, c, ok := strings.Cut(name, ".")
		if !ok || !isHash(hash) {
			return found(filepath.Join(staged, name), "it is no staged blob")
		}
		return s.checkFile(ctx, filepath.Join(staged, name), c, opt, found)
	})
	if err != nil {
		return err
	}
	root := filepath.Join(s.dir, "blobs")
	return eachName(root, func(group string) error {
		return eachName(filepath.Join(root, group), func(hash string) error {
			dir := filepath.Join(root, group, hash)
			if !isHash(hash) || !strings.HasPrefix(hash, group) {
				return found(dir, "it is no account's folder")
			}
			return eachName(dir, func(name string) error { return s.checkFile(ctx, filepath.Join(dir, name), name, opt, found) })
		})
	})
}

// checkFile checks the file of a blob.
func (s *Store) checkFile(ctx context.Context, path, name string, opt storage.CheckOptions, found found) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	digest, ok := parseName(name)
	if !ok {
		return found(path, "its name is no CID of a blob")
	}
	f, info, err := openFile(path, dag.CID(dag.Raw, &digest))
	switch {
	case errors.Is(err, fs.ErrNotExist): // deleted, or promoted, meanwhile
		return nil
	case errors.Is(err, storage.ErrCorrupt):
		return found(path, "%v", err)
	case err != nil:
		return err
	}
	defer f.Close()
	if opt.SkipBytes {
		return nil
	}
	same, err := hashes(ctx, f, info.Size, digest)
	if err == nil && !same {
		err = found(path, "its bytes have another hash")
	}
	return err
}

// hashes reports whether the first bytes of a file have a hash.
func hashes(ctx context.Context, f *os.File, size int64, want dag.Digest) (bool, error) {
	h := sha256.New()
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := io.Copy(h, io.NewSectionReader(f, at, min(size-at, 1<<20)))
		if err != nil {
			return false, err
		}
		if n == 0 {
			return false, nil // it was cut
		}
		at += n
	}
	return dag.Digest(h.Sum(nil)) == want, nil
}
