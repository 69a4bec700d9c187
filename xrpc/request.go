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

// Request is a request for a method.
type Request struct {
	*http.Request
	// NSID is the method.
	NSID syntax.NSID
	// ID names the request in logs and in the X-Request-Id header of the answer.
	ID string
	// Principal is who makes the request, as the route's Authenticator has found.
	Principal auth.Principal
	// Account is the account that a request without a Principal is about, as a login or a sign-up
	// is, if a handler has found it. Whoever makes the request need not be its owner. It is for
	// logs.
	Account syntax.DID
	// Error is the name of the error that the request was answered with; empty: it was answered
	// well, or with what another server has said. It is for Server.Observe.
	Error string
	// Notes are what a handler has to say about the request in the line that Server.Observe logs.
	Notes []slog.Attr

	server *Server
	route  *Route
	method *lexicon.Method // its schema; nil if there is none
	limit  int64           // of the body
	input  *data.Encoded
	answer http.Header
}

// Input returns the value of the JSON body as it was validated, with its encoding as CBOR, so that
// a handler need not parse parts of it again. It is nil where no such value was made: for methods
// without a schema in Server.Catalog, and with Route.PlainJSON.
func (r *Request) Input() *data.Encoded { return r.input }

// AnswerHeader returns the header of the answer. It is for what has no http.ResponseWriter at hand,
// and of use before the answer begins.
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

// Demand returns nil if the caller has all the permissions. If not, the error is an *Error, for the
// handler to return:
//
//   - 403 ScopeMissingError names the scope that an OAuth client, or whoever else, lacks;
//   - 400 InvalidToken is for app passwords, as clients know it;
//   - 401 AuthMissing is for who gave no credentials.
//
// The permissions must be among Route.Needs, or be what a pattern there stands for. If they are
// not, the error is another one, for whoever calls: it is answered with status 500 and logged.
// So what routes declare stays true.
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
