package bucket

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/internal/dag"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

const (
	// firstRange is how much is asked for after a Seek; each range after it is twice as long. So a
	// small range does not cost the rest of a large object, and a reader of all the rest needs few
	// requests. A reader from the start asks for everything.
	firstRange = 256 << 10
	// maxTries is how many requests in a row may bring nothing before a Read fails, and maxFailures
	// how many may be cut short in all.
	maxTries    = 3
	maxFailures = 32
	// maxEmpty is how often in a row a body may return no bytes and no error.
	maxEmpty = 100
)

// reader reads an object, in ranges.
type reader struct {
	ctx    context.Context
	s      *Store
	did    syntax.DID
	cid    cid.Cid
	object string
	size   int64

	at     int64         // of the next byte
	body   io.ReadCloser // of the object from at on; nil: none
	ends   int64         // where body ends
	length int64         // of the next range; 0: up to the end
	closed bool

	failures int // of requests

	// Hash of what was read from the start on. nil: something was left out.
	hash   hash.Hash
	hashed int64
}

func newReader(ctx context.Context, s *Store, did syntax.DID, c cid.Cid, x *row) *reader {
	return &reader{ctx: ctx, s: s, did: did, cid: c, object: x.Object, size: x.Size, hash: sha256.New()}
}

func (r *reader) Read(b []byte) (int, error) {
	if r.closed {
		return 0, errClosed
	}
	if r.at >= r.size {
		return 0, r.end()
	}
	if len(b) == 0 {
		return 0, nil
	}
	for try := 1; ; try++ {
		n, err := r.read(b)
		if err != nil {
			r.failures++
		}
		switch {
		case n > 0:
			r.took(b[:n])
			if r.at == r.size && r.end() != io.EOF {
				return 0, r.end() // so that nobody gets the whole of another blob
			}
			return n, nil // after an error the next call asks anew, from there on
		case err == nil && try < maxEmpty: // a new range, or a reader that returned nothing
		case err == nil:
			return 0, io.ErrNoProgress
		case r.ctx.Err() != nil:
			return 0, fail("read a blob", r.ctx.Err())
		case errors.Is(err, ErrNoObject) && r.failures < maxFailures:
			// Was the blob uploaded again, so that it has another object now?
			if err := r.move(); err != nil {
				return 0, err
			}
		case try >= maxTries || r.failures >= maxFailures:
			return 0, fail("read a blob", err)
		}
	}
}

var errClosed = errors.New("bucket: read of a closed blob")

// read reads once. After an error, or when the range is complete, the next call asks the bucket.
func (r *reader) read(b []byte) (n int, err error) {
	if r.body == nil {
		if err := r.ask(); err != nil {
			return 0, err
		}
	}
	n, err = r.body.Read(b[:min(int64(len(b)), r.ends-r.at)])
	at := r.at + int64(n)
	switch {
	case at == r.ends:
		return n, r.drop()
	case err == io.EOF:
		err = fmt.Errorf("object %s ends after %d of %d bytes", r.s.dir+r.object, at, r.size)
	}
	if err != nil {
		_ = r.drop()
	}
	return n, err
}

// ask opens the next range.
func (r *reader) ask() (err error) {
	length := r.size - r.at
	r.ends = r.size
	if r.length > 0 && r.length < length {
		length, r.ends = r.length, r.at+r.length
	}
	r.length *= 2
	r.body, err = r.s.bucket.Get(r.ctx, r.s.dir+r.object, r.at, length)
	return err
}

// move looks for the blob's object again.
func (r *reader) move() error {
	x, err := r.s.row(r.ctx, r.did, r.cid)
	switch {
	case err != nil:
		return err // deleted meanwhile
	case x.Object == r.object:
		return fmt.Errorf("bucket: %w: object %s of blob %s is missing", storage.ErrCorrupt, r.s.dir+r.object, r.cid)
	}
	r.object = x.Object
	return nil
}

// took counts bytes that were read.
func (r *reader) took(b []byte) {
	if r.hash != nil && r.hashed == r.at {
		r.hash.Write(b)
		r.hashed += int64(len(b))
	}
	r.at += int64(len(b))
}

// end is the error at the end of the blob.
func (r *reader) end() error {
	if r.at == r.size && r.hashed == r.size {
		if _, want, ok := dag.Split(r.cid); ok && dag.Digest(r.hash.Sum(nil)) != want {
			return fmt.Errorf("bucket: %w: object %s has other bytes than blob %s", storage.ErrCorrupt, r.s.dir+r.object, r.cid)
		}
	}
	return io.EOF
}

func (r *reader) Seek(offset int64, whence int) (int64, error) {
	if r.closed {
		return 0, errClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, fmt.Errorf("bucket: Seek: whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("bucket: Seek: before the start of the blob")
	}
	if offset == r.at {
		return offset, nil
	}
	_ = r.drop()
	if r.at = offset; offset == 0 {
		r.length = 0
	} else {
		r.length = firstRange
	}
	return offset, nil
}

// drop closes the range that is open.
func (r *reader) drop() error {
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}

func (r *reader) Close() error {
	if r.closed {
		return errClosed
	}
	r.closed = true
	_ = r.drop() // what matters was read
	return nil
}
