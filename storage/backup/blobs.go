package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/internal/durablefile"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/blobfs"
)

// copying is a backup that is being made.
type copying struct {
	Backup
	names
	src  Source
	w    writer
	m    *Manifest
	seen map[nameKey]bool // files of blobs: whether the backup has them; false: they are damaged on the server
	list []string         // lines of the list of the generation's blobs
}

// nameKey stands for the name of a file in a set: a server may have millions of blobs.
type nameKey [16]byte

func keyOf(name string) nameKey {
	sum := sha256.Sum256([]byte(name))
	return nameKey(sum[:])
}

// sourceError: a file of the server cannot be read, or is not what it should be. It is not the
// backup's fault.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// blobs goes through the server's blobs and copies those that the backup does not have.
func (c *copying) blobs(ctx context.Context) error {
	switch {
	case c.src.CopyBlobs:
		return c.fetched(ctx)
	case c.src.Elsewhere != "":
		return nil
	}
	for _, part := range []string{"blobs", "staged"} {
		err := filepath.WalkDir(filepath.Join(c.src.Blobs, part), func(file string, e fs.DirEntry, err error) error {
			switch {
			case isMissing(err): // deleted meanwhile, or there is no such folder
				return nil
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case e.IsDir():
				return nil
			}
			rel, err := filepath.Rel(c.src.Blobs, file)
			if err != nil {
				return err
			}
			name := filepath.ToSlash(rel)
			if _, ok := blobfs.FileCID(name); !ok { // what systems leave in folders
				return nil
			}
			return c.blob(ctx, name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// blob copies a blob of the server, if that has not been done.
func (c *copying) blob(ctx context.Context, name string) error {
	key := keyOf(name)
	if c.seen[key] {
		return nil
	}
	size, err := c.w.copyBlob(ctx, name, filepath.Join(c.src.Blobs, filepath.FromSlash(name)))
	var source *sourceError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isMissing(err) && errors.As(err, &source):
		return nil
	case errors.As(err, &source):
		c.seen[key] = false
		return nil
	case err != nil:
		return fmt.Errorf("copy of a blob: %w", err)
	}
	c.seen[key] = true
	c.add(name, size)
	return nil
}

// add makes a blob part of the generation.
func (c *copying) add(name string, size int64) {
	c.list = append(c.list, name)
	c.m.Blobs++
	c.m.Bytes += size
	if c.Progress != nil {
		c.Progress(c.m.Blobs)
	}
}

// references looks for the blobs that the copy of the database refers to. What the server does not
// have, the backup may have from before.
func (c *copying) references(ctx context.Context, copied storage.Store) error {
	for info, err := range copied.Repos.List(ctx, "") {
		if err != nil {
			return err
		}
		err = copied.Repos.View(ctx, info.DID, func(r storage.Reader) error {
			last := cid.Undef
			for ref, err := range r.BlobRefs(ctx, cid.Undef, "") {
				if err != nil {
					return err
				}
				if ref.Blob == last {
					continue
				}
				last = ref.Blob
				if err := c.reference(ctx, copied, info.DID, ref.Blob); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copying) reference(ctx context.Context, copied storage.Store, did syntax.DID, blob cid.Cid) error {
	name, ok := blobfs.FileName(did, blob)
	if !ok {
		return nil // the check of the account says so
	}
	key := keyOf(name)
	good, found := c.seen[key]
	if good {
		return nil
	}
	if !found && !c.src.CopyBlobs { // it may have been moved while the folder was read
		if err := c.blob(ctx, name); err != nil {
			return err
		}
		if good, found = c.seen[key]; good {
			return nil
		}
	}
	size, kept, err := c.w.has(ctx, name)
	if err != nil {
		return err
	}
	if kept {
		c.seen[key] = true
		c.add(name, size)
	} else {
		c.m.Missing++
		c.list = append(c.list, badMark+name) // what is left of it is not deleted
	}
	lost := Lost{did, blob.String(), kept}
	wanted := false // it may have been deleted since the copy was made
	err = c.src.Store.Repos.View(ctx, did, func(r storage.Reader) (err error) {
		wanted, err = r.HasBlobRef(ctx, blob)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) || err == nil && !wanted {
		return nil
	} else if err != nil {
		return err
	}
	if !found && !kept && c.Excused != nil {
		if ok, err := c.Excused(ctx, copied, lost); err != nil || ok {
			return err
		}
	}
	if c.m.Lost++; len(c.m.LostBlobs) < maxLost {
		c.m.LostBlobs = append(c.m.LostBlobs, lost)
	}
	return nil
}

// copyBlob copies the file of a blob and returns its size. The copy has the name to only if it is
// good.
func copyBlob(ctx context.Context, name, from, part, to string) (size int64, err error) {
	c, _ := blobfs.FileCID(name)
	in, err := os.Open(from)
	if err != nil {
		return 0, &sourceError{err}
	}
	defer in.Close()
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer os.Remove(part) // fails after the rename
	r := &reader{ctx, in, nil}
	size, err = io.Copy(out, r)
	if r.err != nil {
		err = &sourceError{r.err}
	}
	if err = errors.Join(err, durablefile.SyncFile(out), out.Close()); err != nil {
		return 0, err
	}
	if _, err := blobfs.CheckFile(ctx, part, c); errors.Is(err, storage.ErrCorrupt) {
		return 0, &sourceError{err}
	} else if err != nil {
		return 0, err
	}
	return size, os.Rename(part, to)
}

// Blob opens a blob in a backup's directory, after reading and verifying it completely. If it is
// missing, the error is storage.ErrNotFound, and if it is damaged, storage.ErrCorrupt. See
// check.Options.From.
func (l Layout) Blob(ctx context.Context, dest string, did syntax.DID, blob cid.Cid) (io.ReadCloser, storage.BlobInfo, error) {
	name, ok := blobfs.FileName(did, blob)
	file := filepath.Join(dest, l.names().blobs, filepath.FromSlash(name))
	info, err := blobfs.CheckFile(ctx, file, blob)
	if !ok || isMissing(err) {
		return nil, info, fmt.Errorf("%w: blob %s in %s", storage.ErrNotFound, blob, dest)
	} else if err != nil {
		return nil, info, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, info.Size), f}, info, nil
}

// checked reads the file of a blob, and fails if its bytes are others than those of the blob: the file
// was good when it was opened, but what is sent is what counts.
type checked struct {
	in   io.Reader
	cid  cid.Cid
	h    hash.Hash
	left int64 // of the blob; what follows is its trailer
}

func newChecked(in io.Reader, info storage.BlobInfo) *checked {
	return &checked{in, info.CID, sha256.New(), info.Size}
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	part := min(int64(n), c.left)
	c.h.Write(p[:part])
	c.left -= part
	if _, digest, _ := dag.Split(c.cid); c.left > 0 && err == io.EOF || c.left == 0 && !bytes.Equal(c.h.Sum(nil), digest[:]) {
		return 0, fmt.Errorf("%w: blob %s changed while it was copied", storage.ErrCorrupt, c.cid)
	}
	return n, err
}

// reader keeps the errors of reading apart from those of writing.
type reader struct {
	ctx context.Context
	in  io.Reader
	err error // but for the end
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.in.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}
