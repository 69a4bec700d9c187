package atproto

import (
	"errors"
	"net/http"
	"strings"

	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/atproto/api"
)

// writeError turns an error of repo.Host.Apply into the answer.
func writeError(err error) error {
	var blob *repo.BlobError
	var swap *repo.SwapError
	switch {
	case errors.As(err, &swap):
		return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorInvalidSwap, Message: swap.Error()}
	case errors.Is(err, repo.ErrBlobNotFound):
		msg := "Could not find blob"
		if ref, ok := strings.CutPrefix(err.Error(), repo.ErrBlobNotFound.Error()); ok {
			msg += ref
		}
		return &xrpc.Error{Status: http.StatusBadRequest, Name: api.ErrorBlobNotFound, Message: msg}
	case errors.As(err, &blob):
		name := "InvalidMimeType"
		if blob.Field == "size" {
			name = "InvalidSize"
		}
		return &xrpc.Error{Status: http.StatusBadRequest, Name: name, Message: blob.Error()}
	case errors.Is(err, repo.ErrTooManyWrites):
		return xrpc.InvalidRequest("Too many writes. Max event size: 2MB")
	case errors.Is(err, repo.ErrClock):
		return errClock
	}
	for _, is := range []error{repo.ErrRecordExists, repo.ErrRecordNotFound, repo.ErrInvalidRecord, mst.ErrTooManyEntries} {
		if errors.Is(err, is) {
			return xrpc.InvalidRequest("%s", detail(err, is))
		}
	}
	switch {
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

// detail is the message of an error of package repo that is what it says, without the package's
// prefix. If something else wraps the error, the rest of the text is not the package's, and may
// contain internals. Then the message is that of the condition alone.
func detail(err, is error) string {
	msg := err.Error()
	if !strings.HasPrefix(msg, is.Error()) {
		msg = is.Error()
	}
	return strings.TrimPrefix(msg, "repo: ")
}

// accountError is the answer for an account that may not act: not there, taken
// down or deactivated.
func accountError(acct Account, err error) error {
	switch {
	case errors.Is(err, ErrNoAccount):
		return &xrpc.Error{Status: http.StatusForbidden, Name: api.ErrorAccountNotFound, Message: "Account not found"}
	case err != nil:
		return err
	case acct.Status == Deactivated:
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: "AccountDeactivated", Message: "Account is deactivated"}
	default:
		return &xrpc.Error{Status: http.StatusUnauthorized, Name: api.ErrorAccountTakedown, Message: "Account has been taken down"}
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
