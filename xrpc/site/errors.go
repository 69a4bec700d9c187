package site

import (
	"errors"
	"net/http"

	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/account/credential"
	"github.com/pdskit/pdskit/xrpc"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Error is an error to show to the user: a message of the set or, if it need not be translated, a
// text in English.
type Error struct {
	Status int
	// Key is the key of a message; Text is in English. One of them is set.
	Key, Text string
	// Code is a short name for programmers. It may be empty.
	Code   string
	Header http.Header
}

func (e *Error) Error() string { return "site: " + e.Key + e.Text }

// Refuse returns an error with a text in English.
func Refuse(status int, text string) error { return &Error{Status: status, Text: text} }

// Errors that are shown with messages of this package.
var (
	// ErrForeign: the form was sent by another site.
	ErrForeign = &Error{Status: http.StatusForbidden, Key: "error.foreign"}
	// ErrForm: the form was not made for this browser, or its contents were changed.
	ErrForm = &Error{Status: http.StatusForbidden, Key: "error.form"}
	// ErrExpired: the user took too long.
	ErrExpired = &Error{Status: http.StatusBadRequest, Key: "error.expired"}
	// ErrBusy: a retry may succeed soon.
	ErrBusy = &Error{Status: http.StatusServiceUnavailable, Key: "error.busy"}
	// ErrTakenDown: the account was taken down.
	ErrTakenDown = &Error{Status: http.StatusForbidden, Key: "error.takendown"}
	// ErrNotOffered: the server does not support this.
	ErrNotOffered = &Error{Status: http.StatusNotFound, Key: "error.notOffered"}
	// ErrSignedOut: the sign-in has ended.
	ErrSignedOut = &Error{Status: http.StatusUnauthorized, Key: "error.signedOut"}
	// ErrTooMany: there were too many attempts.
	ErrTooMany = &Error{Status: http.StatusTooManyRequests, Key: "error.tooMany"}

	errServer = &Error{Status: http.StatusInternalServerError, Key: "error.server"}
)

// Shown returns the error to show to the user: err itself if it is an *Error, or the equivalent of
// an error of packages account, credential, xrpc or limit. expected is false if the server itself
// failed; such an error should be logged.
func Shown(err error) (e *Error, expected bool) {
	var busy *limit.Error
	var method *xrpc.Error
	var passing interface{ Unavailable() bool }
	switch {
	case errors.As(err, &e):
		return e, true
	case errors.Is(err, account.ErrTakenDown):
		return ErrTakenDown, true
	case errors.As(err, &busy):
		return &Error{Status: busy.Status(), Key: "error.busy", Header: busy.Header()}, true
	case errors.As(err, &method) && method.Status == http.StatusTooManyRequests:
		return &Error{Status: method.Status, Key: "error.tooMany", Header: method.Header}, true
	case errors.As(err, &method) && !method.Remote:
		status := method.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		return &Error{Status: status, Text: method.Message, Header: method.Header}, status < http.StatusInternalServerError
	case errors.Is(err, credential.ErrTooManyCodes):
		return ErrTooMany, true
	case errors.Is(err, account.ErrTokenRevoked), errors.Is(err, account.ErrNotFound):
		return ErrSignedOut, true
	case errors.As(err, &passing) && passing.Unavailable():
		return ErrBusy, false
	}
	return errServer, false
}

// errorPage is the page of an error.
type errorPage struct {
	Page
	Message, Detail, Code string
}

// Fail responds with the page of an error: see [Shown].
func (c *Call) Fail(err error) {
	e, expected := Shown(err)
	if !expected {
		c.site.log.ErrorContext(c.Context(), "pages", "path", c.R.URL.Path, "err", err)
	}
	c.ShowError(e)
}

// ShowError responds with the page of an error.
func (c *Call) ShowError(e *Error) {
	for name, v := range e.Header {
		c.W.Header()[http.CanonicalHeaderKey(name)] = v
	}
	v := &errorPage{Page: c.Page("error.title"), Detail: e.Text, Code: e.Code}
	v.Status = e.Status
	key := e.Key
	if key == "" {
		key = "error.general"
	}
	v.Message = v.T(key)
	c.Show("error", v)
}
