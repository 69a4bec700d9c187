package xrpc

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
)

// Handler runs one method. Make one with Query, Procedure, RawQuery, RawProcedure, Subscription or
// Any. For a nil function these return the zero Handler, which Server.Handle refuses.
type Handler struct {
	method string // of HTTP; empty: GET and POST
	serve  func(w http.ResponseWriter, r *Request) error
}

// allows checks the HTTP method of a request.
func (h Handler) allows(method string) error {
	allow := h.method
	switch {
	case method == h.method:
		return nil
	case h.method == "":
		if method == http.MethodGet || method == http.MethodPost || method == http.MethodHead {
			return nil
		}
		allow = "GET, HEAD, POST"
	case h.method == http.MethodGet:
		if method == http.MethodHead {
			return nil
		}
		allow = "GET, HEAD"
	}
	expected := h.method
	if expected == "" {
		expected = "GET or POST"
	}
	return &Error{
		Status:  http.StatusMethodNotAllowed,
		Message: fmt.Sprintf("Incorrect HTTP method (%s) expected %s", method, expected),
		Header:  http.Header{"Allow": {allow}},
	}
}

// Wrap returns a handler for the same HTTP methods that runs fn instead of h. next runs h. fn may
// call it once, with another ResponseWriter and a changed request.
func (h Handler) Wrap(fn func(w http.ResponseWriter, r *Request, next func(http.ResponseWriter, *Request) error) error) Handler {
	if fn == nil || h.serve == nil {
		return Handler{}
	}
	return Handler{h.method, func(w http.ResponseWriter, r *Request) error { return fn(w, r, h.serve) }}
}

// None is the input or output of a procedure without one. The response then is status 200 with an
// empty body.
type None struct{}

// Query makes a handler from a function of parameters that returns JSON. P is a struct whose fields
// have JSON names and are strings, integers, booleans, or slices of these. A pointer to one of
// these distinguishes an absent parameter from a zero one.
func Query[P, O any](fn func(ctx context.Context, r *Request, params P) (O, error)) Handler {
	if fn == nil {
		return Handler{}
	}
	return RawQuery(func(w http.ResponseWriter, r *Request, params P) error {
		out, err := fn(r.Context(), r, params)
		if err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, out)
	})
}

// RawQuery makes a handler from a function that writes the response itself. An error that it
// returns before writing becomes the response. After that, an error closes the connection, so that
// the client notices.
func RawQuery[P any](fn func(w http.ResponseWriter, r *Request, params P) error) Handler {
	if fn == nil {
		return Handler{}
	}
	fields := paramFields(reflect.TypeFor[P]())
	return Handler{http.MethodGet, func(w http.ResponseWriter, r *Request) error {
		var params P
		if err := r.params(fields, reflect.ValueOf(&params).Elem()); err != nil {
			return err
		}
		return fn(w, r, params)
	}}
}

// Procedure makes a handler from a function of a JSON body that returns JSON.
func Procedure[I, O any](fn func(ctx context.Context, r *Request, in I) (O, error)) Handler {
	if fn == nil {
		return Handler{}
	}
	return Handler{http.MethodPost, func(w http.ResponseWriter, r *Request) error {
		var in I
		if _, none := any(in).(None); none {
			if err := r.noInput(); err != nil {
				return err
			}
		} else if err := r.readInput(&in); err != nil {
			return err
		}
		out, err := fn(r.Context(), r, in)
		if err != nil {
			return err
		}
		if _, none := any(out).(None); none {
			w.WriteHeader(http.StatusOK)
			return nil
		}
		return WriteJSON(w, http.StatusOK, out)
	}}
}

// RawProcedure makes a handler from a function that reads the body and writes the response itself,
// with the rules of RawQuery. If the body exceeds the route's limit, stalls, or breaks off, reading
// it gives an *Error, which the function should return.
func RawProcedure(fn func(w http.ResponseWriter, r *Request) error) Handler {
	if fn == nil {
		return Handler{}
	}
	return Handler{http.MethodPost, func(w http.ResponseWriter, r *Request) error {
		if err := r.rawInput(); err != nil {
			return err
		}
		return fn(w, r)
	}}
}

// Subscription makes a handler from one that accepts WebSocket connections. The server validates
// the parameters; the handler reads them itself.
func Subscription(h http.Handler) Handler {
	if h == nil {
		return Handler{}
	}
	return Handler{http.MethodGet, func(w http.ResponseWriter, r *Request) error {
		if r.Header.Get("Upgrade") == "" {
			e := &Error{Status: http.StatusUpgradeRequired, Message: "This method is a WebSocket subscription"}
			e.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
			return e
		}
		if err := r.params(nil, reflect.Value{}); err != nil {
			return err
		}
		h.ServeHTTP(w, r.Request)
		return nil
	}}
}

// Any makes a handler for both queries and procedures, with the rules of RawQuery. Parameters and
// body are neither validated nor decoded. It suits Server.Fallback.
func Any(fn func(w http.ResponseWriter, r *Request) error) Handler {
	return Handler{"", fn}
}
