package client

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/pdskit/pdskit/storage"
)

// Errors that callers branch on, with errors.Is.
var (
	// ErrInput: what somebody typed is neither a handle, nor a DID, nor the address of a server.
	ErrInput = errors.New("oauth client: not a handle, DID or server")
	// ErrTemporary: it could not be found out or done now; a later attempt may succeed. Nothing has
	// ended.
	ErrTemporary = errors.New("oauth client: not possible at the moment")
	// ErrServer: a server's metadata or answer is missing or malformed, or the server does not
	// speak the OAuth profile of the AT Protocol.
	ErrServer = errors.New("oauth client: the server does not follow the protocol")
	// ErrMismatch: two sides do not agree: a handle and a DID, an account and the server that
	// speaks for it, or the server that was asked and the one that answered.
	ErrMismatch = errors.New("oauth client: mismatch")
	// ErrForm: a request that is to begin a login is not a form of the app's own pages.
	ErrForm = errors.New("oauth client: the login was not begun by a form of the app")
	// ErrState: a callback belongs to no login that is under way in that browser: it is too late,
	// or was used before, or somebody else began it.
	ErrState = errors.New("oauth client: no such login is under way")
	// ErrSessionEnded: the session is over, and its account has to log in again. The error is an
	// *EndedError if more is known.
	ErrSessionEnded = errors.New("oauth client: the session has ended")
	// ErrKey: the session is bound to a key of the client that is not in Config.Keys any more.
	ErrKey = errors.New("oauth client: the key of the session is missing")
	// ErrOrigin: a request is for another server than the one that hosts the session's account.
	// The session's token was not sent.
	ErrOrigin = errors.New("oauth client: the request is for another server")
	// ErrNotFound: a store does not have it.
	ErrNotFound = storage.ErrNotFound
	// ErrConflict: a store has another value than the one that was to be replaced.
	ErrConflict = storage.ErrConflict
)

// Error is an error that an authorization server answered with (RFC 6749, 5.2). With errors.Is it
// is ErrTemporary if the server is busy or broken. Two are the same if their codes are:
// errors.Is(err, &Error{Code: "invalid_grant"}).
type Error struct {
	Server      string // the issuer
	Status      int    // HTTP status
	Code        string // "invalid_grant"; empty if the answer has none
	Description string // by the server, for developers: of any text, at most 1000 bytes
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("oauth client: %s answers %d %s: %s", e.Server, e.Status, e.Code, e.Description)
}

// Is implements the protocol of errors.Is.
func (e *Error) Is(target error) bool {
	if t, ok := target.(*Error); ok {
		return t.Code == e.Code
	}
	return target == ErrTemporary && (e.Status >= 500 || e.Status == http.StatusTooManyRequests)
}

// CallbackError is why a browser that came back did not begin a session. It may have come with the
// refusal of a person, or of a server: then Code is that of RFC 6749, 4.1.2.1, such as
// "access_denied". Err is what else went wrong.
type CallbackError struct {
	// AppState is that of the Login.
	AppState []byte
	// Code and Description are the server's; the description may be of any text, and has at most
	// 1000 bytes.
	Code, Description string
	Err               error
}

// Error implements error.
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

// Error implements error.
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
