package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/pdskit/pdskit/storage/bucket"
)

// Get implements bucket.Bucket.
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length == 0 || length < -1 {
		return nil, fmt.Errorf("s3: no range: %d bytes from %d", length, offset)
	}
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &name}
	switch {
	case length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		return nil, b.fail(ctx, "GetObject", name, err)
	}
	got := aws.ToInt64(out.ContentLength)
	if in.Range != nil && !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", offset)) || length > 0 && got != length {
		out.Body.Close()
		return nil, b.fail(ctx, "GetObject", name, fmt.Errorf("asked for %d bytes from %d, the answer has %d bytes, the range %q",
			length, offset, got, aws.ToString(out.ContentRange)))
	}
	return &object{out.Body, b, ctx, name}, nil
}

// object is the body of an object.
type object struct {
	io.ReadCloser
	b    *Bucket
	ctx  context.Context
	name string
}

func (o *object) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = o.b.fail(o.ctx, "GetObject", o.name, err)
	}
	return n, err
}

// URL implements bucket.Presigner. It returns the signed URL of an object, valid for at most seven
// days. It makes no request.
func (b *Bucket) URL(ctx context.Context, name, mime string, valid time.Duration) (string, error) {
	if valid < time.Second || valid > 7*24*time.Hour {
		return "", fmt.Errorf("s3: an address that is valid for %s: from a second to seven days", valid)
	}
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &name, ResponseContentDisposition: aws.String(storedDisposition)}
	if mime != "" {
		in.ResponseContentType = &mime
	}
	req, err := b.presign.PresignGetObject(ctx, in, s3.WithPresignExpires(valid))
	if err != nil {
		return "", b.fail(ctx, "PresignGetObject", name, err)
	}
	return req.URL, nil
}

// List implements bucket.Bucket. It requests 1,000 objects at a time.
func (b *Bucket) List(ctx context.Context, prefix, after string) iter.Seq2[bucket.Object, error] {
	return func(yield func(bucket.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix, MaxKeys: aws.Int32(1000)}
		if after != "" {
			in.StartAfter = &after
		}
		for {
			out, err := b.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(bucket.Object{}, b.fail(ctx, "ListObjectsV2", "", err))
				return
			}
			if out.Name == nil && out.KeyCount == nil && len(out.Contents) == 0 && !aws.ToBool(out.IsTruncated) {
				yield(bucket.Object{}, b.fail(ctx, "ListObjectsV2", "", errors.New("the answer is no listing")))
				return
			}
			for _, o := range out.Contents {
				name := aws.ToString(o.Key)
				if name <= after || !strings.HasPrefix(name, prefix) {
					yield(bucket.Object{}, b.fail(ctx, "ListObjectsV2", "", fmt.Errorf(
						"the store does not list in the order of names: %.600q after %.600q, of those with the prefix %q", name, after, prefix)))
					return
				}
				after = name
				if !yield(bucket.Object{Name: name, Size: aws.ToInt64(o.Size)}, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			if aws.ToString(out.NextContinuationToken) == "" || len(out.Contents) == 0 {
				yield(bucket.Object{}, b.fail(ctx, "ListObjectsV2", "", errors.New("an answer that does not say where to go on")))
				return
			}
			in.StartAfter, in.ContinuationToken = nil, out.NextContinuationToken
		}
	}
}

// deletePage is how many objects one request deletes, as the protocol has it.
const deletePage = 1000

// Delete implements bucket.Bucket.
func (b *Bucket) Delete(ctx context.Context, names ...string) error {
	for len(names) > 1 {
		page := names[:min(deletePage, len(names))]
		names = names[len(page):]
		if err := b.deletePage(ctx, page); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return ctx.Err()
	}
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &names[0]})
	if err = b.fail(ctx, "DeleteObject", names[0], err); errors.Is(err, bucket.ErrNoObject) {
		return nil
	}
	return err
}

func (b *Bucket) deletePage(ctx context.Context, names []string) error {
	in := &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Quiet: aws.Bool(true)}}
	for i := range names {
		in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: &names[i]})
	}
	out, err := b.client.DeleteObjects(ctx, in)
	var e *Error
	switch err = b.fail(ctx, "DeleteObjects", "", err); {
	case err == nil:
		for _, o := range out.Errors {
			if code := aws.ToString(o.Code); code != "NoSuchKey" {
				return &Error{Op: "DeleteObjects", Bucket: b.name, Name: aws.ToString(o.Key), Code: code, Message: aws.ToString(o.Message)}
			}
		}
		return nil
	case errors.As(err, &e) && (e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusBadRequest):
		return b.deleteEach(ctx, names) // the store cannot delete several, or not as we ask it
	}
	return err
}

// deleteEach deletes objects by a request for each, some at a time.
func (b *Bucket) deleteEach(ctx context.Context, names []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan string)
	var wg sync.WaitGroup
	for range min(8, len(names)) {
		wg.Go(func() {
			for name := range next {
				if err := b.Delete(ctx, name); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, name := range names {
		next <- name // all are taken: after an error, requests fail at once
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// Abort implements bucket.Aborter: it aborts multipart uploads. If the store does not support
// listing them, Abort assumes that there are none.
func (b *Bucket) Abort(ctx context.Context, prefix string, t time.Time) (n int, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &b.name, Prefix: &prefix}
	for {
		out, err := b.client.ListMultipartUploads(ctx, in)
		if err != nil {
			err = b.fail(ctx, "ListMultipartUploads", "", err)
			var e *Error
			if errors.As(err, &e) && (e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed) {
				return n, nil
			}
			return n, err
		}
		for _, u := range out.Uploads {
			if u.Initiated == nil || !u.Initiated.Before(t) || !strings.HasPrefix(aws.ToString(u.Key), prefix) {
				continue
			}
			_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: u.Key, UploadId: u.UploadId})
			if err = b.fail(ctx, "AbortMultipartUpload", aws.ToString(u.Key), err); err != nil && !isGone(err) {
				return n, err
			}
			n++
		}
		if !aws.ToBool(out.IsTruncated) || aws.ToString(out.NextKeyMarker) == "" {
			return n, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// isGone reports whether an upload was aborted or completed meanwhile.
func isGone(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}
