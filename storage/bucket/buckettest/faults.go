package buckettest

import (
	"context"
	"io"
	"iter"

	"github.com/pdskit/pdskit/storage/bucket"
)

// Faults makes the methods of a bucket fail. Its functions are called with the name of a method,
// "Put", "Get", "Delete" or "List". Their errors become the method's. They may be nil, and may be
// called concurrently.
type Faults struct {
	// Before is called before a call. After an error, the call is not made.
	Before func(method string) error
	// After is called after a call that succeeded. Its error simulates a call that took effect
	// although its response was lost. For List, it is called after each object.
	After func(method string) error
	// Body replaces the reader that Get returns, for example with one that breaks off.
	Body func(io.ReadCloser) io.ReadCloser
}

// Wrap returns the bucket with faults. It does not implement the bucket's optional interfaces.
func (f Faults) Wrap(b bucket.Bucket) bucket.Bucket { return faulty{f, b} }

type faulty struct {
	f Faults
	b bucket.Bucket
}

func ask(fn func(string) error, method string) error {
	if fn == nil {
		return nil
	}
	return fn(method)
}

func (x faulty) call(method string, do func() error) error {
	if err := ask(x.f.Before, method); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return ask(x.f.After, method)
}

func (x faulty) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	return x.call("Put", func() error { return x.b.Put(ctx, name, body, size) })
}

func (x faulty) Get(ctx context.Context, name string, offset, length int64) (r io.ReadCloser, err error) {
	err = x.call("Get", func() error {
		r, err = x.b.Get(ctx, name, offset, length)
		return err
	})
	if err != nil {
		if r != nil {
			r.Close()
		}
		return nil, err
	}
	if x.f.Body != nil {
		r = x.f.Body(r)
	}
	return r, nil
}

func (x faulty) Delete(ctx context.Context, names ...string) error {
	return x.call("Delete", func() error { return x.b.Delete(ctx, names...) })
}

func (x faulty) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		if err := ask(x.f.Before, "List"); err != nil {
			yield(bucket.Object{}, err)
			return
		}
		for o, err := range x.b.List(ctx, prefix, after) {
			if !yield(o, err) || err != nil {
				return
			}
			if err := ask(x.f.After, "List"); err != nil {
				yield(bucket.Object{}, err)
				return
			}
		}
	}
}
