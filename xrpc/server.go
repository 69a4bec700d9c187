package xrpc

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/lexicon"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/xrpc/auth"
)

// An Authenticator verifies the credentials of a request and returns the caller, or an *Error. If
// credentials are optional, it returns the zero Principal for a request without any.
type Authenticator func(r *Request) (auth.Principal, error)

// Route is one method of a server.
type Route struct {
	NSID    string
	Handler Handler
	// Auth, if not nil, is called before the body is read. Nil: all callers are anonymous.
	Auth Authenticator
	// Needs are the permissions that the method demands. The server refuses callers that lack one
	// of them. A permission that depends on the input is declared as a pattern (auth.FromInput),
	// and the handler demands the actual one: see Request.Demand.
	Needs []auth.Permission
	// MaxBody is the limit in bytes of the request's body, both before and after decompression. 0:
	// the server's.
	MaxBody int64
	// PlainJSON leaves the JSON body as it is: it is not converted to CBOR, so numbers may have
	// fractions and any size, as in preferences. It is validated nevertheless.
	PlainJSON bool
}

// Server serves XRPC methods. Set its fields and register its methods before its first use. Then it
// is safe for concurrent use.
type Server struct {
	// Catalog has the schemas of methods. Parameters and JSON bodies are validated against them,
	// and absent parameters get their defaults. Methods without a schema are only decoded. Nil: no
	// method has a schema.
	Catalog *lexicon.Catalog
	// Fallback serves the methods that are not registered; its NSID is not used. See Any, and
	// package proxy. Nil: the response is MethodNotImplemented.
	Fallback *Route
	// Divert, if not nil, reports whether Fallback should serve a request for a registered method,
	// for example because its client names another service.
	Divert func(r *Request) bool
	// Compress compresses JSON and CAR responses of 1 KiB and more with gzip if the client accepts
	// it. It costs processor time; do not set it behind a proxy that compresses.
	Compress bool
	// MaxBody is the limit in bytes of request bodies. 0: 150 KiB.
	MaxBody int64
	// Decoders decode request bodies with other content codings than gzip and deflate. The keys are
	// the names of codings in lower case, such as "br". The server bounds a decoder's output. The
	// decoder must bound its own memory.
	Decoders map[string]func(io.Reader) (io.Reader, error)
	// BodyTimeout is the time in which a JSON body must arrive. For other bodies, which may be
	// large, it is the total time of waiting that is allowed on top of one second for each KiB.
	// 0: 30 seconds; negative: no limit.
	BodyTimeout time.Duration
	// Admit, if not nil, is called before anything else, for rate limits by address. An error
	// becomes the response.
	Admit func(w http.ResponseWriter, r *Request) error
	// Limit, if not nil, is called before a method runs, after authentication and the check of
	// Route.Needs, for rate limits by account. An error becomes the response.
	Limit func(w http.ResponseWriter, r *Request) error
	// Observe, if not nil, is called when a request has ended, for metrics and access logs. Status
	// 101 means a subscription. [StatusClientGone] means that the client did not wait for the whole
	// response.
	Observe func(r *Request, status int, took time.Duration)
	// Trace, if not nil, is called when a request begins. The function that it returns is called
	// when the request has ended, with the same status as Observe. Trace may give the request
	// another context (r.Request = r.WithContext(…)), so it can begin and end the span of a trace.
	Trace func(r *Request) (end func(status int))
	// Logger logs panics and internal errors. Nil: they are not logged.
	Logger *slog.Logger

	routes  map[string]*Route
	serving atomic.Bool // a request has come: no route may be registered any more
}

// StatusClientGone is the status in Server.Observe for a client that went away. It is not a failure
// of the server, and is never sent.
const StatusClientGone = 499

// Defaults of a Server.
const (
	defaultMaxBody     = 150 << 10
	defaultBodyTimeout = 30 * time.Second
)

// prefix of the paths of all methods.
const prefix = "/xrpc/"

// ServeHTTP serves the paths under /xrpc/.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	if CORS(w, hr) {
		return
	}
	if !s.serving.Load() {
		s.serving.Store(true)
	}
	start := time.Now()
	name := strings.TrimSuffix(strings.TrimPrefix(hr.URL.Path, prefix), "/")
	rw := &response{ResponseWriter: w, negotiates: s.Compress}
	r := &Request{Request: hr, NSID: syntax.NSID(name), ID: rand.Text()[:16], server: s, answer: w.Header()}
	rw.gzip = s.Compress && hr.Method != http.MethodHead && acceptsGzip(hr.Header)
	rw.Header()["X-Request-Id"] = []string{r.ID}
	var traced func(status int)
	if s.Trace != nil {
		traced = s.Trace(r)
	}
	defer func() {
		v := recover()
		if v != nil && v != http.ErrAbortHandler {
			s.log(r, "panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			r.Error = asError(errors.New("panic")).name()
			if rw.status == 0 {
				WriteError(rw, errors.New("panic"))
				v = nil
			} else {
				v = http.ErrAbortHandler // the answer is cut off; let the client see that
			}
		}
		rw.end(v != nil)
		if rw.status == 0 && v == nil {
			rw.status = http.StatusOK // as net/http will answer
		}
		if s.Observe != nil {
			s.Observe(r, rw.status, time.Since(start))
		}
		if traced != nil {
			traced(rw.status)
		}
		if v != nil {
			panic(v)
		}
	}()
	if err := s.serve(rw, r); err != nil {
		s.fail(rw, r, err)
	}
}

