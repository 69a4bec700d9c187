package bucket

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors that callers branch on.
var (
	// ErrNoObject: the bucket has no object with this name.
	ErrNoObject = errors.New("bucket: no such object")
	// ErrExpired: an upload took longer than Config.OrphanAge, so its object may already be
	// deleted. Nothing was stored.
	ErrExpired = errors.New("bucket: the upload took too long")
)

// Bucket is a flat set of objects. Names consist of ASCII letters, digits and "-_./", at most 512
// bytes. All methods may be called concurrently. When the context ends, they return its error.
type Bucket interface {
	// Put stores an object completely or not at all. If size is -1, it is unknown: the bucket then
	// sends the body in parts, and keeps only a few megabytes in memory. Put reads the body to its
	// end. If the body returns an error, Put returns it, possibly wrapped, and stores nothing.
	// After any other error, the object may be there, or appear later.
	Put(ctx context.Context, name string, body io.Reader, size int64) error
	// Get reads length bytes from offset, or up to the end if length is -1. The range is not empty
	// and lies within the object. A missing object gives ErrNoObject, from Get or from the first
	// Read. The caller closes the reader, perhaps before its end.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Delete deletes any number of objects. A missing one is not an error. After an error some may
	// be deleted.
	Delete(ctx context.Context, names ...string) error
	// List yields the objects whose names begin with prefix and are greater than after, in byte
	// order of their names. Objects that are put or deleted meanwhile may or may not be listed.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
}

// Object is an entry of a bucket's listing.
type Object struct {
	Name string
	Size int64
}

// Presigner is an optional interface of a [Bucket]: it makes URLs that read one object for a
// limited time without credentials.
type Presigner interface {
	// URL returns a URL that is valid for the given time. The response has the media type and
	// "Content-Disposition: attachment", so that a browser saves the object and does not show it.
	URL(ctx context.Context, name, mime string, valid time.Duration) (string, error)
}

// Aborter is an optional interface of a [Bucket] in which unfinished uploads take up room, as in
// S3.
type Aborter interface {
	// Abort deletes unfinished uploads that began before t, of objects whose names begin with
	// prefix. It returns their number.
	Abort(ctx context.Context, prefix string, t time.Time) (int, error)
}
