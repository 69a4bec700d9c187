package blobfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// Stage implements storage.Blobs. A MIME type of more than 1024 bytes is an error.
func (s *Store) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, max int64) (storage.BlobInfo, error) {
	info, err := s.stage(ctx, did, mime, r, max)
	if err != nil {
		return storage.BlobInfo{}, fail("stage a blob", err)
	}
	return info, nil
}

func (s *Store) stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, max int64) (info storage.BlobInfo, err error) {
	if len(mime) > maxMIME {
		return info, fmt.Errorf("MIME type of %d bytes", len(mime))
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), tempUpload)
	if err != nil {
		return info, err
	}
	defer os.Remove(f.Name()) // fails after the rename
	defer f.Close()

	h := sha256.New()
	info.MIME = mime
	if info.Size, err = copyTo(ctx, io.MultiWriter(f, h), r, max); err != nil {
		return info, err
	}
	digest := dag.Digest(h.Sum(nil))
	info.CID = dag.CID(dag.Raw, &digest)
	if err := s.place(ctx, did, f, &info); err != nil {
		return info, err
	}
	return info, nil
}

// place completes a file and moves it to where the blob is or should be.
func (s *Store) place(ctx context.Context, did syntax.DID, f *os.File, info *storage.BlobInfo) error {
	old, _, err := s.Stat(ctx, did, info.CID)
	switch {
	case err == nil:
		info.MIME = old.MIME
	case errors.Is(err, storage.ErrNotFound):
		if s.quota != nil {
			if err := s.quota(ctx, did, info.Size); err != nil {
				return err
			}
		}
	case !errors.Is(err, storage.ErrCorrupt): // a corrupt file is replaced
		return err
	}
	info.Created = s.now().Truncate(time.Microsecond).UTC()
	a := s.account(did)
	promoted, staged, _ := a.paths(info.CID)
	for {
		if err := s.seal(f, *info); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		a.lock.Lock()
		if old, _, err := s.Stat(ctx, did, info.CID); err == nil && old.MIME != info.MIME {
			a.lock.Unlock()
			info.MIME = old.MIME // it was staged by somebody else meanwhile, or got another type
			continue
		}
		defer a.lock.Unlock()
		if err := f.Close(); err != nil {
			return err
		}
		if exists(promoted) {
			return s.move(f.Name(), promoted)
		}
		return s.move(f.Name(), staged)
	}
}

// seal writes the trailer of a file behind the blob, and syncs it.
func (s *Store) seal(f *os.File, info storage.BlobInfo) error {
	if _, err := f.Seek(info.Size, io.SeekStart); err != nil {
		return err
	}
	if err := f.Truncate(info.Size); err != nil {
		return err
	}
	if _, err := f.Write(appendTrailer(nil, info)); err != nil {
		return err
	}
	return s.syncFile(f)
}

// copyTo copies r to w until it ends, the context does, or there are more than
// max bytes, if max is not 0.
func copyTo(ctx context.Context, w io.Writer, r io.Reader, max int64) (n int64, err error) {
	if max <= 0 {
		max = math.MaxInt64
	}
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if int64(k) > max-n {
			return n, fmt.Errorf("%w: more than %d bytes", storage.ErrTooLarge, max)
		}
		if _, err := w.Write(buf[:k]); err != nil {
			return n, err
		}
		n += int64(k)
		if err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// SetMIME implements storage.Blobs. As files never change, the blob is copied. A MIME type of more
// than 1024 bytes is an error.
func (s *Store) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	err := s.setMIME(ctx, did, c, mime)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("blobfs: change the type of a blob: %w", err)
	}
	return err
}

func (s *Store) setMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	if len(mime) > maxMIME {
		return fmt.Errorf("MIME type of %d bytes", len(mime))
	}
	from, info, _, err := s.open(ctx, did, c)
	if err != nil {
		return err
	}
	defer from.Close()
	if info.MIME == mime {
		return nil
	}
	info.MIME = mime
	f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), tempUpload)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	defer f.Close()
	if _, err := copyTo(ctx, f, io.NewSectionReader(from, 0, info.Size), 0); err != nil {
		return err
	}
	if err := s.seal(f, info); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	a := s.account(did)
	a.lock.Lock()
	defer a.lock.Unlock()
	promoted, staged, _ := a.paths(c)
	for _, path := range []string{promoted, staged} {
		if exists(path) {
			return s.move(f.Name(), path)
		}
	}
	return notFound(c) // deleted meanwhile
}

// Promote implements storage.Blobs.
func (s *Store) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := s.account(did)
	promoted, staged, ok := a.paths(c)
	if !ok {
		return notFound(c)
	}
	a.lock.Lock()
	defer a.lock.Unlock()
	if exists(promoted) {
		return nil
	}
	if !exists(staged) {
		return notFound(c)
	}
	if err := s.move(staged, promoted); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // collected by another process
			return notFound(c)
		}
		return fail("promote a blob", err)
	}
	return nil
}
