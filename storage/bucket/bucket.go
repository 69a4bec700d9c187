package bucket

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// The conditions that callers branch on.
var (
	// ErrNoObject: a bucket has no object with the name.
	ErrNoObject = errors.New("bucket: no such object")
	// ErrExpired: an upload took longer than Config.OrphanAge, so that its object may have been
	// deleted. Nothing was stored.
	ErrExpired = errors.New("bucket: the upload took too long")
)

// Bucket is a flat set of objects. Names are of ASCII letters, digits and "-_./", of at most 512
// bytes. All methods may be called concurrently, and return the context's error when it ends.
type Bucket interface {
	// Put stores an object: all of it, or nothing. A size of -1 says that it is unknown; a bucket
	// then sends the body in parts and keeps only a few megabytes in memory. Put reads the body to
	// its end. It returns an error of the body as it is, or wrapped, and then stores nothing. After
	// any other error the object may be there, or appear later.
	Put(ctx context.Context, name string, body io.Reader, size int64) error
	// Get reads length bytes from offset, or up to the end where length is -1. The range lies
	// within the object and is not empty. A missing object gives ErrNoObject, at once or from the
	// first Read. The caller closes the reader, which may be before its end.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Delete deletes objects, any number of them. A missing one is no error. After an error some
	// may be deleted.
	Delete(ctx context.Context, names ...string) error
	// List yields the objects whose names begin with prefix and are greater than after, in byte
	// order of their names. Objects that are put or deleted meanwhile may or may not be listed; all
	// others are.
	List(ctx context.Context, prefix, after string) iter.Seq2[Object, error]
}

// Object is an entry of a bucket's listing.
type Object struct {
	Name string
	Size int64
}

// Presigner is an ability that a Bucket may have: addresses with which anybody can read one object
// for some time, without credentials.
type Presigner interface {
	// URL returns an address that is valid for the given time. The answer has the media type, and
	// "Content-Disposition: attachment", so that a browser saves it rather than shows it.
	URL(ctx context.Context, name, mime string, valid time.Duration) (string, error)
}

// Aborter is an ability that a Bucket may have where unfinished uploads take up room, as those of
// S3 do.
type Aborter interface {
	// Abort deletes unfinished uploads that began before t, of objects whose names begin with
	// prefix. It returns how many.
	Abort(ctx context.Context, prefix string, t time.Time) (int, error)
}
