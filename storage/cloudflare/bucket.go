//go:build js

package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"syscall/js"
	"time"

	"github.com/pdskit/pdskit/storage/bucket"
)

// partBytes is the size of the parts of an upload: all but the last one must have the same, of at
// least 5 MiB.
const partBytes = 5 << 20

// copyBytes is how many bytes are copied to JavaScript at a time.
const copyBytes = 64 << 10

// r2 is an R2 bucket.
type r2 struct {
	host   *Host
	bucket js.Value
	page   int // objects of a listing that come at once; 0: as many as R2 gives
}

// Bucket returns the R2 bucket of a binding. A body of up to 5 MiB is stored with one call. A
// longer body is sent in parts of 5 MiB, one of which is in memory at a time. If the program dies,
// R2 deletes unfinished uploads after seven days. The bucket needs no public access.
func (h *Host) Bucket(binding string) (bucket.Bucket, error) {
	b := h.object.Get("env").Get(binding)
	if !b.Truthy() || b.Get("createMultipartUpload").Type() != js.TypeFunction {
		return nil, fmt.Errorf("cloudflare: no R2 bucket is bound to %.100q", binding)
	}
	return &r2{host: h, bucket: b}, nil
}

// invoke calls a method of a JavaScript object that returns a promise.
func (h *Host) invoke(ctx context.Context, o js.Value, method string, args ...any) (js.Value, error) {
	if err := ctx.Err(); err != nil {
		return js.Undefined(), err
	}
	p, err := try(func() js.Value { return o.Call(method, args...) })
	if err != nil {
		return js.Undefined(), err
	}
	return h.Wait(ctx, p)
}

// part is bytes in JavaScript that are filled from a body.
type part struct {
	bytes js.Value
	n     int
	buf   []byte
}

func newPart() *part {
	return &part{bytes: js.Global().Get("Uint8Array").New(partBytes), buf: make([]byte, copyBytes)}
}

// fill reads a body until the part is full (full), or the body's end.
func (p *part) fill(body io.Reader) (full bool, err error) {
	for p.n = 0; p.n < partBytes; {
		n, err := body.Read(p.buf[:min(len(p.buf), partBytes-p.n)])
		if n > 0 {
			js.CopyBytesToJS(p.bytes.Call("subarray", p.n, p.n+n), p.buf[:n])
			p.n += n
		}
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// value is the bytes that were filled.
func (p *part) value() js.Value { return p.bytes.Call("subarray", 0, p.n) }

// r2Failed is a failure of R2, which is of this moment: see package xrpc.
type r2Failed struct{ error }

func (e r2Failed) Unwrap() error { return e.error }

// Unavailable tells package xrpc that a retry may succeed.
func (r2Failed) Unavailable() bool { return true }

var errNoBucket error = noAnswer("cloudflare: R2 does not answer")

// invoke is that of Host, with a bound on the time.
func (b *r2) invoke(ctx context.Context, o js.Value, method string, args ...any) (js.Value, error) {
	wait := b.host.BucketTime
	if wait <= 0 {
		wait = time.Minute
	}
	patience, cancel := context.WithTimeoutCause(ctx, wait, errNoBucket)
	defer cancel()
	v, err := b.host.invoke(patience, o, method, args...)
	switch {
	case err == nil || ctx.Err() != nil:
		return v, err
	case patience.Err() != nil:
		return v, fmt.Errorf("%w: %s", errNoBucket, method)
	}
	return v, r2Failed{err}
}

var errSize = errors.New("cloudflare: a body of another length than was announced")

// Put implements bucket.Bucket.
func (b *r2) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := newPart()
	full, err := p.fill(body)
	switch {
	case err != nil:
		return err
	case full:
		return b.putParts(ctx, name, p, body, size)
	case size >= 0 && int64(p.n) != size:
		return errSize
	}
	_, err = b.invoke(ctx, b.bucket, "put", name, p.value())
	return err
}

// putParts sends a body whose first part has been read.
func (b *r2) putParts(ctx context.Context, name string, p *part, body io.Reader, size int64) error {
	upload, err := b.invoke(ctx, b.bucket, "createMultipartUpload", name)
	if err != nil {
		return err
	}
	parts := js.Global().Get("Array").New()
	total := int64(0)
	for number, more := 1, true; more && err == nil; number++ {
		if number > 1 {
			if more, err = p.fill(body); err != nil || p.n == 0 {
				break
			}
		}
		total += int64(p.n)
		var sent js.Value
		if sent, err = b.invoke(ctx, upload, "uploadPart", number, p.value()); err == nil {
			parts.Call("push", sent)
		}
	}
	if err == nil && size >= 0 && total != size {
		err = errSize
	}
	if err == nil {
		if _, err = b.invoke(ctx, upload, "complete", parts); err == nil {
			return nil
		}
	}
	if _, lost := b.invoke(context.WithoutCancel(ctx), upload, "abort"); lost != nil {
		return errors.Join(err, lost)
	}
	return err
}

// Get implements bucket.Bucket.
func (b *r2) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	rng := map[string]any{"offset": float64(offset)}
	if length >= 0 {
		rng["length"] = float64(length)
	}
	o, err := b.invoke(ctx, b.bucket, "get", name, map[string]any{"range": rng})
	switch {
	case err != nil:
		return nil, err
	case o.IsNull():
		return nil, fmt.Errorf("%w: %s", bucket.ErrNoObject, name)
	}
	reading, err := try(func() js.Value { return b.host.object.Call("reading", o.Get("body")) })
	if err != nil {
		return nil, err
	}
	return &chunks{host: b.host, ctx: ctx, reading: reading}, nil
}

// deleteNames is how many objects R2 deletes in one call.
const deleteNames = 1000

// Delete implements bucket.Bucket.
func (b *r2) Delete(ctx context.Context, names ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for len(names) > 0 {
		n := min(len(names), deleteNames)
		list := make([]any, n)
		for i, name := range names[:n] {
			list[i] = name
		}
		if _, err := b.invoke(ctx, b.bucket, "delete", list); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// List implements bucket.Bucket.
func (b *r2) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		options := map[string]any{"prefix": prefix}
		if after != "" {
			options["startAfter"] = after
		}
		if b.page > 0 {
			options["limit"] = b.page
		}
		for {
			answer, err := b.invoke(ctx, b.bucket, "list", options)
			if err != nil {
				yield(bucket.Object{}, err)
				return
			}
			objects := answer.Get("objects")
			for i := range objects.Length() {
				o := objects.Index(i)
				if !yield(bucket.Object{Name: o.Get("key").String(), Size: int64(o.Get("size").Float())}, nil) {
					return
				}
			}
			if !answer.Get("truncated").Bool() {
				return
			}
			options["cursor"] = answer.Get("cursor")
			delete(options, "startAfter")
		}
	}
}
