package xrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/data"
)

// Handler runs one method. Make one with Query, Procedure, RawQuery,
// RawProcedure or Subscription.
type Handler struct {
	method string // of HTTP
	serve  func(w http.ResponseWriter, r *Request) error
}

// None is the input or output of a procedure that has none. The answer is
// status 200 with an empty body.
type None struct{}

// Query makes a handler of a function from parameters to JSON. P is a struct
// whose fields have JSON names and are strings, integers, booleans, or slices of these.
func Query[P, O any](fn func(ctx context.Context, r *Request, params P) (O, error)) Handler {
	return RawQuery(func(w http.ResponseWriter, r *Request, params P) error {
		out, err := fn(r.Context(), r, params)
		if err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, out)
	})
}

// RawQuery makes a handler of a function that answers by itself. It may return
// an error as long as it has not written anything; after that, the connection is cut, so that
// the client knows.
func RawQuery[P any](fn func(w http.ResponseWriter, r *Request, params P) error) Handler {
	return Handler{http.MethodGet, func(w http.ResponseWriter, r *Request) error {
		var params P
		if err := r.params(&params); err != nil {
			return err
		}
		return fn(w, r, params)
	}}
}

// Procedure makes a handler of a function from a JSON body to JSON.
func Procedure[I, O any](fn func(ctx context.Context, r *Request, in I) (O, error)) Handler {
	return Handler{http.MethodPost, func(w http.ResponseWriter, r *Request) error {
		var in I
		if _, none := any(in).(None); !none {
			if err := r.input(&in); err != nil {
				return err
			}
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

// RawProcedure makes a handler of a function that reads the body and answers by
// itself, with the rules of RawQuery. Reading more than the route's limit gives
// an *http.MaxBytesError, which is answered with status 413.
func RawProcedure(fn func(w http.ResponseWriter, r *Request) error) Handler {
	return Handler{http.MethodPost, fn}
}

// Subscription makes a handler of one that accepts WebSocket connections.
func Subscription(h http.Handler) Handler {
	return Handler{http.MethodGet, func(w http.ResponseWriter, r *Request) error {
		if r.Header.Get("Upgrade") == "" {
			e := &Error{Status: http.StatusUpgradeRequired, Message: "This method is a WebSocket subscription"}
			e.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
			return e
		}
		h.ServeHTTP(w, r.Request)
		return nil
	}}
}

// params validates and decodes the parameters.
func (r *Request) params(to any) error {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	if c := r.server.Catalog; c != nil {
		switch values, err := c.Params(r.NSID, query); {
		case err == nil:
			return decodeParams(paramStrings(values), to)
		case !errors.Is(err, lexicon.ErrUnknownSchema):
			return InvalidRequest("%s", err)
		}
	}
	return decodeParams(query, to)
}

// input validates and decodes a JSON body.
func (r *Request) input(to any) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return &Error{Status: http.StatusUnsupportedMediaType, Message: "unsupported content-encoding: " + e}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if asError(err).Status == http.StatusInternalServerError {
			return InvalidRequest("The request's body broke off")
		}
		return err
	}
	switch ct := r.Header.Get("Content-Type"); {
	case ct == "" && len(body) == 0:
		return InvalidRequest("Request body is expected but none was provided")
	case ct == "":
		return InvalidRequest("Request encoding (Content-Type) required but not provided")
	default:
		if t, _, err := mime.ParseMediaType(ct); err != nil || t != "application/json" {
			return InvalidRequest("Wrong request encoding (Content-Type): %s", ct)
		}
	}
	if c := r.server.Catalog; c != nil {
		value, err := data.FromJSON(body, data.Limits{})
		if err != nil {
			return InvalidRequest("Invalid request body: %s", err)
		}
		if err := c.ValidateInput(r.NSID, value); err != nil && !errors.Is(err, lexicon.ErrUnknownSchema) {
			return InvalidRequest("%s", err)
		}
	}
	if err := json.Unmarshal(body, to); err != nil {
		return InvalidRequest("Invalid request body: %s", jsonDetail(err))
	}
	return nil
}
