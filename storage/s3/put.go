package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Metadata of all objects.
const (
	storedType        = "application/octet-stream"
	storedDisposition = "attachment"
)

// Put implements bucket.Bucket. An object of up to Config.PartSize bytes is one request.
func (b *Bucket) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	limited, cancel := context.WithTimeout(ctx, b.upload)
	defer cancel()
	err := b.put(limited, name, body, size)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = &Error{Op: "upload", Bucket: b.name, Name: name, Err: fmt.Errorf("it took longer than %s: %w", b.upload, err)}
	}
	return err
}

func (b *Bucket) put(ctx context.Context, name string, body io.Reader, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if size >= 0 && size < int64(b.part) {
		content := make([]byte, size+1)
		n, err := fill(ctx, body, content)
		if err != nil {
			return err
		}
		if int64(n) != size {
			return wrongSize(int64(n), size)
		}
		return b.putOne(ctx, name, content[:n])
	}
	first, second := b.parts.Get().(*[]byte), b.parts.Get().(*[]byte)
	defer b.parts.Put(first)
	defer b.parts.Put(second)
	n, err := fill(ctx, body, *first)
	if err != nil {
		return err
	}
	more := 0
	if n == b.part {
		if more, err = fill(ctx, body, *second); err != nil {
			return err
		}
	}
	if more > 0 {
		return b.putParts(ctx, name, body, size, (*first)[:n], (*second)[:more])
	}
	if size >= 0 && int64(n) != size {
		return wrongSize(int64(n), size)
	}
	return b.putOne(ctx, name, (*first)[:n])
}

// fill reads until a buffer is full or the body ends.
func fill(ctx context.Context, r io.Reader, b []byte) (n int, err error) {
	for empty := 0; n < len(b); {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(b[n:])
		n += k
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		case k > 0:
			empty = 0
		default:
			if empty++; empty > 100 {
				return n, io.ErrNoProgress
			}
		}
	}
	return n, nil
}

func wrongSize(n, size int64) error {
	return fmt.Errorf("s3: a body of %d bytes, or more, where %d were announced", n, size)
}

// ifNew is the header that keeps objects from being overwritten.
func (b *Bucket) ifNew() *string {
	if b.conditional {
		return aws.String("*")
	}
	return nil
}

// putOne stores an object by one request.
func (b *Bucket) putOne(ctx context.Context, name string, content []byte) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.name, Key: &name, Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))),
		ContentType: aws.String(storedType), ContentDisposition: aws.String(storedDisposition), IfNoneMatch: b.ifNew(),
	})
	return b.stored(ctx, name, int64(len(content)), b.fail(ctx, "PutObject", name, err))
}

// stored looks closer at a refusal to overwrite an object: an attempt before may have stored it,
// whose answer was lost.
func (b *Bucket) stored(ctx context.Context, name string, size int64, err error) error {
	var e *Error
	if !b.conditional || !errors.As(err, &e) || e.Status != http.StatusPreconditionFailed {
		return err
	}
	head, headErr := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &name})
	if headErr == nil && aws.ToInt64(head.ContentLength) == size && aws.ToString(head.ContentType) == storedType {
		return nil
	}
	return err
}

// putParts stores an object by a multipart upload. Its first two parts are there; the rest is read
// into their memory.
func (b *Bucket) putParts(ctx context.Context, name string, body io.Reader, size int64, part, next []byte) error {
	created, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.name, Key: &name, ContentType: aws.String(storedType), ContentDisposition: aws.String(storedDisposition),
	})
	if err != nil {
		return b.fail(ctx, "CreateMultipartUpload", name, err)
	}
	id := created.UploadId
	parts, n, err := b.sendParts(ctx, name, id, body, part, next)
	if err == nil && size >= 0 && n != size {
		err = wrongSize(n, size)
	}
	if err == nil {
		_, err = b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &b.name, Key: &name, UploadId: id, IfNoneMatch: b.ifNew(),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		err = b.completed(ctx, name, n, b.fail(ctx, "CompleteMultipartUpload", name, err))
	}
	if err != nil {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		// If it fails, Abort does it later.
		_, _ = b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &name, UploadId: id})
	}
	return err
}

// completed looks closer at an upload that is said not to exist when it is completed: an attempt
// before may have completed it, whose answer was lost.
func (b *Bucket) completed(ctx context.Context, name string, size int64, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Code != "NoSuchUpload" {
		return b.stored(ctx, name, size, err)
	}
	head, headErr := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: &name})
	if headErr == nil && aws.ToInt64(head.ContentLength) == size {
		return nil
	}
	return err
}

// sendParts sends parts, the first two of which are there. While a part is sent, the one after it
// is read into the memory of the one before it.
func (b *Bucket) sendParts(ctx context.Context, name string, id *string, body io.Reader, part, next []byte) (parts []types.CompletedPart, total int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	send := func(number int32, content []byte) {
		out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.name, Key: &name, UploadId: id, PartNumber: &number,
			Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))),
		})
		if err == nil {
			parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: &number})
		}
		done <- b.fail(ctx, "UploadPart", name, err)
	}
	for number := int32(1); len(part) > 0; number++ {
		if number > maxParts {
			return nil, 0, fmt.Errorf("s3: object %s is longer than %d parts of %d bytes", name, maxParts, b.part)
		}
		total += int64(len(part))
		go send(number, part)
		var readErr error
		if number > 1 { // next is the memory of the part before
			next = next[:0]
			if len(part) == b.part { // else it was the last one
				var n int
				n, readErr = fill(ctx, body, next[:b.part])
				next = next[:n]
			}
		}
		if readErr != nil {
			cancel()
		}
		if err := <-done; err != nil && readErr == nil {
			return nil, 0, err
		}
		if readErr != nil {
			return nil, 0, readErr
		}
		part, next = next, part
	}
	return parts, total, nil
}
