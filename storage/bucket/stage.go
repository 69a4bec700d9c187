package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	// small is how long a blob may be to be read into memory before the bucket is asked. Its size
	// is then known to the bucket, and one above the quota is refused without an upload.
	small = 256 << 10
	// maxMIME bounds the length of a media type.
	maxMIME = 1024
	// discardTime bounds how long an object is waited for that is deleted after a failure.
	discardTime = 3 * time.Second
)

// Stage implements storage.Blobs. It sends the blob to the bucket while it arrives, and keeps at
// most 256 KiB of it in memory itself. If the blob is already there, it gets the new object; so
// another upload repairs a blob whose object was lost. It is an error if the media type is longer
// than 1024 bytes, or if the DID has a slash. An upload that takes longer than Config.OrphanAge
// gives [ErrExpired].
func (s *Store) Stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
	info, err := s.stage(ctx, did, mime, r, limits)
	if err != nil {
		return storage.BlobInfo{}, fail("stage a blob", err)
	}
	return info, nil
}

func (s *Store) stage(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (info storage.BlobInfo, err error) {
	switch {
	case len(mime) > maxMIME:
		return info, fmt.Errorf("media type of %d bytes", len(mime))
	case did == "" || bytes.ContainsAny([]byte(did), "/\x00"):
		return info, fmt.Errorf("not a DID: %.100q", did)
	}
	if err := ctx.Err(); err != nil {
		return info, err
	}
	name, began, err := s.newName(ctx)
	if err != nil {
		return info, err
	}
	in := &intake{ctx: ctx, r: r, hash: sha256.New(), most: limits.Size}
	if in.most <= 0 {
		in.most = math.MaxInt64
	}
	head := new(bytes.Buffer)
	switch _, err := io.CopyN(head, in, small+1); {
	case err == io.EOF:
		if err := s.checkQuota(ctx, did, in, limits.Quota); err != nil {
			return info, err
		}
		err = s.bucket.Put(ctx, s.dir+name, bytes.NewReader(head.Bytes()), int64(head.Len()))
		if err != nil {
			s.discard(ctx, name)
			return info, err
		}
	case err != nil:
		return info, err
	default:
		err = s.bucket.Put(ctx, s.dir+name, io.MultiReader(head, in), -1)
		if err == nil && in.err == nil {
			err = errors.New("the bucket has not read the blob to its end")
		} else if in.err != nil && in.err != io.EOF {
			err = in.err
		}
		if err != nil {
			s.discard(ctx, name)
			return info, err
		}
	}
	info, known, err := s.enter(ctx, did, mime, name, began, in, limits.Quota)
	if known {
		s.discard(ctx, name)
	}
	return info, err
}

// enter stores the row of a blob whose object is there. It reports whether it is known that the
// object was not entered: after other errors it may have been.
func (s *Store) enter(ctx context.Context, did syntax.DID, mime, name string, began int64, in *intake, quota int64) (info storage.BlobInfo, known bool, err error) {
	digest := in.digest()
	id := newID(did, &digest)
	err = s.write(ctx, func(t *tx) error {
		known = false
		cutoff, err := number(ctx, t, keyCutoff)
		if err != nil {
			return err
		}
		if began < cutoff {
			known = true
			return ErrExpired
		}
		x := &row{Object: name, Size: in.n, MIME: mime, Created: s.now().UnixMicro()}
		old, err := getRow(ctx, t, id)
		switch {
		case err == nil:
			x.MIME, x.Promoted = old.MIME, old.Promoted
			if err := t.give(old.Object); err != nil {
				return err
			}
			if !old.Promoted {
				if err := t.del(old.stagedKey(id)); err != nil {
					return err
				}
			}
		case errors.Is(err, storage.ErrNotFound):
			if known, err = s.room(ctx, t, did, in.n, quota); err != nil {
				return err
			}
			if err := t.use(did, in.n); err != nil {
				return err
			}
		default:
			return err
		}
		if !x.Promoted {
			if err := t.set(x.stagedKey(id), "1"); err != nil {
				return err
			}
		}
		if err := t.set(objectPrefix+name, string(id)); err != nil {
			return err
		}
		info = x.info(dag.CID(dag.Raw, &digest))
		return t.put(id, x)
	})
	return info, known && err != nil, err
}

// room returns ErrQuota, and true, if a new blob of n bytes is too much for an account.
func (s *Store) room(ctx context.Context, r storage.KVReader, did syntax.DID, n, quota int64) (full bool, err error) {
	if quota <= 0 {
		return false, nil
	}
	used, err := number(ctx, r, usagePrefix+string(did))
	if err == nil && n > quota-used {
		return true, fmt.Errorf("%w: %d bytes beside %d, of %d", storage.ErrQuota, n, used, quota)
	}
	return false, err
}

// checkQuota refuses a blob before it is uploaded. Whether there is room is decided by enter.
func (s *Store) checkQuota(ctx context.Context, did syntax.DID, in *intake, quota int64) error {
	if quota <= 0 {
		return nil
	}
	digest := in.digest()
	return s.kv.Read(ctx, func(r storage.KVReader) error {
		_, err := getRow(ctx, r, newID(did, &digest))
		if errors.Is(err, storage.ErrNotFound) {
			_, err = s.room(ctx, r, did, in.n, quota)
		}
		return err
	})
}

// discard deletes an object that no row names. If it fails, the object is deleted as an orphan
// later.
func (s *Store) discard(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	_ = s.bucket.Delete(ctx, s.dir+name)
}

// intake reads a blob: it hashes it, and fails when there is too much of it or the context ends.
type intake struct {
	ctx  context.Context
	r    io.Reader
	hash hash.Hash
	n    int64
	most int64
	err  error // that ended it; io.EOF at the end of the blob
}

func (in *intake) Read(b []byte) (int, error) {
	if in.err == nil {
		in.err = in.ctx.Err()
	}
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.r.Read(b)
	in.hash.Write(b[:n])
	in.err = err
	if int64(n) > in.most-in.n {
		in.err = fmt.Errorf("%w: more than %d bytes", storage.ErrTooLarge, in.most)
		return 0, in.err
	}
	in.n += int64(n)
	return n, err
}

func (in *intake) digest() dag.Digest { return dag.Digest(in.hash.Sum(nil)) }

// SetMIME implements storage.Blobs. A media type longer than 1024 bytes is an error.
func (s *Store) SetMIME(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
	if len(mime) > maxMIME {
		return fmt.Errorf("bucket: media type of %d bytes", len(mime))
	}
	return s.change(ctx, did, c, func(t *tx, id blobID, x *row) error {
		x.MIME = mime
		return t.put(id, x)
	})
}

// Promote implements storage.Blobs. It makes no request to the bucket.
func (s *Store) Promote(ctx context.Context, did syntax.DID, c cid.Cid) error {
	return s.change(ctx, did, c, func(t *tx, id blobID, x *row) error {
		if x.Promoted {
			return nil
		}
		if err := t.del(x.stagedKey(id)); err != nil {
			return err
		}
		x.Promoted = true
		return t.put(id, x)
	})
}

// change changes the row of a blob, or returns ErrNotFound.
func (s *Store) change(ctx context.Context, did syntax.DID, c cid.Cid, fn func(t *tx, id blobID, x *row) error) error {
	id, ok := idOf(did, c)
	if !ok {
		return notFound(c)
	}
	err := s.write(ctx, func(t *tx) error {
		x, err := getRow(ctx, t, id)
		if err != nil {
			return err
		}
		return fn(t, id, x)
	})
	if errors.Is(err, storage.ErrNotFound) {
		return notFound(c)
	} else if err != nil {
		return fail("change a blob", err)
	}
	return nil
}

func notFound(c cid.Cid) error { return fmt.Errorf("%w: blob %s", storage.ErrNotFound, c) }
