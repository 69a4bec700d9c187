package blobfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Delete implements storage.Blobs.
func (s *Store) Delete(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := s.account(did)
	promoted, staged, ok := a.paths(c)
	if !ok {
		return nil
	}
	defer s.lockToDelete(a.hash).unlock()
	for _, path := range []string{promoted, staged} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail("delete a blob", err)
		}
		// Also if it was not there: a process that removed it may have died before this.
		if err := s.syncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail("delete a blob", err)
		}
	}
	return nil
}

// DeleteAll implements storage.Blobs. Promoted blobs are removed at once, then staged ones. After
// an error in between, call it again.
func (s *Store) DeleteAll(ctx context.Context, did syntax.DID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := s.account(did)
	defer s.lockToDelete(a.hash).unlock()
	if err := s.deleteDir(a.dir); err != nil {
		return fail("delete all blobs of "+string(did), err)
	}
	root := filepath.Dir(a.staged)
	err := eachName(root, func(name string) error {
		if path := filepath.Join(root, name); strings.HasPrefix(path, a.staged) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.syncDir(root)
	}
	if err != nil {
		return fail("delete all blobs of "+string(did), err)
	}
	return nil
}

// deleteDir makes a folder vanish at once, and then removes what was in it.
func (s *Store) deleteDir(dir string) error {
	if !exists(dir) { // perhaps since a process moved it away that died before this
		if err := s.syncDir(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	grave, err := os.MkdirTemp(filepath.Join(s.dir, "tmp"), tempDeleted)
	if err != nil {
		return err
	}
	if err := s.rename(dir, filepath.Join(grave, "x")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		os.Remove(grave)
		return err
	}
	if err := s.syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return os.RemoveAll(grave)
}

// Collect implements storage.Blobs. After an error, earlier deletions stay.
func (s *Store) Collect(ctx context.Context, t time.Time) (deleted int, err error) {
	root := filepath.Join(s.dir, "staged")
	err = eachName(root, func(name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		hash, blob, _ := strings.Cut(name, ".")
		if _, ok := parseName(blob); !ok || len(hash) != 2*sha256.Size {
			return nil
		}
		h := s.lockToDelete(hash)
		defer h.unlock()
		old, err := s.collect(filepath.Join(root, name), t)
		if old {
			deleted++
		}
		return err
	})
	if deleted > 0 { // so that they do not come back
		err = errors.Join(err, s.syncDir(root))
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return deleted, fail("collect", err)
	}
	return deleted, nil
}

// collect deletes a staged blob from before t and reports whether it did.
func (s *Store) collect(path string, t time.Time) (deleted bool, err error) {
	if old, err := isOlder(path, t); err != nil || !old {
		return false, err
	}
	// Take it away before the last look, so that it cannot be staged anew by
	// another process between look and deletion.
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), tempCollect)
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return false, err
	}
	if err := s.rename(path, f.Name()); errors.Is(err, fs.ErrNotExist) {
		return false, nil // promoted
	} else if err != nil {
		return false, err
	}
	if old, err := isOlder(f.Name(), t); err != nil || !old {
		return false, errors.Join(err, s.move(f.Name(), path))
	}
	return true, nil
}

// isOlder reports whether a file was staged before t. One that is gone is not; one
// without a valid trailer counts by its modification time.
func isOlder(path string, t time.Time) (bool, error) {
	f, info, err := openFile(path, cid.Undef)
	switch {
	case err == nil:
		return info.Created.Before(t), f.Close()
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, storage.ErrCorrupt):
		st, err := os.Stat(path)
		return err == nil && st.ModTime().Before(t), nil
	}
	return false, err
}
