package xrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pdskit/pdskit/internal/exactjson"
	"github.com/pdskit/pdskit/xrpc/limit"
)

// Error is an error response of a method, for both client and server (XRPC specification, Error
// Responses).
type Error struct {
	Status  int    // HTTP status; 0: 400
	Name    string // machine-readable; empty: a name for the status
	Message string // for people
	// Header has further headers of the response, such as WWW-Authenticate.
	Header http.Header
	// Remote marks an error that a Client got from another server. If a Server's handler returns
	// such an error, the status is 502: what the other server says about this server's request (a
	// missing login, a Set-Cookie) is not meant for the caller.
	Remote bool
}

func (e *Error) Error() string {
	return fmt.Sprintf("xrpc: %d %s: %s", e.Status, e.name(), e.Message)
}

// name is the error's name, or the one that stands for its status.
func (e *Error) name() string {
	if e.Name != "" {
		return e.Name
	}
	switch e.Status {
	case 0, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUpgradeRequired:
		return "InvalidRequest"
	case http.StatusUnauthorized:
		return "AuthenticationRequired"
	case http.StatusForbidden:
		return "Forbidden"
	case http.StatusNotFound:
		return "XRPCNotSupported"
	case http.StatusRequestEntityTooLarge:
		return "PayloadTooLarge"
	case http.StatusUnsupportedMediaType:
		return "UnsupportedMediaType"
	case http.StatusTooManyRequests:
		return "RateLimitExceeded"
	case http.StatusNotImplemented:
		return "MethodNotImplemented"
	case http.StatusBadGateway:
		return "UpstreamFailure"
	case http.StatusServiceUnavailable:
		return "NotEnoughResources"
	case http.StatusGatewayTimeout:
		return "UpstreamTimeout"
	}
	return "InternalServerError"
}

// Is reports whether target is an *Error whose non-zero fields equal those of e. So errors.Is(err,
// &Error{Name: "RecordNotFound"}) compares only the name.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && (t.Status == 0 || t.Status == e.Status) && (t.Name == "" || t.Name == e.name()) &&
		(t.Message == "" || t.Message == e.Message)
}

// RetryAfter returns how long the server asks to wait, or 0 if it does not say.
func (e *Error) RetryAfter(now time.Time) time.Duration {
	v := e.Header.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// InvalidRequest returns an error with status 400 and the name InvalidRequest.
func InvalidRequest(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Name: "InvalidRequest", Message: fmt.Sprintf(format, args...)}
}

// envelope is the body of an error.
type envelope struct {
	Error   string `json:"error"`
	Message string `json:"message,omitempty"`
}

// WriteError sends an error response. An error other than an *Error and a *limit.Error has status
// 500. Its text is not sent, because it may contain internals. If the error has a method
// Unavailable() bool that returns true, such as that of a store whose disk is full, the status is
// 503, and the text is that of its method Public() string, if it has one.
func WriteError(w http.ResponseWriter, err error) {
	e := asError(err)
	h := w.Header()
	for _, name := range []string{"Content-Encoding", "Content-Disposition", "Content-Language", "ETag", "Last-Modified"} {
		h.Del(name) // of an answer that was begun
	}
	for name, values := range e.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	status := e.Status
	switch {
	case status == 0:
		status = http.StatusBadRequest
	case status < 300 || status > 599: // no error, or no status: a fault of the program
		status = http.StatusInternalServerError
	}
	WriteJSON(w, status, envelope{e.name(), e.Message})
}

// asError finds the *Error in an error, or makes one without details: other errors may contain
// internals.
func asError(err error) *Error {
	var e *Error
	var tooLarge *http.MaxBytesError
	var full *limit.Error
	switch {
	case errors.As(err, &e) && e != nil && e.Remote:
		return &Error{Status: http.StatusBadGateway, Message: "Upstream failure: " + e.Message}
	case e != nil:
		return e
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Message: "request entity too large"}
	case errors.As(err, &full):
		return &Error{Status: full.Status(), Message: full.Message(), Header: full.Header()}
	}
	if unavailable(err) {
		message := "The server cannot do this at the moment"
		var p interface{ Public() string }
		if errors.As(err, &p) {
			message = p.Public()
		}
		return &Error{Status: http.StatusServiceUnavailable, Message: message, Header: http.Header{"Retry-After": {"30"}}}
	}
	return &Error{Status: http.StatusInternalServerError, Message: "Internal Server Error"}
}

// unavailable reports whether an error says of itself that it may pass.
func unavailable(err error) bool {
	var u interface{ Unavailable() bool }
	return errors.As(err, &u) && u.Unavailable()
}

// WriteJSON sends a JSON response. If v cannot be encoded, nothing is written. A nil list is
// written as []. A json.RawMessage is sent as it is; it must be valid JSON and is not checked.
func WriteJSON(w http.ResponseWriter, status int, v any) (err error) {
	body, raw := v.(json.RawMessage)
	if !raw {
		if body, err = exactjson.Marshal(v); err != nil {
			return err
		}
	}
	h := w.Header()
	h["Content-Type"] = contentTypeJSON
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

var contentTypeJSON = []string{"application/json; charset=utf-8"}