// serve finds the route and runs it.
func (s *Server) serve(w *response, r *Request) error {
	if r.hasBody() {
		// The time runs even if the body is refused: net/http reads some of it then.
		b := &body{answering: answering{r.Body}, c: http.NewResponseController(w), limit: s.bodyTimeout()}
		b.renew()
		r.Body = b
	}
	if s.Admit != nil {
		if err := s.Admit(w, r); err != nil {
			return err
		}
	}
	rt := s.routes[string(r.NSID)]
	if rt != nil && s.Divert != nil && s.Fallback != nil && s.Divert(r) {
		rt = s.Fallback
	}
	if rt == nil {
		if _, err := syntax.ParseNSID(string(r.NSID)); err != nil {
			return InvalidRequest("Invalid XRPC path: %s", err)
		}
		if rt = s.Fallback; rt == nil {
			return &Error{Status: http.StatusNotImplemented, Message: "Method Not Implemented"}
		}
	}
	if err := rt.Handler.allows(r.Method); err != nil {
		return err
	}
	r.route = rt
	if s.Catalog != nil {
		r.method, _ = s.Catalog.Method(r.NSID)
	}
	r.limit = rt.MaxBody
	if r.limit == 0 {
		r.limit = s.MaxBody
	}
	if r.limit == 0 {
		r.limit = defaultMaxBody
	}
	if r.ContentLength > r.limit {
		return errTooLarge
	}
	if r.hasBody() {
		b := r.Body.(*body)
		b.ReadCloser = http.MaxBytesReader(w.ResponseWriter, b.ReadCloser, r.limit)
	}
	if rt.Auth != nil {
		w.Header().Set("Cache-Control", "private")
		w.Header().Add("Vary", "Authorization")
		var err error
		if r.Principal, err = rt.Auth(r); err != nil {
			return err
		}
	}
	if err := r.permitted(); err != nil {
		return err
	}
	if s.Limit != nil {
		if err := s.Limit(w, r); err != nil {
			return err
		}
	}
	return rt.Handler.serve(w, r)
}

// fail answers with an error, or, when an answer is under way, cuts it off.
func (s *Server) fail(w *response, r *Request, err error) {
	e := asError(err)
	r.Error = e.name()
	gone := errors.Is(r.Context().Err(), context.Canceled)
	expected := gone && (errors.Is(err, context.Canceled) || w.status != 0)
	if (e.Status == http.StatusInternalServerError || unavailable(err)) && !expected {
		s.log(r, "internal error", "err", err.Error())
	}
	if gone && (e.Status >= http.StatusInternalServerError || w.status != 0) {
		w.status = StatusClientGone
	}
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	WriteError(w, err)
}

func (s *Server) log(r *Request, msg string, args ...any) {
	if s.Logger != nil {
		s.Logger.Error("xrpc: "+msg, append([]any{"id", r.ID, "method", string(r.NSID)}, args...)...)
	}
}

func (s *Server) bodyTimeout() time.Duration {
	if s.BodyTimeout == 0 {
		return defaultBodyTimeout
	}
	return s.BodyTimeout
}

// CORS allows requests from web pages of any origin. It answers requests with the method OPTIONS,
// such as preflight requests, and reports whether it did.
func CORS(w http.ResponseWriter, r *http.Request) (done bool) {
	h := w.Header()
	h["Access-Control-Allow-Origin"] = allowOrigin
	h["Access-Control-Expose-Headers"] = exposeHeaders
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
	if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
		h["Access-Control-Allow-Headers"] = asked
		h.Add("Vary", "Access-Control-Request-Headers")
	}
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// Header values that all responses share. len == cap, so append copies them.
var (
	allowOrigin   = []string{"*"}
	exposeHeaders = []string{"*, DPoP-Nonce, WWW-Authenticate, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, Atproto-Repo-Rev, Atproto-Content-Labelers, X-Request-Id"}
)

// response remembers whether the answer has begun, and compresses it if that was agreed.
type response struct {
	http.ResponseWriter
	status     int
	negotiates bool         // whether answers may be compressed
	gzip       bool         // whether this client takes them so
	z          *gzip.Writer // not nil: what is written goes through it
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 || status == http.StatusSwitchingProtocols {
		if w.negotiates && w.status == 0 && status >= 200 {
			w.compress(status)
		}
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		if w.negotiates {
			w.compress(http.StatusOK)
		}
		w.status = http.StatusOK
	}
	if w.z != nil {
		return w.z.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
