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

// Stage implements storage.Blobs. A MIME type longer than 1024 bytes is an error.
func (s *Store) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	info, err := s.stage(ctx, did, mime, r, limits)
	if err != nil {
		return storage.BlobInfo{}, fail("stage a blob", err)
	}
	return info, nil
}

func (s *Store) stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (info storage.BlobInfo, err error) {
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
	if info.Size, err = copyTo(ctx, io.MultiWriter(f, h), r, limits.Size); err != nil {
		return info, err
	}
	digest := dag.Digest(h.Sum(nil))
	info.CID = dag.CID(dag.Raw, &digest)
	if err := s.place(ctx, did, f, &info, limits.Quota); err != nil {
		return info, err
	}
	return info, nil
}

// place completes a file and moves it to where the blob is or should be, if the account's quota
// (0: none) has room for it.
func (s *Store) place(ctx context.Context, did syntax.DID, f *os.File, info *storage.BlobInfo, quota int64) error {
	old, _, err := s.Stat(ctx, did, info.CID)
	switch {
	case err == nil:
		info.MIME = old.MIME
	case !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrCorrupt): // a corrupt file is replaced
		return err
	}
	info.Created = s.now().Truncate(time.Microsecond).UTC()
	a := s.account(did)
	for {
		if err := s.seal(f, *info); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if mimeChanged, err := s.placeSealed(ctx, did, a, f, info, quota); !mimeChanged || err != nil {
			return err
		}
	}
}

// placeSealed moves a file that is complete. It reports true if its MIME type is not right any
// longer, and changes nothing then.
func (s *Store) placeSealed(ctx context.Context, did syntax.DID, a account, f *os.File, info *storage.BlobInfo, quota int64) (mimeChanged bool, err error) {
	h, err := s.lock(a.hash)
	if err != nil {
		return false, err
	}
	defer h.unlock()
	old, _, err := s.Stat(ctx, did, info.CID)
	isNew := errors.Is(err, storage.ErrNotFound)
	switch {
	case err == nil && old.MIME != info.MIME:
		info.MIME = old.MIME // it was staged by somebody else meanwhile, or got another type
		return true, nil
	case err == nil || isNew:
	case errors.Is(err, storage.ErrCorrupt): // a repair; the file may have had another size
		delete(h.used, a.hash)
	default:
		return false, err
	}
	if quota > 0 && isNew {
		used, err := h.usage(ctx, a)
		if err != nil {
			return false, err
		}
		if info.Size > quota-used {
			return false, fmt.Errorf("%w: %d bytes beside %d, of %d", storage.ErrQuota, info.Size, used, quota)
		}
	}
	if err := f.Close(); err != nil {
		return false, err
	}
	promoted, staged, _ := a.paths(info.CID)
	to := staged
	if exists(promoted) {
		to = promoted
	}
	if err := s.move(f.Name(), to); err != nil {
		delete(h.used, a.hash)
		return false, err
	}
	if n, ok := h.used[a.hash]; ok && isNew {
		h.used[a.hash] = n + info.Size
	}
	return false, nil
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

// SetMIME implements storage.Blobs. Files never change, so it copies the blob. A MIME type longer
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
	if info.MIME == mime { // perhaps by a process that died before it had synced the folder
		return s.syncDir(filepath.Dir(from.Name()))
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
	h, err := s.lock(a.hash)
	if err != nil {
		return err
	}
	defer h.unlock()
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
	h, err := s.lock(a.hash)
	if err != nil {
		return fail("promote a blob", err)
	}
	defer h.unlock()
	if !exists(promoted) {
		if !exists(staged) {
			return notFound(c)
		}
		if err := s.move(staged, promoted); err != nil {
			delete(h.synced, a.hash)
			if errors.Is(err, fs.ErrNotExist) { // collected by another process
				return notFound(c)
			}
			return fail("promote a blob", err)
		}
	}
	if err := s.syncBlobs(h, a); err != nil {
		return fail("promote a blob", err)
	}
	return nil
}

// syncBlobs makes the names of an account's promoted blobs last, unless they do: a process may have
// died between giving a blob its name and syncing the folder, or between making the folder and
// syncing the one above it.
func (s *Store) syncBlobs(h *held, a account) error {
	if h.synced[a.hash] {
		return nil
	}
	top := filepath.Join(s.dir, "blobs")
	for dir := a.dir; ; dir = filepath.Dir(dir) {
		if err := s.syncDir(dir); err != nil {
			return err
		}
		if dir == top {
			break
		}
	}
	if h.file != nil { // else it is not known what other processes do
		h.synced[a.hash] = true
	}
	return nil
}
