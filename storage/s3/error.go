package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/bucket"
)

// Error is the error of a request. It matches bucket.ErrNoObject if an object is missing,
// storage.ErrFull if the store has no room, and the context's error if that has ended.
type Error struct {
	Op      string // such as "PutObject"
	Bucket  string
	Name    string // of the object; empty where there is none, or several
	Status  int    // of HTTP; 0: there was no answer
	Code    string // of the protocol, such as "AccessDenied"; empty: there was none
	Message string // of the store
	Err     error  // the cause
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "s3: %s in bucket %s", e.Op, e.Bucket)
	if e.Name != "" {
		fmt.Fprintf(&b, ", object %s", e.Name)
	}
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	switch {
	case e.Code != "":
		fmt.Fprintf(&b, ": %s: %.500s", e.Code, e.Message)
	case e.Err != nil:
		fmt.Fprintf(&b, ": %.500v", e.Err)
	}
	return b.String()
}

// Unwrap returns the cause, and what the error means for package bucket.
func (e *Error) Unwrap() []error {
	list := []error{e.Err}
	switch {
	case e.noObject():
		list = append(list, bucket.ErrNoObject)
	case e.Status == http.StatusInsufficientStorage || e.Code == "QuotaExceeded" || strings.HasSuffix(e.Code, "StorageFull"):
		list = append(list, storage.ErrFull)
	}
	return list
}

func (e *Error) noObject() bool {
	return e.Code == "NoSuchKey" || e.Status == http.StatusNotFound && e.Code != "NoSuchBucket" && e.Code != "NoSuchUpload"
}

// Unavailable reports whether a retry may succeed: there was no response in time, or the store has
// said that it is unavailable.
func (e *Error) Unavailable() bool {
	var netErr net.Error
	switch {
	case e.Status >= 500, e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout, e.Code == "SlowDown":
		return true
	case e.Status != 0, errors.Is(e.Err, context.Canceled):
		return false
	}
	return errors.Is(e.Err, errStalled) || errors.Is(e.Err, context.DeadlineExceeded) || errors.As(e.Err, &netErr)
}

// fail makes an Error of one of the client library. The context's own error comes first: the
// library wraps it or not, depending on where it was.
func (b *Bucket) fail(ctx context.Context, op, name string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Bucket: b.name, Name: name, Err: err}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil {
		e.Status = answer.HTTPStatusCode()
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		e.Code, e.Message = api.ErrorCode(), api.ErrorMessage()
	}
	var op1 *smithy.OperationError
	if errors.As(err, &op1) {
		e.Err = op1.Unwrap()
	}
	if ctxErr := ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) {
		e.Err = fmt.Errorf("%w: %w", ctxErr, e.Err)
	}
	return e
}
