package xrpc

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// Request is a request for a method, with what the server knows about it.
type Request struct {
	*http.Request
	// NSID is the method.
	NSID syntax.NSID
	// ID identifies the request in logs and in the X-Request-Id header of the response.
	ID string
	// Principal is the caller, as the route's Authenticator returned it.
	Principal auth.Principal
	// Account is the account that a request without a Principal is about, such as a login or a
	// sign-up, if a handler has set it. The caller need not be its owner. It is for logs.
	Account syntax.DID
	// Error is the name of the error in the response. It is empty after success, and for responses
	// of another server. It is for Server.Observe.
	Error string
	// Notes are attributes that a handler adds to the request's log line, for Server.Observe.
	Notes []slog.Attr

	server *Server
	route  *Route
	method *lexicon.Method // its schema; nil if there is none
	limit  int64           // of the body
	input  *data.Encoded
	answer http.Header
}

// Input returns the validated JSON body with its encoding as CBOR, so that a handler need not parse
// parts of it again. It is nil for methods without a schema in Server.Catalog, and with
// Route.PlainJSON.
func (r *Request) Input() *data.Encoded { return r.input }

// AnswerHeader returns the header of the response, for code without an http.ResponseWriter. Changes
// after the response has begun have no effect.
func (r *Request) AnswerHeader() http.Header {
	if r.answer == nil {
		r.answer = make(http.Header) // the request came by no server
	}
	return r.answer
}

// permitted checks what a route needs of its caller, but for what only its input tells.
func (r *Request) permitted() error {
	for _, want := range r.route.Needs {
		if !want.IsPattern() {
			if err := r.lacks(want); err != nil {
				return err
			}
		}
	}
	return nil
}

// Demand returns nil if the caller has all the permissions. Otherwise it returns an *Error, which
// the handler should return:
//
//   - 403 ScopeMissingError names the scope that an OAuth client, or another caller, lacks;
//   - 400 InvalidToken is for app passwords, as clients expect it;
//   - 401 AuthMissing is for callers without credentials.
//
// Each permission must be in Route.Needs or be covered by a pattern there. If one is not, the
// route's declaration is wrong, and the response is status 500, which is logged.
func (r *Request) Demand(want ...auth.Permission) error {
	for _, w := range want {
		if r.route == nil || !slices.ContainsFunc(r.route.Needs, func(need auth.Permission) bool { return need.Covers(w) }) {
			return fmt.Errorf("xrpc: the handler of %s demands the permission %q, which Route.Needs does not declare", r.NSID, w)
		}
	}
	for _, w := range want {
		if err := r.lacks(w); err != nil {
			return err
		}
	}
	return nil
}

// lacks returns the answer for a caller who lacks a permission.
func (r *Request) lacks(want auth.Permission) error {
	err := r.Principal.Demand(want)
	switch {
	case err == nil:
		return nil
	case r.Principal.Role == auth.Anonymous:
		return &Error{Status: http.StatusUnauthorized, Name: "AuthMissing", Message: "Authentication Required"}
	case r.Principal.Credential == auth.AppSession && want.Resource == auth.RPC:
		return &Error{Status: http.StatusBadRequest, Name: "InvalidToken", Message: "Bad token method"}
	case r.Principal.Credential == auth.AppSession || r.Principal.Credential == auth.PasswordSession:
		return &Error{Status: http.StatusBadRequest, Name: "InvalidToken", Message: "Bad token scope"}
	}
	return &Error{Status: http.StatusForbidden, Name: "ScopeMissingError", Message: err.Error()}
}
