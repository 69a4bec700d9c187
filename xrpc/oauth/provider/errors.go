package provider

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/xrpc/limit"
	"github.com/pdskit/pdskit/xrpc/oauth/dpop"
)

// Error codes of RFC 6749, 7009, 7591, 9126 and 9449.
const (
	codeAccessDenied     = "access_denied"
	codeConsentRequired  = "consent_required"
	codeInvalidClient    = "invalid_client"
	codeInvalidMetadata  = "invalid_client_metadata"
	codeInvalidGrant     = "invalid_grant"
	codeInvalidProof     = "invalid_dpop_proof"
	codeInvalidRedirect  = "invalid_redirect_uri"
	codeInvalidRequest   = "invalid_request"
	codeInvalidScope     = "invalid_scope"
	codeInvalidToken     = "invalid_token"
	codeLoginRequired    = "login_required"
	codeSelectAccount    = "account_selection_required"
	codeServerError      = "server_error"
	codeUnavailable      = "temporarily_unavailable"
	codeUnauthorized     = "unauthorized_client"
	codeUnsupportedGrant = "unsupported_grant_type"
	codeUnsupportedType  = "unsupported_response_type"
	codeUseNonce         = "use_dpop_nonce"
)

// Error is an error of the protocol, as sent to a client.
type Error struct {
	// Code is the error code, such as "invalid_grant".
	Code string
	// Description is for developers. It contains no secrets.
	Description string
	// Status is the HTTP status of the response; 0: 400.
	Status int
	// Retry is after how long a retry may succeed; 0: unknown.
	Retry time.Duration
}

func (e *Error) Error() string { return "oauth: " + e.Code + ": " + e.Description }

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

func fail(code, format string, args ...any) *Error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

func (e *Error) status() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// asError is the error that a client is told of. ok is false if something of the server's own has
// failed.
func asError(err error) (e *Error, ok bool) {
	var over *http.MaxBytesError
	var busy *limit.Error
	var passing interface{ Unavailable() bool }
	switch {
	case errors.As(err, &e):
		return e, true
	case errors.Is(err, dpop.ErrNonce):
		return fail(codeUseNonce, "The DPoP proof needs the nonce of the header DPoP-Nonce"), true
	case errors.Is(err, dpop.ErrInvalid):
		return fail(codeInvalidProof, "%s", strings.TrimPrefix(err.Error(), "dpop: ")), true
	case errors.As(err, &over):
		return &Error{Code: codeInvalidRequest, Description: "The body is too long", Status: http.StatusRequestEntityTooLarge}, true
	case errors.As(err, &busy):
		return &Error{Code: codeUnavailable, Description: busy.Message(), Status: busy.Status(), Retry: busy.RetryAfter}, true
	case errors.Is(err, storage.ErrConflict), errors.As(err, &passing) && passing.Unavailable():
		return &Error{Code: codeUnavailable, Description: "The server cannot do this at the moment", Status: http.StatusServiceUnavailable, Retry: 30 * time.Second}, false
	}
	return &Error{Code: codeServerError, Description: "Internal Server Error", Status: http.StatusInternalServerError}, false
}

// retryAfter sets the header of that name.
func (e *Error) retryAfter(h http.Header) {
	if e.Retry > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((e.Retry+time.Second-1)/time.Second), 10))
	}
}

// challenge is the value of WWW-Authenticate for an error with a proof or a token.
func challenge(code, description string) string {
	return fmt.Sprintf(`DPoP algs=%q, error=%q, error_description=%q`, strings.Join(dpop.Algorithms(), " "), code, ascii(description))
}

// ascii replaces what must not stand in a header's quoted string.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '\''
		}
		return r
	}, s)
}
