package atproto

import (
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
)

// writeError turns an error of repo.Host.Apply into the answer.
func writeError(err error) error {
	var blob *repo.BlobError
	switch {
	case errors.Is(err, repo.ErrInvalidSwap):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: "InvalidSwap", Message: detail(err)}
	case errors.Is(err, repo.ErrBlobNotFound):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: "BlobNotFound", Message: "Could not find blob: " + detail(err)}
	case errors.As(err, &blob):
		name := "InvalidMimeType"
		if blob.Field == "size" {
			name = "InvalidSize"
		}
		return &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: blob.Error()}
	case errors.Is(err, repo.ErrTooManyWrites):
		return xrpc.InvalidRequest("Too many writes. Max event size: 2MB")
	case errors.Is(err, repo.ErrRecordExists), errors.Is(err, repo.ErrRecordNotFound),
		errors.Is(err, repo.ErrInvalidRecord), errors.Is(err, mst.ErrTooManyEntries):
		return xrpc.InvalidRequest("%s", detail(err))
	case errors.Is(err, repo.ErrClock):
		return errClock
	case errors.Is(err, repo.ErrRepoNotFound): // deleted meanwhile
		return accountError(Account{}, ErrNoAccount)
	case errors.Is(err, storage.ErrConflict):
		return &xrpc.Error{Status: http.StatusConflict, Name: "ConcurrentWrites", Message: "The repository is being written to from elsewhere, please try again"}
	}
	return err
}

// errClock is the answer while the host does not trust its clock. The client may try again.
var errClock = &xrpc.Error{
	Status: http.StatusServiceUnavailable, Name: "ClockNotTrusted", Message: "The server's clock is wrong, so that nothing can be signed now",
	Header: http.Header{"Retry-After": {"60"}},
}

// detail is the message of an error without the package's prefix.
func detail(err error) string {
	msg := err.Error()
	for _, sentinel := range []error{repo.ErrBlobNotFound} {
		if errors.Is(err, sentinel) {
			return msg[min(len(msg), len(sentinel.Error())+2):]
		}
	}
	const prefix = "repo: "
	if len(msg) > len(prefix) && msg[:len(prefix)] == prefix {
		return msg[len(prefix):]
	}
	return msg
}

// accountError is the answer for an account that may not act: not there, taken
// down or deactivated.
func accountError(acct Account, err error) error {
	switch {
	case errors.Is(err, ErrNoAccount):
		return &xrpc.Error{Status: http.StatusForbidden, Name: "AccountNotFound", Message: "Account not found"}
	case err != nil:
		return err
	case acct.Status == Deactivated:
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: "AccountDeactivated", Message: "Account is deactivated"}
	default:
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: "AccountTakedown", Message: "Account has been taken down"}
	}
}

// bodyError is the answer for an upload that broke off or grew too large.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &xrpc.Error{Status: http.StatusRequestEntityTooLarge, Name: "PayloadTooLarge", Message: "request entity too large"}
	}
	return err
}
