package client

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/pdskit/pdskit/storage"
)

// Errors that callers branch on with errors.Is.
var (
	// ErrInput: the user's input is neither a handle, nor a DID, nor the URL of a server.
	ErrInput = errors.New("oauth client: not a handle, DID or server")
	// ErrTemporary: the operation failed, but may succeed later. The session has not ended.
	ErrTemporary = errors.New("oauth client: not possible at the moment")
	// ErrServer: a server's metadata or response is missing or malformed, or the server does not
	// support the OAuth profile of the AT Protocol.
	ErrServer = errors.New("oauth client: the server does not follow the protocol")
	// ErrMismatch: two sides do not agree: a handle and a DID, an account and its server, or the
	// server that was asked and the one that answered.
	ErrMismatch = errors.New("oauth client: mismatch")
	// ErrForm: a request to begin a login was not sent by a form of the app's own pages.
	ErrForm = errors.New("oauth client: the login was not begun by a form of the app")
	// ErrState: a callback belongs to no pending login of that browser: the login has expired, was
	// completed before, or was begun by somebody else.
	ErrState = errors.New("oauth client: no such login is under way")
	// ErrSessionEnded: the session has ended, and the user has to log in again. The error is an
	// *EndedError if the reason is known.
	ErrSessionEnded = errors.New("oauth client: the session has ended")
	// ErrKey: the session is bound to a key that is no longer in Config.Keys.
	ErrKey = errors.New("oauth client: the key of the session is missing")
	// ErrOrigin: a request is for a server other than the account's PDS. The session's token was
	// not sent.
	ErrOrigin = errors.New("oauth client: the request is for another server")
	// ErrNotFound: a store does not have the value.
	ErrNotFound = storage.ErrNotFound
	// ErrConflict: a store has another value than the one to replace.
	ErrConflict = storage.ErrConflict
)

// Error is an error response of an authorization server (RFC 6749, 5.2). It matches ErrTemporary if
// the server is busy or failed. It matches another *Error with the same code: errors.Is(err,
// &Error{Code: "invalid_grant"}).
type Error struct {
	Server      string // the issuer
	Status      int    // HTTP status
	Code        string // "invalid_grant"; empty if the answer has none
	Description string // by the server, for developers: of any text, at most 1000 bytes
}

func (e *Error) Error() string {
	return fmt.Sprintf("oauth client: %s answers %d %s: %s", e.Server, e.Status, e.Code, e.Description)
}

func (e *Error) Is(target error) bool {
	if t, ok := target.(*Error); ok {
		return t.Code == e.Code
	}
	return target == ErrTemporary && (e.Status >= 500 || e.Status == http.StatusTooManyRequests)
}

// CallbackError is the reason why a callback began no session. If the user or the server has
// refused, Code is that of RFC 6749, 4.1.2.1, such as "access_denied". Otherwise Err is the reason.
type CallbackError struct {
	// AppState is the AppState of the Login.
	AppState []byte
	// Code and Description are from the server. The description is any text of at most 1000 bytes.
	Code, Description string
	Err               error
}

func (e *CallbackError) Error() string {
	if e.Err != nil {
		return "oauth client: login: " + e.Err.Error()
	}
	return fmt.Sprintf("oauth client: login: the server answers %s: %s", e.Code, e.Description)
}

// Unwrap returns e.Err.
func (e *CallbackError) Unwrap() error { return e.Err }

// EndReason says why a session ended.
type EndReason string

// The reasons.
const (
	EndedGone    EndReason = "gone"    // it is not in the store (any more)
	EndedRevoked EndReason = "revoked" // Session.Revoke was called
	EndedRefused EndReason = "refused" // the server renews it no more: it ended there, or its time is over
	EndedLost    EndReason = "lost"    // as refused, after an answer with new tokens was lost
	EndedMoved   EndReason = "moved"   // another server speaks for the account now
	EndedInvalid EndReason = "invalid" // the server answered with tokens of another account or purpose
)

// EndedError is an ErrSessionEnded with its reason.
type EndedError struct {
	ID     SessionID
	Reason EndReason
	Err    error // more about it; may be nil
}

func (e *EndedError) Error() string {
	s := ErrSessionEnded.Error() + ": " + string(e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is implements the protocol of errors.Is.
func (e *EndedError) Is(target error) bool { return target == ErrSessionEnded }

// Unwrap returns e.Err.
func (e *EndedError) Unwrap() error { return e.Err }

// maxDescription is how much is kept of a server's texts, in bytes.
const maxDescription = 1000

func clip(s string) string { return s[:min(len(s), maxDescription)] }
